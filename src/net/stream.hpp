// One socket: sends without blocking, at once or with the others of a round (net/departures), and keeps what the kernel
// did not take; receives what is there; once it has a TLS session, both through that. Also the socket options of both
// legs. Knows no protocol and no epoll. Belongs to the connection's worker.
#pragma once

#include <openssl/crypto.h>
#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "config/settings.hpp"
#include "core/outbox.hpp"
#include "net/departures.hpp"

namespace pgsluice::net {

class tls_session;

class stream {
public:
    /// Takes the descriptor over; -1 is no socket yet.
    explicit stream(int fd = -1);
    stream(stream &&other) noexcept;
    stream &operator=(stream &&other) noexcept;
    ~stream();

    int fd() const { return fd_; }
    bool is_open() const { return fd_ >= 0; }
    /// From here on all bytes go through it. After its handshake, and with nothing unsent.
    void secure(std::unique_ptr<tls_session>);
    bool secured() const { return tls_ != nullptr; }
    /// Of its TLS; "" without.
    std::string cipher() const;
    /// A send has failed, which its owner may not have heard of yet: nothing is sent any more, and something is lost.
    bool broken() const { return broken_; }
    /// Bytes that the kernel has not taken. While there are any, the other side must not be read further.
    std::size_t unsent_bytes() const { return unsent_.size() - unsent_at_; }

    /// From here on what is small leaves when its owner's worker has ended its round of events.
    void departs_with(departing &owner) { owner_ = &owner; }
    /// Now, where something waits for the end of the round: unsent_bytes() and broken() say then what came of it.
    void settle() {
        if (departs_) owner_->departs_by().send();
    }
    /// From departures: what has become of what was there for this stream, as send(2) says or -errno.
    sent departed(ssize_t result, std::string_view bytes) noexcept;

    /// Sends the outbox; what is not taken is copied and kept. Order is preserved. Of what leaves later it says `all`.
    sent send(const core::outbox &);
    /// Tries again with what was kept.
    sent flush();
    void drop_unsent();
    /// Reads what is there, without waiting: the count, 0 for nothing yet, -1 for the end of the stream or an error.
    /// Through TLS nothing is left behind but the beginning of a record; `room` must be 32 KiB then, and unsent_bytes()
    /// may have grown by what TLS itself has to answer.
    long receive(char *into, std::size_t room);
    /// No more from us: the peer reads the end of the stream after what was sent. What it says is not understood any
    /// more if there was TLS; its end is that of the connection.
    void finish_sending();
    void close();

private:
    ssize_t send_pieces(const core::outbox &) const;
    sent send_encrypted(const core::outbox &);
    sent send_bytes(std::string_view);
    long receive_encrypted(char *into, std::size_t room);
    void keep(const core::outbox &, std::size_t from);
    char *room_to_depart(std::size_t bytes);
    sent failed();
    sent keep_rest(ssize_t result, int problem, std::string_view bytes);

    int fd_ = -1;
    bool departs_ = false;  ///< it has bytes with its owner's departures, and none unsent
    bool broken_ = false;
    departing *owner_ = nullptr;
    std::size_t unsent_at_ = 0;
    std::string unsent_;
    std::unique_ptr<tls_session> tls_;
};

/// What was received and not yet taken by a machine. Small leftovers keep their memory for the next time; larger ones
/// give it back, so that one big message leaves nothing behind.
class leftover {
public:
    static constexpr std::size_t keep_bytes = 512;

    std::string_view view() const { return bytes_; }
    std::size_t size_bytes() const { return bytes_.size(); }
    bool empty() const { return bytes_.empty(); }
    /// `rest` may be part of what is held.
    void assign(std::string_view rest) {
        if (rest.empty() && bytes_.empty()) return;
        if (rest.size() == bytes_.size() && rest.data() == bytes_.data()) return;
        if (bytes_.capacity() > keep_bytes && rest.size() <= keep_bytes) {
            std::string(rest).swap(bytes_);  // an assignment from a short one keeps the memory
        } else {
            bytes_.assign(rest);
        }
    }
    void append(std::string_view more) { bytes_.append(more); }
    /// The same two for what may hold a password: nothing of it stays behind in memory that is given back.
    void assign_secret(std::string_view rest) { replace(std::string(rest)); }
    void append_secret(std::string_view more) {
        std::string fresh;
        fresh.reserve(bytes_.size() + more.size());
        replace(std::move(fresh.append(bytes_).append(more)));
    }
    void clear() { assign({}); }

private:
    void replace(std::string &&fresh) {
        OPENSSL_cleanse(bytes_.data(), bytes_.size());
        fresh.swap(bytes_);
    }
    std::string bytes_;
};

/// TCP_NODELAY, keepalive and buffers as configured; no effect on Unix sockets. Source: PgBouncer docs, tcp_*.
void apply_socket_options(int fd, bool tcp, const config::global_settings &);

}  // namespace pgsluice::net
