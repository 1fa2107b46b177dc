// What can be done with a row of the table; the rows are in settings_rows.cpp.
#include "config/settings_table.hpp"

#include <algorithm>

#include "config/text.hpp"
#include "config/values.hpp"

namespace pgsluice::config {
namespace {

template <class T>
std::optional<std::string> store(const parsed<T> &value, T &into) {
    if (value.has_error()) return value.error();
    into = *value;
    return std::nullopt;
}

template <class Int>
std::optional<std::string> store_integer(const setting &row, std::string_view text, Int &into) {
    const auto value = parse_integer(text, row.min, row.max);
    if (value.has_error()) return value.error();
    into = static_cast<Int>(*value);
    return std::nullopt;
}

/// One overload a type: text into a member.
struct reader {
    const setting &row;
    std::string_view text;

    std::optional<std::string> operator()(bool &to) const { return store(parse_boolean(text, row.max), to); }
    std::optional<std::string> operator()(int &to) const { return store_integer(row, text, to); }
    std::optional<std::string> operator()(std::uint32_t &to) const { return store_integer(row, text, to); }
    std::optional<std::string> operator()(base::duration &to) const { return store(parse_seconds(text), to); }
    std::optional<std::string> operator()(pool_mode &to) const { return store(parse_pool_mode(text), to); }
    std::optional<std::string> operator()(auth_type &to) const { return store(parse_auth_type(text), to); }
    std::optional<std::string> operator()(disconnect_action &to) const {
        return store(parse_disconnect_action(text), to);
    }
    std::optional<std::string> operator()(error_codes &to) const { return store(parse_error_codes(text), to); }
    std::optional<std::string> operator()(protocol_version &to) const {
        return store(parse_protocol_version(text), to);
    }
    std::optional<std::string> operator()(sslmode &to) const { return store(parse_sslmode(text), to); }
    std::optional<std::string> operator()(tls_negotiation &to) const { return store(parse_tls_negotiation(text), to); }
    std::optional<std::string> operator()(tls_protocols &to) const { return store(parse_tls_protocols(text), to); }
    std::optional<std::string> operator()(std::string &to) const {
        to = text;
        return std::nullopt;
    }
    std::optional<std::string> operator()(std::vector<std::string> &to) const {
        to = split_list(text);
        std::erase(to, "");
        return std::nullopt;
    }
};

/// One overload a type: a member as text.
struct writer {
    std::string operator()(bool value) const { return value ? "1" : "0"; }
    std::string operator()(int value) const { return std::to_string(value); }
    std::string operator()(std::uint32_t value) const { return std::to_string(value); }
    std::string operator()(base::duration value) const { return seconds_text(value); }
    std::string operator()(pool_mode value) const { return to_string(value); }
    std::string operator()(auth_type value) const { return to_string(value); }
    std::string operator()(disconnect_action value) const { return to_string(value); }
    std::string operator()(error_codes value) const { return to_string(value); }
    std::string operator()(protocol_version value) const { return to_string(value); }
    std::string operator()(sslmode value) const { return to_string(value); }
    std::string operator()(tls_negotiation value) const { return to_string(value); }
    std::string operator()(tls_protocols value) const { return to_string(value); }
    std::string operator()(const std::string &value) const { return value; }
    std::string operator()(const std::vector<std::string> &value) const {
        std::string list;
        for (const auto &part : value) list += (list.empty() ? "" : ", ") + part;
        return list;
    }
};

/// One overload a type: what the reference calls it.
struct type_namer {
    const setting &row;

    std::string operator()(bool global_settings::*) const { return "0 or 1"; }
    std::string operator()(base::duration global_settings::*) const { return "seconds"; }
    std::string operator()(std::string global_settings::*) const { return "text"; }
    std::string operator()(std::vector<std::string> global_settings::*) const { return "comma list"; }
    std::string operator()(pool_mode global_settings::*) const { return "session, transaction, statement"; }
    std::string operator()(auth_type global_settings::*) const {
        return "any, trust, plain, md5, scram-sha-256, cert, hba, pam, ldap";
    }
    std::string operator()(disconnect_action global_settings::*) const { return "cancel, close"; }
    std::string operator()(error_codes global_settings::*) const { return "standard, pgbouncer"; }
    std::string operator()(protocol_version global_settings::*) const { return "3.0, 3.2"; }
    std::string operator()(sslmode global_settings::*) const {
        return "disable, allow, prefer, require, verify-ca, verify-full";
    }
    std::string operator()(tls_negotiation global_settings::*) const { return "postgres, direct"; }
    std::string operator()(tls_protocols global_settings::*) const {
        return "comma list of tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3, secure, all";
    }
    std::string operator()(int global_settings::*) const { return range(); }
    std::string operator()(std::uint32_t global_settings::*) const { return range(); }

