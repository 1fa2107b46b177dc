// The driver of one client connection: reads, calls client_session, sends, does what it asks for. It decides nothing.
// Belongs to one worker for life. Alive while the worker knows it or an operation of its socket is under way.
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
                     public timer_hook {
public:
    client(worker &, stream, bool tcp);

    void start();
    /// One of the pooler's own, for auth_query: logged in from the start.
    void start_as(std::string database, std::string user);
    void on_secret(const core::secret_answer &);
    void on_checked(const auth::password_verdict &);
    /// Gives the machine the bytes it has not taken yet; after whatever it waited for has happened.
    void pump();
    /// A server is this client's now, on this worker.
    void take(server &);
    /// The linked server went back: no bytes of this client are with it any more.
    void let_go();
    void server_lost(bool mid_message);
    /// The same event that ended the server ends us; the reason was delivered.
    void end_with_server(std::string_view why);
    /// The linked server has answered: phases and deadlines follow.
    void progress(core::effects &);
    /// Sends what a server's event brought. False when this client is gone.
    bool deliver(const core::effects &);
    void close_after(const core::effects &);
    void welcome(const core::welcome &);
    void refuse(core::refusal, std::string_view argument);
    void refuse_by_server(const core::login_error &);
    void reroute(core::shared_route);
    // ---- an admin's (client_console.cpp) ----
    void on_console_rows(const core::console_rows &, std::shared_ptr<connection_cursor> next);
    void on_console_done(const core::console_outcome &);
    /// Its row in a table of connections; nothing when it is not in that one.
    std::optional<core::console_row> row(core::console_table, const clock_pair &);
    /// The answer to find_name(); see name_finder.
    void named(const std::optional<std::string> &name);
    /// A CancelRequest with our key.
    void cancel(std::function<void()> done);
    /// The worker was suspended, or is not any more.
    void suspend_or_go_on() { watch(); }
    void drop(std::string_view why) { close(why, false); }
    void on_handshake(handshake_step);
    void on_derived(const auth::scram_keys &);
    void on_ready(std::uint32_t events) override;
    void on_timer(base::time_point now) override;

    bool blocked() const { return out_.unsent_bytes() > 0; }
    core::client_session &session() { return session_; }
    base::client_id id() const { return id_; }
    std::string name();

private:
    void receive();
    void feed(std::string_view bytes, server *granted = nullptr);
    bool may_read() const;
    /// Watches the socket for what is wanted now: input, room for output, or only its end.
    void watch();
    bool link(server &, core::effects &);
    /// Does what the machine asked for before anything is sent; true when it may go on with its bytes.
    bool step(core::effects &);
    bool admit(core::effects &);
    void find_name();
    void find_secret();
    void check_password(core::effects &);
    bool derive(core::effects &);
    bool go_on_with_login(core::effects &);
    bool join(core::effects &);
    bool want(core::effects &);
    bool join_console(core::effects &);
    void ask_console();
    void ask_for_more();
    void cancel_console(const std::function<void()> &done);
    void leave_console();
    core::cancel_key make_key();
    void greet(const core::welcome &, core::effects &);
    void forward_cancel();
    void begin_handshake(std::string_view begun);
    void shake_hands(std::string from_peer);
    void on_writable();
    void arm();
    void close(std::string_view why, bool linger, core::parting how = core::parting::ended);
    void close_at_end_of_stream() { close("client unexpected eof", false, core::parting::vanished); }
    void finish();

    worker &worker_;
    stream out_;
    core::client_seat *seat_;
    base::client_id id_;
    core::client_session session_;
    server *server_ = nullptr;
    base::time_point since_;
    std::string peer_;  ///< address and port, or process id, for the log
    bool tcp_;
    bool gone_ = false;  ///< no longer in the ledger; only the socket may still have something to send
    bool closed_ = false;
    handshake handshake_ = handshake::none;
    std::unique_ptr<tls_session> starting_;  ///< between the steps of its handshake
    password_checks *asked_ = nullptr;       ///< `check_` is with it
    password_checks::ticket check_;
    leftover in_;
    std::shared_ptr<connection_cursor> more_;  ///< an admin's: rows to ask for when those before were sent
};

}  // namespace pgsluice::net
