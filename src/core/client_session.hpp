// One client connection as a machine: login, welcome, then requests that are relayed to whatever server the pool
// grants. Bytes and time in, effects out; no socket, no clock. It decides when a server is needed and what may be sent
// to it; server_session decides when the server may go back. Belongs to the client's worker. Sources:
// PostgreSQL manual, "Message Flow"; PgBouncer documentation, timeouts.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string_view>

#include "base/ids.hpp"
#include "base/time.hpp"
#include "core/client_login.hpp"
#include "core/console_session.hpp"
#include "core/effects.hpp"
#include "core/route.hpp"
#include "core/server_session.hpp"
#include "core/statements.hpp"
#include "core/welcome.hpp"

namespace pgsluice::core {

enum class client_state : std::uint8_t {
    login,      ///< has not proved who it is
    joining,    ///< has; the pool has not logged in to a server yet, or replication has none of its own
    idle,       ///< without a server, nothing asked
    waiting,    ///< has asked; the pool has no server for it yet
    preparing,  ///< has a server, whose session is being made equal to the client's first
    active,     ///< linked
    console,    ///< an admin's: its requests are for us
    closing,    ///< only its last bytes are still to be sent
};
const char *to_string(client_state);

class client_session {
public:
    client_session(base::client_id id, const environment &env, base::time_point now, client_facts facts = {});
    client_session(const client_session &) = delete;
    client_session &operator=(const client_session &) = delete;
    ~client_session();

    // ---- events; each fills `fx`, which the driver has cleared ----

    /// Takes what it can of `bytes`, returns how much. The rest is given again after a later event, unchanged.
    std::size_t on_bytes(std::string_view bytes, base::time_point now, effects &fx);
    /// One of the pooler's own, that needs no login: on_joined() is next.
    void begin_as(std::string database, std::string user) { login_->begin_as(std::move(database), std::move(user)); }
    void on_channel(channel it) { login_->on_channel(std::move(it)); }
    void on_admitted(effects &fx) { login_->on_admitted(fx); }
    void on_secret(const secret_answer &, effects &fx);
    /// After client_next::check_password.
    auth::password_check take_check() { return login_->take_check(); }
    /// PAM or LDAP has answered to take_check().
    void on_checked(const auth::password_verdict &answer, base::time_point now, effects &);
    /// The same for client_next::derive; login()->work() is what is to be done.
    auth::scram_work work() { return login_->work(); }
    void on_derived(const auth::scram_keys &, base::time_point now, effects &);
    void on_named(const std::string &host_name, effects &fx);
    /// The ledger knows the pool; a welcome may follow later. That of a replication client comes with its server.
    void on_joined(shared_route, base::time_point now);
    void on_welcome(const welcome &, const cancel_key &, base::time_point now, effects &fx);
    /// Logged in to the console, if it may.
    void on_console(const cancel_key &, base::time_point now, effects &fx);
    void on_console_rows(const std::vector<console_row> &rows, effects &fx);
    void on_console_done(const console_outcome &, effects &fx);
    /// `detail`: in place of the table's, where there is one.
    void on_refused(refusal, std::string_view argument, effects &fx, std::string_view detail = {});
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
    /// `why_waiting`: of one that waits(), what ledger::why_waiting() says.
    void on_deadline(base::time_point now, effects &fx, std::string_view why_waiting = {});
    bool waits() const { return state_ == client_state::waiting || state_ == client_state::joining; }
    /// A CancelRequest with this client's key while its request has not gone out: it waits for a server, or for the one
    /// that it has to be ready. Answered at once, nothing is sent. False when there is no such request.
    bool on_cancel_unsent(std::string_view bytes, std::size_t &taken, base::time_point now, effects &fx);
    void on_rerouted(shared_route route) { route_ = std::move(route); }

    /// Another worker's from here on. Before the first request: nothing of the old one's is kept.
    void move_to(const environment &);

    // ---- called by the linked server_session ----

    const shared_parameters &parameters() const { return parameters_; }
    /// While our requests ran the server reported what makes `now` of `before`. `reset_to`: null, or RESET or DISCARD
    /// was among them: what was set to these values, the server's own, is what the client asked for at startup instead.
    /// True: the client is told that.
    bool on_parameter_report(const shared_parameters &before, const shared_parameters &now,
                             const parameter_set *reset_to, effects &fx);
    void on_parameters_applied(const server_session &, effects &fx);
    /// The ends of the oldest changes of our statements: one `outcome` a byte.
    void on_statements_settled(std::string_view outcomes);
    void on_all_deallocated();
    void on_told(std::string_view name, const shared_statement &of, const row_shape &rows) {
        book().told(name, of, rows);
    }
    /// The statement used last gives other rows than it did.
    void on_rows_changed();
    /// A name we have for the statement; empty when we have none.
    std::string_view name_of(const shared_statement &what) const {
        return statements_ ? statements_->name_of(what) : std::string_view{};
    }
    void on_parameters_refused(std::string_view error_response, effects &fx);

    /// When on_deadline() is due; never later than what holds, possibly earlier.
    base::time_point deadline() const;

