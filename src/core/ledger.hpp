// The one account of clients, servers and who waits for what: every limit is decided and every slot counted here, in
// one step, for all workers. It holds ids and numbers, never sockets; it gives orders and does nothing itself. It knows
// no lock: net/ calls it under one short mutex (every method), the simulation calls it without. Sources: PgBouncer
// documentation (pool sizes, timeouts, PAUSE); design: fairness and locality below.
//
// Who gets a server: clients in the order in which they asked. A server that is released goes to the longest waiter;
// one on the same worker may go first only if at most `locality_bound` clients asked between the two. Idle servers are
// taken last in, first out; of the own worker first, else one moves over, so nobody waits beside an idle server.
// A replication client gets a server of its own, opened for it under the same limits and in the same order; an idle one
// that is in the way goes, and so does one that is released when such a client's turn has come.
#pragma once

#include <boost/intrusive/list.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/ids.hpp"
#include "base/time.hpp"
#include "core/cancel_book.hpp"
#include "core/console_view.hpp"
#include "core/orders.hpp"
#include "core/replication.hpp"
#include "core/route.hpp"
#include "core/server_session.hpp"

namespace pgsluice::core {

struct pool_entry;
struct secret_answer;
struct database_count;
struct user_count;
struct server_seat;

/// A client's place in the account. The driver keeps the pointer and gives it back by leave().
struct client_seat : boost::intrusive::list_base_hook<> {
    base::client_id id;
    base::worker_index worker = 0;
    void *owner = nullptr;     ///< the driver's object; only its worker may look behind it
    pool_entry *at = nullptr;  ///< after join()
    database_count *database = nullptr;
    user_count *user = nullptr;
    shared_route route;
    cancel_key key;
    /// Of a replication client, from before join(): its server is opened for it, and is its own.
    std::shared_ptr<const replication_start> replicates;
    /// One of the pooler's own, for auth_query: from before join(). Its pool is no client's, and no limit on clients
    /// counts it.
    bool looks_up = false;
    std::uint64_t ticket = 0;  ///< order of asking, within the pool
    base::time_point waiting_since;
    server_seat *linked = nullptr;    ///< the server that is ours
    server_seat *promised = nullptr;  ///< the same, while it is on its way from another worker
    bool admitted = false, waiting = false, joining = false;
    bool wants_own = false;  ///< replicates, and its server is not being opened yet
    bool console = false;    ///< an admin's, in no pool and under no limit
    bool late = false;       ///< came when the process was shutting down already
};

using shared_credential = std::shared_ptr<const auth::credential>;

/// What finds a pool, and a route: names as the client gives them, but the pool's user is a forced one if there is one.
struct pool_key {
    std::string database, user;
    bool looks_up = false;
    bool operator<(const pool_key &other) const {
        return std::tie(database, user, looks_up) < std::tie(other.database, other.user, other.looks_up);
    }
};

using client_queue = boost::intrusive::list<client_seat, boost::intrusive::constant_time_size<false>>;

enum class server_place : std::uint8_t { opening, idle, active, tested, closing };

using by_database = boost::intrusive::list_base_hook<boost::intrusive::tag<struct idle_of_database>>;
using by_user = boost::intrusive::list_base_hook<boost::intrusive::tag<struct idle_of_user>>;

/// A server's place in the account: from the order to open it until closed().
struct server_seat : by_database, by_user {
    base::server_id id;
    base::worker_index worker = 0;
    void *owner = nullptr;  ///< as in client_seat
    pool_entry *at = nullptr;
    client_seat *client = nullptr;  ///< active: whose; of an own one already while it is opened
    server_place where = server_place::opening;
    shared_credential with;  ///< what it logs in with, if that is from auth_query
    base::time_point opened_at, idle_since;
    base::time_point granted_at;  ///< or, while tested, when the check was ordered
    bool used = false;            ///< has served a client since it was last idle
    bool close_needed = false;
    bool canceling = false, held_by_cancel = false;
    std::size_t host = 0;       ///< index into the pool's list
    std::string name, address;  ///< where it was found by name: that, and the address it leads to
    bool own = false;           ///< opened for one replication client, and closed after it: never idle, never another's
    pool_entry *evicted_for = nullptr;
    server_seat *evicted_with = nullptr;  ///< the two make one slot: they count as closing until both are closed
    bool ended = false;                   ///< it is, the other is not
};

/// What becomes of a server that its driver no longer needs.
struct handing_on {
    enum class step : std::uint8_t {
        idle,   ///< it is in the pool
        grant,  ///< it is `client`'s, on the same worker
        move,   ///< send it to worker `to`, for `for_client`
        close,  ///< close it, because of `why`
    };
    step next = step::idle;
    client_seat *client = nullptr;
    base::worker_index to = 0;
    base::client_id for_client{};
    std::string_view why{};
};

class ledger {
public:
    /// A waiter is overtaken by at most this many later ones, as long as it waits.
    static constexpr std::uint64_t locality_bound = 32;

