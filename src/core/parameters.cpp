// Sets of parameters, which differ between two sessions, and the SQL that ends the difference.
#include "core/parameters.hpp"

#include <algorithm>
#include <array>

#include "base/seeded_bug.hpp"

namespace pgsluice::core {

using base::equal_nocase;
using base::is_among;

namespace {

// ---- records ----

constexpr unsigned char reported_bit = 1, confirmed_bit = 2;

/// Seven bits a byte, the lowest first; the eighth says that more follow.
void append_size(std::string &record, std::size_t size) {
    for (; size >= 0x80; size >>= 7) record += static_cast<char>(0x80 | (size & 0x7f));
    record += static_cast<char>(size);
}

std::size_t take_size(const char *&at) {
    std::size_t size = 0;
    for (unsigned shift = 0;; shift += 7) {
        const auto byte = static_cast<unsigned char>(*at++);
        size |= static_cast<std::size_t>(byte & 0x7f) << shift;
        if (byte < 0x80) return size;
    }
}

std::string record_of(const parameter &it) {
    std::string record(1, static_cast<char>((it.reported ? reported_bit : 0) | (it.confirmed ? confirmed_bit : 0)));
    append_size(record, it.name.size());
    append_size(record, it.value.size());
    return record.append(it.name).append(it.value);
}

// ---- which is which ----

constexpr std::string_view encoding_name = "client_encoding";
constexpr std::string_view strings_name = "standard_conforming_strings";
constexpr std::string_view user_name = "session_authorization";
constexpr std::string_view role_name = "role";

/// Set in a place of their own, for what they do to the others.
bool is_special(std::string_view name) {
    constexpr std::array<std::string_view, 4> names{encoding_name, strings_name, user_name, role_name};
    return is_among(names, name);
}

/// SET takes a quoted list of identifiers for one identifier; for these set_config() reads the text as it stands.
bool is_identifier_list(std::string_view name) {
    constexpr std::array<std::string_view, 4> names{"search_path", "temp_tablespaces", "local_preload_libraries",
                                                    "session_preload_libraries"};
    return is_among(names, name);
}

/// Gone with the transaction that set them, and some not to be reset: nothing is left to be put back.
bool leaves_no_trace(std::string_view name) {
    constexpr std::array<std::string_view, 4> names{"transaction_isolation", "transaction_read_only",
                                                    "transaction_deferrable", "seed"};
    return is_among(names, name);
}

/// Those that a server holds for a client may strike what we do for the next one.
bool is_timeout(std::string_view name) {
    constexpr std::array<std::string_view, 2> names{"statement_timeout", "transaction_timeout"};
    return is_among(names, name);
}

bool plain_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

/// No server refuses it, so nobody has to wait to see.
bool never_refused(const parameter &it) {
    return equal_nocase(it.name, "application_name") && plain_ascii(it.value);
}

/// A value that a server has accepted once stays good whatever becomes of its catalogs and of the user's rights.
/// Others may be refused later (a text search configuration that was dropped), and what was sent behind them would run
/// without them.
bool stays_good(const parameter &it) {
    constexpr std::array<std::string_view, 19> names{"search_path",
                                                     "extra_float_digits",
                                                     "bytea_output",
                                                     "work_mem",
                                                     "statement_timeout",
                                                     "lock_timeout",
                                                     "idle_in_transaction_session_timeout",
                                                     "client_min_messages",
                                                     "synchronous_commit",
                                                     "row_security",
                                                     "default_transaction_isolation",
                                                     "default_transaction_deferrable",
                                                     "default_transaction_read_only",
                                                     "transform_null_equals",
                                                     "array_nulls",
                                                     "geqo",
                                                     "jit",
                                                     "plan_cache_mode",
                                                     "xmloption"};
    return it.reported || it.name.find('.') != std::string_view::npos || is_among(names, it.name);
}

// ---- SQL, for a session whose standard_conforming_strings is on ----

/// PostgreSQL cuts a longer identifier off, and would set another parameter; set_config() takes any name.
constexpr std::size_t identifier_max_bytes = 63;

/// Only the quote needs doubling. No encoding that PostgreSQL accepts from clients has 0x22 or 0x27 as a trailing byte,
/// and a character that is not whole is refused with the query, so doubling by byte is safe in all of them.
void append_quoted(std::string &sql, std::string_view text, char quote) {
    sql += quote;
    const bool plain = quote == '\'' && base::seeded(base::bug::value_not_escaped);
    for (const char c : text) sql.append(c == quote && !plain ? 2 : 1, c);
    sql += quote;
}

void append_set_config(std::string &sql, std::string_view name, std::string_view value) {
    sql += "SELECT pg_catalog.set_config(";
    append_quoted(sql, name, '\'');
    sql.append(",").append(value).append(",false);");
}

void append_set(std::string &sql, std::string_view name, std::string_view value) {
    if (is_identifier_list(name) || name.size() > identifier_max_bytes) {
        std::string quoted;
        append_quoted(quoted, value, '\'');
        return append_set_config(sql, name, quoted);
    }
    sql += "SET ";
    append_quoted(sql, name, '"');
    sql += '=';
    append_quoted(sql, value, '\'');
    sql += ';';
}

/// The parameter of our own in which a session keeps the value that `name` had by itself.
std::string keeper_of(std::string_view name) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string keeper = "pgsluice.own_";
    for (const char c : name) {
        const char lower = base::to_lower(c);
        if ((lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9')) {
            keeper += lower;
        } else {
            const auto value = static_cast<unsigned char>(c);
            keeper.append(1, '_').append(1, digits[value >> 4]).append(1, digits[value & 15]);
        }
    }
    return keeper;
}

/// A sign goes ahead of the value, to tell one that is empty from none. No operators: search_path could change them.
void append_keep(std::string &sql, std::string_view name) {
    std::string value = "pg_catalog.concat('=',pg_catalog.current_setting(";
    append_quoted(value, name, '\'');
    append_set_config(sql, keeper_of(name), value + ",true))");
}

void append_put_back(std::string &sql, const session_basis &basis, std::string_view name) {
    if (leaves_no_trace(name)) return;
    if (basis.keep_values) {  // NULL, when DISCARD ALL has cleared it, stands for RESET
        return append_set_config(
            sql, name,
            "pg_catalog.\"substring\"(pg_catalog.current_setting('" + keeper_of(name) + "',true),'^=(.*)$')");
    }
    if (name.size() > identifier_max_bytes) return append_set_config(sql, name, "NULL");
    sql += "RESET ";
    append_quoted(sql, name, '"');
    sql += ';';
}

}  // namespace

// ---- the set ----

parameter parameter_set::iterator::operator*() const {
    const char *at = at_;
    const auto flags = static_cast<unsigned char>(*at++);
    const auto name_bytes = take_size(at), value_bytes = take_size(at);
    return {.name = {at, name_bytes},
            .value = {at + name_bytes, value_bytes},
            .reported = (flags & reported_bit) != 0,
            .confirmed = (flags & confirmed_bit) != 0};
}

parameter_set::iterator &parameter_set::iterator::operator++() {
    const auto it = **this;
    at_ = it.value.data() + it.value.size();
    return *this;
}

std::optional<parameter> parameter_set::find(std::string_view name) const {
    for (const auto it : *this)
        if (equal_nocase(it.name, name)) return it;
    return std::nullopt;
}

std::string_view parameter_set::value(std::string_view name) const {
    const auto found = find(name);
    return found ? found->value : std::string_view();
}

/// Puts `record` where `name` belongs, in place of what is there.
void parameter_set::replace(std::string_view name, std::string_view record) {
    auto at = begin();
    while (at != end() && base::compare_nocase((*at).name, name) < 0) ++at;
    auto behind = at;
    if (at != end() && equal_nocase((*at).name, name)) ++behind;
    const auto offset = static_cast<std::size_t>(at.at_ - bytes_.data());
    std::string fresh;
    fresh.reserve(bytes_.size() - static_cast<std::size_t>(behind.at_ - at.at_) + record.size());
    fresh.append(bytes_, 0, offset).append(record).append(behind.at_, end().at_);
    bytes_ = std::move(fresh);
}

void parameter_set::put(const parameter &it) {
    replace(it.name, record_of(it));
}

void parameter_set::append(const parameter &it) {
    bytes_ += record_of(it);
}

parameter_set parameter_set::with(std::span<const parameter> changes) const {
    parameter_set made;
    made.bytes_.reserve(bytes_.size());
    auto at = begin();
    for (const auto &change : changes) {
        const auto from = at;
        while (at != end() && base::compare_nocase((*at).name, change.name) < 0) ++at;
        made.bytes_.append(from.at_, at.at_);
        if (at != end() && equal_nocase((*at).name, change.name)) ++at;
        made.append(change);
    }
    made.bytes_.append(at.at_, end().at_);
    return made;
}

void parameter_set::erase(std::string_view name) {
    replace(name, {});
}

bool is_fixed(std::string_view name) {
    constexpr std::array<std::string_view, 5> names{"server_version", "server_encoding", "integer_datetimes",
                                                    "in_hot_standby", "is_superuser"};
    return is_among(names, name);
}

bool all_confirmed(const parameter_set &set) {
    for (const auto it : set)
        if (!it.confirmed) return false;
    return true;
}

bool same_meaning(const parameter_set &a, const parameter_set &b) {
    if (&a == &b || a == b) return true;
    bool same = true;
    match(a, b, [&](const parameter *in_a, const parameter *in_b) {
        if (in_a != nullptr && in_b != nullptr && in_a->value == in_b->value) return;
        same = same && equal_nocase((in_a != nullptr ? in_a : in_b)->name, "application_name");
    });
    return same;
}

// ---- the change ----

parameter_change change_parameters(const session_basis &basis, const parameter_set &server,
                                   const parameter_set &client) {
    parameter_change change;
    const auto set = [&](std::string &sql, const parameter &wanted, bool server_has) {
        const bool keep = basis.keep_values && !wanted.reported && !server_has && !leaves_no_trace(wanted.name);
        if (keep) append_keep(sql, wanted.name);
        append_set(sql, wanted.name, wanted.value);
        if (!never_refused(wanted) && !(wanted.confirmed && stays_good(wanted))) change.await = true;
    };

    const auto server_encoding = server.find(encoding_name), encoding = client.find(encoding_name);
    const bool new_encoding = server_encoding && encoding && !equal_nocase(server_encoding->value, encoding->value);
    const auto same = [&](const parameter &there, const parameter &wanted) {
        // The same bytes under another encoding are another value.
        return there.value == wanted.value && there.confirmed && !(new_encoding && !plain_ascii(wanted.value));
    };

    std::string rest;
    match(server, client, [&](const parameter *there, const parameter *wanted) {
        if (is_special((there != nullptr ? there : wanted)->name)) return;
        if (wanted == nullptr) {
            // Another client's wish, or one that this client never heard of: as the server has it by itself.
            const bool changed = !there->reported || there->value != basis.values.value(there->name);
            if (changed && !is_fixed(there->name)) {
                append_put_back(rest, basis, there->name);
                if (!stays_good(*there)) change.await = true;
            }
        } else if (there == nullptr) {
            if (!wanted->reported) set(rest, *wanted, false);
        } else if (is_fixed(wanted->name) && wanted->confirmed) {
            return;
        } else if (!same(*there, *wanted)) {
            // Compared by bytes: a value that is spelled in another way is set once; then both have the server's form.
            set(rest, *wanted, true);
        }
    });

    // Who the session is: what comes before must not depend on it, so it is taken back first and set last.
    const auto server_role = server.find(role_name), role = client.find(role_name);
    const auto own_user = basis.values.value(user_name);
    const auto server_user = server.find(user_name), user = client.find(user_name);
    const bool other_user = server_user && server_user->value != own_user;
    const bool wants_user = user && user->value != own_user;
    const bool new_identity = (role ? !server_role || !same(*server_role, *role) : server_role.has_value()) ||
                              (server_user && user && !same(*server_user, *user));
    if (new_identity || ((other_user || server_role) && !rest.empty())) {
        std::string before;
        if (other_user) append_set(before, user_name, own_user);
        if (server_role) append_put_back(before, basis, role_name);
        rest.insert(0, before);
        if (wants_user) set(rest, *user, true);
        if (role) set(rest, *role, server_role.has_value());
        change.await = true;
    }

    const auto server_strings = server.find(strings_name), strings = client.find(strings_name);
    const bool server_conforms = !server_strings || server_strings->value == "on";
    const bool client_conforms = !strings || equal_nocase(strings->value, "on");
    const bool new_strings = server_strings && strings && server_conforms != client_conforms;
    // A query is read as a whole before any of it runs: what changes how text is read goes ahead in queries of its own.
    if ((!rest.empty() || new_encoding) && !server_conforms)
        append_set(change.queries.emplace_back(), strings_name, "on");
    if (new_encoding) set(change.queries.emplace_back(), *encoding, true);
    // Last, since what comes before it is quoted for "on". A server that was off and shall stay off is put back.
    if (new_strings || (!change.queries.empty() && !server_conforms && !client_conforms))
        set(rest, strings ? *strings : *server_strings, true);
    if (!rest.empty()) change.queries.push_back(std::move(rest));

    if (change.queries.empty()) return change;
    for (const auto it : server)
        if (!it.reported && is_timeout(it.name)) change.await = true;
    return change;
}

}  // namespace pgsluice::core
