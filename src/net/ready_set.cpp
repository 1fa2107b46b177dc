// The three calls of epoll.
#include "net/ready_set.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace pgsluice::net {

ready_set::ready_set() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (epoll_ < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
}

ready_set::~ready_set() {
    ::close(epoll_);
}

void ready_set::add(watched &it, int fd, std::uint32_t interest) {
    epoll_event event{.events = interest, .data = {.ptr = &it}};
    if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
        throw std::system_error(errno, std::generic_category(), "epoll_ctl");
    }
    it.fd_ = fd;
    it.interest_ = interest;
}

void ready_set::modify(watched &it, std::uint32_t interest) {
    epoll_event event{.events = interest, .data = {.ptr = &it}};
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, it.fd_, &event);
    it.interest_ = interest;
}

void ready_set::remove(watched &it) {
    if (it.fd_ < 0) return;
    ::epoll_ctl(epoll_, EPOLL_CTL_DEL, it.fd_, nullptr);
    it.fd_ = -1;
}

int ready_set::collect(base::milliseconds limit) {
    const auto wait = static_cast<int>(std::max<std::int64_t>(limit.count(), 0));
    return std::max(0, ::epoll_wait(epoll_, events_.data(), static_cast<int>(events_.size()), wait));
}

}  // namespace pgsluice::net