    base::client_id id() const { return id_; }
    client_state state() const { return state_; }
    const shared_route &where() const { return route_; }
    /// Its server is its own, for as long as it stays.
    bool replicates() const { return route_ && route_->replicates != replication::none; }
    const client_login *login() const { return login_.get(); }
    /// Null but for an admin's.
    const console_session *console() const { return console_.get(); }
    std::vector<std::string> take_console_errors() { return console_->take_errors(); }
    base::time_point since() const { return since_; }
    /// Of a client with a server: what the two are at, in pg_stat_activity's words.
    const char *activity() const;
    base::time_point asked_at() const { return asked_at_; }
    /// Since when what it asked for runs, or it waits; never: neither.
    base::time_point busy_since() const {
        const bool runs = state_ == client_state::active && phase_ == link_phase::running;
        return runs || waits() ? since_ : base::never;
    }
    void count(figure which, std::uint64_t more) {
        if (traffic_ != nullptr) (*traffic_)[which] += more;
    }
    const std::string &user() const { return route_ ? route_->user : login_->user(); }
    const std::string &database() const { return route_ ? route_->database : login_->database(); }
    /// True when the rest of a message is still to come from the client.
    bool mid_message() const { return body_left_ > 0; }
    /// Bytes still to come of a message that streams.
    std::size_t streams() const { return body_left_; }
    /// This many bytes must be here before on_bytes() can take any; 0: it takes what there is.
    std::size_t needed_bytes() const { return needed_bytes_; }
    /// Named prepared statements, by the client's own names.
    std::size_t statements() const { return statements_ ? statements_->count() : 0; }

private:
    /// What PostgreSQL looks at of a statement's or portal's name (NAMEDATALEN).
    static constexpr std::size_t name_max_bytes = 63;
    /// Names at the head of Parse, Bind, Describe and Close; PostgreSQL cuts at 63 bytes what SQL can reach.
    static constexpr std::size_t names_max_bytes = 32 * 1024;
    /// A simple query that may be a DEALLOCATE of one name is not longer than this.
    static constexpr std::size_t deallocate_max_bytes = 1024;
    /// Portals that one transaction may bind to a DEALLOCATE.
    static constexpr std::size_t deallocating_max = 1000;

    enum class verdict : std::uint8_t { forward, drop, need_more, stop };
    enum class link_phase : std::uint8_t { quiet, running, in_transaction };

