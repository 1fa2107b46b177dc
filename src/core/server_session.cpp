// The server machine: login, errands, and the relay of replies.
#include "core/server_session.hpp"

#include <algorithm>

#include "auth/md5.hpp"
#include "base/seeded_bug.hpp"
#include "core/client_session.hpp"
#include "core/errors.hpp"
#include "core/server_login.hpp"
#include "wire/backend.hpp"
#include "wire/error_response.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;

namespace {

/// Bodies that must be whole before we look at them are refused beyond this; PostgreSQL's are far smaller.
constexpr std::uint32_t inspected_max_bytes = 1 << 20;

/// What is looked into beyond its type, so that it must be whole. Longer errors are never about a statement's name.
bool is_inspected(const wire::frame &message) {
    constexpr std::uint32_t error_max_bytes = 16 << 10;
    return message.type == backend::ready_for_query || message.type == backend::parameter_status ||
           message.type == backend::command_complete ||
           (message.type == backend::error_response && message.body_bytes <= error_max_bytes);
}

/// DISCARD ALL and DEALLOCATE ALL say so by their tags, however they were spelt or wrapped.
bool ends_all_statements(std::string_view body) {
    using namespace std::string_view_literals;
    return body == "DISCARD ALL\0"sv || body == "DEALLOCATE ALL\0"sv;
}

/// An error that the server closes the connection after.
bool ends_session(std::string_view error) {
    const auto fields = wire::parse_error_fields(error);
    return fields && (fields->severity == "FATAL" || fields->severity == "PANIC");
}

bool breaks_protocol(std::string_view error) {
    const auto fields = wire::parse_error_fields(error);
    return fields && fields->sqlstate == "08P01";
}

/// Notifications are for a LISTEN of a client that has gone: nobody may get them.
bool may_come_when_idle(char type) {
    return type == backend::parameter_status || type == backend::notification_response;
}

}  // namespace

const char *to_string(server_state state) {
    switch (state) {
        case server_state::connecting:
        case server_state::login:
            return "login";
        case server_state::idle:
            return "idle";
        case server_state::tested:
            return "tested";
        case server_state::active:
            return "active";
        case server_state::abandoned:
            return "being_canceled";
        case server_state::closing:
            return "closing";
    }
    return "?";
}

server_session::server_session(std::shared_ptr<const config::pool_settings> settings, server_secret secret,
                               std::string nonce)
    : settings_(std::move(settings)),
      login_(std::make_unique<server_login>()),
      parameters_(std::make_shared<const parameter_set>()) {
    login_->secret = std::move(secret);
    login_->nonce = std::move(nonce);
}

server_session::~server_session() = default;

std::size_t server_session::on_bytes(std::string_view bytes, effects &fx) {
    if (state_ == server_state::connecting) return on_encryption_answer(bytes, fx);
    std::size_t used = 0;
    while (used < bytes.size() && state_ != server_state::closing) {
        const auto rest = bytes.substr(used);
        if (body_left_ > 0) {
            const auto part = rest.substr(0, body_left_);
            if (body_forward_) fx.to_client.view(part);
            body_left_ -= part.size();
            used += part.size();
            continue;
        }
        wire::frame message;
        const auto read = wire::read_frame(rest, message);
        if (read == wire::framing::need_header) {
            // An idle server that begins to say anything else must not be given to anybody meanwhile.
            if (state_ == server_state::idle && !may_come_when_idle(rest[0])) lose("idle server got dirty", fx);
            break;
        }
        if (read == wire::framing::bad_length) {
            lose("bad packet header", fx);
            break;
        }
        if (!on_frame(message, rest.substr(0, message.here_bytes()), fx)) break;
        used += message.here_bytes();
        body_left_ = message.missing_bytes();
        if (base::seeded(base::bug::header_read_twice) && body_left_ > 0) body_left_ += wire::header_bytes;
    }
    if (state_ == server_state::closing) return bytes.size();
    frame_open_ = used < bytes.size() || body_left_ > 0;
    // Free, but not clean: half a message, of which the next client would get the rest, or an answer that came before
    // its question was sent.
    if (state_ == server_state::idle && !clean()) {
        lose("idle server got dirty", fx);
        return bytes.size();
    }
    see_what_is_next(fx);
    return used;
}

void server_session::on_sent(effects &fx) {
    unsent_ = false;
    see_what_is_next(fx);
}

