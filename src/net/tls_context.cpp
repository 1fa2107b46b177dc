// Reading and checking what TLS takes, and making sessions of it.
#include "net/tls_context.hpp"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <array>

#include "base/secret.hpp"
#include "base/seeded_bug.hpp"
#include "net/certificate.hpp"
#include "net/process.hpp"
#include "net/tls_session.hpp"

namespace pgsluice::net {

namespace {

/// ALPN's name of the protocol, with its length before it. Source: PostgreSQL manual, "SSL Session Encryption".
constexpr std::array<unsigned char, 11> alpn{10, 'p', 'o', 's', 't', 'g', 'r', 'e', 's', 'q', 'l'};
/// libpq's asynchronous readers take 8 KiB at a time, and may leave the rest of a larger record lying inside OpenSSL.
constexpr long sent_record_max_bytes = 8192;

template <auto release>
struct releaser {
    template <class T>
    void operator()(T *it) const {
        release(it);
    }
};
using bio_ptr = std::unique_ptr<BIO, releaser<BIO_free_all>>;
using certificate_ptr = std::unique_ptr<X509, releaser<X509_free>>;
using revocations_ptr = std::unique_ptr<X509_CRL, releaser<X509_CRL_free>>;
using key_ptr = std::unique_ptr<EVP_PKEY, releaser<EVP_PKEY_free>>;

/// Without it OpenSSL would ask the terminal.
int no_passphrase(char *, int, int, void *) {
    return -1;
}

bio_ptr reader_of(const std::string &text) {
    return bio_ptr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

/// After a reader of PEM gave nothing: whether that was something else than the end of the file.
bool ended_broken() {
    const auto code = ERR_peek_last_error();
    return !(ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE);
}

/// The next certificate of a PEM file, or null at its end; `broken` when there is something else.
certificate_ptr next_certificate(BIO *in, bool &broken) {
    ERR_clear_error();
    certificate_ptr it(PEM_read_bio_X509(in, nullptr, no_passphrase, nullptr));
    if (it) {
        // What OpenSSL notes in a certificate at its first use is noted now, by one thread, before others share it.
        static_cast<void>(X509_check_purpose(it.get(), -1, 0));
        return it;
    }
    broken = ended_broken();
    return it;
}

/// As libpq's sslcrl: with one list of revoked certificates every authority of a chain must have a good one.
std::string use_revocations(X509_STORE *store, const std::string &ca) {
    const auto lists = reader_of(ca);
    for (;;) {
        ERR_clear_error();
        const revocations_ptr next(PEM_read_bio_X509_CRL(lists.get(), nullptr, no_passphrase, nullptr));
        if (!next) return ended_broken() ? take_tls_error() : "";
        if (X509_STORE_add_crl(store, next.get()) != 1) return take_tls_error();
        X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    }
}

std::string hash_of(const EVP_MD *kind, const std::string &text) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int length = 0;
    EVP_Digest(text.data(), text.size(), digest.data(), &length, kind, nullptr);
    return {reinterpret_cast<const char *>(digest.data()), length};
}

int choose_protocol(SSL *, const unsigned char **out, unsigned char *length, const unsigned char *offered,
                    unsigned int offered_bytes, void *) {
    unsigned char *chosen = nullptr;
    const int found = SSL_select_next_proto(&chosen, length, alpn.data(), alpn.size(), offered, offered_bytes);
    *out = chosen;
    // As PostgreSQL: one that offers only other protocols was not meant for us.
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/// The chain, then the host, which OpenSSL would look for by other rules than libpq. A resumed session has been here.
int verify_with_host(X509_STORE_CTX *checks, void *) {
    if (const int good = X509_verify_cert(checks); good != 1) return good;
    auto *const ssl = static_cast<SSL *>(X509_STORE_CTX_get_ex_data(checks, SSL_get_ex_data_X509_STORE_CTX_idx()));
    const auto *const session = static_cast<const tls_session *>(SSL_get_app_data(ssl));
    if (auth::names_host(names_of(X509_STORE_CTX_get0_cert(checks)), session->host())) return 1;
    X509_STORE_CTX_set_error(checks, X509_V_ERR_HOSTNAME_MISMATCH);
    return 0;
}

bool is_address(const std::string &host) {
    const std::unique_ptr<ASN1_OCTET_STRING, releaser<ASN1_OCTET_STRING_free>> it(a2i_IPADDRESS(host.c_str()));
    ERR_clear_error();
    return it != nullptr;
}

}  // namespace

std::string take_tls_error() {
    const auto code = ERR_get_error();
    ERR_clear_error();
    if (code == 0) return "unknown reason";
    const char *const reason = ERR_reason_error_string(code);
    if (reason != nullptr) return reason;
    std::array<char, 256> text{};
    ERR_error_string_n(code, text.data(), text.size());
    return text.data();
}

std::string end_point_of(const X509 *certificate) {
    int digest = NID_undef;
    auto *const it = const_cast<X509 *>(certificate);
    if (X509_get_signature_info(it, &digest, nullptr, nullptr, nullptr) != 1) digest = NID_undef;
    ERR_clear_error();
    if (digest == NID_undef) return {};
    if (digest == NID_md5 || digest == NID_sha1 || digest == NID_md5_sha1) digest = NID_sha256;
    const auto *const kind = EVP_get_digestbynid(digest);
    std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
    unsigned int length = 0;
    if (kind == nullptr || X509_digest(it, kind, hash.data(), &length) != 1) return {};
    return {reinterpret_cast<const char *>(hash.data()), length};
}

std::string tls_context::name_of(const char *setting) const {
    return (leg_ == leg::clients ? "client_" : "server_") + std::string(setting);
}

tls_fault tls_context::about(const char *setting, const std::string &value, const std::string &why) const {
    const auto name = name_of(setting);
    return {name, name + (value.empty() ? "" : " = " + value) + ": " + why};
}

tls_context::result tls_context::make(leg which, const config::tls_settings &settings,
                                      const std::shared_ptr<const tls_context> &running) {
    if (settings.mode == config::sslmode::disable) return {boost::system::in_place_value, nullptr};
    auto fresh = std::make_shared<tls_context>(which, settings);
    // All of it first: what is checked below is what was there at one moment, and is what will be used.
    std::string key, cert, ca;
    struct file {
        const char *name;
        const std::string &path;
        std::string &text;
    };
    for (const auto &it :
         {file{"tls_key_file", settings.key_file, key}, file{"tls_cert_file", settings.cert_file, cert},
          file{"tls_ca_file", settings.ca_file, ca}}) {
        if (it.path.empty()) continue;
        auto text = read_file(it.path);
        if (text.has_error()) return {boost::system::in_place_error, fresh->about(it.name, it.path, text.error())};
        it.text = std::move(*text);
    }
    fresh->contents_ =
        hash_of(EVP_sha256(), hash_of(EVP_sha256(), key) + hash_of(EVP_sha256(), cert) + hash_of(EVP_sha256(), ca));
    const bool same = running && running->settings_ == settings && running->contents_ == fresh->contents_;
    auto found = same ? std::nullopt : fresh->set_up(key, cert, ca);
    base::wipe(key);
    if (same) return {boost::system::in_place_value, running};
    if (found) return {boost::system::in_place_error, std::move(*found)};
    return {boost::system::in_place_value, std::move(fresh)};
}

tls_context::fault tls_context::set_up(const std::string &key, const std::string &cert, const std::string &ca) {
    ERR_clear_error();
    context_.reset(SSL_CTX_new(leg_ == leg::clients ? TLS_server_method() : TLS_client_method()));
    if (!context_) return about("tls_sslmode", to_string(settings_.mode), take_tls_error());
    auto *const it = context_.get();
    SSL_CTX_set_options(it, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(it, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_max_send_fragment(it, sent_record_max_bytes);
    SSL_CTX_set_default_passwd_cb(it, no_passphrase);
    if (leg_ == leg::clients) {
        // Tickets carry the session themselves: nothing is kept here for a client that may never return.
        static constexpr std::array<unsigned char, 8> name{'p', 'g', 's', 'l', 'u', 'i', 'c', 'e'};
        SSL_CTX_set_session_cache_mode(it, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_session_id_context(it, name.data(), name.size());
        SSL_CTX_set_num_tickets(it, 1);
        // A session that is resumed has the certificate of its first handshake, and nobody looks at its end again:
        // where certificates are asked for, each connection shows its own.
        if (settings_.verifies()) {
            SSL_CTX_set_options(it, SSL_OP_NO_TICKET);
            SSL_CTX_set_num_tickets(it, 0);
        }
        SSL_CTX_set_alpn_select_cb(it, choose_protocol, nullptr);
    } else {
        SSL_CTX_set_session_cache_mode(it, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(it, on_new_session);
        SSL_CTX_set_alpn_protos(it, alpn.data(), alpn.size());
    }
    if (auto found = use_versions_and_ciphers()) return found;
    if (!settings_.cert_file.empty()) {
        if (auto found = use_certificate(key, cert)) return found;
    }
    if (auto found = use_authorities(ca)) return found;
    if (settings_.verifies()) {
        SSL_CTX_set_verify(it, SSL_VERIFY_PEER | (leg_ == leg::clients ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
    }
    const bool by_host = leg_ == leg::servers && settings_.mode == config::sslmode::verify_full;
    if (by_host && !base::seeded(base::bug::host_not_verified))
        SSL_CTX_set_cert_verify_callback(it, verify_with_host, nullptr);
    ERR_clear_error();
    return std::nullopt;
}

tls_context::fault tls_context::use_versions_and_ciphers() {
    using config::tls_protocols;
    struct version {
        std::uint8_t bit;
        std::uint64_t off;
    };
    auto *const it = context_.get();
    SSL_CTX_set_min_proto_version(it, TLS1_VERSION);
    for (const auto &[bit, off] : {version{tls_protocols::v1_0, SSL_OP_NO_TLSv1},
                                   {tls_protocols::v1_1, SSL_OP_NO_TLSv1_1},
                                   {tls_protocols::v1_2, SSL_OP_NO_TLSv1_2},
                                   {tls_protocols::v1_3, SSL_OP_NO_TLSv1_3}}) {
        if (!settings_.protocols.has(bit)) SSL_CTX_set_options(it, off);
    }
    const auto ciphers = config::openssl_ciphers(settings_.ciphers);
    if (!ciphers.empty() && SSL_CTX_set_cipher_list(it, ciphers.c_str()) != 1)
        return about("tls_ciphers", settings_.ciphers, take_tls_error());
    if (!settings_.tls13_ciphers.empty() && SSL_CTX_set_ciphersuites(it, settings_.tls13_ciphers.c_str()) != 1)
        return about("tls13_ciphers", settings_.tls13_ciphers, take_tls_error());
    const auto &curve = settings_.ecdhcurve;
    if (curve != "auto" && curve != "none" && !curve.empty() && SSL_CTX_set1_groups_list(it, curve.c_str()) != 1)
        return about("tls_ecdhcurve", curve, "no such curve");
    SSL_CTX_set_dh_auto(it, settings_.dheparams == "none" ? 0 : 1);
    return std::nullopt;
}

tls_context::fault tls_context::use_certificate(const std::string &key, const std::string &cert) {
    auto *const it = context_.get();
    const auto bad_cert = [&](const std::string &why) { return about("tls_cert_file", settings_.cert_file, why); };
    const auto bad_key = [&](const std::string &why) { return about("tls_key_file", settings_.key_file, why); };
    const auto certs = reader_of(cert);
    bool broken = false;
    const auto own = next_certificate(certs.get(), broken);
    if (!own) return bad_cert(broken ? take_tls_error() : "no certificate in it");
    if (SSL_CTX_use_certificate(it, own.get()) != 1) return bad_cert(take_tls_error());
    while (auto next = next_certificate(certs.get(), broken)) {
        if (SSL_CTX_add1_chain_cert(it, next.get()) != 1) return bad_cert(take_tls_error());
    }
    if (broken) return bad_cert(take_tls_error());
    ERR_clear_error();
    const key_ptr secret(PEM_read_bio_PrivateKey(reader_of(key).get(), nullptr, no_passphrase, nullptr));
    if (!secret) return bad_key("no private key that can be read without a passphrase: " + take_tls_error());
    if (SSL_CTX_use_PrivateKey(it, secret.get()) != 1 || SSL_CTX_check_private_key(it) != 1)
        return bad_key("does not belong to the certificate in " + settings_.cert_file + ": " + take_tls_error());
    end_point_ = end_point_of(own.get());
    return std::nullopt;
}

tls_context::fault tls_context::use_authorities(const std::string &ca) {
    auto *const it = context_.get();
    const auto bad = [&](const std::string &why) { return about("tls_ca_file", settings_.ca_file, why); };
    if (settings_.ca_file.empty()) {
        const bool wants_system = leg_ == leg::servers && settings_.verifies();
        if (wants_system && SSL_CTX_set_default_verify_paths(it) != 1) return bad(take_tls_error());
        return std::nullopt;
    }
    const auto certs = reader_of(ca);
    bool broken = false;
    int count = 0;
    while (auto next = next_certificate(certs.get(), broken)) {
        ++count;
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(it), next.get()) != 1) return bad(take_tls_error());
        if (leg_ == leg::clients && settings_.verifies()) SSL_CTX_add_client_CA(it, next.get());
    }
    if (broken) return bad(take_tls_error());
    if (count == 0) return bad("no certificate in it");
    const auto problem = use_revocations(SSL_CTX_get_cert_store(it), ca);
    if (!problem.empty()) return bad(problem);
    return std::nullopt;
}

// ---- sessions ----

std::unique_ptr<tls_session> tls_context::accept(bool direct) const {
    ERR_clear_error();
    auto *const ssl = SSL_new(context_.get());
    if (ssl == nullptr) throw std::bad_alloc();
    SSL_set_accept_state(ssl);
    return std::make_unique<tls_session>(shared_from_this(), ssl, direct, std::string());
}

std::unique_ptr<tls_session> tls_context::connect(const std::string &host, bool direct) const {
    ERR_clear_error();
    auto *const ssl = SSL_new(context_.get());
    if (ssl == nullptr) throw std::bad_alloc();
    auto made = std::make_unique<tls_session>(shared_from_this(), ssl, direct, host);
    SSL_set_connect_state(ssl);
    if (!is_address(host)) SSL_set_tlsext_host_name(ssl, host.c_str());
    const std::lock_guard lock(mutex_);
    if (const auto it = resumable_.find(host); it != resumable_.end()) {
        SSL_set_session(ssl, it->second.get());
        resumable_.erase(it);
    }
    return made;
}

int tls_context::on_new_session(SSL *ssl, SSL_SESSION *saved) {
    const auto *const it = static_cast<const tls_session *>(SSL_get_app_data(ssl));
    if (it == nullptr || SSL_SESSION_is_resumable(saved) != 1) return 0;
    const auto &context = it->context();
    const std::lock_guard lock(context.mutex_);
    context.resumable_[it->host()].reset(saved);
    return 1;  // it is ours now
}

}  // namespace pgsluice::net
