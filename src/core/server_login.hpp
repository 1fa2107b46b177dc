// What only the login of a server needs; gone when it is over. Only server_session.cpp, server_login.cpp and
// server_encryption.cpp include this.
#pragma once

#include <optional>
#include <string>

#include "auth/scram.hpp"
#include "core/channel.hpp"
#include "core/server_session.hpp"

namespace pgsluice::core {

struct server_login {
    server_secret secret;
    std::string nonce;
    bool method_asked = false;  ///< for a password or for SASL: one of them, once
    std::optional<auth::scram_client> scram;
    std::optional<auth::scram_work> work;  ///< until the driver has taken it
    bool scram_proved = false;
    bool authenticated = false;
    bool understood = false;  ///< it has answered to the startup packet
    channel security;
    bool tcp = false;
    bool tls_asked = false;         ///< on this connection
    bool answer_due = false;        ///< one byte, to our SSLRequest
    bool handshake_failed = false;  ///< or the server could not so much as answer to our SSLRequest
    bool other_way = false;  ///< the second connection of a login: with TLS where the first was without, or reversed

    /// Source: RFC 5802 section 6, as libpq: under TLS the server's list is not believed to be whole.
    auth::scram_channel choose_binding(bool plus_offered) const {
        using binding = auth::scram_channel::binding;
        if (!security.encrypted || security.end_point.empty()) return {binding::none, {}};
        if (!plus_offered) return {binding::not_offered, {}};
        return {binding::bound, security.end_point};
    }
};

}  // namespace pgsluice::core
