// One connection of the bench's load and do-nothing server: non-blocking bytes in and out, in the clear or by TLS, and
// what is still to be sent. It owns neither the descriptor nor the SSL object.
#pragma once

#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

namespace pgsluice::bench {

class channel {
public:
    channel() = default;
    channel(int fd, SSL *ssl) : fd_(fd), ssl_(ssl) {
        if (ssl_ != nullptr) SSL_set_mode(ssl_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    }

    int fd() const { return fd_; }
    bool tls() const { return ssl_ != nullptr; }

    /// How many bytes came; 0: none now; -1: the connection is over. With TLS call it until it says 0.
    long receive(char *room, std::size_t size) const {
        if (ssl_ != nullptr) {
            const int count = SSL_read(ssl_, room, static_cast<int>(size));
            if (count > 0) return count;
            return SSL_get_error(ssl_, count) == SSL_ERROR_WANT_READ ? 0 : -1;
        }
        const auto count = ::recv(fd_, room, size, 0);
        if (count > 0) return count;
        return count < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
    }

    /// How many bytes were taken; 0: none now; -1: the connection is over.
    long send(std::string_view bytes) const {
        if (ssl_ != nullptr) {
            const int count =
                SSL_write(ssl_, bytes.data(), static_cast<int>(std::min<std::size_t>(bytes.size(), 1 << 24)));
            if (count > 0) return count;
            return SSL_get_error(ssl_, count) == SSL_ERROR_WANT_WRITE ? 0 : -1;
        }
        const auto count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (count >= 0) return count;
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    }

private:
    int fd_ = -1;
    SSL *ssl_ = nullptr;
};

/// Bytes to send, in order: own ones, which are copied, and those of somebody else who keeps them.
class outbox {
public:
    bool empty() const { return used_ == 0; }

    /// Where own bytes are to be appended.
    std::string &own() {
        if (used_ == 0 || !pieces_[used_ - 1].foreign.empty()) {
            if (used_ == pieces_.size()) pieces_.emplace_back();
            pieces_[used_++].own.clear();
        }
        return pieces_[used_ - 1].own;
    }
    /// `bytes` must live until they are sent.
    void refer(std::string_view bytes) {
        own();
        pieces_[used_ - 1].foreign = bytes;
    }

    enum class progress : std::uint8_t { all, some, lost };
    progress flush(const channel &to) {
        for (; at_ < used_; ++at_, sent_ = 0) {
            auto &it = pieces_[at_];
            while (sent_ < it.own.size() + it.foreign.size()) {
                const auto rest = sent_ < it.own.size() ? std::string_view(it.own).substr(sent_)
                                                        : it.foreign.substr(sent_ - it.own.size());
                const auto count = to.send(rest);
                if (count < 0) return progress::lost;
                if (count == 0) return progress::some;
                sent_ += static_cast<std::size_t>(count);
            }
            it.foreign = {};
        }
        used_ = at_ = 0;
        return progress::all;
    }

private:
    struct piece {
        std::string own;
        std::string_view foreign;  ///< behind own
    };
    std::vector<piece> pieces_;
    std::size_t used_ = 0, at_ = 0, sent_ = 0;
};

}  // namespace pgsluice::bench