    ledger(std::shared_ptr<const config::settings>, std::uint32_t workers);
    ~ledger();
    ledger(const ledger &) = delete;
    ledger &operator=(const ledger &) = delete;

    // ---- clients ----

    /// Of too many that have not logged in (max_unauthenticated_conn) the oldest goes.
    client_seat *connected(base::worker_index worker, void *owner, orders &);
    /// A place under max_client_conn; when there is none, that of the oldest who has one and has not logged in.
    refusal admit(client_seat &, orders &);
    /// Logged in to the console, which needs no place.
    void join_console(client_seat &);
    /// Logged in. Fills seat.route. With a greeting: welcome it now; without and without refusal: it is parked. A
    /// replication client is granted its own server later, which has its welcome.
    struct joined {
        refusal why = refusal::none;
        std::string argument;
        shared_welcome greeting;
        shared_route route;
        std::string detail{};  ///< of the refusal, in place of the table's
    };
    /// `found`: the user's secret, where auth_query found it. `keys`: what a SCRAM login with it gave us.
    joined join(client_seat &, const std::string &database, const std::string &user, const shared_credential &found,
                const std::optional<auth::scram_keys> &keys, base::time_point now, orders &);
    /// False: the pid is taken, try another key.
    /// With `shared` another client may have the number, but not the whole key.
    bool give_key(client_seat &, const cancel_key &, bool shared = false);
    /// Whose key this is; compared in constant time.
    struct owner_of_key {
        base::client_id client;
        base::worker_index worker = 0;
    };
    std::optional<owner_of_key> find_key(const cancel_key &) const;
    /// The client is a CancelRequest that shows this key. An owner: cancel what that one does. None, and `forwarded`:
    /// an order forward_cancel follows when its turn has come. Neither: it is nobody's.
    struct canceled {
        std::optional<owner_of_key> owner;
        bool forwarded = false;
    };
    canceled cancel(client_seat &from, const cancel_key &shown, base::time_point now, orders &);
    cancel_book &cancels() { return cancels_; }
    /// Whether a cancel is under way to that server, and nothing else keeps it from being released.
    void canceling(server_seat &seat, bool is, bool held) {
        seat.canceling = is;
        seat.held_by_cancel = held;
    }
    /// The client needs a server: one of its own worker, at once; or null, and an order follows when its turn has come.
    server_seat *want(client_seat &, base::time_point now, orders &);
    /// It does not any more.
    void stop_wanting(client_seat &);
    /// It is gone; the seat is no more.
    void leave(client_seat &, orders &);

    // ---- servers ----

    void opened(server_seat &, const shared_welcome &, const std::optional<auth::scram_derived> &, base::time_point now,
                orders &);
    void open_failed(server_seat &, const login_error &, base::time_point now, orders &);
    /// The answer to an order find_secret.
    void found_anew(pool_index, const secret_answer &, base::time_point now, orders &);
    /// A server's own values have changed: later clients are greeted with them.
    void renew_greeting(const server_seat &, shared_welcome);
    /// Its client leaves while the server is still to be cleaned: give_back() follows.
    void unlinked(server_seat &seat) { unlink(seat); }
    /// The proof holds, or the errand is done.
    handing_on give_back(server_seat &, base::time_point now, orders &);
    /// A moved server has arrived on `to`.
    handing_on arrived(server_seat &, base::worker_index to, void *owner, base::client_id for_client,
                       base::time_point now, orders &);
    /// The driver is about to close it: no client may get it any more.
    void closing(server_seat &, base::time_point now, orders &);
    /// The connection is gone, for PostgreSQL too: the slot is free, the seat no more.
    void closed(server_seat &, base::time_point now, orders &);

    // ---- names of servers (ledger_hosts.cpp) ----

    /// It is being connected to an address that was found by name; nothing if it has gone.
    void leads_to(base::server_id, const std::string &name, const std::string &address);
    /// The name has other addresses: servers that lead to one that it has no more go, at the end of what runs.
    void addresses_changed(const std::string &name, const std::vector<std::string> &addresses, base::time_point now,
                           orders &);
    bool has_servers_by_name(const std::string &name) const { return servers_by_name_.contains(name); }

    // ---- the whole ----

