// The login machine: startup packets first, then one exchange for each auth_type.
#include "core/client_login.hpp"

#include <algorithm>

#include "auth/md5.hpp"
#include "base/seeded_bug.hpp"
#include "base/text.hpp"
#include "core/parameters.hpp"
#include "core/startup_values.hpp"
#include "wire/backend.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;

namespace {

constexpr std::size_t user_max_bytes = 127;
constexpr std::size_t database_max_bytes = 63;
/// Cloud tokens are long: 65535 bytes, as in auth_file, and the end of the string.
constexpr std::uint32_t password_max_bytes = 65536;
constexpr std::uint32_t sasl_message_max_bytes = auth::scram_message_max_bytes + 64;

}  // namespace

void client_login::accept(effects &fx) {
    if (no_such_database_) return refuse(refusal::no_such_database, fx, database_);
    stage_ = stage::done;
    fx.client = client_next::join;
}

void client_login::refuse(refusal why, effects &fx, std::string_view argument) {
    stage_ = stage::done;
    judged_ = why == refusal::password_failed || why == refusal::sasl_failed || why == refusal::pam_failed ||
              why == refusal::ldap_failed;
    fx.to_client.make(
        [&](std::string &out) { append_refusal(out, why, argument, env_->settings->global.error_sqlstate); });
    fx.why = words(why, argument).message;
    for (const auto *const more : {&decided_.place, &note_})
        if (!more->empty()) fx.why += " (" + *more + ")";
    fx.client = client_next::close;
}

/// PAM and LDAP may take one account's name in many spellings, and none of them must be a fresh start for who guesses.
std::string client_login::paced_as() const {
    std::string key = facts_.address.share();
    if (!is_asked_outside()) return key + user_;
    bool gap = false, begun = false;
    for (const char c : user_) {
        if (c == ' ') {
            gap = begun;
            continue;
        }
        if (std::exchange(gap, false)) key += ' ';
        key += base::to_lower(c);
        begun = true;
    }
    return key;
}

bool client_login::keeps_back(base::time_point now, effects &fx) {
    if (!judged_ || env_->pace == nullptr) return false;
    judged_ = false;
    const bool right = fx.client != client_next::close;
    auto until = env_->pace->judged(paced_as(), right, settings_->global.login_failure_max_delay, now);
    if (!until) {
        if (right) env_->pace->let_in(paced_as());
        return false;
    }
    std::string words;
    for (std::size_t i = 0; i < fx.to_client.pieces(); ++i) words += fx.to_client.piece(i);
    kept_ = {std::move(words), std::move(fx.why), fx.client, std::move(until)};
    fx.clear();
    return true;
}

void client_login::tell_kept(effects &fx) {
    fx.to_client.make([&](std::string &out) { out += kept_->words; });
    fx.why = std::move(kept_->why);
    fx.client = kept_->next;
    if (fx.client != client_next::close) env_->pace->let_in(paced_as());
    kept_.reset();
}

std::size_t client_login::on_bytes(std::string_view bytes, effects &fx) {
    if (stage_ == stage::startup) return on_startup(bytes, fx);
    if (waits_elsewhere() || stage_ == stage::admission || stage_ == stage::done) return 0;
    wire::frame message;
    const auto read = wire::read_frame(bytes, message);
    if (read == wire::framing::need_header) return 0;
    const bool sasl = stage_ == stage::sasl_first || stage_ == stage::sasl_final;
    if (read == wire::framing::bad_length || message.type != wire::frontend::password) {
        if (read == wire::framing::ok && message.type == wire::frontend::terminate) {
            fx.why = client_left;
            fx.client = client_next::close;
        } else {
            // A packet without a type begins with its length, and so with a zero.
            const auto why = bytes.starts_with('\0')             ? refusal::startup_again
                             : read == wire::framing::bad_length ? refusal::bad_packet_header
                                                                 : refusal::bad_login_message;
            refuse(why, fx, header_in_hex(bytes));
        }
        return bytes.size();
    }
    if (message.body_bytes > (sasl ? sasl_message_max_bytes : password_max_bytes)) {
        refuse(sasl ? refusal::sasl_failed : refusal::password_too_long, fx);
        return bytes.size();
    }
    if (!message.whole()) return 0;
    switch (stage_) {
        case stage::cleartext:
        case stage::md5:
            on_password(message.body, fx);
            break;
        case stage::sasl_first:
            on_sasl_first(message.body, fx);
            break;
        case stage::sasl_final:
            on_sasl_final(message.body, fx);
            break;
        default:
            break;
    }
    return message.here_bytes();
}

