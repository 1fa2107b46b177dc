// The server machine from its startup packet to the first ReadyForQuery: how it proves who it is, what connect_query
// comes to, and the words for what fails, which are PgBouncer's reasons with more of it behind. What comes before the
// startup packet: server_encryption.cpp. Source: PostgreSQL manual, "Message Flow", "Start-up".
#include "core/server_login.hpp"

#include "auth/md5.hpp"
#include "core/errors.hpp"
#include "core/server_session.hpp"
#include "wire/backend.hpp"
#include "wire/error_response.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"
#include "wire/startup.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;

bool server_session::authenticated() const {
    return login_ != nullptr && login_->authenticated;
}

void server_session::fail_login(login_error error, effects &fx) {
    const bool class_fits = error.sqlstate.starts_with("0A") || error.sqlstate.starts_with("08");
    error_ = std::move(error);
    error_.protocol_refused = class_fits && may_be_the_version();
    fx.server = server_next::login_failed;
    fx.why = error_.reason();
    enter(server_state::closing);
}

void server_session::fail_login(std::string_view message, std::string_view sqlstate, effects &fx,
                                std::string_view detail) {
    fail_login({.sqlstate = std::string(sqlstate), .message = std::string(message), .detail = std::string(detail)}, fx);
}

/// PgBouncer has one text for all that can be wrong with it.
void server_session::fail_authentication(std::string_view detail, effects &fx) {
    fail_login("failed to answer authreq", "28P01", fx, detail);
}

/// What is stored does not answer what the server asks.
void server_session::fail_wrong_type(effects &fx) {
    const auto &credential = login_->secret.credential;
    const auto detail = wrong_type_detail(credential.form, credential.text.empty());
    fail_login("server login failed: wrong password type", "28P01", fx, detail);
}

bool server_session::may_be_the_version() const {
    return login_ && !login_->understood && protocol_ > wire::protocol_3_0;
}

login_error server_session::login_lost(std::string_view why, std::string_view detail) const {
    return {"08006", std::string(why), false, state_ == server_state::login && may_be_the_version(),
            std::string(detail)};
}

/// The server speaks an older version than we asked for. It has nothing to say of options, for we named none.
void server_session::on_negotiated(std::string_view body, effects &fx) {
    wire::reader in(body);
    auto version = in.u32();
    const auto unknown_options = in.u32();
    if (version < wire::protocol_3_0) version |= wire::protocol_3_0;  // the manual: the minor version
    const bool older = version >= wire::protocol_3_0 && version <= protocol_;
    if (!in.done() || unknown_options != 0 || !older || login_->authenticated) {
        return fail_login("broken NegotiateProtocolVersion packet", "08P01", fx);
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
            if (!record_parameter(message.body)) return fail_login("broken ParameterStatus packet", "08P01", fx);
            break;
        case backend::backend_key_data: {
            const auto pid = in.u32();
            if (!in.ok() || in.rest().empty() || in.rest().size() > 256) {
                return fail_login("broken BackendKeyData packet", "08P01", fx);
            }
            key_ = backend_key{pid, std::string(in.rest())};
            break;
        }
        case backend::error_response: {
            if (errand_ == errand::connect_query) return fail_login("exec_on_connect query failed", "08006", fx);
            const auto fields = wire::parse_error_fields(message.body);
            if (!fields) return fail_login("broken error message from server", "08P01", fx);
            fail_login({.sqlstate = std::string(fields->sqlstate.size() == 5 ? fields->sqlstate : "08006"),
                        .message = std::string(fields->message.empty() ? "the server gave no reason" : fields->message),
                        .from_server = true},
                       fx);
            break;
        }
        case backend::notice_response:
            break;
        case backend::ready_for_query:
            if (!login_->authenticated || message.body_bytes != 1 || message.body[0] != backend::status_idle) {
                return fail_login("unknown pkt from server", "08P01", fx, "unexpected ReadyForQuery during login");
            }
            if (errand_ == errand::none && !settings_->connect_query.empty()) {
                return run(errand::connect_query, settings_->connect_query, fx);
            }
            login_over(fx);
            break;
        default:
            // The rows of connect_query are of no interest; anything else has no place in a login.
            if (errand_ != errand::connect_query)
                fail_login("unknown pkt from server", "08P01", fx, "unexpected message during login");
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
    if (!in.ok() || login_->authenticated) return fail_login("failed to answer authreq", "08P01", fx);
    const auto &credential = login_->secret.credential;
    const auto asked = static_cast<backend::authentication_code>(code);
    using enum backend::authentication_code;
    // As PostgreSQL, once. One that asks on collects answers, or comes down from SCRAM to what is worth more to it.
    if ((asked == cleartext || asked == md5 || asked == sasl) && std::exchange(login_->method_asked, true))
        return fail_login("server asks for a second login method", "08P01", fx);
    switch (asked) {
        case ok:
            if (login_->scram && !login_->scram_proved) {
                return fail_authentication("server did not prove that it knows the password", fx);
            }
            login_->authenticated = true;
            break;
        case cleartext:
            if (credential.form != auth::secret_form::plain || credential.text.empty()) return fail_wrong_type(fx);
            fx.to_server.make([&](std::string &out) { frontend::append_password(out, credential.text.reveal()); });
            break;
        case md5: {
            const auto salt = in.bytes(4);
            if (!in.done()) return fail_login("failed to answer authreq", "08P01", fx);
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
    const auto fail = [&](std::string_view text) { fail_authentication(text, fx); };
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
            if (!in.done() || !(offered || bind)) return fail("server offers no SASL mechanism that we speak");
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
            fail_login("failed to answer authreq", "08P01", fx, "server asks for a login method that we do not speak");
            break;
    }
}

void server_session::answer_sasl(const std::optional<std::string> &answer, effects &fx) {
    if (!answer) return fail_authentication(auth::to_string(login_->scram->error()), fx);
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

}  // namespace pgsluice::core
