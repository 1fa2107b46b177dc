// The ledger's own notes on one pool, one database and one user. Only ledger*.cpp include this.
#pragma once

#include <deque>
#include <vector>

#include "core/ledger.hpp"
#include "core/reachability.hpp"

namespace pgsluice::core {

/// What a standby says of itself is asked for again after this time, when a client comes.
inline constexpr base::duration standby_greeting_age = base::seconds(1);

/// Idle servers of several pools, the longest idle first.
template <class Hook>
using idle_queue =
    boost::intrusive::list<server_seat, boost::intrusive::base_hook<Hook>, boost::intrusive::constant_time_size<false>>;

/// Servers and clients of one entry of [databases], over all its pools.
struct database_count {
    int pools = 0;
    int servers = 0;
    int closing = 0;    ///< of these, on their way out
    int inherited = 0;  ///< servers at the last reload: a limit that was lowered is reached by closing, in time
    int clients = 0;
    bool paused = false;    ///< by PAUSE of this database alone
    bool disabled = false;  ///< lets no new clients in
    idle_queue<by_database> idle;
};

/// Servers logged in as one user, and clients that log in as it, over all databases.
struct user_count {
    int pools = 0;
    int servers = 0;
    int closing = 0, inherited = 0;  ///< as above
    int clients = 0;
    idle_queue<by_user> idle;
};

/// One pool. Its waiters are in the order of their tickets.
struct pool_entry {
    pool_index index = 0;
    std::shared_ptr<const config::pool_settings> settings;
    server_secret secret;                        ///< without the keys that clients bring
    shared_credential found;                     ///< the secret, of a user that auth_file lacks: the latest; empty:
                                                 ///< of a forced user, of whom there was none so far
    std::optional<auth::scram_keys> found_keys;  ///< that go with it
    bool asking = false;        ///< auth_query is asked: a server has refused what was found, or there is none
    shared_credential doubted;  ///< what was refused, and has been asked about
    bool looks_up = false;      ///< for auth_query alone
    bool removed = false;       ///< its database is not configured any more
    database_count *database = nullptr;
    user_count *user = nullptr;

    // Servers: total counts each until it is closed; coming are those that will serve a waiter (opening, tested).
    int total = 0;
    int opening = 0;
    int closing = 0;
    int coming = 0;
    int inherited = 0;  ///< as in database_count
    int idle_count = 0;
    std::vector<std::vector<server_seat *>> idle;  ///< by worker; the last was used last
    std::size_t next_host = 0;                     ///< in settings->hosts: whose turn it is, or the one in use
    std::vector<reachability> hosts;               ///< of each of those, once one has been chosen
    int evicting = 0;                              ///< slots that servers of other pools make for us by going

    // Clients.
    int clients = 0;
    std::uint64_t next_ticket = 1;
    std::size_t waiting_count = 0;
    std::vector<client_queue> waiting;  ///< by worker, in order of tickets
    client_queue joining;               ///< wait for the greeting
    client_queue owners;                ///< replication clients that no server is being opened for yet
    int owner_count = 0;

    shared_welcome greeting;
    base::time_point greeted_at;  ///< when a server last gave it, or was asked whether it still holds
    std::optional<auth::scram_derived> derived;
    bool speaks_3_0 = false;  ///< its servers refuse to be asked for more
    bool failing = false;     ///< the last attempt to log in failed
    base::time_point failed_at;
    login_error error;
    base::time_point last_lifetime_close = base::time_point::min();
    bool outdated = false;  ///< since a reload or RECONNECT a client may hold a server that has to go

    base::time_point empty_since = base::never;  ///< no client, no server
    bool vacant = false;                         ///< forgotten: in no map, nobody's, until it is another pool

    base::time_point next_look = base::time_point::min();  ///< of tick(), while it is quiet

    /// Nobody waits and nothing is under way: time has little to do with it.
    bool quiet() const {
        const bool ends_sessions =
            outdated && settings->server_fast_close && settings->pool_mode == config::pool_mode::session;
        return waiting_count == 0 && owner_count == 0 && joining.empty() && coming == 0 && evicting == 0 && !asking &&
               !ends_sessions;
    }
    int live() const { return total - closing; }
    /// Some server is logged in.
    bool working() const { return live() > opening; }
};

}  // namespace pgsluice::core