// ---- the packets without a type ----

std::size_t client_login::on_startup(std::string_view bytes, effects &fx) {
    // TLS without a word before it (sslnegotiation=direct). No packet of ours is long enough to begin like this.
    constexpr char tls_handshake_record = 0x16;
    if (offers_tls() && !ssl_seen_ && !gssenc_seen_ && bytes.starts_with(tls_handshake_record)) {
        fx.client = client_next::secure;
        return 0;
    }
    const auto packet = wire::parse_startup(bytes);
    const auto no = [&](refusal why, std::string_view argument = {}) {
        refuse(why, fx, argument);
        return bytes.size();
    };
    const auto answer_no_encryption = [&](bool &seen, refusal trailing) -> std::size_t {
        if (channel_.encrypted && &seen == &ssl_seen_) return no(refusal::ssl_inside_ssl);
        if (seen || channel_.encrypted) return no(refusal::startup_again);
        seen = true;
        // Whatever is here already was sent before our answer could be known: it may be an attacker's.
        const bool kept = base::seeded(base::bug::plaintext_kept);
        if (bytes.size() > packet.total_bytes && !kept) return no(trailing);
        const bool secure = &seen == &ssl_seen_ && offers_tls();
        fx.to_client.make([&](std::string &out) { out += secure ? 'S' : 'N'; });
        if (secure) fx.client = client_next::secure;
        return packet.total_bytes;
    };
    switch (packet.kind) {
        case wire::startup_kind::incomplete:
            return 0;
        case wire::startup_kind::ssl_request:
            return answer_no_encryption(ssl_seen_, refusal::data_after_ssl_request);
        case wire::startup_kind::gssenc_request:
            return answer_no_encryption(gssenc_seen_, refusal::data_after_gssenc_request);
        case wire::startup_kind::bad_length:
            return bytes.size() < 8 ? 0 : no(refusal::bad_startup_length, header_in_hex(bytes));
        case wire::startup_kind::bad_protocol:
            return no(refusal::bad_protocol, header_in_hex(bytes));
        case wire::startup_kind::protocol_2:
            return no(refusal::protocol_2);
        case wire::startup_kind::bad_layout:
            return no(refusal::bad_startup_layout);
        case wire::startup_kind::bad_cancel:
            fx.client = client_next::close;  // a cancel request has no answer
            fx.why = "bad cancel request";
            fx.untold = true;
            return bytes.size();
        case wire::startup_kind::cancel_request:
            cancel_ = {packet.cancel_pid, std::string(packet.cancel_secret)};
            stage_ = stage::done;
            fx.client = client_next::cancel;
            return bytes.size();  // what a client sends behind a cancel request is ignored
        case wire::startup_kind::startup:
            break;
    }
    read_startup(packet, fx);
    return fx.client == client_next::close ? bytes.size() : packet.total_bytes;
}

