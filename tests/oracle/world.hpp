// What all parts of the oracle share: the options of the run, the secrets, and the books of what was tried, what was
// acknowledged and what went wrong. One thread runs everything.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tokens.hpp"

namespace oracle {

namespace asio = boost::asio;
using steady = std::chrono::steady_clock;
using std::chrono::milliseconds;

enum class pooling : std::uint8_t { transaction, session, statement };

/// One pool: who logs in where, and what holds there.
struct login {
    std::string user, password, database;
    pooling mode = pooling::transaction;
    unsigned weight = 1;      ///< share of the virtual clients
    std::size_t servers = 0;  ///< at most
    bool faulty = false;      ///< its servers are reached through the fault proxy
    bool timeouts = false;    ///< query_timeout and idle_transaction_timeout are a second each
};

/// What the proxy or the oracle itself does wrong in a self-test, to see it caught.
enum class lie : std::uint8_t { none, bleed, lost, doubled, identity, cancel, reply, swallow };

struct options {
    std::uint64_t seed = 1;
    double seconds = 60;
    std::size_t clients = 200;
    std::uint16_t postgres = 0, pooler = 0, client_proxy = 0, server_proxy = 0;
    bool named = true;           ///< named prepared statements
    bool faults = true;          ///< proxies, kills, cancels and departures in the middle of work
    bool places = true;          ///< at the end, ask each pool for all its places
    double patience = 60;        ///< seconds without a reply that count as stuck
    std::size_t most = 8 << 20;  ///< bytes of the largest value
    lie lying = lie::none;
    std::vector<login> logins;
    std::map<std::string, std::size_t> database_limits, user_limits;
};

/// Each is a reason to fail.
enum class failure : std::uint8_t {
    bleed,           ///< received 16 digits or more of another session's token
    lost,            ///< acknowledged and not in the table
    doubled,         ///< in the table twice
    phantom,         ///< in the table though rolled back or never committed
    torn,            ///< a part of a transaction, or one transaction over two servers or xids
    shared_xid,      ///< two sessions in one transaction
    wrong_identity,  ///< user, database or a tracked parameter is not the session's own
    stray_cancel,    ///< 57014 at a client that did not ask
    wrong_reply,     ///< not what PostgreSQL would have answered, or a connection lost without a reason
    stuck,           ///< no reply for `patience`
    late,            ///< ran after its client had been gone for long
    over_limit,      ///< more servers than configured
    left_behind,     ///< backends that still work, or places that are not free, when all clients are gone
    count
};
std::string_view to_string(failure);

enum class work_state : std::uint8_t {
    open,       ///< the commit was not sent: nothing of it may be there
    in_doubt,   ///< sent, not answered: all of it or nothing
    committed,  ///< acknowledged: all of it
    aborted,    ///< rolled back: nothing
    loose,      ///< a cancel came in between, so that its parts may have been transactions of their own
};

/// The writes of one transaction.
struct work {
    std::uint32_t session = 0, seq = 0;
    std::uint64_t parts = 0;  ///< one bit for each row
    std::uint64_t tried = 0;  ///< parts, and those that failed or were rolled back to a savepoint
    work_state state = work_state::open;
};

struct session_record {
    std::size_t where = 0;  ///< of options::logins
    std::string end{};      ///< how it left, for people
    double gone = 0;        ///< when it left, seconds since 1970; 0: unknown or still here
};

/// What was counted, in the order in which it is printed.
struct counts {
    std::uint64_t sessions = 0, logins_failed = 0, transactions = 0, commits = 0, rollbacks = 0, in_doubt = 0;
    std::uint64_t statements = 0, messages = 0, bytes = 0, identities = 0, largest = 0;
    std::uint64_t cancels = 0, cancelled = 0, kills = 0, ended_by_server = 0, gave_up = 0, timeouts = 0;
    std::uint64_t left_terminate = 0, left_close = 0, left_reset = 0, left_in_message = 0, left_in_work = 0;
    std::uint64_t samples = 0, connects = 0;
};

class connection;
class fault_proxy;

struct world {
    explicit world(options chosen) : opt(std::move(chosen)), ends(opt.logins.size()), kills(opt.logins.size()) {}

    void fail(failure what, const std::string &detail);
    bool failed() const;
    /// A fresh session; its token.
    std::uint32_t add_session(std::size_t where, std::string token);
    const std::string &token(std::uint32_t session) const { return tokens[session]; }
    bool over() const { return steady::now() >= end; }
    static double wall() {
        return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    }

    options opt;
    asio::io_context io{1};
    token_index tokens;
    std::vector<session_record> sessions;
    std::deque<work> works;
    counts count;
    std::map<std::string, std::uint64_t> faults;  ///< of the proxies, by kind
    std::array<std::uint64_t, static_cast<std::size_t>(failure::count)> failures{};
    /// By login: connections that ended because their server did, and servers that were killed.
    std::vector<std::uint64_t> ends, kills;
    std::set<connection *> connections;  ///< watched for their deadlines
    fault_proxy *client_side = nullptr;
    fault_proxy *server_side = nullptr;
    steady::time_point end;
    bool calm = false;               ///< no more faults: every connection works
    std::uint32_t function_oid = 0;  ///< of repeat(text, int)
};

}  // namespace oracle
