// Names of things, as distinct types: a client id can not be passed where a server id is due.
// Clients and servers draw from one sequence, as in PgBouncer's SHOW output. Plain values; any thread.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace pgsluice::base {

template <class Tag>
struct id {
    std::uint64_t value = 0;  ///< 0 = nobody
    explicit operator bool() const { return value != 0; }
    auto operator<=>(const id &) const = default;
};

using client_id = id<struct client_tag>;
using server_id = id<struct server_tag>;

/// Index of a worker, 0 to worker_threads - 1.
using worker_index = std::uint32_t;

}  // namespace pgsluice::base

template <class Tag>
struct std::hash<pgsluice::base::id<Tag>> {
    std::size_t operator()(pgsluice::base::id<Tag> it) const noexcept { return std::hash<std::uint64_t>{}(it.value); }
};