void client_login::read_startup(const wire::startup_packet &packet, effects &fx) {
    settings_ = env_->settings;
    protocol_ = packet.protocol;
    // As PgBouncer, only here: a cancel request may come in the clear, it holds nothing but its own key.
    if (channel_.may_encrypt && settings_->global.client_tls_sslmode >= config::sslmode::require) {
        return refuse(refusal::ssl_required, fx);
    }
    std::string_view options;
    auto kind = replication::none;
    std::vector<std::pair<std::string_view, std::string_view>> explicit_ones;
    for (const auto &[name, value] : packet.parameters) {
        if (name == "user") {
            user_ = value;
        } else if (name == "database") {
            database_ = value;
        } else if (name == "replication") {
            const auto asked = parse_replication(value);
            if (!asked) return refuse(refusal::invalid_replication, fx, value);
            kind = *asked;
        } else if (name.starts_with("_pq_.")) {
            unknown_protocol_options_.emplace_back(name);
        } else if (name == "options") {
            options = value;
        } else {
            explicit_ones.emplace_back(name, value);
        }
    }
    // As in PostgreSQL, what the packet names itself overrides the options, in whatever order they came.
    const bool ignored = base::is_among(settings_->global.ignore_startup_parameters, "options");
    if (kind != replication::none) {
        // Its server is nobody else's: it may start with whatever PostgreSQL takes.
        if (!options.empty()) parameters_.emplace_back("options", options);
    } else {
        const auto inside = parse_options(options);
        if (!inside && !ignored) return refuse(refusal::bad_options, fx);
        if (inside)
            for (const auto &[name, value] : *inside) take_parameter(name, value, ignored);
    }
    for (const auto &[name, value] : explicit_ones) take_parameter(name, value, false);
    if (settings_->global.application_name_add_host) add_host_to_name();
    if (kind != replication::none) {
        replicates_ =
            std::make_shared<const replication_start>(replication_start{kind, std::exchange(parameters_, {})});
    }
    if (user_.empty()) return refuse(refusal::no_user, fx);
    if (user_.size() > user_max_bytes) return refuse(refusal::user_too_long, fx);
    if (database_.empty()) database_ = user_;
    if (database_.size() > database_max_bytes) {
        no_such_database_ = true;
        auto end = database_max_bytes;
        while (end > 0 && (static_cast<unsigned char>(database_[end]) & 0xc0) == 0x80) --end;  // no half character
        database_.resize(end);
    }
    stage_ = stage::admission;
    fx.client = client_next::admit;
}

void client_login::take_parameter(std::string_view name, std::string_view value, bool ignored) {
    const auto &global = settings_->global;
    const bool kept = base::is_among(always_tracked, name) || base::is_among(global.track_extra_parameters, name);
    if (!kept && (ignored || base::is_among(global.ignore_startup_parameters, name))) return;
    parameters_.emplace_back(name, value);
}

void client_login::add_host_to_name() {
    auto it = std::find_if(parameters_.begin(), parameters_.end(),
                           [](const auto &own) { return base::equal_nocase(own.first, "application_name"); });
    if (it == parameters_.end()) it = parameters_.insert(it, {"application_name", "app"});
    it->second += " - " + facts_.place;
}

// ---- authentication ----

void client_login::on_admitted(effects &fx) {
    // As PostgreSQL 18: what is newer than 3.2 comes down to it; 3.1, which nobody speaks, is taken for an older 3.2.
    if (protocol_ > wire::protocol_3_2 || !unknown_protocol_options_.empty()) {
        fx.to_client.make([&](std::string &out) {
            wire::append_negotiate_protocol_version(out, std::min(protocol_, wire::protocol_3_2),
                                                    unknown_protocol_options_);
        });
    }
    const auto &credentials = settings_->credentials;
    const auto it = credentials.find(user_);
    credential_ = it == credentials.end() ? nullptr : &it->second;
    if (console() && replicates_) return refuse(refusal::console_not_allowed, fx);
    is_local_admin() ? accept(fx) : authenticate(nullptr, fx);
}

/// The pooler's own system user, over the Unix socket, needs no password for the console, whatever auth_type says.
bool client_login::is_local_admin() const {
    return console() && !facts_.tcp && facts_.own_user && is_console(user_);
}

std::optional<console_rights> client_login::rights() const {
    const auto names = [&](const std::vector<std::string> &users) {
        return std::find(users.begin(), users.end(), user_) != users.end();
    };
    if (is_local_admin() || names(settings_->global.admin_users)) return console_rights::admin;
    const bool anybody = settings_->global.auth_type == config::auth_type::any;
    if (anybody || names(settings_->global.stats_users)) return console_rights::stats;
    return std::nullopt;
}

void client_login::on_named(const std::string &host_name, effects &fx) {
    if (stage_ == stage::naming) authenticate(&host_name, fx);
}

