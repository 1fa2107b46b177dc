// What the ledger knows at one moment, as plain values: the consistent picture behind SHOW POOLS, DATABASES, USERS and
// LISTS. Made under the ledger's lock, read by anybody afterwards.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.hpp"
#include "base/time.hpp"
#include "config/settings.hpp"

namespace pgsluice::core {

struct pool_view {
    std::string database, user;
    std::shared_ptr<const config::pool_settings> settings;
    int clients_active = 0, clients_waiting = 0;
    int active = 0, idle = 0, used = 0, tested = 0, login = 0, closing = 0;
    int clients_canceling = 0, clients_canceling_later = 0;  ///< CancelRequests sent to a server, and those not yet
    int canceling = 0;                                       ///< connections that carry a cancel to a server
    int being_canceled = 0;  ///< of the active ones: only that keeps them from being released
    base::duration longest_wait{0};
};

/// Another process, and the cancels that it is handed.
struct peer_view {
    config::peer peer;
    int pool_size = 0;
    int waiting = 0, connecting = 0, sent = 0;
};

struct count_view {
    int servers = 0, clients = 0;
    bool paused = false, disabled = false;  ///< of a database, by its name
};

struct console_view {
    std::vector<pool_view> pools;  ///< by database, then user; one row for each two names
    std::map<std::string, count_view, std::less<>> databases, users;
    std::vector<peer_view> peers;               ///< without ourselves, by id
    std::vector<std::string> database_of_pool;  ///< by pool_index
    std::size_t clients = 0, logging_in = 0, consoles = 0, servers = 0;
    bool paused = false;
};

/// One client that waits, and why: a row of SHOW WHY.
struct wait_view {
    base::client_id client;
    base::worker_index worker = 0;
    std::string database, user;
    base::duration waits{0};
    int place = 0;  ///< in line; 1 is next
    std::string_view limit;
    std::string reason;
    base::client_id holder{};  ///< who has had a server of the pool for longest; none: nobody
    base::worker_index holder_worker = 0;
    base::duration held{0};
};

}  // namespace pgsluice::core
