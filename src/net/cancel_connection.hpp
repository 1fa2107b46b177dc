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
    /// `still_wanted` is asked right before the request goes out; `done(in_time)` is called once, on this worker.
    /// in_time is false when `limit` passed after the request was sent: it may strike at any later moment.
    /// `encrypted`: by TLS or not at all, for the key must not be seen.
    static void start(worker &, const place_to_dial &, bool encrypted, const core::backend_key &, base::duration limit,
                      std::function<bool()> still_wanted, std::function<void(bool in_time)> done);

    cancel_connection(worker &, bool encrypted, const core::backend_key &, std::function<bool()>,
                      std::function<void(bool)>);
    void on_ready(std::uint32_t events) override;
    void on_timer(base::time_point now) override;

private:
    void on_dialled(const dialled &);
    void begin_handshake();
    void shake_hands(std::string from_peer);
    void on_handshake(handshake_step);
    void send_request();
    void finish(bool in_time);

    worker &worker_;
    stream out_;
    std::string request_, host_;
    bool encrypted_;
    bool asked_ = false;  ///< the server's answer to our SSLRequest is awaited
    bool sent_ = false;
    std::unique_ptr<tls_session> starting_;  ///< between the steps of its handshake
    std::function<bool()> wanted_;
    std::function<void(bool)> done_;
    base::time_point deadline_ = base::never;
};

}  // namespace pgsluice::net
