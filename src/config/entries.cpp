// See entries.hpp.
#include "config/entries.hpp"

#include <algorithm>
#include <array>

#include "config/connection_string.hpp"
#include "config/settings_table.hpp"
#include "config/text.hpp"

namespace pgsluice::config {
namespace {

using fault = std::optional<std::string>;

constexpr std::string_view count = "-1 or more";
constexpr std::string_view modes = "session, transaction, statement";
constexpr std::string_view as_global = "as in [pgbouncer]";
constexpr std::string_view as_database = "as the database";
constexpr std::string_view not_forced = "Follows the client's user, not the database's user=.";

constexpr auto databases = std::to_array<database_option>({
    {"dbname", &database::dbname, "text", "the entry's name; for * the name asked for", "Database on the server.", ""},
    {"host", &database::hosts, "comma list", "unix_socket_dir",
     "Names, addresses, /directory or @abstract of a Unix socket; used in turn.",
     "One that can not be reached is passed over, and tried again after a while."},
    {"port", &database::port, "1 to 65535", "5432", "Port, the same for all hosts.", ""},
    {"user", &database::user, "text", "the client's", "Log in to the server as this user: one pool for everybody.", ""},
    {"password", &database::password, "text", "that of auth_file", "Password of user.", ""},
    {"connect_query", &database::connect_query, "text", "none", "Run on each new server connection before its use.",
     ""},
    {"pool_mode", &database::pool_mode, modes, as_global, "Pool mode of this database.", ""},
    {"pool_size", &database::pool_size, count, "default_pool_size", "Servers of one pool. 0: no limit; -1: unset.", ""},
    {"min_pool_size", &database::min_pool_size, count, as_global, "Servers kept ready. -1: unset.", ""},
    {"reserve_pool_size", &database::reserve_pool_size, count, as_global,
     "Servers beyond pool_size for clients that wait too long. -1: unset.", ""},
    {"reserve_pool", &database::reserve_pool_size, count, as_global, "Old name of reserve_pool_size.", ""},
    {"max_db_connections", &database::max_db_connections, count, as_global,
     "Servers of this database. 0 or less: as in [pgbouncer].", ""},
    {"max_db_client_connections", &database::max_db_client_connections, count, as_global,
     "Clients of this database. 0 or less: as in [pgbouncer].", ""},
    {"server_lifetime", &database::server_lifetime, "seconds", as_global,
     "A server older than this is closed when idle. 0: as in [pgbouncer].", ""},
    {"query_wait_timeout", &database::query_wait_timeout, "seconds", as_global,
     "A client that waits longer for a server is closed. 0: as in [pgbouncer].", ""},
    {"auth_user", &database::auth_user, "text", as_global, "Who runs auth_query for clients of this database.", ""},
    {"auth_query", &database::auth_query, "text", as_global, "The query that finds a user's secret.", ""},
    {"auth_dbname", &database::auth_dbname, "text", as_global, "Entry of [databases] whose server it asks.", ""},
    {"load_balance_hosts", &database::load_balance, "round-robin, disable", "round-robin",
     "disable: stay on one host until it fails.", ""},
    {"client_encoding", &database::startup_parameters, "text", "none", "Set when a server is opened.", ""},
    {"datestyle", &database::startup_parameters, "text", "none", "Set when a server is opened.", ""},
    {"timezone", &database::startup_parameters, "text", "none", "Set when a server is opened.", ""},
    {"application_name", &database::startup_parameters, "text", "none", "Set when a server is opened.", ""},
});

constexpr auto users = std::to_array<user_option>({
    {"pool_mode", &user::pool_mode, modes, as_database, "Pool mode of this user's pools.", ""},
    {"pool_size", &user::pool_size, count, as_database, "Servers of one pool. 0: no limit; -1: unset.", ""},
    {"reserve_pool_size", &user::reserve_pool_size, count, as_database,
     "Servers beyond pool_size for clients that wait too long. -1: unset.", ""},
    {"max_user_connections", &user::max_user_connections, count, as_global,
     "Servers of this user. 0 or less: as in [pgbouncer].", ""},
    {"max_user_client_connections", &user::max_user_client_connections, count, as_global,
     "Clients of this user. 0 or less: as in [pgbouncer].", ""},
    {"query_timeout", &user::query_timeout, "seconds", as_global, "As the global one. 0: unset.", not_forced},
    {"query_wait_timeout", &user::query_wait_timeout, "seconds", as_database, "As the global one. 0: unset.",
     "Acts also where the global one is 0."},
    {"idle_transaction_timeout", &user::idle_transaction_timeout, "seconds", as_global, "As the global one. 0: unset.",
     not_forced},
    {"transaction_timeout", &user::transaction_timeout, "seconds", as_global, "As the global one. 0: unset.",
     not_forced},
    {"client_idle_timeout", &user::client_idle_timeout, "seconds", as_global, "As the global one. 0: unset.",
     "Leaves other users alone."},
});

constexpr auto peers = std::to_array<peer_option>({
    {"host", &peer::hosts, "comma list", "none", "Where it listens: names, addresses, or the /directory of its socket.",
     ""},
    {"port", &peer::port, "1 to 65535", "6432", "Its port.", ""},
    {"pool_size", &peer::pool_size, count, "default_pool_size", "Cancels under way to it at once. 0: no limit.", ""},
});

/// One overload a type: text into a member.
struct reader {
    const connection_option &option;

