// A TLS connection over bytes in memory.
#include "net/tls_session.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>

#include <algorithm>
#include <cstring>

#include "base/seeded_bug.hpp"
#include "net/certificate.hpp"

namespace pgsluice::net {

/// OpenSSL's view of the two ends: reads what the session was given, and writes behind what it has to send.
struct tls_bio {
    static BIO *make(tls_session *owner) {
        auto *const it = BIO_new(method());
        if (it == nullptr) throw std::bad_alloc();
        BIO_set_data(it, owner);
        BIO_set_init(it, 1);
        return it;
    }

private:
    static int read(BIO *bio, char *into, int room) {
        auto &input = static_cast<tls_session *>(BIO_get_data(bio))->input_;
        BIO_clear_retry_flags(bio);
        if (input.empty()) {
            BIO_set_retry_read(bio);
            return -1;
        }
        const auto count = std::min(input.size(), static_cast<std::size_t>(std::max(room, 0)));
        std::memcpy(into, input.data(), count);
        input.remove_prefix(count);
        return static_cast<int>(count);
    }
    static int write(BIO *bio, const char *from, int count) {
        auto *const output = static_cast<tls_session *>(BIO_get_data(bio))->output_;
        BIO_clear_retry_flags(bio);
        if (output == nullptr || count < 0) return -1;
        output->append(from, static_cast<std::size_t>(count));
        return count;
    }
    static long control(BIO *, int command, long, void *) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
    static const BIO_METHOD *method() {
        static const BIO_METHOD *const made = [] {
            auto *const it = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pgsluice");
            if (it == nullptr) throw std::bad_alloc();
            BIO_meth_set_read(it, read);
            BIO_meth_set_write(it, write);
            BIO_meth_set_ctrl(it, control);
            return it;
        }();
        return made;
    }
};

namespace {

/// SSL_get_error() looks at what is pending for this thread, whoever's it was. There mostly is nothing, and to clear an
/// empty queue costs 400 instructions.
void forget_errors() {
    if (ERR_peek_error() != 0 && !base::seeded(base::bug::tls_errors_kept)) ERR_clear_error();
}

}  // namespace

tls_session::tls_session(std::shared_ptr<const tls_context> context, SSL *ssl, bool direct, std::string host)
    : context_(std::move(context)), ssl_(ssl), host_(std::move(host)), direct_(direct) {
    auto *const bio = tls_bio::make(this);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, this);
}

tls_session::~tls_session() = default;

tls_session::progress tls_session::shake_hands(std::string_view from_peer, std::string &to_peer, std::string &plain) {
    input_ = from_peer;
    output_ = &to_peer;
    forget_errors();
    const int result = SSL_do_handshake(ssl_.get());
    auto state = progress::done;
    if (result != 1) {
        const int why = SSL_get_error(ssl_.get(), result);
        state = why == SSL_ERROR_WANT_READ ? progress::more : progress::failed;
        if (state == progress::failed) {
            const auto checked = SSL_get_verify_result(ssl_.get());
            problem_ = take_tls_error();
            if (checked != X509_V_OK) problem_ += std::string(": ") + X509_verify_cert_error_string(checked);
        }
    } else if (problem_ = check_protocol(); !problem_.empty()) {
        state = progress::failed;
    } else if (!input_.empty()) {
        // It may speak on in the same breath; what it said is ready before its driver knows that it may read.
        const auto rest = input_;
        plain.resize(rest.size() + record_max_bytes);
        const auto count = decrypt(rest, plain.data(), plain.size(), to_peer);
        plain.resize(static_cast<std::size_t>(std::max(count, 0L)));
    }
    input_ = {};
    output_ = nullptr;
    return state;
}

/// TLS without SSLRequest must say by ALPN that it is meant for PostgreSQL: else it may be meant for anything.
std::string tls_session::check_protocol() const {
    if (!direct_) return {};
    const unsigned char *name = nullptr;
    unsigned int length = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &length);
    return length > 0 || base::seeded(base::bug::alpn_not_required) ? ""
                                                                    : "direct TLS without the ALPN protocol postgresql";
}

long tls_session::decrypt(std::string_view from_peer, char *into, std::size_t room, std::string &to_peer) {
    if (ended_) return -1;
    input_ = from_peer;
    output_ = &to_peer;
    std::size_t total = 0;
    while (total < room) {
        forget_errors();
        std::size_t count = 0;
        const int result = SSL_read_ex(ssl_.get(), into + total, room - total, &count);
        if (result == 1) {
            total += count;
            if (base::seeded(base::bug::tls_record_left)) break;
            // Asking once more, to be told that there is nothing, would cost a buffer made and given back.
            if (input_.empty() && SSL_has_pending(ssl_.get()) == 0) break;
            continue;
        }
        const int why = SSL_get_error(ssl_.get(), result);
        ended_ = why != SSL_ERROR_WANT_READ;
        broken_ = ended_ && why != SSL_ERROR_ZERO_RETURN;
        break;
    }
    input_ = {};
    output_ = nullptr;
    if (total > 0) return static_cast<long>(total);
    return ended_ ? -1 : 0;
}

bool tls_session::encrypt(std::string_view plain, std::string &to_peer) {
    if (plain.empty()) return true;
    output_ = &to_peer;
    forget_errors();
    std::size_t taken = 0;
    const int result = SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &taken);
    output_ = nullptr;
    return result == 1 && taken == plain.size();
}

void tls_session::say_goodbye(std::string &to_peer) {
    if (broken_ || SSL_in_init(ssl_.get()) != 0) return;
    output_ = &to_peer;
    forget_errors();
    SSL_shutdown(ssl_.get());
    output_ = nullptr;
}

std::string tls_session::cipher() const {
    auto *const ssl = ssl_.get();
    auto text = std::string(SSL_get_version(ssl)) + "/" + SSL_get_cipher_name(ssl);
    // As PgBouncer 1.18 on Debian has it: the curve behind ECDHE ciphers, and of TLS 1.3 that of a server's if it is of
    // the older kind.
    const auto curve = static_cast<int>(SSL_get_negotiated_group(ssl));
    const bool named = SSL_version(ssl) >= TLS1_3_VERSION
                           ? SSL_is_server(ssl) == 0 && curve != NID_X25519 && curve != NID_X448
                           : SSL_CIPHER_get_kx_nid(SSL_get_current_cipher(ssl)) == NID_kx_ecdhe;
    if (named && curve > 0 && OBJ_nid2sn(curve) != nullptr) text += std::string("/ECDH=") + OBJ_nid2sn(curve);
    return text;
}

core::channel tls_session::channel() const {
    core::channel it;
    it.encrypted = true;
    it.cipher = cipher();
    const std::unique_ptr<X509, decltype(&X509_free)> peer(SSL_get1_peer_certificate(ssl_.get()), &X509_free);
    const bool server = SSL_is_server(ssl_.get()) == 1;
    it.end_point = server ? context_->end_point() : peer ? end_point_of(peer.get()) : std::string();
    if (peer && context_->settings().verifies()) {
        it.peer_verified = true;  // the handshake fails otherwise
        it.peer_name = common_name(peer.get());
        it.peer_subject = whole_subject(peer.get());
    }
    ERR_clear_error();
    return it;
}

}  // namespace pgsluice::net
