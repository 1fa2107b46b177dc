// See values.hpp.
#include "config/values.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>

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

struct named_ciphers {
    std::string_view name, ciphers;
};
// What PgBouncer 1.18 offers for each, as seen on the wire; for the first four it has lists of its own making, and
// since 1.21 what OpenSSL does by itself.
constexpr std::array cipher_names{
    named_ciphers{"default", ""},
    named_ciphers{"secure", ""},
    named_ciphers{"normal", ""},
    named_ciphers{"fast", ""},
    named_ciphers{"compat", "HIGH:!aNULL"},
    named_ciphers{"legacy", "HIGH:!aNULL"},
    named_ciphers{"insecure", "ALL:!aNULL:!eNULL"},
    named_ciphers{"all", "ALL:!aNULL:!eNULL"},
};
const named_ciphers *find_ciphers(const std::string &written) {
    const auto lower = to_lower(written);
    const auto *const found = std::find_if(cipher_names.begin(), cipher_names.end(),
                                           [&](const named_ciphers &it) { return it.name == lower; });
    return found == cipher_names.end() ? nullptr : found;
}

}  // namespace

std::string openssl_ciphers(const std::string &written) {
    const auto *const found = find_ciphers(written);
    return found != nullptr ? std::string(found->ciphers) : written;
}

bool asks_for_weak_ciphers(const std::string &written) {
    const auto *const found = find_ciphers(written);
    return found != nullptr && !found->ciphers.empty();
}

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

parsed<bool> parse_boolean(std::string_view text) {
    const auto value = parse_integer(text, 0, int_max);
    if (value.has_error()) return std::string("must be 0 or 1");
    return *value != 0;
}

namespace {

struct unit {
    std::string_view name;
    std::int64_t factor;
};
// As PostgreSQL spells them, upper and lower case included; in microseconds and in bytes.
constexpr std::array units_of_time{unit{"us", 1},           unit{"ms", 1'000},        unit{"s", 1'000'000},
                                   unit{"min", 60'000'000}, unit{"h", 3'600'000'000}, unit{"d", 86'400'000'000}};
constexpr std::array units_of_size{unit{"B", 1}, unit{"kB", 1 << 10}, unit{"MB", 1 << 20}, unit{"GB", 1 << 30}};

template <std::size_t n>
std::optional<std::int64_t> factor_of(const std::array<unit, n> &units, std::string_view name) {
    const auto found = std::find_if(units.begin(), units.end(), [&](const unit &it) { return it.name == name; });
    return found == units.end() ? std::nullopt : std::optional(found->factor);
}

}  // namespace

parsed<base::duration> parse_seconds(std::string_view text) {
    // As PgBouncer, by strtod: a + before it and hexadecimal digits are taken. Not the space that it would skip.
    const std::string number(text);
    char *end = nullptr;
    const double value = std::strtod(number.c_str(), &end);
    const auto taken = static_cast<std::size_t>(end - number.c_str());
    const auto name = text.substr(taken);
    const auto factor = name.empty() ? 1'000'000 : factor_of(units_of_time, name);
    if (taken == 0 || is_space(text.front()) || !factor || std::isnan(value))
        return std::string("must be a number of seconds, or a number with us, ms, s, min, h or d behind it");
    const double micros = value * static_cast<double>(*factor);
    if (micros < 0 || micros > static_cast<double>(int_max) * 1e6)
        return "must be from 0 to " + std::to_string(int_max) + " seconds";
    return base::duration(std::llround(micros));
}

parsed<std::int64_t> parse_quantity(std::string_view text, std::string_view unit_of_value, std::int64_t min,
                                    std::int64_t max) {
    const auto begin = text.find_last_of("0123456789") + 1;  // of what stands behind the number
    const auto name = text.substr(std::min(begin, text.size()));
    const bool size = unit_of_value == "bytes";
    const std::int64_t own = size ? 1 : unit_of_value == "milliseconds" ? 1'000 : 1'000'000;
    if (name.empty() || text.find_first_of("xX") != std::string_view::npos ||
        (!size && unit_of_value != "seconds" && unit_of_value != "milliseconds"))
        return parse_integer(text, min, max);
    const auto factor = size ? factor_of(units_of_size, name) : factor_of(units_of_time, name);
    const auto number = parse_integer(text.substr(0, begin), 0, int_max);
    if (!factor || number.has_error()) {
        return std::string("must be a whole number, or one with ") + (size ? "B, kB, MB or GB" : "ms, s, min, h or d") +
               " behind it";
    }
    std::int64_t value = 0;
    const bool fits = !__builtin_mul_overflow(*number, *factor, &value);
    if (fits && value % own != 0) return "must be a whole number of " + std::string(unit_of_value);
    if (!fits || value / own < min || value / own > max)
        return "must be from " + std::to_string(min) + " to " + std::to_string(max) + " " + std::string(unit_of_value);
    return value / own;
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