    fault operator()(std::optional<std::string> &to) const {
        to = option.value;
        return {};
    }
    fault operator()(std::optional<base::secret> &to) const {
        to = base::secret(option.value);
        return {};
    }
    fault operator()(std::vector<std::string> &to) const {
        to.clear();
        if (option.value.empty()) return {};
        to = split_list(option.value);
        if (std::find(to.begin(), to.end(), "") != to.end()) return "has an empty host in its list";
        return {};
    }
    fault operator()(int &to) const {
        const auto value = parse_integer(option.value, 1, 65535);
        if (value.has_error()) return value.error();
        to = static_cast<int>(*value);
        return {};
    }
    fault operator()(std::optional<int> &to) const {
        const auto value = parse_integer(option.value, -1, int_max);
        if (value.has_error()) return value.error();
        to.reset();
        if (*value >= 0) to = static_cast<int>(*value);
        return {};
    }
    fault operator()(std::optional<base::duration> &to) const { return store(parse_seconds(option.value), to); }
    fault operator()(std::optional<pool_mode> &to) const { return store(parse_pool_mode(option.value), to); }
    fault operator()(bool &to) const {
        const auto lower = to_lower(option.value);
        if (lower != "round-robin" && lower != "disable") return "must be round-robin or disable";
        to = lower == "round-robin";
        return {};
    }
    fault operator()(std::vector<std::pair<std::string, std::string>> &to) const {
        std::erase_if(to, [&](const auto &pair) { return pair.first == option.key; });
        to.emplace_back(option.key, option.value);
        return {};
    }

    template <class T>
    static fault store(const parsed<T> &value, std::optional<T> &to) {
        if (value.has_error()) return value.error();
        to = *value;
        return {};
    }
};

/// One overload a type: a member as text.
struct writer {
    std::string_view name;

