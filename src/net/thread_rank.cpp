// Two system calls.
#include "net/thread_rank.hpp"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace pgsluice::net {

namespace {

constexpr int niceness = 5;  ///< above that of the process
/// The most the kernel takes: who runs in shorter turns, as all do who do not ask for another, goes first when it wakes
/// up (EEVDF). The shares of the CPU stay as they are.
constexpr std::uint64_t slice_ns = 100'000'000;

/// struct sched_attr of linux/sched/types.h, which can not stand beside the C library's sched.h.
struct attributes {
    std::uint32_t size = sizeof(attributes);
    std::uint32_t policy = SCHED_OTHER;
    std::uint64_t flags = 0;
    std::int32_t nice = 0;
    std::uint32_t priority = 0;
    std::uint64_t runtime_ns = slice_ns;
    std::uint64_t deadline_ns = 0, period_ns = 0;
};
static_assert(sizeof(attributes) == 48);  // SCHED_ATTR_SIZE_VER0

}  // namespace

void stand_behind_queries() {
    attributes wanted;
    // Of the process, which is the control thread: whoever starts this one may stand behind already.
    wanted.nice = ::getpriority(PRIO_PROCESS, static_cast<id_t>(::getpid())) + niceness;
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), wanted.nice);
    if (::sched_getscheduler(0) == SCHED_OTHER) ::syscall(SYS_sched_setattr, 0, &wanted, 0U);
}

}  // namespace pgsluice::net
