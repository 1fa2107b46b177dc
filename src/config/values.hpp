// Single values as PgBouncer writes them: text in, a typed value out, or what is wrong with the text.
// Source: PgBouncer's config documentation and its cfparser: int = strtol base 0, boolean = the integers 0 and 1,
// time = non-negative seconds without a suffix, enumerations in any case.
#pragma once

#include <boost/system/result.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "base/time.hpp"
#include "config/settings.hpp"

namespace pgsluice::config {

/// A value, or the end of the sentence "name = text: ...".
template <class T>
using parsed = boost::system::result<T, std::string>;

inline constexpr std::int64_t int_max = std::numeric_limits<int>::max();

parsed<std::int64_t> parse_integer(std::string_view text, std::int64_t min, std::int64_t max);
/// 0 is false, 1 is true, and so is every larger number, as in PgBouncer.
parsed<bool> parse_boolean(std::string_view text);
/// Seconds, fractions allowed, or a number with PostgreSQL's us, ms, s, min, h or d; 0 to int_max seconds.
parsed<base::duration> parse_seconds(std::string_view text);
/// A whole number of `unit` (bytes, seconds or milliseconds; else as parse_integer()), or one with a unit of its own:
/// 64kB, 2min.
parsed<std::int64_t> parse_quantity(std::string_view text, std::string_view unit, std::int64_t min, std::int64_t max);
parsed<pool_mode> parse_pool_mode(std::string_view text);
parsed<auth_type> parse_auth_type(std::string_view text);
parsed<disconnect_action> parse_disconnect_action(std::string_view text);
parsed<error_codes> parse_error_codes(std::string_view text);
parsed<protocol_version> parse_protocol_version(std::string_view text);
parsed<sslmode> parse_sslmode(std::string_view text);
parsed<tls_negotiation> parse_tls_negotiation(std::string_view text);
/// Versions between commas or colons, each of them added, or taken away by a ! before it (from all, when it comes
/// first).
parsed<tls_protocols> parse_tls_protocols(std::string_view text);

/// As SHOW CONFIG prints a time: %g of its seconds.
std::string seconds_text(base::duration);

}  // namespace pgsluice::config
