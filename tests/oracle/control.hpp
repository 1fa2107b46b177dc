// The oracle's own eyes on PostgreSQL, past the pooler: samples of pg_stat_activity, killed backends, and at the end
// the comparison of the tables with the books.
#pragma once

#include <string>
#include <vector>

#include "connection.hpp"
#include "random.hpp"

namespace oracle {

/// A superuser's connection (trust). Simple queries only; throws std::runtime_error on anything unexpected.
class control {
public:
    explicit control(world &shared) : world_(shared) {}
    awaitable<void> open(std::string database);
    awaitable<std::vector<std::vector<std::string>>> rows(std::string sql);

private:
    world &world_;
    std::shared_ptr<connection> link_;
};

/// Looks up what the clients need to know of the server.
awaitable<void> prepare(world &);
/// Samples and kills until the run is over.
awaitable<void> watch_servers(world &);
/// After the clients have gone: no backend may be at work. Then each pool must give all its places, at the same time.
awaitable<void> check_quiet(world &);
awaitable<void> check_places(world &);
/// Every acknowledged commit once, everything else as it must be.
awaitable<void> check_tables(world &);
/// More servers lost without a reason of our own than backends were killed: somebody else ended them.
void check_ends(world &);

}  // namespace oracle
