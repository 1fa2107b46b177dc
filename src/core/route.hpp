// Where a client's requests go, and under which limits: the outcome of (database, user) under one configuration.
// Immutable once shared; made by the ledger, read by any thread.
#pragma once

#include <memory>

#include "config/settings.hpp"
#include "core/replication.hpp"

namespace pgsluice::core {

/// Index of a pool in the ledger; another's, later, when that pool is forgotten.
using pool_index = std::uint32_t;

struct route {
    pool_index pool = 0;
    std::string database;  ///< as the client named it
    std::string user;      ///< the client's, not a forced one
    std::shared_ptr<const config::pool_settings> settings;
    config::client_limits limits;
    base::duration query_wait_notify{0};
    base::duration client_login_timeout{0};
    std::uint32_t max_packet_size = 0;
    replication replicates = replication::none;  ///< else the route of one client alone, with settings of its own
};

using shared_route = std::shared_ptr<const route>;

}  // namespace pgsluice::core
