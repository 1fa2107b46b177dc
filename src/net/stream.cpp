// Sending without blocking, and the options of sockets.
#include "net/stream.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace pgsluice::net {

namespace {

constexpr std::size_t pieces_max = 64;

bool would_block() {
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

}  // namespace

void stream::keep(const core::outbox &out, std::size_t from) {
    for (std::size_t i = 0; i < out.pieces(); ++i) {
        const auto piece = out.piece(i);
        if (from >= piece.size()) {
            from -= piece.size();
            continue;
        }
        unsent_.append(piece.substr(from));
        from = 0;
    }
}

sent stream::send(const core::outbox &out) {
    if (out.empty()) return unsent_bytes() == 0 ? sent::all : sent::some;
    if (unsent_bytes() > 0 || out.pieces() > pieces_max) {
        keep(out, 0);
        return flush();
    }
    const auto count = out.pieces() == 1
                           ? ::send(fd_, out.piece(0).data(), out.piece(0).size(), MSG_NOSIGNAL | MSG_DONTWAIT)
                           : send_pieces(out);
    if (count < 0 && !would_block()) return sent::failed;
    const auto done = static_cast<std::size_t>(std::max<ssize_t>(count, 0));
    if (done == out.size_bytes()) return sent::all;
    keep(out, done);
    return sent::some;
}

ssize_t stream::send_pieces(const core::outbox &out) const {
    std::array<iovec, pieces_max> parts;
    for (std::size_t i = 0; i < out.pieces(); ++i) {
        const auto piece = out.piece(i);
        parts[i] = {const_cast<char *>(piece.data()), piece.size()};
    }
    msghdr message{};
    message.msg_iov = parts.data();
    message.msg_iovlen = out.pieces();
    return ::sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

sent stream::flush() {
    while (unsent_bytes() > 0) {
        const auto count = ::send(fd_, unsent_.data() + unsent_at_, unsent_bytes(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0) return would_block() ? sent::some : sent::failed;
        unsent_at_ += static_cast<std::size_t>(count);
    }
    // The buffer goes back at once: one large message must not leave its size behind in every connection.
    unsent_ = std::string();
    unsent_at_ = 0;
    return sent::all;
}

long stream::receive(char *into, std::size_t room) const {
    const auto count = ::recv(fd_, into, room, MSG_DONTWAIT);
    if (count > 0) return count;
    return count < 0 && would_block() ? 0 : -1;
}

void stream::finish_sending() const {
    ::shutdown(fd_, SHUT_WR);
}

void stream::close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    unsent_ = std::string();
    unsent_at_ = 0;
}

void apply_socket_options(int fd, bool tcp, const config::global_settings &settings) {
    const auto set = [fd](int level, int name, int value) { ::setsockopt(fd, level, name, &value, sizeof value); };
    if (settings.tcp_socket_buffer > 0) {
        set(SOL_SOCKET, SO_SNDBUF, settings.tcp_socket_buffer);
        set(SOL_SOCKET, SO_RCVBUF, settings.tcp_socket_buffer);
    }
    if (!tcp) return;
    set(IPPROTO_TCP, TCP_NODELAY, 1);
    if (settings.tcp_keepalive) {
        set(SOL_SOCKET, SO_KEEPALIVE, 1);
        if (settings.tcp_keepidle > 0) set(IPPROTO_TCP, TCP_KEEPIDLE, settings.tcp_keepidle);
        if (settings.tcp_keepintvl > 0) set(IPPROTO_TCP, TCP_KEEPINTVL, settings.tcp_keepintvl);
        if (settings.tcp_keepcnt > 0) set(IPPROTO_TCP, TCP_KEEPCNT, settings.tcp_keepcnt);
    }
    if (settings.tcp_user_timeout > 0) set(IPPROTO_TCP, TCP_USER_TIMEOUT, settings.tcp_user_timeout);
}

}  // namespace pgsluice::net
