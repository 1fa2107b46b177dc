// The driver of one client connection: reads, calls client_session, sends, does what it asks for. It decides nothing.
// Belongs to one worker: to the lobby's until it asks for something, then to its home's for life. Alive while that
// worker knows it.
#pragma once

#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <optional>
#include <string>

#include "core/client_session.hpp"
#include "core/ledger.hpp"
#include "net/connection_rows.hpp"
#include "net/stream.hpp"
#include "net/timer_wheel.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

class client final : public boost::intrusive_ref_counter<client, boost::thread_unsafe_counter>,
                     public watched,
                     public timer_hook,
                     public departing {
public:
    /// `home`: the worker that will serve it.
    client(worker &, base::worker_index home, stream, bool tcp);

    void start();
    /// Lets go of what is left of the lobby's thread, for good. False: it has been closed meanwhile, and stays.
    bool leave_lobby();
    /// And goes on at home.
    void arrive(worker &home);
    /// One of the pooler's own, for auth_query: logged in from the start.
    void start_as(std::string database, std::string user);
    void on_secret(const core::secret_answer &);
    void on_checked(const auth::password_verdict &);
    /// Watches the socket for what is wanted now: input, room for output, or only its end.
    void watch();
    /// Gives the machine the bytes it has not taken yet; after whatever it waited for has happened.
    void pump();
    /// A server is this client's now, on this worker.
    void take(server &);
    /// The linked server went back: no bytes of this client are with it any more.
    void let_go();
    void server_lost(bool mid_message);
    /// The same event that ended the server ends us; the reason was delivered.
    void end_with_server(const core::effects &);
    /// The linked server has answered: phases and deadlines follow.
    void progress(core::effects &);
    /// Sends what a server's event brought. False when this client is gone.
    bool deliver(const core::effects &);
    void close_after(const core::effects &);
    void welcome(const core::welcome &);
    void refuse(core::refusal, std::string_view argument);
    void refuse_by_server(const core::login_error &);
    void reroute();
    // ---- an admin's (client_console.cpp) ----
    void on_console_rows(const core::console_rows &, std::shared_ptr<connection_cursor> next);
    void on_console_done(const core::console_outcome &);
    /// Its row in a table of connections; nothing when it is not in that one.
    std::optional<core::console_row> row(core::console_table, const clock_pair &);
    /// The answer to find_name(); see name_finder.
    void named(const std::optional<std::string> &name);
    /// A CancelRequest with our key.
    void cancel(const cancel_watch &);
    /// We are a CancelRequest for a client of a peer's, and our turn has come.
    void hand_to_peer(const core::order::peer_connection &);
    /// The worker was suspended, or is not any more.
    void suspend() { watch(); }
    /// What kept it may be over: a suspension, a server that it had.
    void go_on() { in_.empty() ? watch() : pump(); }
    /// SUSPEND: no message is half passed on, to it or from it.
    bool at_rest() const;
    void drop(std::string_view why) { close(why, false); }
    void on_handshake(handshake_step);
    void on_derived(const auth::scram_keys &);
    void on_ready(std::uint32_t events) override;
    void on_timer(base::time_point now) override;
    departures &departs_by() override { return worker_->departing(); }
    void on_departed(sent) override;

    bool blocked() const { return out_.unsent_bytes() > 0; }
    core::client_session &session() { return session_; }
    base::client_id id() const { return id_; }
    base::worker_index home() const { return home_; }
    int fd() const { return out_.fd(); }
    std::string name();
    /// on_bytes() of the machine, for verbose = 2: tells what it took.
    std::size_t take_noisily(std::string_view bytes, core::effects &);

private:
    client(worker &, base::worker_index home, core::client_facts, stream &&);
    void receive();
    void feed(std::string_view bytes, server *granted = nullptr);
    bool may_read() const;
    /// What it sends ahead meanwhile stays in the kernel: a stranger's bytes are not worth our memory.
    bool login_waits_elsewhere() const { return session_.login() != nullptr && session_.login()->waits_elsewhere(); }
    bool link(server &, core::effects &);
    /// Does what the machine asked for before anything is sent; true when it may go on with its bytes.
    bool step(core::effects &);
    bool admit(core::effects &);
    void find_name();
    void find_secret();
    void check_password(core::effects &);
    bool derive(core::effects &);
    template <class Tell>
    void go_on(Tell);
    bool go_on_with_login(core::effects &);
    bool join(core::effects &);
    bool want(core::effects &);
    bool join_console(core::effects &);
    void ask_console();
    void log_console_errors();
    void ask_for_more();
    void cancel_console(const cancel_watch &);
    void leave_console();
    core::cancel_key make_key();
    void greet(const core::welcome &, core::effects &);
    void forward_cancel();
    std::string cancel_state();
    static void cancel_sent(shared &, base::client_id);
    static void end_cancel(worker &, base::client_id, std::string_view why);
    void begin_handshake(std::string_view begun);
    void shake_hands(std::string from_peer);
    void on_writable();
    void arm();
    /// `said`: the peer was told why.
    void close(std::string_view why, bool linger, core::parting how = core::parting::ended, bool said = false);
    void log_end(std::string_view why, bool vanished, bool said);
    void close_at_end_of_stream() { close("client unexpected eof", false, core::parting::vanished); }
    void finish();

    /// It has asked for something that the lobby does not have.
    bool must_move(std::string_view bytes) const {
        constexpr char terminate = 'X';
        return worker_->is_lobby() && session_.state() == core::client_state::idle && !bytes.empty() &&
               bytes[0] != terminate;
    }
    void move_home();

    worker *worker_;
    stream out_;
    core::client_seat *seat_;
    base::client_id id_;
    core::client_session session_;
    server *server_ = nullptr;
    base::time_point since_;
    std::string peer_;  ///< address and port, or process id, for the log
    base::worker_index home_;
    bool tcp_;
    enum class life : std::uint8_t {
        open,
        moving,  ///< home, and not watched meanwhile
        gone,    ///< no longer in the ledger; only the socket may still have something to send
        closed,
    };
    bool gone() const { return life_ >= life::gone; }
    life life_ = life::open;
    handshake handshake_ = handshake::none;
    std::unique_ptr<tls_session> starting_;  ///< between the steps of its handshake
    crypto_pool::ticket computed_;           ///< what is with the pool: a step of the handshake, or a derivation
    password_checks *asked_ = nullptr;       ///< `check_` is with it
    password_checks::ticket check_;
    std::shared_ptr<const core::secret_question> lookup_;  ///< its ticket, while it is looked up
    leftover in_;
    std::shared_ptr<connection_cursor> more_;  ///< an admin's: rows to ask for when those before were sent
};

}  // namespace pgsluice::net
