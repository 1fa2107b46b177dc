// A TLS connection over bytes in memory.
#include "net/tls_session.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>

#include "base/seeded_bug.hpp"

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

/// SSL_get_error() looks at what is pending for this thread, whoever's it was.
void forget_errors() {
    if (!base::seeded(base::bug::tls_errors_kept)) ERR_clear_error();
}

/// Empty when there is a NUL in it: such a name is made to be taken for another.
std::string text_of(const ASN1_STRING *text) {
    unsigned char *utf8 = nullptr;
    const int length = text == nullptr ? -1 : ASN1_STRING_to_UTF8(&utf8, text);
    if (length < 0) return {};
    std::string found(reinterpret_cast<char *>(utf8), static_cast<std::size_t>(length));
    OPENSSL_free(utf8);
    return found.find('\0') == std::string::npos ? found : std::string();
}

std::string common_name(const X509 *certificate) {
    const auto *const subject = X509_get_subject_name(certificate);
    // Of several the first, as PostgreSQL and PgBouncer take it: another one would be another user.
    const int first = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    return first < 0 ? std::string() : text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, first)));
}

/// As PostgreSQL has it for clientname=DN.
std::string whole_subject(const X509 *certificate) {
    const std::unique_ptr<BIO, decltype(&BIO_free_all)> out(BIO_new(BIO_s_mem()), &BIO_free_all);
    if (!out || X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) < 0) return {};
    char *text = nullptr;
    const auto length = BIO_get_mem_data(out.get(), &text);
    return length > 0 ? std::string(text, static_cast<std::size_t>(length)) : std::string();
}

std::vector<std::string> alternative_names(const X509 *certificate) {
    std::vector<std::string> found;
    auto *const names =
        static_cast<GENERAL_NAMES *>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
    for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
        const auto *const it = sk_GENERAL_NAME_value(names, i);
        if (it->type != GEN_DNS && it->type != GEN_EMAIL) continue;
        if (auto text = text_of(it->d.ia5); !text.empty()) found.push_back(std::move(text));
    }
    GENERAL_NAMES_free(names);
    return found;
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
    return std::string(SSL_get_version(ssl_.get())) + "/" + SSL_get_cipher_name(ssl_.get());
}

core::channel tls_session::channel() const {
    core::channel it;
    it.encrypted = true;
    it.cipher = cipher();
    const std::unique_ptr<X509, decltype(&X509_free)> peer(SSL_get1_peer_certificate(ssl_.get()), &X509_free);
    const bool server = SSL_is_server(ssl_.get()) == 1;
    it.end_point = server ? context_->end_point() : peer ? end_point_of(peer.get()) : std::string();
    if (peer && context_->settings().verifies()) {
        it.peer_name = common_name(peer.get());
        it.peer_subject = whole_subject(peer.get());
        it.peer_alternative_names = alternative_names(peer.get());
    }
    ERR_clear_error();
    return it;
}

}  // namespace pgsluice::net
