// How a thread that logs clients in stands behind those that serve queries, where both want the same CPU.
#pragma once

namespace pgsluice::net {

/// Of the calling thread: a lower weight, and a shorter time on the CPU before one that wakes up may take it. Without
/// effect where the system does not allow it, or (for the latter) before Linux 6.12. Sources: setpriority(2) (of one
/// thread alone on Linux), sched_setattr(2), sched_runtime.
void stand_behind_queries();

}  // namespace pgsluice::net