/// After each event: what it has made possible.
void server_session::see_what_is_next(effects &fx) {
    go_on_leaving(fx);
    see_to_due_cancel(fx);
    // A client that may go on now is about to send: that was what its server had been made ready for.
    // One that is to leave takes its server along until it has left.
    const bool awaited = fx.client == client_next::resume || fx.client == client_next::close;
    if (fx.server == server_next::none && !awaited && releasable()) fx.server = server_next::release;
}

bool server_session::on_frame(const wire::frame &message, std::string_view raw, effects &fx) {
    body_forward_ = false;
    const bool relayed = state_ == server_state::active || state_ == server_state::tested || abandoned();
    if (state_ == server_state::idle && !may_come_when_idle(message.type)) {
        lose("idle server got dirty", fx);
        return true;
    }
    // What we look into must be here whole; the rest streams.
    if (!message.whole() && (!relayed || is_inspected(message) || describes_noted(message) ||
                             retry_.may_hold(message.type, message.body_bytes))) {
        if (message.body_bytes <= inspected_max_bytes) return false;
        lose("bad packet", fx);
        return false;
    }
    switch (state_) {
        case server_state::login:
            on_login(message, fx);
            break;
        case server_state::idle:
            if (message.type == backend::parameter_status && !record_parameter(message.body))
                lose("broken ParameterStatus packet", fx);
            break;
        case server_state::tested:
        case server_state::active:
            on_reply(message, raw, fx);
            break;
        case server_state::abandoned:
            on_reply(message, raw, fx);
            if (message.type == backend::copy_in_response && abandoned()) end_requests(fx);
            break;
        case server_state::connecting:
            lose("unknown pkt from server", fx);
            break;
        case server_state::closing:
            break;
    }
    return true;
}

// ---- login ----

void server_session::fail_login(std::string_view message, std::string_view sqlstate, bool from_server, effects &fx) {
    const bool class_fits = sqlstate.starts_with("0A") || sqlstate.starts_with("08");
    error_ = {std::string(sqlstate), std::string(message), from_server, class_fits && may_be_the_version()};
    fx.server = server_next::login_failed;
    fx.why = "login failed";
    enter(server_state::closing);
}

/// What is stored does not answer what the server asks.
void server_session::fail_wrong_type(effects &fx) {
    const auto &credential = login_->secret.credential;
    const auto detail = wrong_type_detail(credential.form, credential.text.empty());
    fail_login("server login failed: wrong password type", "28P01", false, fx);
    error_.detail = detail;
}

bool server_session::may_be_the_version() const {
    return login_ && !login_->understood && protocol_ > wire::protocol_3_0;
}

login_error server_session::login_lost(std::string_view why) const {
    return {"08006", std::string(why), false, state_ == server_state::login && may_be_the_version()};
}

/// The server speaks an older version than we asked for. It has nothing to say of options, for we named none.
void server_session::on_negotiated(std::string_view body, effects &fx) {
    wire::reader in(body);
    auto version = in.u32();
    const auto unknown_options = in.u32();
    if (version < wire::protocol_3_0) version |= wire::protocol_3_0;  // the manual: the minor version
    const bool older = version >= wire::protocol_3_0 && version <= protocol_;
    if (!in.done() || unknown_options != 0 || !older || login_->authenticated) {
        return fail_login("broken NegotiateProtocolVersion packet", "08P01", false, fx);
    }
    protocol_ = version;
}

void server_session::on_login(const wire::frame &message, effects &fx) {
    wire::reader in(message.body);
    switch (message.type) {
        case backend::authentication:
            login_->understood = true;
            on_authentication(message, fx);
            break;
        case backend::negotiate_protocol_version:
            on_negotiated(message.body, fx);
            break;
        case backend::parameter_status:
            if (!record_parameter(message.body)) return fail_login("broken ParameterStatus packet", "08P01", false, fx);
            break;
        case backend::backend_key_data: {
            const auto pid = in.u32();
            if (!in.ok() || in.rest().empty() || in.rest().size() > 256) {
                return fail_login("broken BackendKeyData packet", "08P01", false, fx);
            }
            key_ = backend_key{pid, std::string(in.rest())};
            break;
        }
        case backend::error_response: {
            if (errand_ == errand::connect_query) return fail_login("exec_on_connect query failed", "08006", false, fx);
            const auto fields = wire::parse_error_fields(message.body);
            if (!fields) return fail_login("broken error message from server", "08P01", false, fx);
            fail_login(fields->message.empty() ? "the server gave no reason" : fields->message,
                       fields->sqlstate.size() == 5 ? fields->sqlstate : "08006", true, fx);
            break;
        }
        case backend::notice_response:
            break;
        case backend::ready_for_query:
            if (!login_->authenticated || message.body_bytes != 1 || message.body[0] != backend::status_idle) {
                return fail_login("unexpected ReadyForQuery during login", "08P01", false, fx);
            }
            if (errand_ == errand::none && !settings_->connect_query.empty()) {
                return run(errand::connect_query, settings_->connect_query, fx);
            }
            login_over(fx);
            break;
        default:
            // The rows of connect_query are of no interest; anything else has no place in a login.
            if (errand_ != errand::connect_query) fail_login("unexpected message during login", "08P01", false, fx);
            break;
    }
}

