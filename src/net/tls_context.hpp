// What one configuration of TLS comes to: keys, certificates, versions and ciphers, read and checked together.
// Immutable once made, shared by all workers and by the sessions that it made, which live on when a reload replaces it.
// Made by the control thread; any thread may make sessions. Source: PgBouncer documentation, "TLS settings".
#pragma once

#include <openssl/ssl.h>

#include <boost/system/result.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "config/tls_settings.hpp"

namespace pgsluice::net {

class tls_session;

/// Why the settings of TLS can not be used, and which of them it is about: its line is what the user looks for.
struct tls_fault {
    std::string setting, text;
};

class tls_context : public std::enable_shared_from_this<tls_context> {
public:
    enum class leg : std::uint8_t { clients, servers };
    using result = boost::system::result<std::shared_ptr<const tls_context>, tls_fault>;

    /// Reads the files and checks all of it; the fault when it can not be used. `running` is returned when it would be
    /// the same: settings and contents of files. Null is the value where the mode is disable.
    static result make(leg, const config::tls_settings &, const std::shared_ptr<const tls_context> &running);

    /// The end of a client's connection. `direct`: begun without SSLRequest, so that ALPN must name the protocol.
    std::unique_ptr<tls_session> accept(bool direct) const;
    /// The end of a connection to a server. `host`: its name or address as configured.
    std::unique_ptr<tls_session> connect(const std::string &host, bool direct) const;

    /// The hash of our own certificate for channel binding; empty when its signature names none.
    const std::string &end_point() const { return end_point_; }
    const config::tls_settings &settings() const { return settings_; }

    explicit tls_context(leg which, config::tls_settings settings) : leg_(which), settings_(std::move(settings)) {}

private:
    struct free_context {
        void operator()(SSL_CTX *it) const { SSL_CTX_free(it); }
    };
    struct free_saved {
        void operator()(SSL_SESSION *it) const { SSL_SESSION_free(it); }
    };
    using saved_session = std::unique_ptr<SSL_SESSION, free_saved>;

    using fault = std::optional<tls_fault>;

    std::string name_of(const char *setting) const;
    /// `setting`: without client_ or server_.
    tls_fault about(const char *setting, const std::string &value, const std::string &why) const;
    fault set_up(const std::string &key, const std::string &cert, const std::string &ca);
    fault use_certificate(const std::string &key, const std::string &cert);
    fault use_authorities(const std::string &ca);
    fault use_versions_and_ciphers();
    static int on_new_session(SSL *, SSL_SESSION *);

    leg leg_;
    config::tls_settings settings_;
    std::string contents_;  ///< a hash of the files
    std::unique_ptr<SSL_CTX, free_context> context_;
    std::string end_point_;

    /// Servers only: the newest session of each host, with which the next handshake is shorter.
    mutable std::mutex mutex_;
    mutable std::map<std::string, saved_session, std::less<>> resumable_;
};

/// The contexts of both legs; null where TLS is off. A value that is exchanged as a whole.
struct tls_contexts {
    std::shared_ptr<const tls_context> clients, servers;
};

/// RFC 5929 section 4.1: by the hash of the certificate's signature, SHA-256 in place of MD5 and SHA-1.
std::string end_point_of(const X509 *certificate);
/// The first of OpenSSL's pending errors of this thread in words, and none is pending any more.
std::string take_tls_error();

}  // namespace pgsluice::net
