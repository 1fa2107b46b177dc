// Tracked parameters: which differ between two sessions, and the SQL that ends the difference.
#include "core/parameters.hpp"

#include <strings.h>

#include <algorithm>

namespace pgsluice::core {

namespace {

bool equal_nocase(std::string_view a, std::string_view b) {
    return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

bool plain_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

/// 'text', for a session whose standard_conforming_strings is on, where only the quote needs doubling. No encoding
/// that PostgreSQL accepts from clients has 0x27 as a trailing byte, so doubling by byte is safe in all of them.
void append_quoted(std::string &sql, std::string_view text, char quote) {
    sql += quote;
    for (const char c : text) sql.append(c == quote ? 2 : 1, c);
    sql += quote;
}

/// SET takes a quoted list of identifiers for one identifier; for these set_config() reads the text as it stands.
bool is_identifier_list(std::string_view name) {
    return equal_nocase(name, "search_path") || equal_nocase(name, "temp_tablespaces");
}

void append_set(std::string &sql, std::string_view name, std::string_view value) {
    if (is_identifier_list(name)) {
        sql += "SELECT pg_catalog.set_config(";
        append_quoted(sql, name, '\'');
        sql += ',';
        append_quoted(sql, value, '\'');
        sql += ",false);";
        return;
    }
    sql += "SET ";
    append_quoted(sql, name, '"');
    sql += '=';
    append_quoted(sql, value, '\'');
    sql += ';';
}

}  // namespace

tracked_names::tracked_names(const std::vector<std::string> &extra)
    : names_{"DateStyle", "client_encoding", "TimeZone", "standard_conforming_strings", "application_name"} {
    for (const auto &name : extra) {
        if (find(name) == none && names_.size() < limit) names_.push_back(name);
    }
}

int tracked_names::find(std::string_view name) const {
    const auto it =
        std::find_if(names_.begin(), names_.end(), [&](const std::string &own) { return equal_nocase(own, name); });
    return it == names_.end() ? none : static_cast<int>(it - names_.begin());
}

bool same_meaning(const parameter_set &a, const parameter_set &b) {
    if (&a == &b) return true;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (i == tracked_names::application_name) continue;
        if (a.known(i) != b.known(i) || (a.known(i) && a.value(i) != b.value(i))) return false;
    }
    return true;
}

parameter_change change_parameters(const tracked_names &names, const parameter_set &server,
                                   const parameter_set &client) {
    parameter_change change;
    constexpr auto encoding = static_cast<std::size_t>(tracked_names::client_encoding);
    constexpr auto strings = static_cast<std::size_t>(tracked_names::standard_conforming_strings);
    const auto both = [&](std::size_t i) { return server.known(i) && client.known(i); };
    const bool new_encoding = both(encoding) && !equal_nocase(server.value(encoding), client.value(encoding));

    std::string rest;
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (i == encoding || i == strings || !both(i)) continue;
        // The same bytes under another encoding are another value.
        const bool recoded = new_encoding && !plain_ascii(client.value(i));
        // Only application_name and its like tell case apart in what they show; compare bytes, and pay a SET at most
        // once: afterwards both sides hold the server's own form.
        if (server.value(i) == client.value(i) && !recoded) continue;
        append_set(rest, names[i], client.value(i));
        change.changed |= std::uint64_t{1} << i;
        change.confirmed = change.confirmed && client.confirmed(i);
    }
    const bool server_conforms = !server.known(strings) || server.value(strings) == "on";
    const bool client_conforms = !client.known(strings) || equal_nocase(client.value(strings), "on");
    const bool new_strings = both(strings) && server_conforms != client_conforms;

    const auto set_alone = [&](std::size_t i, std::string_view value) {
        append_set(change.queries.emplace_back(), names[i], value);
    };
    // A query is read as a whole before any of it runs: what changes how text is read goes ahead in queries of its own.
    if ((!rest.empty() || new_encoding) && !server_conforms) set_alone(strings, "on");
    if (new_encoding) {
        set_alone(encoding, client.value(encoding));
        change.changed |= std::uint64_t{1} << encoding;
        change.confirmed = change.confirmed && client.confirmed(encoding);
    }
    // Last, since what comes before it is quoted for "on". A server that was off and shall stay off is put back.
    if (new_strings || (!change.queries.empty() && !server_conforms && !client_conforms)) {
        append_set(rest, names[strings], client.known(strings) ? client.value(strings) : server.value(strings));
        change.changed |= std::uint64_t{1} << strings;
        change.confirmed = change.confirmed && (client.confirmed(strings) || !client.known(strings));
    }
    if (!rest.empty()) change.queries.push_back(std::move(rest));
    return change;
}

}  // namespace pgsluice::core
