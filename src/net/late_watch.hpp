// Watching a connection where the kernel may refuse to: for want of memory, or of what epoll may watch. What is not
// watched yet is asked for again at each tick, so that a connection is late, and not lost. On the connection's worker.
#pragma once

#include <cstdint>

#include "net/ready_set.hpp"
#include "net/timer_wheel.hpp"

namespace pgsluice::net {

class worker;

/// Adds it to the worker's ready set, or changes its interest there. When that can not be, the log is told once a
/// second, and the hook fires at the next tick: its on_timer() is to ask again.
void watch_or_later(worker &, watched &, timer_hook &, int fd, std::uint32_t interest);

}  // namespace pgsluice::net