    void enter(client_state next, base::time_point now) {
        state_ = next;
        since_ = now;
    }
    std::size_t relay(std::string_view bytes, base::time_point now, effects &fx);
    // Inline are five that have one caller each, in client_requests.cpp, and send(): every message goes through most of
    // them, and each call cost 30 instructions.
    [[gnu::always_inline]] inline verdict on_frame(const wire::frame &, base::time_point now, effects &fx);
    verdict on_sync(disposition, base::time_point now, effects &fx);
    [[gnu::always_inline]] inline verdict on_request(const wire::frame &, request, base::time_point now, effects &fx);
    [[gnu::always_inline]] inline verdict on_named(const wire::frame &, request, base::time_point now, effects &fx);
    verdict want_server(base::time_point now, effects &fx);
    bool may_send(base::time_point now, effects &fx);
    /// What stands at the head of Parse, Bind, Describe and Close.
    struct head {
        std::string_view portal;
        std::string_view given;    ///< the statement's name
        std::string_view name;     ///< the same, as far as PostgreSQL looks at it
        std::string_view rest;     ///< what follows the names, as far as it is here
        std::size_t bytes = 0;     ///< of the message up to `rest`
        bool of_statement = true;  ///< false: Describe and Close of a portal
        bool readable = true;      ///< false: a string has no end
    };
    /// Nothing: it was read. Else what becomes of the message instead.
    std::optional<verdict> read_head(const wire::frame &, request, head &, effects &fx);
    [[gnu::always_inline]] inline verdict on_statement(const wire::frame &, request, const head &, base::time_point now,
                                                       effects &fx);
    [[gnu::always_inline]] inline verdict on_name(const wire::frame &, request, const head &, base::time_point now,
                                                  effects &fx);
    verdict on_parse(const wire::frame &, const head &, base::time_point now, effects &fx);
    verdict on_unnamed_parse(const wire::frame &, const head &, base::time_point now);
    verdict on_known_parse(const wire::frame &, const head &, base::time_point now, effects &fx);
    verdict on_duplicate(const wire::frame &, const head &, base::time_point now, effects &fx);
    verdict on_use(const wire::frame &, request, const head &, base::time_point now, effects &fx);
    /// `there`: nothing, of the unnamed one.
    verdict use(const wire::frame &, request, const head &, const client_statements::slot &,
                const server_session::prepared &there, base::time_point now, effects &fx);
    /// `generation`: of the unnamed statement, where that is meant.
    static server_session::note learns_rows(std::string_view name, const shared_statement &, std::uint64_t number,
                                            std::uint64_t generation);
    server_session::note fails(std::string_view sqlstate, refusal, std::string_view argument) const;
    verdict on_close(const wire::frame &, const head &, base::time_point now, effects &fx);
    verdict on_query(const wire::frame &, base::time_point now, effects &fx);
    void forget_closed(std::string_view name);
    bool begins_batch() const;
    bool open_to_doubt(const client_statements::slot *) const;
    bool may_have_statements() const { return statements_ && statements_->may_have_named(); }
    verdict on_dropping_execute(const wire::frame &, base::time_point now, effects &fx);
    void forget_ended_portals();
    static std::string as_known(std::string_view name);
    bool is_for_us(std::string_view name);
    void make_deallocatable(const std::string &name, server_session::note &about, effects &fx);
    verdict on_bind_to_deallocate(const wire::frame &, const head &, const statement &held, const std::string &name,
                                  base::time_point now, effects &fx);
    shared_statement remember(std::string_view body);
    verdict need(const wire::frame &);
    verdict stall();
    verdict stall_for_answers(effects &fx);
    [[gnu::always_inline]] inline void send(std::string_view bytes, effects &fx) {
        fx.to_server.view(bytes);
        if (server_ != nullptr) server_->kept_batch().add(bytes);
    }
    /// Sends what `build` appends (outbox::make()).
    template <class Build>
    void send_made(effects &fx, Build &&build) {
        fx.to_server.make([&](std::string &out) {
            const auto begin = out.size();
            build(out);
            server_->kept_batch().add(std::string_view(out).substr(begin));
        });
    }
    /// The same, in place of the whole message, which is here.
    template <class Build>
    void instead(const wire::frame &message, effects &fx, Build &&build) {
        send_made(fx, build);
        head_taken_ = message.here_bytes();
    }
    verdict fail_here(const wire::frame &, refusal, std::string_view argument, base::time_point now, effects &fx);
    verdict forwarded(request, base::time_point now);
    verdict forwarded(request, base::time_point now, server_session::note &&about);
    verdict runs(request, base::time_point now);
    void forward_named(const wire::frame &, const head &, std::string_view name_there, effects &fx);
    client_statements &book() {
        if (!statements_) statements_ = std::make_unique<client_statements>();
        return *statements_;
    }
    std::size_t statement_limit() const {
        return static_cast<std::size_t>(env_->settings->global.max_prepared_statements);
    }
    void begin_count(base::time_point now);
    void count_answers(base::time_point now);
    void adopt(const shared_parameters &, effects &fx);
    void close_with(refusal, effects &fx, std::string_view argument = {}, std::string_view detail = {});
    /// Of the server that we have, else of those that we would get: after a reload they may differ.
    bool session_mode() const {
        const auto &settings = server_ != nullptr ? server_->settings() : *route_->settings;
        return settings.pool_mode == config::pool_mode::session;
    }

    const environment *env_;
    base::client_id id_;
    std::unique_ptr<client_login> login_;  ///< until welcomed
    shared_route route_;
    shared_parameters parameters_;
    shared_parameters at_startup_;
    std::unique_ptr<console_session> console_;
    traffic *traffic_ = nullptr;  ///< the worker's count of our pool; null before the login is over
    base::time_point asked_at_;   ///< for the server that it has, or had last
    std::uint64_t answered_ = 0, ended_ = 0, parsed_ = 0;  ///< of server_'s counts, what is counted
    std::unique_ptr<client_statements> statements_;        ///< from the first Parse on
    server_session *server_ = nullptr;
    std::size_t body_left_ = 0;   ///< of a message that streams
    std::size_t head_taken_ = 0;  ///< of the message at hand: sent in our words already
    std::size_t needed_bytes_ = 0;
    std::uint64_t rounds_ = 0;  ///< of server_, when its answers were last looked at
    base::time_point since_;    ///< when state_ was entered, or the link's phase began
    base::time_point transaction_since_ = base::never;
    client_state state_ = client_state::login;
    link_phase phase_ = link_phase::quiet;
    bool body_forward_ = false;
    bool skip_to_sync_ = false;  ///< we answered an ERROR: the rest of the batch is dropped
    bool notified_ = false;      ///< query_wait_notify was sent in this wait
    struct {
        std::string portal, name;
        shared_statement what{};
        std::uint64_t number = 0;      ///< its name on the server; 0: unnamed
        std::uint64_t generation = 0;  ///< of the unnamed one when it was bound
        bool known = false;            ///< in this link, and of what
    } bound_;                          ///< by the last Bind
    shared_statement used_;            ///< bound or described last
    bool uses_ = false;                ///< in this link
    bool only_known_ = false;          ///< the batch is only Parses of what the server has, so far
    bool bound_drop_ = false;          ///< in this link a DISCARD or DEALLOCATE was bound
    struct deallocation {
        std::string name;
        std::uint64_t batch = 0;  ///< of its Bind
    };
    /// Portals bound to a DEALLOCATE of one name, and that name: until their transaction ends.
    std::map<std::string, deallocation, std::less<>> deallocating_;
    bool stalled_ = false;  ///< waits until the server has answered more
};

}  // namespace pgsluice::core
