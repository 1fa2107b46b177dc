// Sending without blocking, and the options of sockets.
#include "net/stream.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <new>

#include "base/memory.hpp"
#include "net/system_calls.hpp"
#include "net/tls_session.hpp"

namespace pgsluice::net {

namespace {

constexpr std::size_t pieces_max = 64;

bool would_block(int problem = errno) {
    return problem == EAGAIN || problem == EWOULDBLOCK || problem == EINTR;
}

/// A thread's own, for what is on its way between a socket and TLS.
struct tls_buffers {
    static constexpr std::size_t input_bytes = 64 * 1024, kept_bytes = 256 * 1024;
    std::array<char, input_bytes> input;
    std::string plain, output;
};

tls_buffers &buffers() {
    thread_local const auto own = std::make_unique<tls_buffers>();
    for (auto *it : {&own->plain, &own->output}) {
        if (it->capacity() > tls_buffers::kept_bytes) base::give_back(*it);
        it->clear();
    }
    return *own;
}

}  // namespace

stream::stream(int fd) : fd_(fd) {}

stream::stream(stream &&other) noexcept {
    *this = std::move(other);
}

/// The owner stays behind.
stream &stream::operator=(stream &&other) noexcept {
    close();
    other.settle();
    owner_ = nullptr;
    fd_ = std::exchange(other.fd_, -1);
    broken_ = other.broken_;
    unsent_at_ = other.unsent_at_;
    unsent_ = std::move(other.unsent_);
    tls_ = std::move(other.tls_);
    return *this;
}

std::string stream::cipher() const {
    return tls_ ? tls_->cipher() : std::string();
}

stream::~stream() {
    close();
}

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

/// What came before leaves first; null if this does not leave later.
char *stream::room_to_depart(std::size_t bytes) {
    settle();
    if (owner_ == nullptr || bytes > departures::piece_max_bytes || unsent_bytes() > 0 || broken_) return nullptr;
    char *const room = owner_->departs_by().room_for(*this, *owner_, bytes);
    departs_ = true;
    return room;
}

sent stream::departed(ssize_t result, std::string_view bytes) noexcept {
    departs_ = false;
    try {
        return keep_rest(result, static_cast<int>(-result), bytes);
    } catch (const std::bad_alloc &) {
        return failed();
    }
}

sent stream::failed() {
    broken_ = true;
    return sent::failed;
}

sent stream::keep_rest(ssize_t result, int problem, std::string_view bytes) {
    if (result < 0 && !would_block(problem)) return failed();
    const auto done = static_cast<std::size_t>(std::max<ssize_t>(result, 0));
    if (done == bytes.size()) return sent::all;
    unsent_.assign(bytes.substr(done));
    unsent_at_ = 0;
    return sent::some;
}

sent stream::send(const core::outbox &out) {
    if (out.empty()) return unsent_bytes() == 0 ? sent::all : sent::some;
    if (tls_) return send_encrypted(out);
    if (char *room = room_to_depart(out.size_bytes())) {
        for (std::size_t i = 0; i < out.pieces(); ++i)
            room = std::copy_n(out.piece(i).data(), out.piece(i).size(), room);
        return sent::all;
    }
    if (broken_) return sent::failed;
    if (unsent_bytes() > 0 || out.pieces() > pieces_max) {
        keep(out, 0);
        return flush();
    }
    const auto count = out.pieces() == 1
                           ? send_now(fd_, out.piece(0).data(), out.piece(0).size(), MSG_NOSIGNAL | MSG_DONTWAIT)
                           : send_pieces(out);
    if (count < 0 && !would_block()) return failed();
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
    return send_message_now(fd_, message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

sent stream::flush() {
    if (broken_) return sent::failed;
    while (unsent_bytes() > 0) {
        const auto count = send_now(fd_, unsent_.data() + unsent_at_, unsent_bytes(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0) return would_block() ? sent::some : failed();
        unsent_at_ += static_cast<std::size_t>(count);
    }
    // The buffer goes back at once: one large message must not leave its size behind in every connection.
    base::give_back(unsent_);
    unsent_at_ = 0;
    return sent::all;
}

long stream::receive(char *into, std::size_t room) {
    if (tls_) return receive_encrypted(into, room);
    const auto count = receive_now(fd_, into, room, MSG_DONTWAIT);
    if (count > 0) return count;
    return count < 0 && would_block() ? 0 : -1;
}

// ---- through TLS ----

void stream::secure(std::unique_ptr<tls_session> session) {
    settle();
    tls_ = std::move(session);
}

/// The records wait like any other bytes when the kernel does not take them: TLS never has to be asked twice.
sent stream::send_encrypted(const core::outbox &out) {
    auto &own = buffers();
    if (out.pieces() > 1) {
        for (std::size_t i = 0; i < out.pieces(); ++i) own.plain += out.piece(i);
    }
    if (!tls_->encrypt(out.pieces() == 1 ? out.piece(0) : std::string_view(own.plain), own.output)) return sent::failed;
    return send_bytes(own.output);
}

sent stream::send_bytes(std::string_view bytes) {
    if (char *const room = room_to_depart(bytes.size())) {
        std::copy_n(bytes.data(), bytes.size(), room);
        return sent::all;
    }
    if (broken_) return sent::failed;
    if (unsent_bytes() > 0) {
        unsent_ += bytes;
        return flush();
    }
    const auto count = send_now(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return keep_rest(count, errno, bytes);
}

/// Never more than what is sure to have room when it is plain: so one read from the socket leaves nothing in OpenSSL
/// for which no event would ever come.
long stream::receive_encrypted(char *into, std::size_t room) {
    if (tls_->ended()) return -1;
    auto &own = buffers();
    constexpr auto reserved = tls_session::record_max_bytes + 1024;
    const auto most = std::min(own.input.size(), room > reserved ? room - reserved : 1);
    const auto count = receive_now(fd_, own.input.data(), most, MSG_DONTWAIT);
    if (count < 0 && would_block()) return 0;
    if (count <= 0) return -1;  // without close_notify it is an end as well: what is half here was never whole
    const auto plain = tls_->decrypt({own.input.data(), static_cast<std::size_t>(count)}, into, room, own.output);
    if (!own.output.empty() && send_bytes(own.output) == sent::failed) return -1;
    // The end has come right behind the last bytes: the socket itself is made to say so again.
    if (plain > 0 && tls_->ended()) ::shutdown(fd_, SHUT_RD);
    return plain;
}

void stream::drop_unsent() {
    settle();
    if (unsent_bytes() > 0) tls_.reset();  // half a record is out: nothing can follow it
    base::give_back(unsent_);
    unsent_at_ = 0;
}

void stream::finish_sending() {
    settle();
    if (tls_ && unsent_bytes() == 0) {
        auto &own = buffers();
        tls_->say_goodbye(own.output);
        send_bytes(own.output);
        settle();  // nothing goes out behind the end
    }
    tls_.reset();
    ::shutdown(fd_, SHUT_WR);
}

void stream::close() {
    settle();
    if (fd_ >= 0 && tls_ && unsent_bytes() == 0) {
        auto &own = buffers();
        tls_->say_goodbye(own.output);
        static_cast<void>(send_now(fd_, own.output.data(), own.output.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    }
    tls_.reset();
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    broken_ = false;
    base::give_back(unsent_);
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
