// One TLS connection without its socket: bytes of the peer in, bytes for the peer out, plain bytes on the other side.
// Whoever owns it does the sending and receiving. So nothing ever blocks in here, a handshake may be computed by
// another thread than the one that has the socket, and nothing is left behind in OpenSSL but the beginning of a record.
// Belongs to one thread at a time.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <string_view>

#include "core/channel.hpp"
#include "net/tls_context.hpp"

namespace pgsluice::net {

class tls_session {
public:
    /// A record holds at most this many plain bytes, and a bit more on the wire.
    static constexpr std::size_t record_max_bytes = 16 * 1024;

    tls_session(std::shared_ptr<const tls_context>, SSL *, bool direct, std::string host);
    ~tls_session();
    tls_session(const tls_session &) = delete;
    tls_session &operator=(const tls_session &) = delete;

    enum class progress : std::uint8_t { more, done, failed };
    /// One step of the handshake: takes all of `from_peer`, appends to `to_peer` what must be sent even if it failed
    /// (an alert), and what the peer has sent behind its last step to `plain`.
    progress shake_hands(std::string_view from_peer, std::string &to_peer, std::string &plain);
    /// Why it failed, in one line.
    const std::string &problem() const { return problem_; }

    /// Takes all of `from_peer` and fills `into`; it must have room for as much and a record more. The count, or -1
    /// when the stream has come to its end, by close_notify or by what is no TLS; what came before that is counted
    /// first. What must be sent for the protocol's sake (answers to KeyUpdate) is appended to `to_peer`.
    long decrypt(std::string_view from_peer, char *into, std::size_t room, std::string &to_peer);
    bool ended() const { return ended_; }
    /// Appends the records that hold `plain`. False: it can not be used any more.
    bool encrypt(std::string_view plain, std::string &to_peer);
    /// Appends close_notify. Nothing is encrypted after it.
    void say_goodbye(std::string &to_peer);

    /// What it came to, after the handshake.
    core::channel channel() const;
    /// Version and name of the cipher, as in TLSv1.3/TLS_AES_256_GCM_SHA384.
    std::string cipher() const;
    const std::string &host() const { return host_; }
    const tls_context &context() const { return *context_; }

private:
    struct free_ssl {
        void operator()(SSL *it) const { SSL_free(it); }
    };
    friend struct tls_bio;

    std::string check_protocol() const;

    std::shared_ptr<const tls_context> context_;
    std::unique_ptr<SSL, free_ssl> ssl_;
    std::string_view input_;         ///< of the peer, during a call
    std::string *output_ = nullptr;  ///< for the peer, during a call
    std::string host_, problem_;
    bool direct_;
    bool ended_ = false, broken_ = false;
};

}  // namespace pgsluice::net
