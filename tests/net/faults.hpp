// System calls of this program that fail or hang when a test wants it: the linker puts those of faults.cpp in their
// place
// (--wrap). All that is not asked for works as ever.
#pragma once

#include <atomic>
#include <future>

namespace pgsluice::faults {

/// While it lives epoll_ctl() adds nothing: ENOSPC, as beyond fs.epoll.max_user_watches.
class no_watches {
public:
    no_watches();
    ~no_watches();
};

/// While it lives only so many more threads can be started: EAGAIN, as beyond TasksMax=.
class threads_left {
public:
    explicit threads_left(int count);
    ~threads_left();
};

/// While it lives the kernel takes nothing from a ring: EBUSY.
class ring_refused {
public:
    ring_refused();
    ~ring_refused();
};

/// While it lives nothing that goes to syslog comes back.
class syslog_stuck {
public:
    syslog_stuck();
    ~syslog_stuck();
    /// Somebody has called it.
    void wait_for_caller();

private:
    std::promise<void> called_, goes_on_;
};

}  // namespace pgsluice::faults