    /// Pools where nobody waits and nothing happens are looked at this often, as PgBouncer's janitor does: of thousands
    /// of pools few are in use, and to look at the others costs more than what is found there.
    static constexpr base::milliseconds between_quiet_looks{300};
    /// Some twenty times a second.
    void tick(base::time_point now, orders &);
    void apply(std::shared_ptr<const config::settings>, base::time_point now, orders &);
    /// SHUTDOWN WAIT_FOR_CLIENTS: nobody who connects from now on is let in. WAIT_FOR_SERVERS: waiters are refused as
    /// well, and servers go.
    void shut_down(bool wait_for_servers, orders &);

    // ---- what an admin may ask for (ledger_console.cpp); a name that is "" means all databases ----

    bool has_database(const std::string &name) const;
    /// The same, but of those that only * stands for just the ones that somebody has used or named already.
    bool knows_database(const std::string &name) const;
    /// No client gets a server; those that have one keep it until it is released, and it goes then.
    refusal pause(const std::string &name, orders &);
    /// RESUME of all ends PAUSE of all; a database that was paused by its name stays so until it is resumed by it.
    refusal resume(const std::string &name, base::time_point now, orders &);
    /// A PAUSE that was just given is taken back; others stay.
    void take_back_pause(const std::string &name, base::time_point now, orders &);
    /// PAUSE is done: PostgreSQL has ended every server.
    bool drained(const std::string &name) const;
    bool is_paused(const std::string &name) const;
    /// And RESUME will come: nobody is refused for it.
    bool waits_for_resume(const std::string &name) const { return is_paused(name) && !refuse_waiters_; }
    /// No SUSPEND while anything is paused, or while shutting down.
    refusal may_suspend() const;
    /// Of one database: whether new clients are refused.
    void disable(const std::string &name, bool disabled);
    /// Every server goes when it is next released.
    void reconnect(const std::string &name, base::time_point now, orders &);
    /// And all that had to go are gone.
    bool reconnected(const std::string &name) const;
    /// All connections go at once, and it is paused; not while all are paused already.
    refusal kill(const std::string &name, orders &);
    bool close_needed(base::server_id) const;
    /// False: there is none.
    bool kill_client(base::client_id, orders &) const;
    console_view view(base::time_point now) const;
    /// Pools that were forgotten (autodb_idle_timeout, pool_idle_timeout): their numbers may count for others only when
    /// what was counted under them has been put aside, which reuse() says.
    struct forgotten_pool {
        pool_index index = 0;
        std::string database;
    };
    std::vector<forgotten_pool> take_forgotten() { return std::exchange(forgotten_, {}); }
    bool has_forgotten() const { return !forgotten_.empty(); }
    void reuse(pool_index);
    /// What the client waits for, for the DETAIL of query_wait_timeout: ": ..." with the limit, who holds the servers
    /// and since when. "" when it waits for none.
    std::string why_waiting(const client_seat &, base::time_point now) const;
    /// Who waits, and why: the first `most` of each pool in line, or one client alone.
    std::vector<wait_view> waits(base::client_id only, std::size_t most, base::time_point now) const;

