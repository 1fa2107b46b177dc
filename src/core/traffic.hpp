// What clients and servers did, counted: the figures of SHOW STATS. Each worker counts for itself in plain integers;
// the console adds up what the workers answer. Knows no clock. Source: PgBouncer documentation, "SHOW STATS".
#pragma once

#include <array>
#include <cstdint>
#include <deque>

#include "base/time.hpp"
#include "core/route.hpp"

namespace pgsluice::core {

/// In the order of SHOW STATS. Times are microseconds.
enum class figure : std::uint8_t {
    assignments,       ///< times that a client got a server
    transactions,      ///< ended
    queries,           ///< answered: simple ones, and batches up to a Sync
    received,          ///< bytes from clients
    sent,              ///< bytes from servers, for clients
    transaction_time,  ///< with a server
    query_time,        ///< from the request to its last answer
    wait_time,         ///< for a server
    client_parses,     ///< of prepared statements, by clients
    server_parses,     ///< on servers
    binds,
    logins,  ///< of clients
};
inline constexpr std::size_t figures = 12;

struct traffic {
    std::array<std::uint64_t, figures> counts{};

    std::uint64_t &operator[](figure which) { return counts[static_cast<std::size_t>(which)]; }
    std::uint64_t operator[](figure which) const { return counts[static_cast<std::size_t>(which)]; }
    void add(figure which, base::duration time) { (*this)[which] += static_cast<std::uint64_t>(time.count()); }
    traffic &operator+=(const traffic &other) {
        for (std::size_t i = 0; i < figures; ++i) counts[i] += other.counts[i];
        return *this;
    }
};

/// What `now` has more than `before`.
inline traffic since(const traffic &before, traffic now) {
    for (std::size_t i = 0; i < figures; ++i) now.counts[i] -= before.counts[i];
    return now;
}

/// One worker's. A reference into it stays good for as long as the book is there.
class traffic_book {
public:
    traffic &of(pool_index pool) {
        while (pools_.size() <= pool) pools_.emplace_back();
        return pools_[pool];
    }
    traffic &console() { return console_; }
    const std::deque<traffic> &pools() const { return pools_; }
    const traffic &console() const { return console_; }

private:
    std::deque<traffic> pools_;
    traffic console_;
};

}  // namespace pgsluice::core
