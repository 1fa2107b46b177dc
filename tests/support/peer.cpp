// The socket work of peer.hpp.
#include "support/peer.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace pgsluice::test {

namespace {

std::uint32_t load32(std::string_view bytes) {
    std::uint32_t value = 0;
    for (const char c : bytes.substr(0, 4)) value = value << 8 | static_cast<unsigned char>(c);
    return value;
}

}  // namespace

endpoint parse_endpoint(std::string_view text) {
    endpoint where;
    if (text.starts_with('/')) {
        where.path = text;
    } else if (std::from_chars(text.data(), text.data() + text.size(), where.port).ec != std::errc{}) {
        throw std::runtime_error("no endpoint: " + std::string(text));
    }
    return where;
}

peer::peer(const endpoint &where) {
    const int family = where.path.empty() ? AF_INET : AF_UNIX;
    fd_ = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int failed = 0;
    if (where.path.empty()) {
        const int on = 1;
        ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(where.port);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        failed = ::connect(fd_, reinterpret_cast<const sockaddr *>(&to), sizeof to);
    } else {
        sockaddr_un to{};
        to.sun_family = AF_UNIX;
        std::strncpy(to.sun_path, where.path.c_str(), sizeof to.sun_path - 1);
        failed = ::connect(fd_, reinterpret_cast<const sockaddr *>(&to), sizeof to);
    }
    if (failed != 0) {
        const std::string why = std::strerror(errno);
        close();
        throw std::runtime_error("connect: " + why);
    }
    ::fcntl(fd_, F_SETFL, O_NONBLOCK);
}

void peer::login(const pairs &parameters) {
    send(startup(parameters));
    ready();
    for (const auto &[type, body] : received_) {
        if (type == 'K') {
            pid_ = load32(body);
            secret_ = body.substr(4);
        }
        if (type == 'E') throw std::runtime_error("login: " + field(body, 'C') + " " + field(body, 'M'));
    }
    if (readies_ == 0) throw std::runtime_error("login: no ReadyForQuery");
    clear();
}

peer::outcome peer::ready(std::size_t count, clock::duration timeout) {
    return pump([&, wanted = readies_ + count] { return readies_ >= wanted; }, timeout);
}

void peer::clear() {
    received_.clear();
    readies_ = 0;
}

bool peer::flush() {
    if (out_.empty()) return false;
    const auto sent = ::send(fd_, out_.data(), std::min(piece_, out_.size()), MSG_NOSIGNAL);
    if (sent > 0) {
        out_.erase(0, static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN || errno == EINTR) {
        return false;
    } else {
        out_.clear();  // the other side has gone; its last words may still be there to read
    }
    return true;
}

bool peer::step(clock::time_point until) {
    if (flush()) return true;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - clock::now()).count();
    if (left <= 0) return false;
    pollfd waiting{fd_, static_cast<short>(out_.empty() ? POLLIN : POLLIN | POLLOUT), 0};
    if (::poll(&waiting, 1, static_cast<int>(left)) <= 0) return true;  // the next look at the clock decides
    if ((waiting.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
        std::array<char, 65536> buffer;
        const auto got = ::recv(fd_, buffer.data(), buffer.size(), 0);
        if (got > 0) {
            take({buffer.data(), static_cast<std::size_t>(got)});
        } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            closed_ = true;
            out_.clear();
        }
    }
    return true;
}

void peer::take(std::string_view bytes) {
    in_.append(bytes);
    std::size_t at = 0;
    while (in_.size() - at >= 5) {
        const std::size_t whole = 1 + std::size_t{load32(std::string_view(in_).substr(at + 1))};
        if (whole < 5) throw std::runtime_error("a message with an impossible length");
        if (in_.size() - at < whole) break;
        received_.push_back({in_[at], in_.substr(at + 5, whole - 5)});
        if (in_[at] == 'Z') ++readies_;
        at += whole;
    }
    in_.erase(0, at);
}

void peer::half_close() {
    ::shutdown(fd_, SHUT_WR);
}

void peer::reset() {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
}

void peer::close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    closed_ = true;
}

}  // namespace pgsluice::test
