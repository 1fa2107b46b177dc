// Reading of options and URLs, and the escapes. See ldap_options.hpp.
#include "auth/ldap_options.hpp"

#include <algorithm>
#include <array>

namespace pgsluice::auth {

namespace {

using fault = std::optional<std::string>;

constexpr std::array<std::string_view, 12> names{
    "ldapserver", "ldapport",       "ldapscheme",          "ldaptls",          "ldapprefix", "ldapsuffix", "ldapbasedn",
    "ldapbinddn", "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter", "ldapurl"};
constexpr std::string_view user_here = "$username";

bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_control(char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

/// A backslash and two hex digits, which both grammars take for any byte.
void append_escaped(std::string &to, char c) {
    constexpr std::string_view digits = "0123456789abcdef";
    const auto value = static_cast<unsigned char>(c);
    to += '\\';
    to += digits[value >> 4];
    to += digits[value & 15];
}

/// Source: RFC 4512 section 1.4: a short name or a dotted number; options of it behind ';'.
bool is_attribute(std::string_view text) {
    return !text.empty() && (is_letter(text.front()) || is_digit(text.front())) &&
           std::all_of(text.begin(), text.end(),
                       [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == ';'; });
}

fault read_port(std::string_view text, int &into) {
    int port = 0;
    const bool digits = !text.empty() && text.size() <= 5 && std::all_of(text.begin(), text.end(), is_digit);
    if (digits)
        for (const char c : text) port = port * 10 + (c - '0');
    if (port < 1 || port > 65535) return "ldapport is a number from 1 to 65535";
    into = port;
    return std::nullopt;
}

/// Names, addresses, and IPv6 addresses with or without brackets. No port: it has an option of its own.
bool is_server(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == ':' || c == '[' || c == ']';
    });
}

fault read_servers(std::string_view text, std::vector<std::string> &into) {
    into.clear();
    while (!text.empty()) {
        const auto end = std::min(text.find(' '), text.size());
        const auto name = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (name.empty()) continue;
        if (!is_server(name)) return "ldapserver lists host names or addresses, with blanks between them";
        into.emplace_back(name);
    }
    return std::nullopt;
}

fault read_scope(std::string_view text, ldap_scope &into) {
    if (text == "base")
        into = ldap_scope::base;
    else if (text == "one")
        into = ldap_scope::one;
    else if (text == "sub" || text.empty())
        into = ldap_scope::sub;
    else
        return "ldapurl: the scope is base, one or sub";
    return std::nullopt;
}

/// Source: RFC 3986 section 2.1.
std::optional<std::string> percent_decoded(std::string_view text) {
    const auto value_of = [](char c) -> int {
        if (is_digit(c)) return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        if (c >= 'A' && c <= 'F') return c - 'A' + 10;
        return -1;
    };
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%') {
            plain += text[i];
            continue;
        }
        if (i + 2 >= text.size()) return std::nullopt;
        const int high = value_of(text[i + 1]), low = value_of(text[i + 2]);
        if (high < 0 || low < 0) return std::nullopt;
        plain += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return plain;
}

