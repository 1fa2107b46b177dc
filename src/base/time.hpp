// Time as the pure floors see it: a point on the monotonic clock that is always passed in, never read here.
// The only clock is read in net/, once per wake-up.
#pragma once

#include <chrono>

namespace pgsluice::base {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// A point on the monotonic clock. The pure floors compare and add; only net/ calls now().
using time_point = std::chrono::steady_clock::time_point;
using duration = std::chrono::microseconds;

/// "No deadline": later than every other point.
inline constexpr time_point never = time_point::max();

/// `start + length`, where a length of zero or less means "no limit", as in every timeout of PgBouncer's.
constexpr time_point deadline_after(time_point start, duration length) {
    return length <= duration::zero() ? never : start + length;
}

}  // namespace pgsluice::base
