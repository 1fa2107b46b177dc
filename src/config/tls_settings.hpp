// What the settings say about TLS on one leg, as values: modes, versions, names of files and lists of ciphers. Nothing
// here reads a file or knows OpenSSL: net/tls_context does. Any thread. Source: PgBouncer's config documentation, "TLS
// settings".
#pragma once

#include <cstdint>
#include <string>

namespace pgsluice::config {

/// libpq's words, weakest first: those from require on never go without TLS.
enum class sslmode : std::uint8_t { disable, allow, prefer, require, verify_ca, verify_full };
const char *to_string(sslmode);

/// How TLS to a server begins: by SSLRequest, or at once (PostgreSQL 17 and newer).
enum class tls_negotiation : std::uint8_t { postgres, direct };
const char *to_string(tls_negotiation);

/// Which versions may be spoken, a bit each.
struct tls_protocols {
    static constexpr std::uint8_t v1_0 = 1, v1_1 = 2, v1_2 = 4, v1_3 = 8;
    static constexpr std::uint8_t secure = v1_2 | v1_3, all = v1_0 | v1_1 | v1_2 | v1_3;

    std::uint8_t set = secure;

    bool has(std::uint8_t version) const { return (set & version) != 0; }
    bool operator==(const tls_protocols &) const = default;
};
/// "secure", "all", or the versions.
std::string to_string(tls_protocols);

/// What OpenSSL is told for *_tls_ciphers: PgBouncer's shortcuts in its words, else the text itself. "" = OpenSSL's
/// own.
std::string openssl_ciphers(const std::string &written);
/// A shortcut for more than OpenSSL would take by itself.
bool asks_for_weak_ciphers(const std::string &written);

/// One leg. Two that are equal make the same connections, as long as the files do not change.
struct tls_settings {
    sslmode mode = sslmode::disable;
    tls_negotiation negotiation = tls_negotiation::postgres;  ///< servers only
    std::string key_file, cert_file, ca_file;                 ///< "" = none
    tls_protocols protocols;
    std::string ciphers = "default";  ///< up to TLS 1.2; see openssl_ciphers()
    std::string tls13_ciphers;        ///< "" = OpenSSL's own
    std::string ecdhcurve = "auto";   ///< auto, none or OpenSSL's names
    std::string dheparams = "auto";   ///< auto, none or legacy

    bool verifies() const { return mode >= sslmode::verify_ca; }
    bool operator==(const tls_settings &) const = default;
};

}  // namespace pgsluice::config
