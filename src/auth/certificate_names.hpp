// Whether a server's certificate is that of the host which was asked for (sslmode verify-full), by libpq's rules, which
// are not quite those of RFC 6125: an address may also stand where names do. Reads no certificate: net does.
// Source: PostgreSQL manual, "Client Verification of Server Certificates". Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pgsluice::auth {

struct certificate_names {
    std::string common_name;  ///< the first of the subject; "" = none
    /// Of subjectAltName: dNSName as text, "" for one with a NUL in it; iPAddress as 4 or 16 bytes.
    std::vector<std::string> dns, addresses;
};

/// `host`: as configured, a name or an address.
bool names_host(const certificate_names &, std::string_view host);

}  // namespace pgsluice::auth