void client_login::authenticate(const std::string *host_name, effects &fx) {
    const auto kind = replicates_ ? replicates_->kind : replication::none;
    facts_.tls = channel_.encrypted;
    facts_.certificate_name = channel_.peer_name;
    facts_.certificate_subject = channel_.peer_subject;
    facts_.certificate_verified = channel_.peer_verified;
    decided_ = authentication_for(*settings_, facts_, {database_, user_, kind}, env_->host, host_name);
    // Who is judged outside is known there.
    const bool needs_user = !is_asked_outside() && decided_.step != login_step::let_in_any &&
                            decided_.step != login_step::refuse && decided_.step != login_step::look_up_name;
    if (needs_user && credential_ == nullptr) {
        question_ = question_for(*settings_, database_, user_);
        if (!question_) note_ = why_not_asked(*settings_, database_, user_);
    }
    if (!question_) return carry_out(fx);
    stage_ = stage::lookup;
    fx.client = client_next::find_secret;
}

void client_login::on_secret(const secret_answer &answer, effects &fx) {
    if (stage_ != stage::lookup) return;
    if (answer.what == secret_answer::kind::failed) return refuse(refusal::auth_query_failed, fx);
    if (answer.what == secret_answer::kind::crowded_out) return refuse(refusal::too_many_lookups, fx);
    found_ = answer.credential;
    seen_ = answer.seen;
    note_ = answer.problem;
    credential_ = found_.get();
    if (credential_ == nullptr && base::seeded(base::bug::unknown_as_auth_user)) {
        user_ = question_->auth_user;
        if (const auto it = settings_->credentials.find(user_); it != settings_->credentials.end())
            credential_ = &it->second;
    }
    carry_out(fx);
}

void client_login::carry_out(effects &fx) {
    switch (decided_.step) {
        case login_step::let_in_any:
            return accept(fx);
        case login_step::let_in:
            return credential_ != nullptr || settings_->users.contains(user()) ? accept(fx)
                                                                               : refuse(decided_.refused, fx);
        case login_step::refuse:
            return refuse(decided_.refused, fx);
        case login_step::look_up_name:
            stage_ = stage::naming;
            fx.client = client_next::find_name;
            return;
        case login_step::ask_password:
        case login_step::ask_outside:
            stage_ = stage::cleartext;
            return fx.to_client.make(
                [](std::string &out) { backend::append_authentication(out, backend::authentication_code::cleartext); });
        case login_step::ask_md5:
            return begin_md5(fx);
        case login_step::ask_scram:
            return begin_sasl(fx);
    }
}

/// What a user that is not there is taken for.
auth::secret_look client_login::invent() const {
    const auto &mix = seen_ ? *seen_ : settings_->mix;
    const auth::secret_look otherwise{false, settings_->global.scram_iterations};
    // For an HMAC less. Not where databases may differ in it, for then time would tell one from the other.
    if (!settings_->asks_auth_query && mix.alike()) return mix.of_all(otherwise);
    auto look = mix.shown_to(env_->mock_key, user_, otherwise);
    // auth_query finds SCRAM secrets, as PostgreSQL's default has it, until it is seen to find others.
    if (!seen_ && settings_->asks_auth_query) look.scram = true;
    return look;
}

void client_login::begin_md5(effects &fx) {
    // A user with a SCRAM secret is asked for SCRAM; an unknown one, or one without a secret, for what one of the
    // others would be.
    const bool known = credential_ != nullptr && (found_ == nullptr || !credential_->text.empty());
    const auto invented = invent();
    const bool scram = known ? credential_->form == auth::secret_form::scram : invented.scram;
    if (scram) return begin_sasl(fx);
    salt_ = env_->random->bytes(4);
    stage_ = stage::md5;
    fx.to_client.make(
        [&](std::string &out) { backend::append_authentication(out, backend::authentication_code::md5, salt_); });
}

/// auth_query has found its password as it is. Users of auth_file have their verifiers since it was read.
bool client_login::has_keys_to_derive() const {
    return question_ && found_ != nullptr && credential_ == found_.get() && found_->form == auth::secret_form::plain &&
           !found_->text.empty();
}