void server_session::login_over(effects &fx) {
    errand_ = errand::none;
    errand_queries_ = 0;
    greeting_ = std::make_shared<const welcome>(welcome{parameters_});
    settled_ = parameters_;
    login_.reset();
    enter(server_state::idle);
    fx.server = server_next::logged_in;
}

void server_session::on_authentication(const wire::frame &message, effects &fx) {
    wire::reader in(message.body);
    const auto code = in.u32();
    if (!in.ok() || login_->authenticated) return fail_login("failed to answer authreq", "08P01", false, fx);
    const auto &credential = login_->secret.credential;
    switch (static_cast<backend::authentication_code>(code)) {
        case backend::authentication_code::ok:
            if (login_->scram && !login_->scram_proved) {
                return fail_login("server did not prove that it knows the password", "28P01", false, fx);
            }
            login_->authenticated = true;
            break;
        case backend::authentication_code::cleartext:
            if (credential.form != auth::secret_form::plain || credential.text.empty()) return fail_wrong_type(fx);
            fx.to_server.make([&](std::string &out) { frontend::append_password(out, credential.text.reveal()); });
            break;
        case backend::authentication_code::md5: {
            const auto salt = in.bytes(4);
            if (!in.done()) return fail_login("failed to answer authreq", "08P01", false, fx);
            if (credential.form == auth::secret_form::scram || credential.text.empty()) return fail_wrong_type(fx);
            const auto stored = credential.form == auth::secret_form::md5
                                    ? std::string(credential.text.reveal())
                                    : auth::md5_secret(credential.text.reveal(), login_->secret.user);
            fx.to_server.make(
                [&](std::string &out) { frontend::append_password(out, auth::md5_response(stored, salt)); });
            break;
        }
        default:
            on_sasl(code, in.rest(), fx);
            break;
    }
}

void server_session::on_sasl(std::uint32_t code, std::string_view data, effects &fx) {
    const auto fail = [&](std::string_view text) { fail_login(text, "28P01", false, fx); };
    switch (static_cast<backend::authentication_code>(code)) {
        case backend::authentication_code::sasl: {
            wire::reader in(data);
            bool offered = false, plus = false;
            for (auto name = in.cstring(); in.ok() && !name.empty(); name = in.cstring()) {
                offered = offered || name == auth::scram_sha_256;
                plus = plus || name == auth::scram_sha_256_plus;
            }
            const auto bound = login_->choose_binding(plus);
            if (plus && !login_->security.encrypted) return fail("server offers channel binding without TLS");
            const bool bind = bound.how == auth::scram_channel::binding::bound;
            if (!in.done() || !(offered || bind) || login_->scram)
                return fail("server offers no SASL mechanism that we speak");
            const auto &[user, credential, keys, derived] = login_->secret;
            if (credential.form == auth::secret_form::plain && !credential.text.empty()) {
                login_->scram.emplace(credential.text, login_->nonce, derived, bound);
            } else if (keys) {
                login_->scram.emplace(*keys, login_->nonce, bound);
            } else {
                return fail_wrong_type(fx);
            }
            fx.to_server.make([&](std::string &out) {
                frontend::append_sasl_initial_response(out, bind ? auth::scram_sha_256_plus : auth::scram_sha_256,
                                                       login_->scram->client_first());
            });
            break;
        }
        case backend::authentication_code::sasl_continue: {
            if (!login_->scram || data.size() > auth::scram_message_max_bytes) return fail("unexpected SASL message");
            if (!login_->scram->take_server_first(data)) return fail(auth::to_string(login_->scram->error()));
            login_->work = login_->scram->work();
            if (login_->work) {
                fx.server = server_next::derive;
                break;
            }
            answer_sasl(login_->scram->client_final(), fx);
            break;
        }
        case backend::authentication_code::sasl_final:
            if (!login_->scram || data.size() > auth::scram_message_max_bytes) return fail("unexpected SASL message");
            if (!login_->scram->on_server_final(data)) return fail(auth::to_string(login_->scram->error()));
            login_->scram_proved = true;
            if (login_->secret.credential.form == auth::secret_form::plain) derived_ = login_->scram->derived();
            break;
        default:
            fail_login("server asks for a login method that we do not speak", "08P01", false, fx);
            break;
    }
}

