// Loopback sockets and one epoll set, for the bench's programs. Not for use beside the bench: what fails ends the
// program. Source: socket(7), tcp(7), epoll(7).
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "arguments.hpp"

namespace pgsluice::bench {

[[noreturn]] inline void fail_with_errno(const char *what) {
    fail(std::string(what) + ": " + std::strerror(errno));
}

inline sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

inline void no_delay(int fd) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

inline int listen_on(std::uint16_t port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const auto address = loopback(port);
    if (fd < 0 || ::bind(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0 ||
        ::listen(fd, 4096) != 0)
        fail_with_errno("listen");
    return fd;
}

/// A connection that has come, or -1 when there is none.
inline int accept_from(int listening) {
    const int fd = ::accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) no_delay(fd);
    return fd;
}

/// A blocking socket that is connected.
inline int connect_to(std::uint16_t port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto address = loopback(port);
    if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0)
        fail_with_errno("connect");
    no_delay(fd);
    return fd;
}

/// As many descriptors as the system allows.
inline void take_all_descriptors() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// Level-triggered. An object belongs to each descriptor; remove it before it goes, and keep it until the round is
/// over.
template <class Object>
class poll_set {
public:
    void add(int fd, std::uint32_t events, Object *object) { control(EPOLL_CTL_ADD, fd, events, object); }
    void change(int fd, std::uint32_t events, Object *object) { control(EPOLL_CTL_MOD, fd, events, object); }
    void remove(int fd) { ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr); }

    /// Waits at most so long (below 0: for ever), then calls handle(object, events) for each.
    template <class Handle>
    void wait(long nanoseconds, Handle &&handle) {
        const timespec limit{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
        const int found = ::epoll_pwait2(epoll_, events_.data(), static_cast<int>(events_.size()),
                                         nanoseconds < 0 ? nullptr : &limit, nullptr);
        for (int i = 0; i < found; ++i) {
            const auto &event = events_[static_cast<std::size_t>(i)];
            handle(static_cast<Object *>(event.data.ptr), event.events);
        }
    }

private:
    void control(int what, int fd, std::uint32_t events, Object *object) {
        epoll_event event{.events = events, .data = {.ptr = object}};
        if (::epoll_ctl(epoll_, what, fd, &event) != 0) fail_with_errno("epoll_ctl");
    }

    int epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    std::array<epoll_event, 512> events_;
};

}  // namespace pgsluice::bench