void client_login::begin_sasl(effects &fx) {
    const bool real = credential_ != nullptr && credential_->verifier.has_value();
    const bool derives = has_keys_to_derive();
    // Invented for those who need none too, so that it takes as long.
    const auto look = invent();
    auto shown =
        auth::mock_scram_verifier(env_->mock_key, user_, derives ? question_->scram_iterations : look.iterations);
    // Keys come last in SCRAM, so nothing is derived for those who do not go on to the end. The salt is that of an
    // unknown user of this name: it stays the same. Who is taken for one with such a secret costs the same work.
    if (derives || (question_ && !real && !look.scram)) {
        auto &work = last_work_.emplace(auth::work_for(shown, derives ? found_->text.reveal() : env_->mock_key));
        work.iterations = std::min(work.iterations, auth::scram_iterations_max);
    }
    if (real) shown = *credential_->verifier;
    scram_.emplace(std::move(shown), env_->random->bytes(auth::scram_nonce_bytes), !real && !derives,
                   channel_.end_point);
    stage_ = stage::sasl_first;
    std::string mechanisms;
    if (!channel_.end_point.empty()) mechanisms.append(auth::scram_sha_256_plus).append(1, '\0');
    mechanisms.append(auth::scram_sha_256).append(2, '\0');  // the end of the name, and of the list
    fx.to_client.make(
        [&](std::string &out) { backend::append_authentication(out, backend::authentication_code::sasl, mechanisms); });
}

void client_login::check_cleartext(std::string_view password, effects &fx) {
    const bool known = credential_ != nullptr && !credential_->text.empty();
    // Hashed and invented for those who need it not too, so that it takes as long.
    const auto hashed = auth::md5_secret(password, user_);
    auto verifier =
        auth::mock_scram_verifier(env_->mock_key, user_, std::min(invent().iterations, auth::scram_iterations_max));
    // Users set their own verifiers in PostgreSQL, with as many iterations as they like: those would cost all of us.
    const auto too_dear = [](const auth::scram_verifier &it) { return it.iterations > auth::scram_iterations_max; };
    const bool scram = known && credential_->form == auth::secret_form::scram;
    if (scram && !too_dear(*credential_->verifier)) {
        verifier = *credential_->verifier;
    } else {
        const bool plain = known && credential_->form == auth::secret_form::plain;
        if (known && !scram && credential_->text.equals(plain ? password : hashed)) return accept_password(fx);
        // Where the password of some user costs a derivation, that of an unknown one, or a wrong one, does too.
        const bool some_cost = settings_->mix.has_verifiers() || settings_->asks_auth_query;
        if (!some_cost) return refuse(refusal::password_failed, fx);
    }
    work_ = auth::work_for(verifier, password);
    stage_ = stage::deriving;
    fx.client = client_next::derive;
}

void client_login::on_derived(const auth::scram_keys &keys, effects &fx) {
    if (stage_ != stage::deriving) return;
    if (scram_) {
        const auto answer = scram_->server_final(keys);
        if (answer && env_->derived != nullptr) env_->derived->keep(*question_, found_->text, keys);
        return end_sasl(answer, fx);
    }
    const bool real = credential_ != nullptr && credential_->form == auth::secret_form::scram;
    if (!real || !auth::belongs_to(*credential_->verifier, keys)) return refuse(refusal::password_failed, fx);
    keys_ = keys;
    accept_password(fx);
}

void client_login::on_password(std::string_view body, effects &fx) {
    wire::reader in(body);
    const auto answer = in.cstring();
    if (!in.done()) return refuse(refusal::bad_login_message, fx);
    if (answer.empty()) return refuse(refusal::empty_password, fx);
    if (is_asked_outside()) {
        given_ = base::secret(answer);
        stage_ = stage::checking;
        fx.client = client_next::check_password;
        return;
    }
    if (stage_ == stage::cleartext) return check_cleartext(answer, fx);
    // The same work for a user that does not exist, and for one whose hash is stored.
    const bool known =
        credential_ != nullptr && credential_->form != auth::secret_form::scram && !credential_->text.empty();
    const bool plain = known && credential_->form == auth::secret_form::plain;
    const auto made = auth::md5_secret(plain ? credential_->text.reveal() : answer, user_);
    const std::string stored(known && !plain ? credential_->text.reveal() : made);
    const bool right = base::equal_constant_time(auth::md5_response(stored, salt_), answer);
    if (!right || !known) return refuse(refusal::password_failed, fx);
    accept_password(fx);
}

