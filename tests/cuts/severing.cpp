// A poll loop over a listener and the pairs of sockets.
#include "cuts/severing.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <vector>

namespace pgsluice::cuts {

namespace {

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in it{};
    it.sin_family = AF_INET;
    it.sin_port = htons(port);
    it.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return it;
}

void make_quick(int fd) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
}

}  // namespace

severing::severing(std::uint16_t port, std::uint16_t target) : target_(target) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    const auto here = loopback(port);
    if (::bind(listener_, reinterpret_cast<const sockaddr *>(&here), sizeof here) != 0 ||
        ::listen(listener_, 64) != 0) {
        throw std::runtime_error("can not listen on " + std::to_string(port));
    }
    ::fcntl(listener_, F_SETFL, O_NONBLOCK);
    thread_ = std::thread([this] { run(); });
}

severing::~severing() {
    stop_ = true;
    thread_.join();
    for (auto &it : links_) end(it, false);
    ::close(listener_);
}

void severing::arm(std::uint64_t bytes, cut_by how) {
    const std::lock_guard hold(guard_);
    left_ = bytes;
    how_ = how;
    fired_ = false;
}

bool severing::disarm() {
    const std::lock_guard hold(guard_);
    left_ = never;
    return fired_;
}

void severing::run() {
    while (!stop_) {
        std::vector<pollfd> watched{{listener_, POLLIN, 0}};
        for (const auto &it : links_) {
            watched.push_back({it.client, static_cast<short>(POLLIN | (it.to_client.empty() ? 0 : POLLOUT)), 0});
            watched.push_back({it.server, static_cast<short>(POLLIN | (it.to_server.empty() ? 0 : POLLOUT)), 0});
        }
        if (::poll(watched.data(), watched.size(), 20) <= 0) continue;
        std::size_t at = 1;
        for (auto &it : links_) {
            if (watched[at].revents != 0 || watched[at + 1].revents != 0) move(it);
            at += 2;
        }
        if (watched[0].revents != 0) accept();
        links_.remove_if([](const link &it) { return it.over; });
    }
}

void severing::accept() {
    const int client = ::accept(listener_, nullptr, nullptr);
    if (client < 0) return;
    const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto there = loopback(target_);
    if (::connect(server, reinterpret_cast<const sockaddr *>(&there), sizeof there) != 0) {
        ::close(client);
        ::close(server);
        return;
    }
    make_quick(client);
    make_quick(server);
    links_.push_back({client, server, {}, {}, false});
}

void severing::move(link &it) {
    receive(it, it.client, it.to_server);
    receive(it, it.server, it.to_client);
    if (!it.over) deliver(it, it.server, it.to_server);
    if (!it.over) deliver(it, it.client, it.to_client);
}

void severing::receive(link &it, int from, std::string &into) {
    if (it.over) return;
    std::array<char, 65536> buffer;
    const auto got = ::recv(from, buffer.data(), buffer.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        if (from == it.server) deliver(it, it.client, it.to_client);
        return end(it, false);
    }
    auto count = static_cast<std::uint64_t>(got);
    if (from == it.server) {
        const std::lock_guard hold(guard_);
        if (left_ != never) {
            const bool last = count >= left_;
            if (last) count = left_;
            left_ -= count;
            if (last) {
                into.append(buffer.data(), count);
                passed_ += count;
                return sever();
            }
        }
        passed_ += count;
    }
    into.append(buffer.data(), count);
}

void severing::deliver(link &it, int to, std::string &from) {
    if (from.empty()) return;
    const auto sent = ::send(to, from.data(), from.size(), MSG_NOSIGNAL);
    if (sent > 0) {
        from.erase(0, static_cast<std::size_t>(sent));
    } else if (errno != EAGAIN && errno != EINTR) {
        end(it, false);
    }
}

void severing::sever() {
    left_ = never;
    fired_ = true;
    for (auto &it : links_) {
        if (it.over) continue;
        deliver(it, it.client, it.to_client);
        if (!it.over) end(it, how_ == cut_by::reset);
    }
}

void severing::end(link &it, bool by_reset) {
    const linger now{1, 0};
    for (const int fd : {it.client, it.server}) {
        if (by_reset) ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        ::close(fd);
    }
    it.over = true;
}

}  // namespace pgsluice::cuts
