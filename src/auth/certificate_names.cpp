// One host against the names of one certificate.
#include "auth/certificate_names.hpp"

#include <algorithm>

#include "auth/ip_address.hpp"
#include "base/text.hpp"

namespace pgsluice::auth {

namespace {

/// *.example.com stands for one whole label before .example.com, and for nothing else.
bool fits_wildcard(std::string_view pattern, std::string_view host) {
    if (!pattern.starts_with("*.") || pattern.size() < 3) return false;
    const auto dot = host.find('.');
    return dot != std::string_view::npos && dot > 0 && base::equal_nocase(pattern.substr(1), host.substr(dot));
}

}  // namespace

bool names_host(const certificate_names &names, std::string_view host) {
    if (host.empty()) return false;
    const auto address = parse_ip(host);
    // 127.1 is an address to libpq; none of ours, but no name either.
    const bool like_address = address || host.find_first_not_of("0123456789.") == std::string_view::npos;
    // libpq would take *.0.0.1 for an address as well. No address has labels.
    const auto fits = [&](std::string_view name) {
        return base::equal_nocase(name, host) || (!like_address && fits_wildcard(name, host));
    };
    const auto is_address = [&](const std::string &bytes) {
        return address && bytes.size() * 8 == static_cast<std::size_t>(address->bits()) &&
               std::equal(bytes.begin(), bytes.end(), address->bytes.begin(),
                          [](char one, std::uint8_t other) { return static_cast<std::uint8_t>(one) == other; });
    };
    if (std::any_of(names.dns.begin(), names.dns.end(), fits)) return true;
    if (std::any_of(names.addresses.begin(), names.addresses.end(), is_address)) return true;
    // The common name counts where subjectAltName has none of the host's own kind.
    const bool common_name_counts = like_address ? names.addresses.empty() : names.dns.empty();
    return common_name_counts && fits(names.common_name);
}

}  // namespace pgsluice::auth
