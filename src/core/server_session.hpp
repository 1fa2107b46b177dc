// One server connection as a machine: logs in, runs the pooler's own errands, relays replies to the linked client, and
// holds the one proof that it may go back to its pool. Bytes in, effects out; no socket, no clock.
// Belongs to the worker that owns the connection, and moves with it. Source: PostgreSQL manual, "Message Flow".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "auth/scram.hpp"
#include "auth/userlist.hpp"
#include "config/settings.hpp"
#include "core/batch_retry.hpp"
#include "core/channel.hpp"
#include "core/effects.hpp"
#include "core/owed_replies.hpp"
#include "core/statements.hpp"
#include "core/welcome.hpp"
#include "wire/frame.hpp"

namespace pgsluice::core {

class client_session;

enum class server_state : std::uint8_t {
    connecting,  ///< no byte exchanged yet
    login,       ///< from the startup packet to the end of connect_query
    idle,        ///< clean, without a client
    tested,      ///< runs server_check_query or server_reset_query
    active,      ///< linked to a client
    abandoned,   ///< its client went away: what it left behind is being ended, for nobody
    closing,     ///< no use any more
};
const char *to_string(server_state);

/// How a server proves and is proved; a value that travels with the order to open a connection.
struct server_secret {
    std::string user;
    auth::credential credential;                 ///< from auth_file or the database's password; may be empty
    std::optional<auth::scram_keys> keys;        ///< pass-through: learnt from a client's login
    std::optional<auth::scram_derived> derived;  ///< from an earlier login with the same password: spares PBKDF2
};

/// What the pooler runs on a server of its own accord.
enum class errand : std::uint8_t { none, connect_query, check, reset, parameters, rollback };

/// How a client leaves the server that is linked to it.
enum class parting : std::uint8_t {
    vanished,  ///< it went: Terminate, or the end of its connection
    ended,     ///< we ended it: a timeout, a refusal, an order
};

/// What a CancelRequest for the linked client comes to.
enum class cancel_answer : std::uint8_t {
    nothing,  ///< nothing of the client's runs
    begin,    ///< open a cancel connection
    wait,     ///< one is under way, or will be when the pooler's own errand is over
};

/// How far a server's session is from that of the client that got it.
enum class adaptation : std::uint8_t {
    none,        ///< they are equal
    on_its_way,  ///< what makes it equal has been sent; requests may follow at once
    awaited,     ///< the server may refuse it: nothing may be sent before its answer
};

/// A server's BackendKeyData: what cancels its query.
struct backend_key {
    std::uint32_t pid = 0;
    std::string secret;  ///< 4 bytes in protocol 3.0
};

/// Why a login failed: as the server said it, or in PgBouncer's words with what more we know of it as the detail.
struct login_error {
    std::string sqlstate;
    std::string message;
    bool from_server = false;
    bool protocol_refused = false;  ///< perhaps only because of the version that was asked for
    std::string detail{};
    bool ours = false;  ///< this machine was short of something, of sockets mostly: nothing is known of the server
    /// The answer to whoever waits: waiting longer would not change it. Of the rest, the next attempt may be better.
    bool final() const { return (from_server || sqlstate.starts_with("28")) && !starting_up(); }
    bool refuses_secret() const { return from_server && sqlstate == "28P01"; }
    bool starting_up() const { return sqlstate == "57P03"; }
    std::string text() const { return detail.empty() ? message : message + ": " + detail; }
    /// For `closing because:`. The server's own words are told in a line of their own.
    std::string_view reason() const { return from_server ? "login failed" : std::string_view(message); }
};

class server_session {
public:
    /// `nonce`: auth::scram_nonce_bytes random bytes for the login.
    server_session(std::shared_ptr<const config::pool_settings>, server_secret, std::string nonce);

