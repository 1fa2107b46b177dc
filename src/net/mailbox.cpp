// The mailbox: an eventfd and a vector under a lock.
#include "net/mailbox.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "net/each_its_turn.hpp"

namespace pgsluice::net {

mailbox::mailbox() : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (wake_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

mailbox::~mailbox() {
    ::close(wake_);
}

bool mailbox::push(std::unique_ptr<any_task> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    return tasks_.size() == 1;
}

/// The worker takes all that are there by then.
void mailbox::wake() {
    static_cast<void>(::eventfd_write(wake_, 1));
}

void mailbox::on_ready(std::uint32_t) {
    eventfd_t count = 0;
    ::eventfd_read(wake_, &count);
    std::vector<std::unique_ptr<any_task>> round;
    {
        const std::lock_guard lock(mutex_);
        round.swap(tasks_);
    }
    each_its_turn turns;
    for (const auto &task : round) turns.run([&] { task->run(); });
    turns.tell();
}

}  // namespace pgsluice::net
