// What stands in the place of the system's calls. See faults.hpp.
#include "net/faults.hpp"

#include <liburing.h>
#include <sys/epoll.h>
#include <syslog.h>

#include <cerrno>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace pgsluice::faults {

namespace {

std::atomic<bool> watches_are_out{false};
std::atomic<bool> ring_refuses{false};
constexpr int any_number = -1;
std::atomic<int> threads{any_number};

struct hold {
    std::promise<void> *called;
    std::shared_future<void> goes_on;
};
std::mutex syslog_mutex;
std::optional<hold> syslog_hold;

void pass_syslog() {
    std::shared_future<void> goes_on;
    {
        const std::lock_guard lock(syslog_mutex);
        if (!syslog_hold) return;
        if (syslog_hold->called != nullptr) std::exchange(syslog_hold->called, nullptr)->set_value();
        goes_on = syslog_hold->goes_on;
    }
    goes_on.wait();
}

}  // namespace

no_watches::no_watches() {
    watches_are_out = true;
}
no_watches::~no_watches() {
    watches_are_out = false;
}

threads_left::threads_left(int count) {
    threads = count;
}
threads_left::~threads_left() {
    threads = any_number;
}

ring_refused::ring_refused() {
    ring_refuses = true;
}
ring_refused::~ring_refused() {
    ring_refuses = false;
}

syslog_stuck::syslog_stuck() {
    const std::lock_guard lock(syslog_mutex);
    syslog_hold = hold{&called_, goes_on_.get_future().share()};
}
syslog_stuck::~syslog_stuck() {
    const std::lock_guard lock(syslog_mutex);
    syslog_hold.reset();
    goes_on_.set_value();
}
void syslog_stuck::wait_for_caller() {
    called_.get_future().wait();
}

}  // namespace pgsluice::faults

extern "C" {

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl50-cpp,readability-identifier-naming): the linker's names

int __real_epoll_ctl(int set, int what, int fd, epoll_event *event);
int __wrap_epoll_ctl(int set, int what, int fd, epoll_event *event) {
    if (what != EPOLL_CTL_ADD || !pgsluice::faults::watches_are_out) return __real_epoll_ctl(set, what, fd, event);
    errno = ENOSPC;
    return -1;
}

int __real_io_uring_submit_and_wait(io_uring *ring, unsigned count);
int __wrap_io_uring_submit_and_wait(io_uring *ring, unsigned count) {
    return pgsluice::faults::ring_refuses ? -EBUSY : __real_io_uring_submit_and_wait(ring, count);
}

// Nothing of these tests is for the machine's syslog. The second is what the first becomes under _FORTIFY_SOURCE.
void __wrap_syslog(int, const char *, ...) {
    pgsluice::faults::pass_syslog();
}
void __wrap___syslog_chk(int, int, const char *, ...) {
    pgsluice::faults::pass_syslog();
}

// std::thread::_M_start_thread(), by which libstdc++ starts every thread of a program.
void __real__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE(
    std::thread *it, std::unique_ptr<std::thread::_State> state, void (*depends)());
void __wrap__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE(
    std::thread *it, std::unique_ptr<std::thread::_State> state, void (*depends)()) {
    auto &left = pgsluice::faults::threads;
    if (left == 0) throw std::system_error(EAGAIN, std::generic_category());
    if (left > 0) --left;
    __real__ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE(it, std::move(state),
                                                                                                 depends);
}

// NOLINTEND(bugprone-reserved-identifier,cert-dcl50-cpp,readability-identifier-naming)
}