    /// The version to ask for; 3.0 unless said otherwise.
    void speak(std::uint32_t protocol) { protocol_ = protocol; }
    /// The transport is there: the startup packet goes out, or what comes before it. `tcp`: it can be encrypted.
    void on_connected(effects &, bool tcp = false);
    /// The handshake that server_next::secure has asked for is done, or came to nothing.
    void on_secured(channel, effects &);
    /// After server_next::derive, once; and what came of it, which is nothing to a login that has ended meanwhile.
    auth::scram_work work();
    void on_derived(const auth::scram_keys &, effects &);
    void on_handshake_failed(std::string_view why, effects &);
    /// The login has failed. True: sslmode wants it tried again the other way, with or without TLS; once the server has
    /// closed its end, connect to the same place. `nonce`: as for the constructor.
    bool try_other_way(const login_error &, std::string nonce);
    /// Takes what it can of `bytes` and says how much; what is left must be given again, with more behind it.
    std::size_t on_bytes(std::string_view bytes, effects &);

    /// A client gets this server, or gives it back. The state must be idle for the first and clean() for the second.
    void link(client_session &);
    void unlink();
    client_session *client() const { return client_; }

    /// Runs `sql` for the pooler: check and reset, on a server without a client.
    void run(errand, std::string_view sql, effects &);
    /// Makes this session equal to the linked client's, ahead of its requests. The client's machine is told by
    /// on_parameters_applied() when it was not so already.
    adaptation adapt(shared_parameters wanted, effects &);
    /// It is equal to that already. It keeps that very set then, so that the next look is one at a pointer.
    bool has(const shared_parameters &);
    /// The linked client's machine is about to send a request, or part of a message.
    owed_replies &owed() { return owed_; }
    const owed_replies &owed() const { return owed_; }
    void set_upload_open(bool open) { upload_open_ = open; }

    // ---- prepared statements, for the linked client's machine (server_statements.cpp) ----

    /// What a request leaves behind when it is answered, refused or skipped.
    struct note {
        enum class kind : std::uint8_t {
            none,
            named,    ///< a statement of ours, by its number
            unnamed,  ///< the unnamed one, by its generation
            client,   ///< only something in the client's book
            shape,    ///< a Describe of ours: what the rows of `number` are
            told,     ///< the client's: it learns what the rows of its `name` are
            evicted,  ///< a Close of ours, of `number`
        };
        kind what = kind::none;
        std::uint8_t client_changes = 0;  ///< in the client's book, that it decides
        bool may_drop = false;            ///< it may end all named statements
        std::uint64_t number = 0;
        std::uint64_t generation = 0;  ///< of the unnamed statement, where that is meant: number 0
        std::string name{};
        shared_statement of{};  ///< what `name` is for the client at this place
        struct failure {
            std::string_view sqlstate;  ///< a literal: it is sure to fail with this one ...
            std::string error;          ///< ... and the client gets this ErrorResponse instead
        };
        std::unique_ptr<failure> must_fail{};  ///< rare, and a note is moved often
    };
    void send_noted(request, asker, note &&);
    struct prepared {
        bool wait = false;                         ///< can not be told before the server has answered more
        bool tried = false;                        ///< was there before this batch
        server_statements::entry *held = nullptr;  ///< until the next event; null: not there
        /// Its name is own_name(number()).
        std::uint64_t number() const { return held == nullptr ? 0 : held->number; }
    };
    /// Whether the server has the statement as `under` makes it mean.
    prepared look(const shared_statement &, const shared_parameters &under);
    /// The same, and makes it when it is not there.
    prepared prepare(const shared_statement &, const shared_parameters &under, std::size_t limit, effects &);
    /// The client has closed its name for `what`.
    void let_go(const shared_statement &what) { statements_.let_go(what); }
    /// A place for a statement that the client's own Parse is about to make; others are closed for it.
    server_statements::entry &make_room(const shared_statement &, const shared_parameters &under, std::size_t limit,
                                        effects &);
    bool has_unnamed(const shared_statement &, const shared_parameters &under) const;
    void prepare_unnamed(const shared_statement &, const shared_parameters &under, effects &);
    /// A Parse of the unnamed statement goes out: it is there when that succeeds.
    void expect_unnamed(const shared_statement &, const shared_parameters &under);
    /// What is known of the rows of `it`, the unnamed one where there is none, as the server has it.
    const row_shape &shape(const prepared &it) const { return it.held == nullptr ? unnamed_.shape : it.held->shape; }
    /// Asks for it, if that has not been done; the answer is waited for.
    void ask_shape(const prepared &it, effects &);
    std::uint64_t unnamed_generation() const { return unnamed_.generation; }
    /// Something goes out that ends or may end the unnamed statement.
    void forget_unnamed() {
        ++unnamed_.generation;
        if (unnamed_.what) expect_unnamed(nullptr, nullptr);
    }
    /// From here on the server has no unnamed statement.
    void drop_unnamed(effects &);
    /// Sends what `build` appends (outbox::make()), a request of ours within the client's batch.
    template <class Build>
    void tell(request what, note &&about, effects &fx, Build &&build) {
        fx.to_server.make(build);
        send_noted(what, asker::pooler, std::move(about));
        retry_.clear();  // it leaves a trace of its own
    }
    /// A request that may end all named statements is not answered yet.
    bool drops_under_way() const { return drops_ > 0; }
    /// Finds out what is owed after a COPY that failed in doubt (owed_replies); between two messages of the client's.
    void sound(effects &);
    batch_retry &kept_batch() { return retry_; }
    /// The kept batch is about to be sent again, or it is being found out what is owed: the client's next bytes wait.
    bool holds_client_back() const { return retrying() || owed_.needs_sounding() || owed_.sounding(); }
    const server_statements &statements() const { return statements_; }