/// ldap[s]://host[:port]/basedn[?[attribute][?[scope][?[filter]]]]
fault read_url(std::string_view text, ldap_options &into) {
    const auto scheme = text.substr(0, text.find("://"));
    if (scheme != "ldap" && scheme != "ldaps") return "ldapurl begins with ldap:// or ldaps://";
    into.ldaps = scheme == "ldaps";
    text.remove_prefix(scheme.size() + 3);
    const auto slash = std::min(text.find_first_of("/?"), text.size());
    auto place = text.substr(0, slash);
    text.remove_prefix(slash);
    const auto colon = place.rfind(':');
    const auto bracket = place.rfind(']');
    if (colon != std::string_view::npos && (bracket == std::string_view::npos || bracket < colon)) {
        if (auto failed = read_port(place.substr(colon + 1), into.port)) return "ldapurl: " + *failed;
        place = place.substr(0, colon);
    }
    if (auto failed = read_servers(place, into.servers)) return "ldapurl: the host is a name or an address";
    if (text.starts_with('/')) text.remove_prefix(1);
    if (text.empty()) return std::nullopt;
    std::array<std::string, 4> parts;  // base, attribute, scope, filter
    for (auto &part : parts) {
        const auto end = std::min(text.find('?'), text.size());
        auto plain = percent_decoded(text.substr(0, end));
        if (!plain) return "ldapurl: behind % stand two hex digits";
        part = std::move(*plain);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    if (!text.empty()) return "ldapurl ends with the filter: extensions are not in this version";
    into.base_dn = parts[0];
    if (!parts[1].empty()) into.search_attribute = parts[1];
    if (!parts[3].empty()) into.search_filter = parts[3];
    return read_scope(parts[2], into.scope);
}

fault read_flag(std::string_view value, const char *wrong, bool &into, std::string_view off, std::string_view on) {
    if (value != off && value != on) return wrong;
    into = value == on;
    return std::nullopt;
}

fault take(const std::string &name, const std::string &value, ldap_options &into) {
    if (name == "ldapserver") return read_servers(value, into.servers);
    if (name == "ldapport") return read_port(value, into.port);
    if (name == "ldapscheme") return read_flag(value, "ldapscheme is ldap or ldaps", into.ldaps, "ldap", "ldaps");
    if (name == "ldaptls") return read_flag(value, "ldaptls is 0 or 1", into.start_tls, "0", "1");
    if (name == "ldapurl") return read_url(value, into);
    if (name == "ldapbasedn") into.base_dn = value;
    if (name == "ldapbinddn") into.bind_dn = value;
    if (name == "ldapbindpasswd") into.bind_password = base::secret(std::string_view(value));
    if (name == "ldapprefix") into.prefix = value;
    if (name == "ldapsuffix") into.suffix = value;
    if (name == "ldapsearchattribute") into.search_attribute = value;
    if (name == "ldapsearchfilter") into.search_filter = value;
    return std::nullopt;
}

/// What only the whole can answer. A search and a simple bind do not go together; half of one is neither.
fault check(const ldap_options &it) {
    const bool simple = !it.prefix.empty() || !it.suffix.empty();
    const bool search = it.base_dn || !it.bind_dn.empty() || !it.bind_password.empty() ||
                        !it.search_attribute.empty() || !it.search_filter.empty();
    if (it.servers.empty()) return "method ldap needs ldapserver or ldapurl";
    if (simple && search) return "ldapprefix and ldapsuffix do not go with a search (ldapbasedn ...)";
    if (!simple && !it.base_dn) return "method ldap needs ldapbasedn, ldapprefix or ldapsuffix";
    if (!it.search_attribute.empty() && !it.search_filter.empty())
        return "ldapsearchattribute does not go with ldapsearchfilter";
    if (!it.search_attribute.empty() && !is_attribute(it.search_attribute))
        return "ldapsearchattribute is the name of one attribute";
    if (!it.search_filter.empty() && it.search_filter.find(user_here) == std::string::npos)
        return "ldapsearchfilter has no $username: it would find the same entry for everybody";
    // A password without a name would bind as nobody, and seem to be of use.
    if (it.bind_dn.empty() != it.bind_password.empty()) return "ldapbinddn and ldapbindpasswd go together";
    if (it.ldaps && it.start_tls) return "ldaptls = 1 is TLS within ldap://, and does not go with ldaps";
    return std::nullopt;
}

}  // namespace

std::string ldap_options::uris() const {
    std::string all;
    for (const auto &server : servers) {
        const bool bare_v6 = server.find(':') != std::string::npos && !server.starts_with('[');
        if (!all.empty()) all += ' ';
        all += ldaps ? "ldaps://" : "ldap://";
        all += bare_v6 ? "[" + server + "]" : server;
        all += ':' + std::to_string(port != 0 ? port : ldaps ? 636 : 389);
    }
    return all;
}

