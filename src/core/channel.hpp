// What the driver of a connection knows of its encryption, as plain values for the machines: core knows no TLS.
// Any thread.
#pragma once

#include <string>

namespace pgsluice::core {

struct channel {
    bool may_encrypt = false;  ///< TCP, not encrypted yet, and the driver has what TLS takes
    bool encrypted = false;
    std::string cipher{};  ///< as in PgBouncer's log: TLSv1.3/TLS_AES_256_GCM_SHA384
    /// The data of tls-server-end-point (RFC 5929): a hash of the server's certificate, ours towards clients.
    /// Empty: the certificate's signature names no hash, so there is no channel binding.
    std::string end_point{};
    bool peer_verified = false;  ///< it was asked for a certificate, and that is good, whatever names are in it
    std::string peer_name{};     ///< of a verified certificate: the subject's CN; "" when there is none, or a NUL in it
    std::string peer_subject{};  ///< the same certificate's whole subject as RFC 2253 writes it: CN=app,O=Shop
};

}  // namespace pgsluice::core