void server_session::answer_sasl(const std::optional<std::string> &answer, effects &fx) {
    if (!answer) return fail_login(auth::to_string(login_->scram->error()), "28P01", false, fx);
    fx.to_server.make([&](std::string &out) { frontend::append_sasl_response(out, *answer); });
}

auth::scram_work server_session::work() {
    auto it = *std::move(login_->work);
    login_->work.reset();
    return it;
}

void server_session::on_derived(const auth::scram_keys &keys, effects &fx) {
    if (state_ == server_state::login && login_ && login_->scram) answer_sasl(login_->scram->client_final(keys), fx);
}

// ---- in the pool ----

void server_session::lose(std::string_view why, effects &fx) {
    const bool nobody_knows_it = fx.server == server_next::logged_in;  // in these very bytes
    if (state_ == server_state::connecting || state_ == server_state::login || nobody_knows_it) {
        return fail_login(why, "08P01", false, fx);
    }
    fx.server = server_next::lose;
    fx.why = why;
    enter(server_state::closing);
}

void server_session::link(client_session &client) {
    client_ = &client;
    // A reload may have changed the pool's mode or queries since this server was opened.
    if (const auto &route = client.where(); route) {
        if (settings_ != route->settings) settings_ = route->settings;
        if (route->replicates != replication::none) owed_.never_sound();
    }
    doubted_ = set_ = false;
    enter(server_state::active);
    ++links_;
}

void server_session::unlink() {
    link_over();
    client_ = nullptr;
    if (state_ == server_state::active) enter(server_state::idle);
}

void server_session::run(errand what, std::string_view sql, effects &fx) {
    errand_ = what;
    ++errand_queries_;
    errand_failed_ = false;
    fx.to_server.make([&](std::string &out) { frontend::append_query(out, sql); });
    if (what != errand::connect_query) owed_.sent(request::query, asker::pooler);
    forget_unnamed();  // every simple query ends it
    if (state_ == server_state::idle) enter(server_state::tested);
}

bool server_session::clean() const {
    using base::seeded;
    const bool reuse = seeded(base::bug::reuse_before_cancel_over) || seeded(base::bug::cancel_after_reuse);
    if (reuse && owed_.settled() && cancel_pending_) return true;
    if (seeded(base::bug::buffer_kept_on_release) && owed_.settled() && (frame_open_ || unsent_)) return true;
    return owed_.settled() && status_ == backend::status_idle && errand_ == errand::none && !upload_open_ &&
           !frame_open_ && body_left_ == 0 && !cancel_pending_ && !cancel_due_ && !unsent_ &&
           state_ != server_state::closing;
}

// ---- replies ----

void server_session::on_reply(const wire::frame &message, std::string_view raw, effects &fx) {
    if (may_come_any_time(message.type)) return on_unasked(message, raw, fx);
    const bool is_error = message.type == backend::error_response;
    if (is_error && message.whole() && on_error(message.body, fx)) return;
    if (owed_.next_noted() && (message.type == backend::row_description || message.type == backend::no_data ||
                               message.type == backend::parameter_description)) {
        note_shape(message);
    }
    const auto to = owed_.received(message.type);
    if (to == fate::violation || !settle_notes()) return lose("unknown pkt from server", fx);
    if (owed_.needs_sounding() && !upload_open_) sound(fx);
    if (retry_.now() == batch_retry::state::keeping && to == fate::to_client) {
        if (retry_.may_hold(message.type, message.body_bytes)) return retry_.hold(raw);
        retry_.clear();
    }
    if (retry_.holds()) give_held(fx);
    if (is_error && to == fate::swallow) on_errand_error(message.body);
    if (message.type == backend::command_complete) {
        if (ends_all_statements(message.body)) on_all_deallocated(to);
        if (to == fate::to_client) note_command(message.body);
    }
    if (message.type == backend::ready_for_query && !on_ready(message.body_bytes == 1 ? message.body[0] : '?', to, fx))
        return;
    if (client_ == nullptr) return;
    if (to == fate::parse_complete) fx.to_client.make([](std::string &out) { backend::append_parse_complete(out); });
    body_forward_ = to == fate::to_client;
    if (!body_forward_) return;
    fx.to_client.view(raw);
    error_last_ = farewell_ = out_of_step_ = false;
    if (is_error) on_last_words(message);
}

