// The sockets one worker watches: a level-triggered epoll set. A socket is registered once and stays registered over
// all its transactions; its interest changes only when a side must not be read or can not be written for a while. It
// reads and writes nothing itself. Belongs to one worker. Source: epoll(7). Not Asio's reactor: that one costs an extra
// recv a message, a lock and a waiting operation a socket (docs/architecture.md).
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>

#include "base/time.hpp"
#include "net/each_its_turn.hpp"

namespace pgsluice::net {

/// What is watched. It must be removed before its descriptor is closed, and live until the round of events is over
/// (worker::remove()).
class watched {
public:
    /// `events` is a set of EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR, EPOLLRDHUP.
    virtual void on_ready(std::uint32_t events) = 0;

protected:
    watched() = default;
    ~watched() = default;
    watched(const watched &) = delete;
    watched &operator=(const watched &) = delete;

private:
    friend class ready_set;
    int fd_ = -1;
    std::uint32_t interest_ = 0;
};

class ready_set {
public:
    ready_set();
    ~ready_set();
    ready_set(const ready_set &) = delete;
    ready_set &operator=(const ready_set &) = delete;

    void add(watched &, int fd, std::uint32_t interest);
    /// A system call only when the interest is another than before.
    void change(watched &it, std::uint32_t interest) {
        if (it.fd_ >= 0 && it.interest_ != interest) modify(it, interest);
    }
    void remove(watched &);
    static bool has(const watched &it) { return it.fd_ >= 0; }

    /// Waits at most `limit` for events, calls `woken` once, then on_ready() for each. What one of them throws is
    /// thrown when all have had theirs.
    template <class Woken>
    void wait(base::milliseconds limit, Woken &&woken) {
        const int count = collect(limit);
        woken();
        each_its_turn each;
        for (int i = 0; i < count; ++i) {
            auto *const it = static_cast<watched *>(events_[static_cast<std::size_t>(i)].data.ptr);
            // One earlier in the round may have removed it.
            if (it->fd_ >= 0) each.run([&] { it->on_ready(events_[static_cast<std::size_t>(i)].events); });
        }
        each.tell();
    }

private:
    void modify(watched &, std::uint32_t interest);
    int collect(base::milliseconds limit);

    int epoll_;
    std::array<epoll_event, 256> events_;
};

}  // namespace pgsluice::net