std::optional<std::string> ldap_options::name_to_bind(std::string_view user) const {
    const bool is_dn = prefix.find('=') != std::string::npos;
    if (is_dn) return prefix + escaped_for_dn(user) + suffix;
    // What no account name of a domain may have.
    constexpr std::string_view never = "\"/\\[]:;|=,+*?<>@";
    const auto is_bad = [&](char c) { return is_control(c) || never.find(c) != std::string_view::npos; };
    if (std::any_of(user.begin(), user.end(), is_bad)) return std::nullopt;
    return prefix + std::string(user) + suffix;
}

std::string ldap_options::filter_for(std::string_view user) const {
    const auto name = escaped_for_filter(user);
    if (search_filter.empty()) return "(" + (search_attribute.empty() ? "uid" : search_attribute) + "=" + name + ")";
    std::string filter;
    std::string_view rest = search_filter;
    for (auto at = rest.find(user_here); at != std::string_view::npos; at = rest.find(user_here)) {
        filter.append(rest.substr(0, at)).append(name);
        rest.remove_prefix(at + user_here.size());
    }
    return filter.append(rest);
}

bool is_ldap_option(std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

std::optional<std::string> split_options(const rule_field &field, named_values &into) {
    bool goes_on = false;  // the pair before this word is of the same field, and of LDAP
    for (const auto &word : field) {
        const auto equals = std::min(word.text.find('='), word.text.size());
        auto name = word.text.substr(0, equals);
        const bool begins = is_ldap_option(name) || name == "clientcert" || name == "clientname" || name == "map";
        if (goes_on && !begins) {
            into.back().second.append(",").append(word.text);
            continue;
        }
        if (equals == 0 || equals == word.text.size()) {
            // A password may have come apart at a comma or blank: what is not an option's name is not shown.
            return "behind the method stand options as name=value; a value with blanks or # in it needs quotes";
        }
        goes_on = is_ldap_option(name);
        into.emplace_back(std::move(name), word.text.substr(equals + 1));
    }
    return std::nullopt;
}

std::optional<std::string> read_ldap_options(const named_values &values, ldap_options &into) {
    ldap_options fresh;
    for (const auto &[name, value] : values) {
        if (!is_ldap_option(name))
            return "unknown option: there are ldapserver, ldapurl and others that begin with ldap";
        if (auto failed = take(name, value, fresh)) return failed;
    }
    if (auto failed = check(fresh)) return failed;
    into = std::move(fresh);
    return std::nullopt;
}

std::optional<std::string> parse_ldap_options(std::string_view text, ldap_options &into) {
    // Something ahead of it, as in a line of rules: it is not to begin with the word include.
    const auto line = read_rule_file("ldap", [&](const std::string &path) {
        using result = boost::system::result<std::string, std::string>;
        if (path != "ldap") return result(boost::system::in_place_error, "there are no files in here");
        return result(boost::system::in_place_value, "ldap " + std::string(text));
    });
    if (!line.problems.empty()) return line.problems.front().text;
    if (line.lines.size() != 1) return "must be options as name=value, in one line";
    named_values values;
    const auto &fields = line.lines.front().fields;
    for (std::size_t i = 1; i < fields.size(); ++i)
        if (auto failed = split_options(fields[i], values)) return failed;
    return read_ldap_options(values, into);
}

std::string without_password(std::string_view text) {
    return text.find("ldapbindpasswd") == std::string_view::npos ? std::string(text) : "****";
}

std::string escaped_for_filter(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        if (c == '*' || c == '(' || c == ')' || c == '\\' || is_control(c))
            append_escaped(escaped, c);
        else
            escaped += c;
    }
    return escaped;
}

std::string escaped_for_dn(std::string_view text) {
    constexpr std::string_view special = "\"+,;<>\\=/";
    std::string escaped;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const bool at_an_end = i == 0 || i + 1 == text.size();
        const bool blank = (c == ' ' && at_an_end) || (c == '#' && i == 0);
        if (blank || is_control(c) || special.find(c) != std::string_view::npos)
            append_escaped(escaped, c);
        else
            escaped += c;
    }
    return escaped;
}

}  // namespace pgsluice::auth
