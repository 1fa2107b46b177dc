// One client connection as a machine: login, welcome, then requests that are relayed to whatever server the pool
// grants. Bytes and time in, effects out; no socket, no clock. It decides when a server is needed and what may be sent
// to it; server_session decides when the server may go back. Belongs to the client's worker for life. Sources:
// PostgreSQL manual, "Message Flow"; PgBouncer documentation, timeouts.
#pragma once

#include <memory>
#include <string_view>

#include "base/ids.hpp"
#include "base/time.hpp"
#include "core/client_login.hpp"
#include "core/effects.hpp"
#include "core/route.hpp"
#include "core/server_session.hpp"
#include "core/welcome.hpp"

namespace pgsluice::core {

enum class client_state : std::uint8_t {
    login,      ///< has not proved who it is
    joining,    ///< has; the pool has not logged in to a server yet
    idle,       ///< without a server, nothing asked
    waiting,    ///< has asked; the pool has no server for it yet
    preparing,  ///< has a server, whose session is being made equal to the client's first
    active,     ///< linked
    closing,    ///< only its last bytes are still to be sent
};
const char *to_string(client_state);

class client_session {
public:
    client_session(base::client_id id, const environment &env, base::time_point now);

    // ---- events; each fills `fx`, which the driver has cleared ----

    /// Takes what it can of `bytes`, returns how much. The rest is given again after a later event, unchanged.
    std::size_t on_bytes(std::string_view bytes, base::time_point now, effects &fx);
    void on_admitted(effects &fx) { login_->on_admitted(fx); }
    /// The ledger knows the pool; a welcome may follow later.
    void on_joined(shared_route, base::time_point now);
    void on_welcome(const welcome &, cancel_key, base::time_point now, effects &fx);
    void on_refused(refusal, std::string_view argument, effects &fx);
    /// The server's own words, for a client that waits for its welcome.
    void on_server_refused(const login_error &, effects &fx);
    /// A server is ours. What was waiting is relayed by the next on_bytes().
    void on_granted(server_session &, base::time_point now, effects &fx);
    /// The linked server goes back to its pool.
    void on_released(base::time_point now);
    /// The linked server is no more. `mid_message`: the client has part of a message, and can be told nothing.
    void on_server_lost(bool mid_message, effects &fx);
    /// The linked server's answers were relayed; called once for each piece of them.
    void on_progress(base::time_point now, effects &fx);
    void on_deadline(base::time_point now, effects &fx);
    /// A CancelRequest with this client's key while it waits for a server: answered at once, nothing is sent.
    /// False when the request can not be taken back that way.
    bool on_cancel_waiting(std::string_view bytes, std::size_t &taken, base::time_point now, effects &fx);
    void on_rerouted(shared_route route) { route_ = std::move(route); }

    // ---- called by the linked server_session ----

    void on_parameter_report(const parameter_set &server, std::string_view name);
    void on_parameters_applied(const server_session &, effects &fx);

    /// When on_deadline() is due; never later than what holds, possibly earlier.
    base::time_point deadline() const;

    base::client_id id() const { return id_; }
    client_state state() const { return state_; }
    const shared_route &where() const { return route_; }
    const client_login *login() const { return login_.get(); }
    const std::string &user() const { return route_ ? route_->user : login_->user(); }
    const std::string &database() const { return route_ ? route_->database : login_->database(); }
    /// True when the rest of a message is still to come from the client.
    bool mid_message() const { return body_left_ > 0; }

private:
    enum class verdict : std::uint8_t { forward, drop, need_more, stop };
    enum class link_phase : std::uint8_t { quiet, running, in_transaction };

    void enter(client_state next, base::time_point now) {
        state_ = next;
        since_ = now;
    }
    std::size_t relay(std::string_view bytes, base::time_point now, effects &fx);
    verdict on_frame(const wire::frame &, base::time_point now, effects &fx);
    verdict on_request(const wire::frame &, request, base::time_point now, effects &fx);
    verdict on_named(const wire::frame &, request, effects &fx);
    verdict on_sync(base::time_point now, effects &fx);
    verdict forwarded(request, base::time_point now);
    verdict refuse_statement(effects &fx);
    void close_with(refusal, effects &fx, std::string_view argument = {});
    /// Of the server that we have, else of those that we would get: after a reload they may differ.
    bool session_mode() const {
        const auto &settings = server_ != nullptr ? server_->settings() : *route_->settings;
        return settings.pool_mode == config::pool_mode::session;
    }

    const environment &env_;
    base::client_id id_;
    std::unique_ptr<client_login> login_;  ///< until welcomed
    shared_route route_;
    shared_parameters parameters_;
    server_session *server_ = nullptr;
    std::size_t body_left_ = 0;  ///< of a message that streams
    std::uint64_t rounds_ = 0;   ///< of server_, when its answers were last looked at
    base::time_point since_;     ///< when state_ was entered, or the link's phase began
    base::time_point transaction_since_ = base::never;
    client_state state_ = client_state::login;
    link_phase phase_ = link_phase::quiet;
    bool body_forward_ = false;
    bool skip_to_sync_ = false;    ///< we answered an ERROR: the rest of the batch is dropped
    bool notified_ = false;        ///< query_wait_notify was sent in this wait
    bool parse_in_batch_ = false;  ///< an unnamed Parse was sent since the last Sync
    bool stalled_ = false;         ///< waits until the server has answered more
};

}  // namespace pgsluice::core
