// The mailbox: an eventfd and a vector under a lock.
#include "net/mailbox.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <exception>
#include <system_error>

namespace pgsluice::net {

mailbox::mailbox() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (wake_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

mailbox::~mailbox() {
    ::close(wake_);
}

void mailbox::push(std::unique_ptr<any_task> task) {
    bool first = false;
    {
        const std::lock_guard lock(mutex_);
        first = tasks_.empty();
        tasks_.push_back(std::move(task));
    }
    // Whoever put the first one wakes the worker; it takes all that are there by then.
    if (first) static_cast<void>(::eventfd_write(wake_, 1));
}

void mailbox::on_ready(std::uint32_t) {
    eventfd_t count = 0;
    ::eventfd_read(wake_, &count);
    std::vector<std::unique_ptr<any_task>> round;
    {
        const std::lock_guard lock(mutex_);
        round.swap(tasks_);
    }
    // One that fails must not take the others with it.
    std::exception_ptr failed;
    for (const auto &task : round) {
        try {
            task->run();
        } catch (...) {
            failed = std::current_exception();
        }
    }
    if (failed) std::rethrow_exception(failed);
}

}  // namespace pgsluice::net