    /// THE proof that another client may have this server: nothing owed, nothing half sent or half received, outside a
    /// transaction, no errand, no cancel on its way. Everything that is not known to be clean is not.
    bool clean() const;
    /// The driver could not yet send everything that was meant for the server.
    void set_unsent(bool unsent) { unsent_ = unsent; }
    /// Everything unsent went out after all.
    void on_sent(effects &);

    // ---- server_farewell.cpp: a client that goes in the middle of something ----

    /// The linked client goes. fx.server says what comes of it: release (it was clean), lose (because of `why`), or
    /// nothing yet: the state is abandoned, or tested when a reset query runs, and release or lose follows.
    void farewell(parting, std::string_view why, effects &);
    /// While it logs in: PostgreSQL has let it in, and works for it.
    bool authenticated() const;
    bool logs_in() const { return state_ == server_state::connecting || state_ == server_state::login; }
    bool abandoned() const { return state_ == server_state::abandoned; }
    /// While abandoned: some time has passed, and another cancel may do better than the last.
    void on_farewell_slow(effects &);

    // ---- server_cancel.cpp: cancels of what the linked client runs ----

    cancel_answer on_cancel();
    /// The driver opens the cancel connection, unless this says that there is nothing to cancel any more.
    bool begin_cancel();
    /// Right before the request goes out: the query that it is meant for still runs.
    bool cancel_wanted() const;
    /// PostgreSQL has closed the cancel connection, or nothing was sent; not `in_time`: it may strike at any moment.
    void on_cancel_over(bool in_time, effects &);
    /// A cancel that on_cancel() let wait when rounds() was `round` is still to come to its end.
    bool cancel_waits(std::uint64_t round) const { return cancel_pending_ || (cancel_due_ && round > cancel_round_); }

