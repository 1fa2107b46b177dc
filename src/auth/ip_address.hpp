// IP addresses as bytes: enough to hold a rule against a client. No names, no ports, no zones; nothing is resolved or
// bound here. Sources: RFC 4291 section 2.2 (texts of IPv6), RFC 4632 section 3.1 (prefixes). Any thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pgsluice::auth {

enum class ip_family : std::uint8_t { none, v4, v6 };

struct ip_address {
    ip_family family = ip_family::none;
    std::array<std::uint8_t, 16> bytes{};  ///< network order; an IPv4 address has the first four, the rest is 0

    int bits() const { return family == ip_family::v4 ? 32 : family == ip_family::v6 ? 128 : 0; }
    /// ::ffff:a.b.c.d, what an IPv4 client looks like on a socket for both families.
    bool is_mapped() const;
    /// The IPv4 address that a mapped one stands for; else itself.
    ip_address unmapped() const;
    /// As bytes, what its user has for itself alone: of IPv6 the /64, for who has one address has all of those.
    std::string share() const;
    friend bool operator==(const ip_address &, const ip_address &) = default;
};

/// Addresses that are equal to `address` wherever `mask` has a one. The ones need not be the leading bits.
struct ip_network {
    ip_address address, mask;

    bool contains(const ip_address &) const;
};

/// Four decimal numbers with dots (no octal, no short forms) or IPv6. No zone, no brackets, no blanks.
std::optional<ip_address> parse_ip(std::string_view text);
/// As a number: 10.0.0.1, or IPv6 with all its groups, no :: in it. "" for none.
std::string to_text(const ip_address &);
/// The mask of `prefix_bits` leading ones; of `family`, which has at least so many.
ip_address prefix_mask(ip_family family, int prefix_bits);

}  // namespace pgsluice::auth