    std::string operator()(const std::optional<std::string> &it) const { return it.value_or(""); }
    std::string operator()(const std::optional<base::secret> &it) const { return it ? "***" : ""; }
    std::string operator()(const std::vector<std::string> &it) const {
        std::string list;
        for (const auto &each : it) list += (list.empty() ? "" : ",") + each;
        return list;
    }
    std::string operator()(int it) const { return std::to_string(it); }
    std::string operator()(const std::optional<int> &it) const { return it ? std::to_string(*it) : ""; }
    std::string operator()(const std::optional<base::duration> &it) const { return it ? seconds_text(*it) : ""; }
    std::string operator()(const std::optional<pool_mode> &it) const { return it ? to_string(*it) : ""; }
    std::string operator()(bool it) const { return it ? "round-robin" : "disable"; }
    std::string operator()(const std::vector<std::pair<std::string, std::string>> &it) const {
        for (const auto &[key, value] : it)
            if (key == name) return value;
        return "";
    }
};

template <class Option, class Entry>
std::string text_of(const Option &option, const Entry &entry) {
    return std::visit([&](auto member) { return writer{option.name}(entry.*member); }, option.member);
}

/// Reads the options of one entry into it; `unknown` opens the error line about an unknown one, as PgBouncer's does.
template <class Entry, class Option>
fault read_options(std::span<const Option> table, std::string_view text, const char *unknown, Entry &entry) {
    const auto options = parse_connection_string(text);
    if (options.has_error()) return options.error();
    for (const auto &option : *options) {
        const auto row =
            std::find_if(table.begin(), table.end(), [&](const Option &known) { return known.name == option.key; });
        if (row == table.end()) return std::string(unknown) + ": " + option.key;
        const auto wrong = std::visit([&](auto member) { return reader{option}(entry.*member); }, row->member);
        if (wrong) return option.key + " = " + option.value + ": " + *wrong;
    }
    return {};
}

fault check_name(std::string_view name, std::size_t max_bytes, const char *what) {
    if (name.empty()) return std::string(what) + " must not be empty";
    if (name.size() > max_bytes) return std::string(what) + " is longer than " + std::to_string(max_bytes) + " bytes";
    return {};
}

bool is_reserved(std::string_view database) {
    return database == "pgbouncer" || database == "pgsluice";
}

fault fill(std::string_view text, database &entry) {
    if (auto wrong = check_name(entry.name, database_name_max_bytes, "the name")) return wrong;
    if (is_reserved(entry.name)) return "the name is reserved for the admin console";
    if (auto wrong = read_options(database_options(), text, "unrecognized connection parameter", entry)) return wrong;
    if (entry.dbname)
        if (auto wrong = check_name(*entry.dbname, database_name_max_bytes, "dbname")) return wrong;
    if (entry.auth_dbname && is_reserved(*entry.auth_dbname)) return "auth_dbname is reserved for the admin console";
    if (entry.user) return check_name(*entry.user, user_name_max_bytes, "user");
    return {};
}

fault fill(std::string_view text, user &entry) {
    if (auto wrong = check_name(entry.name, user_name_max_bytes, "the name")) return wrong;
    return read_options(user_options(), text, "unrecognized user parameter", entry);
}

template <class Entry>
parsed<Entry> parse_entry(const char *what, std::string_view name, std::string_view value) {
    Entry entry;
    entry.name = name;
    // Said outright, since an aggregate such as Entry could be made from a string as well.
    if (const auto wrong = fill(value, entry))
        return {boost::system::in_place_error, what + (" \"" + entry.name + "\": ") + *wrong};
    return entry;
}

}  // namespace

std::span<const database_option> database_options() {
    return databases;
}
std::span<const user_option> user_options() {
    return users;
}
std::span<const peer_option> peer_options() {
    return peers;
}

std::string option_text(const database_option &option, const database &entry) {
    return text_of(option, entry);
}
std::string option_text(const user_option &option, const user &entry) {
    return text_of(option, entry);
}

bool same_option(const database_option &option, const database &a, const database &b) {
    if (option.name == "password")
        return a.password.has_value() == b.password.has_value() && (!a.password || a.password->equals(*b.password));
    return text_of(option, a) == text_of(option, b);
}
bool same_option(const user_option &option, const user &a, const user &b) {
    return text_of(option, a) == text_of(option, b);
}

parsed<database> parse_database(std::string_view name, std::string_view value) {
    return parse_entry<database>("database", name, value);
}

parsed<user> parse_user(std::string_view name, std::string_view value) {
    return parse_entry<user>("user", name, value);
}

parsed<peer> parse_peer(std::string_view name, std::string_view value) {
    const std::string who = "peer \"" + std::string(name) + "\": ";
    const auto no = [&](const std::string &why) { return parsed<peer>(boost::system::in_place_error, who + why); };
    peer entry;
    const auto id = parse_integer(name, 1, 65535);
    if (id.has_error()) return no("the name " + id.error());
    entry.id = static_cast<int>(*id);
    if (auto wrong = read_options(peer_options(), value, "unrecognized connection parameter", entry)) return no(*wrong);
    if (entry.hosts.empty()) return no("host was not provided");
    return entry;
}

}  // namespace pgsluice::config