    server_state state() const { return state_; }
    char status() const { return status_; }
    const shared_parameters &parameters() const { return parameters_; }
    const login_error &error() const { return error_; }
    /// What it comes to when the login ends by the driver's doing, or for want of an answer.
    login_error login_lost(std::string_view why, std::string_view detail = {}) const;
    const shared_welcome &greeting() const { return greeting_; }
    /// The greeting, when it has changed since this was last asked (a default of the server's, a promotion).
    shared_welcome take_news() { return std::exchange(news_, nullptr); }
    /// It acts for the user that it acted for when it came; or for the one that its last client asked for at startup,
    /// and then the next client waits until that is taken back. Otherwise it must not go to another.
    bool same_identity() const;
    const config::pool_settings &settings() const { return *settings_; }
    /// The server's key for cancel requests; none when it sent no BackendKeyData.
    const std::optional<backend_key> &key() const { return key_; }
    /// Keys derived at this login, for the next ones (spares PBKDF2).
    const std::optional<auth::scram_derived> &derived() const { return derived_; }
    /// Bytes still to come of a message that streams.
    std::size_t streams() const { return body_left_; }
    /// Part of a message has gone to the client: nothing else may be said to it.
    bool relaying_message() const { return body_left_ > 0 && body_forward_; }
    /// The last thing the client got from the server is an error: when the connection ends now, that was why.
    bool said_last_words() const { return error_last_; }
    /// And it says itself that the connection ends: the client needs no other reason.
    bool said_farewell() const { return farewell_; }
    /// It said an error that ends the connection, or is sure to be followed by one.
    bool leaving() const { return owed_.leaving() || out_of_step_; }
    /// Part of a client's message is with the server: nothing else may be said to it.
    bool upload_open() const { return upload_open_; }
    /// The link may end now: the proof holds, and the pool_mode wants it. Every event of ours and the client's relay
    /// see to it themselves.
    bool releasable() const {
        return state_ == server_state::active && settings_->pool_mode != config::pool_mode::session && clean();
    }
    /// The client's SQL may have taken back what it asked for at startup, which is set again when it is linked anew:
    /// between two transactions that comes first, also when something still keeps the link (a cancel under way).
    bool must_relink() const {
        return doubted_ && settings_->pool_mode != config::pool_mode::session && owed_.settled() && status_ == 'I';
    }
    /// A query of the pooler's own is under way.
    bool running_errand() const { return errand_ != errand::none; }
    /// Counts answered requests (ReadyForQuery): tells whether it is still the same query that runs.
    std::uint64_t rounds() const { return rounds_; }
    /// Of these, the clients' own; and of those, the ones that were outside a transaction.
    std::uint64_t answered() const { return answered_; }
    std::uint64_t ended() const { return ended_; }
    bool canceling() const { return cancel_pending_; }
    /// And nothing else keeps the server from the next client.
    bool held_by_cancel() const {
        const bool leaves = settings_->pool_mode != config::pool_mode::session || state_ == server_state::abandoned;
        return cancel_pending_ && leaves && owed_.settled() && status_ == 'I' && errand_ == errand::none;
    }

    void close() { enter(server_state::closing); }

private:
    void enter(server_state next) { state_ = next; }
    /// False: the whole body is needed and not here yet.
    [[gnu::always_inline]] inline bool on_frame(const wire::frame &, std::string_view raw, effects &);
    std::size_t on_encryption_answer(std::string_view bytes, effects &);
    void say_hello(effects &);
    void on_login(const wire::frame &, effects &);
    void on_authentication(const wire::frame &, effects &);
    void answer_sasl(const std::optional<std::string> &, effects &);
    void on_sasl(std::uint32_t code, std::string_view data, effects &);
    void on_reply(const wire::frame &, std::string_view raw, effects &);
    void relay(std::string_view raw, effects &);
    void on_last_words(const wire::frame &error);
    void on_unasked(const wire::frame &, std::string_view raw, effects &);
    bool on_ready(char status, fate, effects &);
    void on_errand_over(effects &);
    bool on_error(std::string_view body, effects &);
    bool describes_noted(const wire::frame &) const;
    void note_shape(const wire::frame &);
    void read_shape(const wire::frame &);
    void settle_shape(const note &, outcome);
    bool settle_notes() { return owed_.outcomes().empty() || settle_ended(); }
    bool settle_ended();
    void unnamed_meaning_changed();
    void on_all_deallocated(fate);
    bool replaces_error(std::string_view body, effects &);
    bool renames_error(std::string_view body, effects &);
    bool refuses_statement(std::string_view body) const;
    void give_held(effects &);
    bool begin_retry(effects &);
    bool retrying() const { return retry_.now() == batch_retry::state::failed; }
    void retry(effects &);
    bool record_parameter(std::string_view body);
    void note_command(std::string_view tag);
    void doubt_unreported();
    void link_over();
    void keep_asked(const shared_parameters &wanted);
    void on_adapted(effects &);
    void on_adapt_failed(effects &);
    void on_errand_error(std::string_view body);
    void fail_login(std::string_view message, std::string_view sqlstate, effects &, std::string_view detail = {});
    void fail_login(login_error, effects &);
    void fail_authentication(std::string_view detail, effects &);
    void fail_wrong_type(effects &);
    void lose(std::string_view why, effects &);
    void login_over(effects &);
    void on_negotiated(std::string_view body, effects &);
    bool may_be_the_version() const;
    void end_requests(effects &);
    void go_on_leaving(effects &);
    void leave_cleanly(effects &);
    bool may_cancel() const;
    void wait_with_cancel();
    void see_to_due_cancel(effects &);
    void see_what_is_next(effects &);

