// Tables whose rows are connections (SHOW CLIENTS, SERVERS, SOCKETS, ACTIVE_SOCKETS, FDS), made by the workers that own
// them, slice by slice: a slice is made when the one before has been sent, so that no table, however long, holds up
// traffic or fills memory. Each row is true at its moment; rows of different slices are of different moments.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/ids.hpp"
#include "base/time.hpp"
#include "core/console_table.hpp"

namespace pgsluice::net {

struct shared;

/// The same moment on the clock that is counted with, and on that of the wall.
struct clock_pair {
    base::time_point steady;
    std::chrono::system_clock::time_point wall;
};

/// YYYY-MM-DD HH:MM:SS TZ, as PgBouncer prints times.
std::string time_text(const clock_pair &, base::time_point);

/// The row of SHOW FDS of a socket that listens.
core::console_row listening_row(int fd, int unix_port);

/// How far a table has come. It travels from worker to worker, and is touched by one at a time.
struct connection_cursor {
    /// So many connections a slice: some 0.3 ms.
    static constexpr std::size_t slice = 100;

    core::console_table table;
    base::worker_index asker = 0;  ///< whose client has asked
    base::client_id client;
    base::worker_index at = 0;  ///< who is next: first the lobby, whose clients move on to the others
    bool begun = false;         ///< the ids below are of worker `at`
    std::vector<std::uint64_t> ids{};
    std::size_t next = 0;
    bool servers = false;  ///< clients are through
    /// One that moves on to the next worker is not shown twice. Of clients those of the lobby.
    std::unordered_set<std::uint64_t> seen{}, seen_clients{};
};

/// Lets the worker that is next make a slice, which goes to the client that asked, or tells it that this was all.
/// Any thread that holds the cursor.
void continue_table(shared &, std::shared_ptr<connection_cursor>);

}  // namespace pgsluice::net
