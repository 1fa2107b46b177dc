// One CancelRequest on its own connection to PostgreSQL: connects, with TLS when the server's own connection has it,
// asks whether it is still wanted, sends, and waits until PostgreSQL hangs up, which says that the signal is out.
// Belongs to one worker; keeps itself alive until it is over. Source: PostgreSQL manual, "Canceling Requests in
// Progress".
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/server_session.hpp"
#include "net/dial.hpp"
#include "net/stream.hpp"
#include "net/timer_wheel.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

class cancel_connection final : public std::enable_shared_from_this<cancel_connection>,
                                public watched,
                                public timer_hook {
public:
    enum class outcome : std::uint8_t {
        unsent,  ///< it was not wanted any more, or there was no way
        sent,    ///< and the other end has hung up since
        late,    ///< sent, but `limit` has passed: it may strike at any later moment
    };

    /// `still_wanted` is asked right before the request goes out; `done` is called once, on this worker.
    /// `encrypted`: by TLS or not at all, for the key must not be seen. `whose`: the server, for the log.
    static void start(worker &, std::string whose, const place_to_dial &, bool encrypted, const core::backend_key &,
                      base::duration limit, std::function<bool()> still_wanted, std::function<void(outcome)> done);

    /// The same to another pooler that listens there, with TLS over TCP as server_tls_sslmode says.
    static void start_to_peer(worker &, const std::string &host, int port, const core::backend_key &,
                              base::duration limit, std::function<bool()> still_wanted,
                              std::function<void(outcome)> done);

    /// What becomes of a connection whose other end has no TLS.
    enum class encryption : std::uint8_t { none, wanted, needed };
    cancel_connection(worker &, encryption, const core::backend_key &, std::function<bool()>,
                      std::function<void(outcome)>);
    void on_ready(std::uint32_t events) override;
    void on_timer(base::time_point now) override;

private:
    void on_dialled(const dialled &);
    bool starts_with_tls() const;
    void begin_handshake();
    void shake_hands(std::string from_peer);
    void on_handshake(handshake_step);
    void send_request();
    void watch();
    void finish(bool in_time);
    void log_end(outcome) const;

    worker &worker_;
    stream out_;
    std::string request_, host_;
    std::string whose_;  ///< none: to a peer
    encryption encryption_;
    bool to_peer_ = false;
    bool asked_ = false;  ///< the server's answer to our SSLRequest is awaited
    bool sent_ = false;
    std::unique_ptr<tls_session> starting_;  ///< between the steps of its handshake
    std::function<bool()> wanted_;
    std::function<void(outcome)> done_;
    base::time_point since_, deadline_ = base::never;
};

}  // namespace pgsluice::net
