// See values.hpp.
#include "config/values.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "config/text.hpp"

namespace pgsluice::config {
namespace {

constexpr std::array pool_modes{pool_mode::session, pool_mode::transaction, pool_mode::statement};
constexpr std::array auth_types{auth_type::any, auth_type::trust,         auth_type::plain,
                                auth_type::md5, auth_type::scram_sha_256, auth_type::cert,
                                auth_type::hba, auth_type::pam,           auth_type::ldap};
constexpr std::array protocol_versions{protocol_version::v3_0, protocol_version::v3_2};
constexpr std::array sslmodes{sslmode::disable, sslmode::allow,     sslmode::prefer,
                              sslmode::require, sslmode::verify_ca, sslmode::verify_full};
constexpr std::array tls_negotiations{tls_negotiation::postgres, tls_negotiation::direct};
constexpr std::array error_code_choices{error_codes::standard, error_codes::pgbouncer};
constexpr std::array disconnect_actions{disconnect_action::cancel, disconnect_action::close};

template <class Enum, std::size_t n>
parsed<Enum> parse_enum(const std::array<Enum, n> &values, std::string_view text) {
    const auto lower = to_lower(text);
    std::string choices;
    for (std::size_t i = 0; i < n; ++i) {
        if (lower == to_string(values[i])) return values[i];
        choices += (i == 0 ? "" : i + 1 < n ? ", " : " or ") + std::string(to_string(values[i]));
    }
    return "must be " + choices;
}

}  // namespace

const char *to_string(pool_mode mode) {
    switch (mode) {
        case pool_mode::session:
            return "session";
        case pool_mode::transaction:
            return "transaction";
        case pool_mode::statement:
            return "statement";
    }
    return "?";
}

const char *to_string(auth_type type) {
    switch (type) {
        case auth_type::any:
            return "any";
        case auth_type::trust:
            return "trust";
        case auth_type::plain:
            return "plain";
        case auth_type::md5:
            return "md5";
        case auth_type::scram_sha_256:
            return "scram-sha-256";
        case auth_type::cert:
            return "cert";
        case auth_type::hba:
            return "hba";
        case auth_type::pam:
            return "pam";
        case auth_type::ldap:
            return "ldap";
    }
    return "?";
}

const char *to_string(error_codes codes) {
    return codes == error_codes::standard ? "standard" : "pgbouncer";
}

const char *to_string(disconnect_action action) {
    return action == disconnect_action::cancel ? "cancel" : "close";
}

const char *to_string(protocol_version version) {
    return version == protocol_version::v3_0 ? "3.0" : "3.2";
}

const char *to_string(sslmode mode) {
    switch (mode) {
        case sslmode::disable:
            return "disable";
        case sslmode::allow:
            return "allow";
        case sslmode::prefer:
            return "prefer";
        case sslmode::require:
            return "require";
        case sslmode::verify_ca:
            return "verify-ca";
        case sslmode::verify_full:
            return "verify-full";
    }
    return "?";
}

const char *to_string(tls_negotiation how) {
    return how == tls_negotiation::postgres ? "postgres" : "direct";
}

namespace {

struct named_protocols {
    std::string_view name;
    std::uint8_t set;
};
// legacy is in PgBouncer's documentation, though not in its parser. The first four are what to_string() spells.
constexpr std::array tls_names{
    named_protocols{"tlsv1.0", tls_protocols::v1_0},   named_protocols{"tlsv1.1", tls_protocols::v1_1},
    named_protocols{"tlsv1.2", tls_protocols::v1_2},   named_protocols{"tlsv1.3", tls_protocols::v1_3},
    named_protocols{"tlsv1", tls_protocols::all},      named_protocols{"all", tls_protocols::all},
    named_protocols{"legacy", tls_protocols::all},     named_protocols{"secure", tls_protocols::secure},
    named_protocols{"default", tls_protocols::secure},
};

}  // namespace

std::string to_string(tls_protocols protocols) {
    if (protocols.set == tls_protocols::secure) return "secure";
    if (protocols.set == tls_protocols::all) return "all";
    std::string list;
    for (std::size_t i = 0; i < 4; ++i) {
        if (!protocols.has(tls_names[i].set)) continue;
        list += (list.empty() ? "" : ",") + std::string(tls_names[i].name);
    }
    return list;
}

parsed<std::int64_t> parse_integer(std::string_view text, std::int64_t min, std::int64_t max) {
    static_assert(sizeof(long) == sizeof(std::int64_t));
    const std::string digits(text);
    char *end = nullptr;
    errno = 0;
    const long value = std::strtol(digits.c_str(), &end, 0);
    // strtol would skip leading space; here space can only come out of quotes.
    if (digits.empty() || is_space(digits.front()) || end != digits.c_str() + digits.size())
        return std::string("must be a whole number");
    if (errno == ERANGE || value < min || value > max)
        return "must be from " + std::to_string(min) + " to " + std::to_string(max);
    return value;
}

parsed<bool> parse_boolean(std::string_view text, std::int64_t max) {
    const auto value = parse_integer(text, 0, max);
    if (value.has_error() && max == 1) return std::string("must be 0 or 1");
    if (value.has_error()) return value.error();
    return *value != 0;
}

parsed<base::duration> parse_seconds(std::string_view text) {
    double value = 0;
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (fault == std::errc::invalid_argument || end != text.data() + text.size() || std::isnan(value))
        return std::string("must be a number of seconds, without a unit");
    if (fault == std::errc::result_out_of_range || value < 0 || value > static_cast<double>(int_max))
        return "must be from 0 to " + std::to_string(int_max) + " seconds";
    return base::duration(std::llround(value * 1e6));
}

parsed<pool_mode> parse_pool_mode(std::string_view text) {
    return parse_enum(pool_modes, text);
}
parsed<auth_type> parse_auth_type(std::string_view text) {
    return parse_enum(auth_types, text);
}
parsed<error_codes> parse_error_codes(std::string_view text) {
    return parse_enum(error_code_choices, text);
}
parsed<disconnect_action> parse_disconnect_action(std::string_view text) {
    return parse_enum(disconnect_actions, text);
}
parsed<protocol_version> parse_protocol_version(std::string_view text) {
    return parse_enum(protocol_versions, text);
}

parsed<sslmode> parse_sslmode(std::string_view text) {
    return parse_enum(sslmodes, text);
}
parsed<tls_negotiation> parse_tls_negotiation(std::string_view text) {
    return parse_enum(tls_negotiations, text);
}

parsed<tls_protocols> parse_tls_protocols(std::string_view text) {
    auto lower = to_lower(text);
    std::replace(lower.begin(), lower.end(), ':', ',');
    tls_protocols found{0};
    bool first = true;
    for (const auto &part : split_list(lower)) {
        const bool without = part.starts_with('!');
        const auto name = trim(std::string_view(part).substr(without ? 1 : 0));
        const auto *const known = std::find_if(tls_names.begin(), tls_names.end(),
                                               [&](const named_protocols &it) { return it.name == name; });
        if (known == tls_names.end())
            return std::string(
                "must list tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3, secure or all, each perhaps with a ! before it");
        if (without && first) found.set = tls_protocols::all;
        first = false;
        found.set = static_cast<std::uint8_t>(without ? found.set & ~known->set : found.set | known->set);
    }
    if (found.set == 0) return std::string("must leave one version at least");
    return found;
}

std::string seconds_text(base::duration time) {
    std::array<char, 32> buffer{};
    const double value = std::chrono::duration<double>(time).count();
    const int length = std::snprintf(buffer.data(), buffer.size(), "%g", value);
    return std::string(buffer.data(), static_cast<std::size_t>(length));
}

}  // namespace pgsluice::config