/// The client got an error.
void server_session::on_last_words(const wire::frame &error) {
    error_last_ = true;
    farewell_ = error.whole() && ends_session(error.body);
    out_of_step_ = owed_.doubtful() && error.whole() && breaks_protocol(error.body);
}

/// NoticeResponse, ParameterStatus and NotificationResponse.
void server_session::on_unasked(const wire::frame &message, std::string_view raw, effects &fx) {
    const bool ours = owed_.next_asker() == asker::pooler || client_ == nullptr;
    if (message.type == backend::parameter_status) {
        const auto before = parameters_;
        if (!record_parameter(message.body)) return lose("broken ParameterStatus packet", fx);
        if (errand_ != errand::parameters && !same_meaning(*before, *parameters_)) {
            statements_.meaning_changed(rounds_);
            unnamed_meaning_changed();
        }
        // What our own queries made of the client's parameters it is told when they are over.
        body_forward_ = client_ != nullptr && errand_ == errand::none;
        // By the next link, as must_relink() says; in session mode there is none.
        const bool brings_back = reset_ && settings_->pool_mode != config::pool_mode::session;
        const auto *const own = brings_back ? greeting_->parameters.get() : nullptr;
        if (body_forward_ && client_->on_parameter_report(before, parameters_, own, fx)) {
            body_forward_ = false;
            doubted_ = true;
        }
    } else if (message.type == backend::notice_response) {
        body_forward_ = !ours;
    } else {
        // Outside session mode a LISTEN may be another client's: its notifications are not for this one.
        body_forward_ = !ours && (settings_->pool_mode == config::pool_mode::session ||
                                  base::seeded(base::bug::notification_to_anyone));
    }
    if (body_forward_) fx.to_client.view(raw);
}

/// Errors that concern prepared statements. True: all is done; the client got other words, or none.
bool server_session::on_error(std::string_view body, effects &fx) {
    if (refuses_statement(body)) {
        if (begin_retry(fx)) return true;
        if (retry_.holds()) give_held(fx);
        statements_.all_stale();  // one of them was
        if (client_ != nullptr) client_->on_rows_changed();
    }
    if (!replaces_error(body, fx) && !renames_error(body, fx)) return false;
    owed_.received(backend::error_response);
    settle_notes();
    retry_.clear();
    error_last_ = true;
    return true;
}

/// False: the client does not get it.
bool server_session::on_ready(char status, fate to, effects &fx) {
    if (status != backend::status_idle && status != backend::status_in_transaction &&
        status != backend::status_failed) {
        lose("bad packet", fx);
        return false;
    }
    status_ = status;
    reset_ = false;
    ++rounds_;
    if (to == fate::hold) {
        // The one that was held is the client's: another Sync was read after it.
        if (const char held = std::exchange(held_status_, status); held != '\0' && client_ != nullptr) {
            ++answered_;
            fx.to_client.make([held](std::string &out) { backend::append_ready_for_query(out, held); });
        }
        return false;
    }
    if (to == fate::swallow) {
        held_status_ = '\0';
        if (retrying()) {
            retry(fx);
            return false;
        }
        if (errand_queries_ > 0 && --errand_queries_ == 0) on_errand_over(fx);
        return false;
    }
    if (settings_->pool_mode == config::pool_mode::statement && status != backend::status_idle && client_ != nullptr) {
        fx.to_client.make([&](std::string &out) {
            append_refusal(out, refusal::statement_mode_transaction, {}, settings_->error_sqlstate);
        });
        fx.client = client_next::close;
        lose("transaction blocks not allowed in statement pooling mode", fx);
        return false;
    }
    if (base::seeded(base::bug::release_at_first_ready) && status == backend::status_idle && client_ != nullptr)
        fx.server = server_next::release;
    ++answered_;
    ended_ += status == backend::status_idle ? 1 : 0;
    return true;
}

void server_session::on_errand_over(effects &fx) {
    const errand was = errand_;
    errand_ = errand::none;
    switch (was) {
        case errand::parameters:
            on_adapted(fx);
            break;
        case errand::check:
        case errand::reset:
            if (errand_failed_ || status_ != backend::status_idle) {
                return lose(was == errand::reset ? "reset query failed" : "test query failed", fx);
            }
            if (was == errand::reset) doubt_unreported();
            enter(server_state::idle);
            fx.server = server_next::errand_done;
            break;
        case errand::rollback:
            if (errand_failed_ || status_ != backend::status_idle) lose("rollback failed", fx);
            break;
        case errand::connect_query:
        case errand::none:
            break;
    }
}

}  // namespace pgsluice::core
