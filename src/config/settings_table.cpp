// What can be done with a row of the table; the rows are in settings_rows.cpp.
#include "config/settings_table.hpp"

#include <algorithm>

#include "config/entries.hpp"
#include "config/text.hpp"
#include "config/values.hpp"

namespace pgsluice::config {
namespace {

/// The unit of a time that is an int in PgBouncer.
constexpr std::string_view whole_seconds = "seconds";

template <class T>
std::optional<std::string> store(const parsed<T> &value, T &into) {
    if (value.has_error()) return value.error();
    into = *value;
    return std::nullopt;
}

template <class Int>
std::optional<std::string> store_integer(const setting &row, std::string_view text, Int &into) {
    const auto value = parse_quantity(text, row.unit, row.min, row.max);
    if (value.has_error()) return value.error();
    into = static_cast<Int>(*value);
    return std::nullopt;
}

/// One overload a type: text into a member.
struct reader {
    const setting &row;
    std::string_view text;

    std::optional<std::string> operator()(bool &to) const { return store(parse_boolean(text), to); }
    std::optional<std::string> operator()(int &to) const { return store_integer(row, text, to); }
    std::optional<std::string> operator()(std::uint32_t &to) const { return store_integer(row, text, to); }
    std::optional<std::string> operator()(base::duration &to) const {
        // PgBouncer's int: 010 is 8.
        const auto whole = row.unit == whole_seconds ? parse_integer(text, 0, int_max) : std::string();
        if (whole.has_error()) return store(parse_seconds(text), to);
        to = base::seconds(*whole);
        return std::nullopt;
    }
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
    const setting &row;

    std::string operator()(bool value) const { return value ? "1" : "0"; }
    std::string operator()(int value) const { return std::to_string(value); }
    std::string operator()(std::uint32_t value) const { return std::to_string(value); }
    std::string operator()(base::duration value) const {
        const auto whole = std::chrono::duration_cast<base::seconds>(value);
        return row.unit == whole_seconds && whole == value ? std::to_string(whole.count()) : seconds_text(value);
    }
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
    std::string operator()(base::duration global_settings::*) const { return row.unit.empty() ? "seconds" : ""; }
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
        if (row.default_text.size() > 1 && row.default_text.front() == '0') return "0 to 07777";
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

std::optional<std::string> assign(const setting &row, std::string_view text, global_settings &into) {
    return std::visit([&](auto member) { return reader{row, text}(into.*member); }, row.member);
}

std::string value_text(const setting &row, const global_settings &values) {
    if (row.name == "auth_ldap_options") return auth::without_password(values.auth_ldap_options);
    return std::visit([&](auto member) { return writer{row}(values.*member); }, row.member);
}

std::string shown_text(const setting &row, const settings &all) {
    auto meant = value_text(row, all.global);
    const auto found = all.set_at.find(row.name);
    if (found == all.set_at.end()) return meant;
    const auto &written = found->second.written;
    const bool list = std::holds_alternative<std::vector<std::string> global_settings::*>(row.member) ||
                      std::holds_alternative<tls_protocols global_settings::*>(row.member);
    if (list) return written;
    if (!std::holds_alternative<bool global_settings::*>(row.member)) return meant;
    const auto number = parse_integer(written, 0, int_max);
    return number.has_error() ? meant : std::to_string(*number);
}

std::string type_text(const setting &row) {
    const auto type = std::visit(type_namer{row}, row.member);
    if (type.empty() || row.unit.empty()) return type + std::string(row.unit);
    return type + " " + std::string(row.unit);
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

namespace {

/// What is different in one entry: "pool_size = 5 (was 3)", with commas between.
template <class Option, class Entry>
std::string differences(std::span<const Option> options, const Entry &before, const Entry &now) {
    std::string all;
    for (const auto &option : options) {
        if (same_option(option, before, now) || option.name == "reserve_pool") continue;  // an old name
        const auto said = [](const std::string &value) { return value.empty() ? std::string("none") : value; };
        all += (all.empty() ? "" : ", ") + std::string(option.name);
        if (option.name == "password") continue;
        all += " = " + said(option_text(option, now)) + " (was " + said(option_text(option, before)) + ")";
    }
    return all;
}

template <class Option, class Entries>
void compare(const char *what, std::span<const Option> options, const Entries &before, const Entries &now,
             std::vector<std::string> &lines) {
    const auto named = [&](const char *how, const std::string &name) {
        return std::string(how) + ": " + what + " " + name;
    };
    for (const auto &[name, entry] : before)
        if (!now.contains(name)) lines.push_back(named("removed", name));
    for (const auto &[name, entry] : now) {
        const auto old = before.find(name);
        if (old == before.end()) {
            lines.push_back(named("added", name));
        } else if (const auto different = differences(options, old->second, entry); !different.empty()) {
            lines.push_back(named("changed", name) + ": " + different);
        }
    }
}

std::map<std::string, database, std::less<>> with_wildcard(const settings &all) {
    auto entries = all.databases;
    if (all.wildcard) entries.emplace("*", *all.wildcard);
    return entries;
}

/// Of auth_file, without names: there may be very many.
void compare_users(const auth::userlist &before, const auth::userlist &now, std::vector<std::string> &lines) {
    std::size_t added = 0, changed = 0, kept = 0;
    for (const auto &[name, it] : now) {
        const auto old = before.find(name);
        kept += old == before.end() ? 0 : 1;
        added += old == before.end() ? 1 : 0;
        changed += old != before.end() && !old->second.text.equals(it.text) ? 1 : 0;
    }
    const auto removed = before.size() - kept;
    if (added + changed + removed == 0) return;
    lines.push_back("changed: users of auth_file: " + std::to_string(added) + " added, " + std::to_string(removed) +
                    " removed, " + std::to_string(changed) + " with another secret");
}

}  // namespace

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
    compare("database", database_options(), with_wildcard(before), with_wildcard(now), lines);
    compare("user", user_options(), before.users, now.users, lines);
    compare_users(before.credentials, now.credentials, lines);
    for (const auto &[id, peer] : before.peers)
        if (!now.peers.contains(id)) lines.push_back("removed: peer " + std::to_string(id));
    for (const auto &[id, peer] : now.peers) {
        const auto old = before.peers.find(id);
        if (old == before.peers.end()) lines.push_back("added: peer " + std::to_string(id));
        if (old != before.peers.end() && !(old->second == peer)) lines.push_back("changed: peer " + std::to_string(id));
    }
    return lines;
}

settings keep_unchangeable(const settings &running, settings fresh) {
    for (const auto &row : settings_table()) {
        if (row.reloadable || same_value(row, running.global, fresh.global)) continue;
        copy_value(row, running.global, fresh.global);
        // What runs was written there, or nowhere.
        const std::string name(row.name);
        fresh.set_at.erase(name);
        if (const auto found = running.set_at.find(name); found != running.set_at.end()) fresh.set_at.insert(*found);
    }
    return fresh;
}

settings keep_tls(const settings &running, settings fresh) {
    for (const auto &row : settings_table())
        if (row.name.starts_with("client_tls") || row.name.starts_with("server_tls"))
            copy_value(row, running.global, fresh.global);
    return fresh;
}

}  // namespace pgsluice::config