    std::string range() const {
        // Permissions are written in octal, as their default is.
        if (row.default_text.size() > 1 && row.default_text.front() == '0')
            return "0 to " + std::string(row.default_text);
        const auto low = std::to_string(row.min);
        return row.max == int_max ? low + " or more" : low + " to " + std::to_string(row.max);
    }
};

}  // namespace

const char *to_string(setting_group group) {
    switch (group) {
        case setting_group::process:
            return "Listening and the process";
        case setting_group::pools:
            return "Pools";
        case setting_group::authentication:
            return "Authentication";
        case setting_group::console:
            return "Admin console";
        case setting_group::logging:
            return "Logging";
        case setting_group::servers:
            return "Server connections";
        case setting_group::clients:
            return "Clients";
        case setting_group::tls:
            return "TLS";
        case setting_group::network:
            return "Network";
    }
    return "?";
}

const setting *find_setting(std::string_view name) {
    const auto rows = settings_table();
    const auto found = std::find_if(rows.begin(), rows.end(),
                                    [lower = to_lower(name)](const setting &row) { return row.name == lower; });
    return found == rows.end() ? nullptr : &*found;
}

const known_setting *find_known_setting(std::string_view name) {
    const auto rows = known_settings();
    const auto found = std::find_if(rows.begin(), rows.end(),
                                    [lower = to_lower(name)](const known_setting &row) { return row.name == lower; });
    return found == rows.end() ? nullptr : &*found;
}

std::optional<std::string> assign(const setting &row, std::string_view text, global_settings &into) {
    return std::visit([&](auto member) { return reader{row, text}(into.*member); }, row.member);
}

std::string value_text(const setting &row, const global_settings &values) {
    if (row.name == "auth_ldap_options") return auth::without_password(values.auth_ldap_options);
    return std::visit([&](auto member) { return writer{}(values.*member); }, row.member);
}

std::string type_text(const setting &row) {
    const auto type = std::visit(type_namer{row}, row.member);
    return row.unit.empty() ? type : type + " " + std::string(row.unit);
}

bool same_value(const setting &row, const global_settings &a, const global_settings &b) {
    return std::visit([&](auto member) { return a.*member == b.*member; }, row.member);
}

void copy_value(const setting &row, const global_settings &from, global_settings &to) {
    std::visit([&](auto member) { to.*member = from.*member; }, row.member);
}

std::vector<std::string> restart_needed(const settings &running, const settings &fresh) {
    std::vector<std::string> names;
    for (const auto &row : settings_table())
        if (!row.reloadable && !same_value(row, running.global, fresh.global)) names.emplace_back(row.name);
    return names;
}

std::vector<std::string> changes(const settings &before, const settings &now) {
    std::vector<std::string> lines;
    for (const auto &row : settings_table()) {
        if (same_value(row, before.global, now.global)) continue;
        const std::string name(row.name);
        lines.push_back(name == "auth_ldap_options"  // may hold a password
                            ? "changed: " + name
                            : "changed: " + name + " = " + value_text(row, now.global) + " (was " +
                                  value_text(row, before.global) + ")");
    }
    for (const auto &[name, entry] : before.databases)
        if (!now.databases.contains(name)) lines.push_back("removed: database " + name);
    for (const auto &[name, entry] : now.databases)
        if (!before.databases.contains(name)) lines.push_back("added: database " + name);
    return lines;
}

settings keep_unchangeable(const settings &running, settings fresh) {
    for (const auto &row : settings_table())
        if (!row.reloadable) copy_value(row, running.global, fresh.global);
    fresh.global.quiet = running.global.quiet;  // from the command line, which no reload can change
    return fresh;
}

}  // namespace pgsluice::config