    std::shared_ptr<const config::pool_settings> settings_;
    std::unique_ptr<struct server_login> login_;  ///< until logged in (server_login.hpp)
    owed_replies owed_;
    shared_parameters parameters_;
    shared_parameters wanted_;   ///< of the client to which it was last made equal
    shared_parameters settled_;  ///< parameters_ when it logged in, or was last made equal to a client's
    shared_welcome greeting_, news_;
    std::string refusal_;  ///< the ErrorResponse for the client whose parameters the server refused
    client_session *client_ = nullptr;
    login_error error_;
    std::optional<auth::scram_derived> derived_;
    std::optional<backend_key> key_;
    server_statements statements_;
    struct {
        shared_statement what;  ///< null: none, or nobody knows
        shared_parameters made_under;
        std::uint64_t batch = 0;  ///< of its Parse
        std::uint64_t generation = 0;
        bool ready = false;
        row_shape shape{};
        bool asked = false;
    } unnamed_;
    std::vector<note> notes_;  ///< of the noted requests, in order; ended ones in front of first_note_
    std::size_t first_note_ = 0;
    batch_retry retry_;
    std::string client_outcomes_;
    row_shape last_shape_;
    std::string last_rows_;        ///< what it was read from
    std::string parameters_seen_;  ///< of the ParameterDescription, until the rows' comes
    std::uint32_t drops_ = 0;      ///< noted requests that may end all named statements
    std::uint64_t links_ = 0;      ///< clients linked so far
    char held_status_ = '\0';      ///< of a ReadyForQuery that is held back while sounding
    std::size_t body_left_ = 0;    ///< of a message that streams
    bool body_forward_ = false;
    server_state state_ = server_state::connecting;
    std::uint32_t protocol_ = 3U << 16;
    errand errand_ = errand::none;
    std::uint8_t adapt_tries_ = 0;     ///< of what a timeout has struck
    std::uint8_t errand_queries_ = 0;  ///< of the errand, still to be answered
    bool errand_failed_ = false;
    bool last_query_failed_ = false;  ///< of the errand's: it holds all that is not reported, so none of that is set
    char status_ = 'I';
    bool upload_open_ = false;     ///< the client's message is only partly sent
    bool frame_open_ = false;      ///< part of a server's message is in the driver's buffer
    bool cancel_pending_ = false;  ///< a cancel connection is under way
    bool cancel_due_ = false;      ///< a cancel waits for it, or for an errand of ours, to be over
    bool pressed_ = false;         ///< abandoned: what runs in cancel_round_ has been cancelled already
    bool unsent_ = false;
    bool set_ = false;      ///< the linked client's SQL has set something, perhaps for a moment
    bool reset_ = false;    ///< and in this round it took back what was set
    bool doubted_ = false;  ///< the linked client's SQL has put in doubt what is not reported
    bool error_last_ = false;
    bool farewell_ = false;
    bool out_of_step_ = false;  ///< the last thing it said: a request in the middle of a COPY
    std::uint64_t rounds_ = 1;
    std::uint64_t answered_ = 0, ended_ = 0;
    std::uint64_t cancel_round_ = 0;      ///< rounds_ when the cancel under way began
    std::uint64_t cancel_due_round_ = 0;  ///< rounds_ of what the one that waits is meant for

public:
    server_session(const server_session &) = delete;
    server_session &operator=(const server_session &) = delete;
    ~server_session();
};

}  // namespace pgsluice::core
