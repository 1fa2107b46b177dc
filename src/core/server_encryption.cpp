// The server machine before the startup packet: whether TLS is asked for, what the answer means, and what is tried when
// it does not come to a login. The handshake is the driver's. Sources: PostgreSQL manual, "SSL Session Encryption" and
// libpq's sslmode; PgBouncer documentation, server_tls_sslmode.
#include "base/seeded_bug.hpp"
#include "core/server_login.hpp"
#include "wire/startup.hpp"

namespace pgsluice::core {

using config::sslmode;

void server_session::on_connected(effects &fx, bool tcp) {
    const auto &tls = settings_->server_tls;
    const bool first_with = tls.mode != sslmode::allow;
    const bool encrypt =
        tcp && tls.mode != sslmode::disable && (tls.mode >= sslmode::require || first_with != login_->other_way);
    login_->tcp = tcp;
    login_->tls_asked = encrypt;
    if (!encrypt) return say_hello(fx);
    if (tls.negotiation == config::tls_negotiation::direct) {
        fx.server = server_next::secure;
        return;
    }
    login_->answer_due = true;
    fx.to_server.make([](std::string &out) { wire::append_ssl_request(out); });
}

/// One byte, and nothing behind it: what comes before the handshake may be anybody's (CVE-2021-23222).
std::size_t server_session::on_encryption_answer(std::string_view bytes, effects &fx) {
    const bool alone = bytes.size() == 1 || base::seeded(base::bug::server_plaintext_kept);
    const auto fail = [&](std::string_view why) { fail_login(why, "08P01", fx); };
    if (!std::exchange(login_->answer_due, false)) {
        fail("unknown pkt from server");
    } else if (bytes[0] == 'E') {
        // Not read any further: nobody vouches for its words (CVE-2024-10977).
        login_->handshake_failed = true;
        fail("bad sslreq answer");
    } else if (bytes[0] != 'S' && bytes[0] != 'N') {
        fail("bad sslreq answer");
    } else if (!alone) {
        fail("received unencrypted data after SSL response");
    } else if (bytes[0] == 'S') {
        fx.server = server_next::secure;
        return 1;
    } else if (settings_->server_tls.mode >= sslmode::require) {
        fail("server refused SSL");
    } else {
        login_->tls_asked = false;
        say_hello(fx);
        return 1;
    }
    return bytes.size();
}

void server_session::on_secured(channel it, effects &fx) {
    login_->security = std::move(it);
    say_hello(fx);
}

void server_session::on_handshake_failed(std::string_view why, effects &fx) {
    login_->handshake_failed = true;
    fail_login("TLS startup failed", "08006", fx, why);
}

/// As libpq, but only after what TLS can have to do with: a handshake that failed, or a refusal of this user on this
/// way in (pg_hba.conf tells hostssl from hostnossl). Server busy, database unknown: the other way would hear the same.
bool server_session::try_other_way(const login_error &error, std::string nonce) {
    const auto mode = settings_->server_tls.mode;
    if (!login_ || login_->other_way || login_->authenticated || !login_->tcp) return false;
    const bool way_allowed = mode == sslmode::allow ? !login_->tls_asked : mode == sslmode::prefer && login_->tls_asked;
    const bool refused = error.from_server && error.sqlstate.starts_with("28") && !error.protocol_refused;
    if (!way_allowed || !(refused || login_->handshake_failed)) return false;
    login_->other_way = true;
    login_->handshake_failed = login_->understood = login_->method_asked = login_->scram_proved = false;
    login_->security = {};
    login_->scram.reset();
    login_->nonce = std::move(nonce);
    error_ = {};
    enter(server_state::connecting);
    return true;
}

void server_session::say_hello(effects &fx) {
    std::vector<std::pair<std::string_view, std::string_view>> parameters{{"user", login_->secret.user},
                                                                          {"database", settings_->server_dbname}};
    for (const auto &[name, value] : settings_->startup_parameters) parameters.emplace_back(name, value);
    fx.to_server.make([&](std::string &out) { wire::append_startup(out, protocol_, parameters); });
    enter(server_state::login);
}

}  // namespace pgsluice::core
