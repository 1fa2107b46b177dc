// The login machine: startup packets first, then one exchange for each auth_type.
#include "core/client_login.hpp"

#include <algorithm>

#include "auth/md5.hpp"
#include "base/seeded_bug.hpp"
#include "base/text.hpp"
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

std::string hex(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text;
    for (const char c : bytes) {
        const auto value = static_cast<unsigned char>(c);
        text += digits[value >> 4];
        text += digits[value & 15];
    }
    return text;
}

bool is_among(const std::vector<std::string> &names, std::string_view name) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string &own) { return base::equal_nocase(own, name); });
}

/// What PgBouncer keeps for each client whatever ignore_startup_parameters says.
bool is_always_kept(std::string_view name) {
    static const std::vector<std::string> names{"client_encoding", "DateStyle", "TimeZone",
                                                "standard_conforming_strings", "application_name"};
    return is_among(names, name);
}

/// As PostgreSQL reads a boolean: any beginning of a word that no other word has.
std::optional<bool> parse_boolean(std::string_view text) {
    const auto begins = [&](std::string_view word, std::size_t least) {
        return text.size() >= least && text.size() <= word.size() &&
               base::equal_nocase(text, word.substr(0, text.size()));
    };
    if (begins("true", 1) || begins("yes", 1) || begins("on", 2) || text == "1") return true;
    if (begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0") return false;
    return std::nullopt;
}

}  // namespace

std::optional<replication> parse_replication(std::string_view value) {
    if (value == "database") return replication::logical;
    const auto on = parse_boolean(value);
    if (!on) return std::nullopt;
    return *on ? replication::physical : replication::none;
}

std::optional<std::vector<std::pair<std::string, std::string>>> parse_options(std::string_view text) {
    std::vector<std::string> words;
    bool in_word = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool space = text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r';
        if (space) {
            in_word = false;
            continue;
        }
        if (!in_word) words.emplace_back();
        in_word = true;
        if (text[i] == '\\' && i + 1 < text.size()) ++i;
        words.back() += text[i];
    }
    std::vector<std::pair<std::string, std::string>> found;
    for (std::size_t i = 0; i < words.size(); ++i) {
        std::string_view word = words[i];
        if (word == "-c") {
            if (++i == words.size()) return std::nullopt;
            word = words[i];
        } else if (word.starts_with("-c") || word.starts_with("--")) {
            word.remove_prefix(2);
        } else {
            return std::nullopt;
        }
        const auto equals = word.find('=');
        if (equals == std::string_view::npos || equals == 0) return std::nullopt;
        std::string name(word.substr(0, equals));
        std::replace(name.begin(), name.end(), '-', '_');  // as PostgreSQL reads --some-name
        found.emplace_back(std::move(name), word.substr(equals + 1));
    }
    return found;
}

void client_login::refuse(refusal why, effects &fx, std::string_view argument) {
    stage_ = stage::done;
    guessed_ = why == refusal::password_failed || why == refusal::sasl_failed || why == refusal::pam_failed ||
               why == refusal::ldap_failed;
    fx.to_client.make(
        [&](std::string &out) { append_refusal(out, why, argument, env_.settings->global.error_sqlstate); });
    fx.why = words(why, argument).message;
    if (!decided_.place.empty()) fx.why += " (" + decided_.place + ")";
    fx.client = client_next::close;
}

base::duration client_login::keep_back(base::time_point now) const {
    if (!guessed_ || env_.pace == nullptr) return base::duration::zero();
    // Of IPv6 the network: whoever has one address has a whole /64 of them.
    const auto &bytes = facts_.address.bytes;
    const auto *const end = facts_.address.family == auth::ip_family::v6 && !facts_.address.is_mapped()
                                ? bytes.data() + 8
                                : bytes.data() + bytes.size();
    std::string from(bytes.data(), end);
    return env_.pace->failed(from + user_, settings_->global.login_failure_max_delay, now);
}

