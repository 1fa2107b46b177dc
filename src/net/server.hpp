// The driver of one server connection: connects, reads, calls server_session, sends, does what it asks for. It decides
// nothing. Belongs to one worker at a time; to move, its descriptor and machine travel in a message.
#pragma once

#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/ledger.hpp"
#include "core/server_session.hpp"
#include "net/connection_rows.hpp"
#include "net/dial.hpp"
#include "net/stream.hpp"
#include "net/timer_wheel.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

class client;

/// A server between two workers.
struct moving_server {
    core::server_seat *seat = nullptr;
    base::server_id id;
    std::unique_ptr<core::server_session> session;
    stream out;
    place_to_dial place;
    base::time_point since;
    base::client_id for_client;
};

class server final : public boost::intrusive_ref_counter<server, boost::thread_unsafe_counter>,
                     public watched,
                     public timer_hook,
                     public departing {
public:
    /// How long a backend may take to end before its slot is given away all the same.
    static constexpr base::seconds closing_grace{5};

    /// How long what a client left behind may take to end before its server is closed, and how often it is cancelled.
    static constexpr base::milliseconds farewell_grace{3000}, farewell_pause{200};

    /// A new one: connects and logs in.
    server(worker &, const core::order &);
    /// One that arrives from another worker.
    server(worker &, moving_server);

    void connect();
    void settle(base::client_id for_client);  ///< after arrival
    void link(client &);
    /// The linked client is going: the server is cleaned for the next one, or closed because of `why`.
    void client_gone(core::parting, std::string_view why);
    /// Sends what a client's event brought. False when this server is lost, and the client with it.
    bool deliver(const core::effects &);
    /// Watches the socket for what is wanted now: input, room for output.
    void watch();
    /// The linked client takes bytes again.
    void go_on();
    /// The linked client has sent its last piece: the link may end now.
    void release_if_done() {
        if (!session_->releasable()) return;
        settle();
        if (!blocked()) release();
    }
    void check();
    void move_to(base::worker_index, base::client_id for_client);
    void cancel(const cancel_watch &);
    /// The ledger wants it to go. A login under way ends without a word, and nobody is to blame for it.
    void drop(std::string_view why);
    /// server_fast_close: its client is refused with `why` as soon as nothing is under way, and the server goes.
    void end_session(core::refusal why);
    void on_dialled(dialled);
    void on_handshake(handshake_step);
    void on_derived(const auth::scram_keys &);
    void on_ready(std::uint32_t events) override;
    void on_timer(base::time_point now) override;
    departures &departs_by() override { return worker_.departing(); }
    void on_departed(sent) override;

    bool blocked() const { return out_.unsent_bytes() > 0; }
    core::server_session &session() { return *session_; }
    base::server_id id() const { return id_; }
    int fd() const { return out_.fd(); }
    std::string name();
    std::string whose();
    /// on_bytes() of the machine, for verbose = 2: tells what it took.
    std::size_t take_noisily(std::string_view bytes, core::effects &);
    /// Its row in a table of connections; nothing when it is not in that one.
    std::optional<core::console_row> row(core::console_table, const clock_pair &, bool close_needed);

private:
    void receive();
    void feed(std::string_view bytes);
    void act(core::effects &);
    void release();
    void hand_on(const core::handing_on &);
    void logged_in();
    void login_failed(core::login_error);
    void dial_again();
    void begin_handshake();
    void derive();
    void not_computed(std::string why);
    void shake_hands(std::string from_peer);
    void handshake_failed(std::string_view why);
    void run(core::errand, const std::string &sql);
    void send_now(core::effects &);
    void settle();
    void on_writable();
    void lose(std::string_view why);
    void end();
    void drain();
    void log_end(std::string_view why);
    void finish();
    void start_cancel();
    void insist();
    void cancel_over(bool in_time);
    void answer_cancels();
    void tell_of_cancel();

    worker &worker_;
    core::server_seat *seat_;
    base::server_id id_;
    std::unique_ptr<core::server_session> session_;
    std::shared_ptr<const core::order::connection> connect_;
    stream out_;
    place_to_dial place_;
    client *client_ = nullptr;
    base::time_point since_;
    base::time_point since_idle_, since_link_;  ///< for SHOW SERVERS
    base::time_point deadline_ = base::never;   ///< of the login, of a check or reset, of a farewell, of the end
    std::string_view overdue_;                  ///< why it goes at its deadline, when it has logged in
    /// Who is told when the cancel that it asked for, in that round of the session's, is over.
    std::vector<std::pair<std::uint64_t, cancel_watch>> cancels_;
    std::optional<std::uint64_t> cancel_sent_in_;  ///< the round that the last CancelRequest went out in
    bool canceling_ = false, held_ = false;        ///< as the ledger was told
    handshake handshake_ = handshake::none;
    std::unique_ptr<tls_session> starting_;  ///< between the steps of its handshake
    crypto_pool::ticket computed_;           ///< what is with the pool: a step of the handshake, or a derivation
    bool starting_over_ = false;  ///< the login failed and is tried the other way when the server has hung up
    core::refusal ending_ = core::refusal::none;  ///< why its client goes as soon as nothing is under way
    bool draining_ = false;                       ///< said goodbye: reads to the end of the stream
    bool closed_ = false;
    leftover in_;
};

}  // namespace pgsluice::net