auth::password_check client_login::take_check() {
    using kind = auth::password_check::kind;
    auth::password_check check;
    check.user = user_;
    check.password = given_;
    const auto &judge = decided_.judge;
    if (!judge.ldap) {
        check.what = kind::pam;
        check.service = judge.pam_service;
        check.remote_host = facts_.tcp ? to_text(facts_.address.unmapped()) : "[local]";
        check.resolve_host = judge.pam_use_hostname && facts_.tcp;
        return check;
    }
    const auto &ldap = *judge.ldap;
    check.what = kind::ldap;
    check.uris = ldap.uris();
    check.start_tls = ldap.start_tls;
    check.base_dn = ldap.base_dn.value_or("");
    check.bind_dn = ldap.bind_dn;
    check.bind_password = ldap.bind_password;
    check.scope = ldap.scope;
    check.search = ldap.searches();
    if (check.search)
        check.filter = ldap.filter_for(user_);
    else
        check.name = ldap.name_to_bind(user_).value_or("");
    return check;
}

void client_login::on_checked(const auth::password_verdict &verdict, effects &fx) {
    if (stage_ != stage::checking) return;
    auto given = std::exchange(given_, {});
    if (verdict.what == auth::password_verdict::kind::right) {
        // For the user's servers, as PgBouncer does with PAM.
        auto found = std::make_shared<auth::credential>();
        found->text = std::move(given);
        found_ = std::move(found);
        return accept_password(fx);
    }
    refuse(verdict.what == auth::password_verdict::kind::wrong ? decided_.refused : refusal::password_unchecked, fx);
    if (!verdict.why.empty()) fx.why += " (" + verdict.why + ")";
}

void client_login::on_sasl_first(std::string_view body, effects &fx) {
    wire::reader in(body);
    const auto mechanism = in.cstring();
    const auto length = in.i32();
    if (!in.ok()) return refuse(refusal::bad_login_message, fx);
    const bool plus = mechanism == auth::scram_sha_256_plus && !channel_.end_point.empty();
    if (mechanism != auth::scram_sha_256 && !plus) return refuse(refusal::sasl_mechanism, fx);
    if (length < 0 || static_cast<std::size_t>(length) != in.rest().size())
        return refuse(refusal::bad_login_message, fx);
    const auto answer = scram_->on_client_first(in.rest(), plus);
    if (!answer) return refuse(refusal::sasl_failed, fx);
    stage_ = stage::sasl_final;
    fx.to_client.make([&](std::string &out) {
        backend::append_authentication(out, backend::authentication_code::sasl_continue, *answer);
    });
}

void client_login::on_sasl_final(std::string_view body, effects &fx) {
    if (!last_work_) return end_sasl(scram_->on_client_final(body), fx);
    if (!scram_->take_client_final(body)) return refuse(refusal::sasl_failed, fx);
    const bool may_be_known = has_keys_to_derive() && env_->derived != nullptr;
    const auto *const known = may_be_known ? env_->derived->find(*question_, found_->text) : nullptr;
    const auto keys = known != nullptr ? *known : auth::scram_keys();
    if (scram_->is_proof_of(keys) && known != nullptr) return end_sasl(scram_->server_final(keys), fx);
    // A wrong proof costs a derivation also where the keys are known, as it does where there is no such user.
    work_ = *std::exchange(last_work_, std::nullopt);
    stage_ = stage::deriving;
    fx.client = client_next::derive;
}

void client_login::end_sasl(const std::optional<std::string> &answer, effects &fx) {
    if (!answer) return refuse(refusal::sasl_failed, fx);
    fx.to_client.make([&](std::string &out) {
        backend::append_authentication(out, backend::authentication_code::sasl_final, *answer);
    });
    if (credential_ != nullptr && credential_->form == auth::secret_form::scram) keys_ = scram_->keys();
    accept_password(fx);
}

}  // namespace pgsluice::core