    /// Those of the console do not count.
    std::size_t clients() const { return clients_.size() - consoles_; }
    std::size_t servers() const { return servers_.size(); }
    /// What must always hold; the first thing that does not, for the simulation. Empty = all is well.
    std::string check() const;
    /// The same, of what holds after tick(): nobody waits while idle servers could go to make room.
    std::string check_ticked(base::time_point now) const;

private:
    pool_entry &pool_of(const config::database &entry, const pool_key &);
    shared_route route_of(const config::database &entry, const pool_key &);
    void drop_route(const client_seat &);
    void drop_user(const client_seat &);
    void learn_keys(const std::string &user, const auth::scram_keys &);
    static void learn(pool_entry &, const shared_credential &found, const std::optional<auth::scram_keys> &keys);
    bool ask_anew(const server_seat &, orders &);
    static void refuse_joiners(pool_entry &, orders &);
    void configure(pool_entry &, const config::database &entry);
    server_secret secret_of(const pool_entry &, const config::database &entry) const;
    bool paused(const pool_entry &) const;
    database_count *count_of(const std::string &name);
    wait_view reason_of(const pool_entry &, const client_seat &, base::time_point now) const;
    void close_unused(const database_count *, std::string_view why, orders &);
    bool greeting_holds(pool_entry &, base::worker_index worker, base::time_point now, orders &);
    static void welcome_joiners(pool_entry &, orders &);
    void end_login(client_seat &, refusal, orders &);
    refusal check_client_limits(const client_seat &) const;
    bool under_limits(const pool_entry &) const;
    bool may_log_in(const pool_entry &, base::time_point now) const;
    static bool has_room(const pool_entry &, const client_seat *oldest, base::time_point now);
    bool may_open(const pool_entry &, base::time_point now) const;
    void open(pool_entry &, base::worker_index worker, client_seat *owner, base::time_point now, orders &);
    void serve(pool_entry &, base::time_point now, orders &);
    void serve_from_idle(pool_entry &, base::time_point now, orders &);
    void evict_for(pool_entry &, const client_seat *owner, base::time_point now, orders &);
    static void evict(server_seat &, pool_entry &for_pool);
    static std::size_t choose_host(pool_entry &, base::time_point now);
    static bool try_other_host(server_seat &, const login_error &, base::time_point now);
    static server_seat *longest_idle(const pool_entry &);
    static client_seat *first_asker(const pool_entry &, client_seat *waiter);
    bool owner_needs_room(const pool_entry &, base::time_point now) const;
    static shared_route own_route(const route &usual, const replication_start &);
    void want_own(client_seat &);
    void cease_to_want_own(client_seat &);
    handing_on to_owner(server_seat &);
    void own_open_failed(server_seat &, const login_error &, bool again, base::time_point now, orders &);
    static void enqueue(pool_entry &, client_seat &);
    static void insert(client_queue &, client_seat &);
    void dequeue(client_seat &);
    void cease_to_log_in(client_seat &);
    void drop_key(const client_seat &);
    client_seat *first_waiter(const pool_entry &) const;
    client_seat *next_waiter(const pool_entry &, base::worker_index worker) const;
    server_seat *pick_idle(const pool_entry &, base::worker_index worker, base::time_point now) const;
    static bool needs_check(const server_seat &, base::time_point now);
    void order_check(server_seat &, base::time_point now, orders &);
    void order_move(server_seat &, client_seat &, orders &);
    void grant(server_seat &, client_seat &, base::time_point now);
    static void unlink(server_seat &);
    static bool surplus(const pool_entry &);
    void make_forced_pools();
    void to_idle(server_seat &, base::time_point now);
    void from_idle(server_seat &);
    void start_closing(server_seat &);
    void order_close(server_seat &, std::string_view why, orders &);
    static bool was_silent(const server_seat &, base::time_point now);
    void close_likely_dead(pool_entry &, std::size_t host, base::time_point now, orders &);
    void free_slot(server_seat &);
    void lead_nowhere(const server_seat &);
    bool lifetime_over(pool_entry &, const server_seat &, base::time_point now);
    void tick_pool(pool_entry &, base::time_point now, orders &);
    void end_sessions(pool_entry &, orders &);
    bool unused_for_long(pool_entry &, base::time_point now) const;
    void forget_vacant();
    bool in_use(const pool_entry &) const;
    void retry_others(const pool_entry &, base::time_point now, orders &);

    std::shared_ptr<const config::settings> settings_;
    std::uint32_t workers_;
    std::uint64_t last_id_ = 0;
    std::size_t admitted_ = 0, consoles_ = 0;
    std::size_t unauthenticated_count_ = 0;
    /// Of what the process is short, so that no connection can be opened, "" of nothing; and when it is tried again.
    std::string short_of_;
    base::time_point short_until_ = base::time_point::min();
    bool paused_ = false, shutting_down_ = false, refuse_waiters_ = false;
    std::unordered_map<base::client_id, std::unique_ptr<client_seat>> clients_;
    std::unordered_map<base::server_id, std::unique_ptr<server_seat>> servers_;
    client_queue unauthenticated_;  ///< from connected() to join(), the oldest first
    std::vector<std::unique_ptr<pool_entry>> pools_;
    std::map<pool_key, pool_entry *> pool_by_name_;
    std::vector<forgotten_pool> forgotten_;        ///< the desk has not heard of them yet
    std::map<pool_index, std::string> unsettled_;  ///< it has, or not; and their databases
    std::vector<pool_index> reusable_;
    std::unique_ptr<database_count> no_database_;  ///< of vacant ones
    std::unique_ptr<user_count> no_user_;
    struct known_route {
        shared_route it;
        int clients = 0;
    };
    std::map<pool_key, known_route> routes_;  ///< of the clients that are there: names may be made up without end
    std::map<std::string, std::unique_ptr<database_count>, std::less<>> databases_;
    std::map<std::string, std::unique_ptr<user_count>, std::less<>> users_;
    std::unordered_map<std::string, int> servers_by_name_;  ///< how many lead there
    std::unordered_multimap<std::uint32_t, client_seat *> keys_;
    cancel_book cancels_;
    struct learnt_keys {
        base::secret stored;
        auth::scram_keys keys;
    };
    std::map<std::string, learnt_keys, std::less<>> pass_through_;
};

}  // namespace pgsluice::core