std::size_t client_login::on_bytes(std::string_view bytes, effects &fx) {
    if (stage_ == stage::startup) return on_startup(bytes, fx);
    const bool waits = stage_ == stage::admission || stage_ == stage::naming || stage_ == stage::lookup ||
                       stage_ == stage::checking || stage_ == stage::deriving;
    if (waits || stage_ == stage::done) return 0;
    wire::frame message;
    const auto read = wire::read_frame(bytes, message);
    if (read == wire::framing::need_header) return 0;
    const bool sasl = stage_ == stage::sasl_first || stage_ == stage::sasl_final;
    if (read == wire::framing::bad_length || message.type != wire::frontend::password) {
        if (read == wire::framing::ok && message.type == wire::frontend::terminate) {
            fx.why = client_left;
            fx.client = client_next::close;
        } else {
            refuse(refusal::bad_login_message, fx);
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
            return no(refusal::bad_startup_length, hex(bytes.substr(0, 4)));
        case wire::startup_kind::bad_protocol:
            return no(refusal::bad_protocol, hex(bytes.substr(0, 8)));
        case wire::startup_kind::protocol_2:
            return no(refusal::protocol_2);
        case wire::startup_kind::bad_layout:
            return no(refusal::bad_startup_layout);
        case wire::startup_kind::bad_cancel:
            return no(refusal::bad_cancel_request);
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
    settings_ = env_.settings;
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
    const bool ignored = is_among(settings_->global.ignore_startup_parameters, "options");
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
    if (database_.size() > database_max_bytes) return refuse(refusal::database_too_long, fx);
    stage_ = stage::admission;
    fx.client = client_next::admit;
}

void client_login::take_parameter(std::string_view name, std::string_view value, bool ignored) {
    const auto &global = settings_->global;
    const bool kept = is_always_kept(name) || is_among(global.track_extra_parameters, name);
    if (!kept && (ignored || is_among(global.ignore_startup_parameters, name))) return;
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
    facts_.certificate_verified =
        !channel_.peer_subject.empty() || !channel_.peer_name.empty() || !channel_.peer_alternative_names.empty();
    decided_ = authentication_for(*settings_, facts_, {database_, user_, kind}, env_.host, host_name);
    // Who is judged outside is known there.
    const bool needs_user = !is_asked_outside() && decided_.step != login_step::let_in_any &&
                            decided_.step != login_step::refuse && decided_.step != login_step::look_up_name;
    if (needs_user && credential_ == nullptr) question_ = question_for(*settings_, database_, user_);
    if (!question_) return carry_out(fx);
    stage_ = stage::lookup;
    fx.client = client_next::find_secret;
}

void client_login::on_secret(const secret_answer &answer, effects &fx) {
    if (stage_ != stage::lookup) return;
    if (answer.what == secret_answer::kind::failed) return refuse(refusal::auth_query_failed, fx);
    found_ = answer.credential;
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
            return credential_ != nullptr ? accept(fx) : refuse(decided_.refused, fx);
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

void client_login::begin_md5(effects &fx) {
    // A user with a SCRAM secret is asked for SCRAM; an unknown one, or one without a secret, for what most are asked
    // for: of those that auth_query finds, for SCRAM, as PostgreSQL's default has it.
    const bool known = credential_ != nullptr && (found_ == nullptr || !credential_->text.empty());
    const bool scram =
        known ? credential_->form == auth::secret_form::scram : settings_->asks_auth_query || settings_->only_verifiers;
    if (scram) return begin_sasl(fx);
    salt_ = env_.random->bytes(4);
    stage_ = stage::md5;
    fx.to_client.make(
        [&](std::string &out) { backend::append_authentication(out, backend::authentication_code::md5, salt_); });
}

void client_login::begin_sasl(effects &fx) {
    const bool real = credential_ != nullptr && credential_->verifier.has_value();
    // Invented for those who need none too, so that it takes as long.
    auto shown = auth::mock_scram_verifier(env_.mock_key, user_, settings_->mock_iterations);
    if (real) shown = *credential_->verifier;
    scram_.emplace(std::move(shown), env_.random->bytes(auth::scram_nonce_bytes), !real, channel_.end_point);
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
    auto verifier = auth::mock_scram_verifier(env_.mock_key, user_, settings_->mock_iterations);
    // Users set their own verifiers in PostgreSQL, with as many iterations as they like: those would cost all of us.
    const auto too_dear = [](const auth::scram_verifier &it) { return it.iterations > auth::scram_iterations_max; };
    const bool scram = known && credential_->form == auth::secret_form::scram;
    if (scram && !too_dear(*credential_->verifier)) {
        verifier = *credential_->verifier;
    } else {
        const bool plain = known && credential_->form == auth::secret_form::plain;
        if (known && !scram && credential_->text.equals(plain ? password : hashed)) return accept(fx);
        // Where the password of some user costs a derivation, that of an unknown one, or a wrong one, does too.
        const bool some_cost = settings_->has_verifiers || settings_->asks_auth_query;
        if (!some_cost) return refuse(refusal::password_failed, fx);
    }
    work_ = auth::work_for(verifier, password);
    stage_ = stage::deriving;
    fx.client = client_next::derive;
}

void client_login::on_derived(const auth::scram_keys &keys, effects &fx) {
    if (stage_ != stage::deriving) return;
    const bool real = credential_ != nullptr && credential_->form == auth::secret_form::scram;
    if (!real || !auth::belongs_to(*credential_->verifier, keys)) return refuse(refusal::password_failed, fx);
    keys_ = keys;
    accept(fx);
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
    accept(fx);
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
        return accept(fx);
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
    const auto answer = scram_->on_client_final(body);
    if (!answer) return refuse(refusal::sasl_failed, fx);
    fx.to_client.make([&](std::string &out) {
        backend::append_authentication(out, backend::authentication_code::sasl_final, *answer);
    });
    if (credential_ != nullptr && credential_->form == auth::secret_form::scram) keys_ = scram_->keys();
    accept(fx);
}

}  // namespace pgsluice::core
