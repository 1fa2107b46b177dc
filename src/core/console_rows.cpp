// Tables, row by row.
#include "core/console_rows.hpp"

#include <algorithm>
#include <array>

#include "config/settings_table.hpp"

namespace pgsluice::core {

namespace {

constexpr std::string_view console_name = "pgbouncer";
const console_cell null;

console_cell text(std::string_view value) {
    return std::string(value);
}
console_cell text_or_null(std::string_view value) {
    return value.empty() ? null : text(value);
}
std::int64_t seconds_of(base::duration time) {
    return std::chrono::duration_cast<base::seconds>(time).count();
}

std::string joined(const std::vector<std::string> &names) {
    std::string all;
    for (const auto &name : names) all += (all.empty() ? "" : ",") + name;
    return all;
}

/// It says something only where there is more than one host.
console_cell balance(const std::vector<std::string> &hosts, bool balances) {
    if (hosts.size() < 2) return null;
    return text(balances ? "round-robin" : "disable");
}

console_row database_row(const config::settings &all, const config::database &entry, const std::string &name,
                         const count_view &count) {
    const auto &global = all.global;
    const auto positive = [](const std::optional<int> &own, int other) {
        return std::int64_t{own && *own > 0 ? *own : other};
    };
    const auto lifetime = entry.server_lifetime.value_or(global.server_lifetime);
    return {text(name),
            text_or_null(joined(entry.hosts)),
            entry.port,
            text(entry.dbname.value_or(name)),
            entry.user ? text(*entry.user) : null,
            entry.pool_size.value_or(global.default_pool_size),
            entry.min_pool_size.value_or(global.min_pool_size),
            entry.reserve_pool_size.value_or(global.reserve_pool_size),
            seconds_of(lifetime > base::duration::zero() ? lifetime : global.server_lifetime),
            entry.pool_mode ? text(to_string(*entry.pool_mode)) : null,
            balance(entry.hosts, entry.load_balance),
            positive(entry.max_db_connections, global.max_db_connections),
            count.servers,
            positive(entry.max_db_client_connections, global.max_db_client_connections),
            count.clients,
            count.paused ? 1 : 0,
            count.disabled ? 1 : 0};
}

/// Behind total_ and avg_ in TOTALS.
constexpr std::array<std::string_view, figures> names_in_totals{"server_assignment_count",
                                                                "xact_count",
                                                                "query_count",
                                                                "client_bytes",
                                                                "server_bytes",
                                                                "xact_time",
                                                                "query_time",
                                                                "wait_time",
                                                                "ps_client_parse_count",
                                                                "ps_server_parse_count",
                                                                "ps_bind_count",
                                                                "client_login_count"};

void append(console_row &row, const traffic &it) {
    for (const auto count : it.counts) row.emplace_back(static_cast<std::int64_t>(count));
}

}  // namespace

console_rows config_rows(const config::settings &all) {
    // What PgBouncer knows no default of: it is NULL there, not an empty text.
    static constexpr std::array<std::string_view, 9> without_default{
        "auth_dbname", "auth_file", "auth_ident_file",      "auth_ldap_options",
        "auth_user",   "conffile",  "client_tls13_ciphers", "server_tls13_ciphers",
        "user"};
    console_rows rows;
    for (const auto &it : config::settings_table()) {
        console_row row{text(it.name),
                        text(config::shown_text(it, all)),
                        text(it.default_text),
                        text(it.reloadable ? "yes" : "no"),
                        null,
                        null};
        const bool bare = std::find(without_default.begin(), without_default.end(), it.name) != without_default.end();
        if (bare && row[1] == text("")) row[1] = null;
        if (bare || it.name == "verbose") row[2] = null;
        if (it.name == "auth_ldap_options" && row[1] != console_cell(null))
            row[1] = text("***");  // may hold a password
        if (const auto found = all.set_at.find(it.name); found != all.set_at.end()) {
            row[4] = found->second.file;
            if (found->second.line > 0) row[5] = found->second.line;
        }
        rows.push_back(std::move(row));
    }
    // As PgBouncer's list, which is in the order of names, but for these two.
    const auto place = [](const console_row &row) {
        return row[0] == text("pool_idle_timeout") ? text("pool_mode, and then") : row[0];
    };
    std::sort(rows.begin(), rows.end(), [&](const auto &a, const auto &b) { return place(a) < place(b); });
    return rows;
}

console_rows database_rows(const config::settings &all, const console_view &view) {
    console_rows rows;
    const auto count_of = [&](const std::string &name) {
        const auto found = view.databases.find(name);
        return found == view.databases.end() ? count_view{} : found->second;
    };
    for (const auto &[name, entry] : all.databases) rows.push_back(database_row(all, entry, name, count_of(name)));
    for (const auto &[name, count] : view.databases) {  // those that "*" has brought about
        if (!all.wildcard || all.databases.contains(name)) continue;
        rows.push_back(database_row(all, *all.wildcard, name, count));
    }
    rows.push_back({text(console_name), null, all.global.listen_port, text(console_name), text(console_name), 2, 0, 0,
                    seconds_of(all.global.server_lifetime), text("statement"), null, 0, 0, 0,
                    static_cast<std::int64_t>(view.consoles), 0, 0});
    std::sort(rows.begin(), rows.end(), [](const console_row &a, const console_row &b) { return a[0] < b[0]; });
    return rows;
}

console_rows pool_rows(const console_view &view) {
    console_rows rows;
    for (const auto &it : view.pools) {
        const auto us = it.longest_wait.count();
        rows.push_back({text(it.database), text(it.user), it.clients_active, it.clients_waiting, it.clients_canceling,
                        it.clients_canceling_later, it.active, it.canceling, it.being_canceled, it.idle, it.used,
                        it.tested, it.login, us / 1'000'000, us % 1'000'000, text(to_string(it.settings->pool_mode)),
                        balance(it.settings->hosts, it.settings->load_balance), it.closing});
    }
    rows.push_back({text(console_name), text(console_name), static_cast<std::int64_t>(view.consoles), 0, 0, 0, 0, 0, 0,
                    0, 0, 0, 0, 0, 0, text("statement"), null, 0});
    std::sort(rows.begin(), rows.end(),
              [](const console_row &a, const console_row &b) { return std::tie(a[0], a[1]) < std::tie(b[0], b[1]); });
    return rows;
}

console_rows user_rows(const config::settings &all, const console_view &view) {
    std::map<std::string, count_view, std::less<>> names = view.users;
    for (const auto &[name, credential] : all.credentials) names.try_emplace(name);
    for (const auto &[name, user] : all.users) names.try_emplace(name);
    names.try_emplace(std::string(console_name));  // whose pool the console's is
    static const config::user none;
    console_rows rows;
    // As PgBouncer: text, padded, and empty where the user has no size of its own.
    const auto size = [](const std::optional<int> &value) {
        if (!value) return text("");
        auto digits = std::to_string(*value);
        return text(std::string(digits.size() < 9 ? 9 - digits.size() : 0, ' ') + digits);
    };
    for (const auto &[name, count] : names) {
        const auto *const found = all.find_user(name);
        const auto &user = found != nullptr ? *found : none;
        rows.push_back({text(name), size(user.pool_size), size(user.reserve_pool_size),
                        user.pool_mode ? text(to_string(*user.pool_mode)) : null,
                        user.max_user_connections.value_or(all.global.max_user_connections), count.servers,
                        user.max_user_client_connections.value_or(all.global.max_user_client_connections),
                        count.clients});
    }
    return rows;
}

console_rows list_rows(const config::settings &all, const console_view &view, const dns_counts &dns) {
    const auto number = [](std::size_t value) { return static_cast<std::int64_t>(value); };
    return {{text("databases"), number(database_rows(all, view).size())},
            {text("users"), number(user_rows(all, view).size())},
            {text("peers"), number(view.peers.size())},
            {text("pools"), number(view.pools.size() + 1)},
            {text("peer_pools"), number(view.peers.size())},
            {text("free_clients"), 0},
            {text("used_clients"), number(view.clients)},
            {text("login_clients"), number(view.logging_in)},
            {text("free_servers"), 0},
            {text("used_servers"), number(view.servers)},
            {text("dns_names"), number(dns.names)},
            {text("dns_zones"), number(dns.zones)},
            {text("dns_queries"), number(dns.queries)},
            {text("dns_pending"), number(dns.pending)}};
}

console_rows peer_rows(const console_view &view) {
    console_rows rows;
    for (const auto &it : view.peers)
        rows.push_back({it.peer.id, text(joined(it.peer.hosts)), it.peer.port, it.pool_size});
    return rows;
}

console_rows peer_pool_rows(const console_view &view) {
    console_rows rows;
    for (const auto &it : view.peers)
        rows.push_back({it.peer.id, it.sent, it.waiting + it.connecting, it.sent, it.connecting});
    return rows;
}

console_rows dns_host_rows(const name_book &book, base::time_point now) {
    console_rows rows;
    for (const auto &it : book.hosts(now)) {
        auto addresses = it.addresses;
        // As PgBouncer, which prints what could have a port and has none here.
        for (auto &each : addresses) each = (each.find(':') == std::string::npos ? each : "[" + each + "]") + ":0";
        rows.push_back({text(it.name), it.ttl_seconds, text(joined(addresses))});
    }
    return rows;
}

console_rows dns_zone_rows(const name_book &book) {
    console_rows rows;
    for (const auto &it : book.zones()) rows.push_back({text(it.name), std::int64_t{it.serial}, it.names});
    return rows;
}

console_rows state_rows(const console_view &view, bool suspended) {
    const auto yes = [](bool is) { return text(is ? "yes" : "no"); };
    return {{text("active"), yes(!view.paused && !suspended)},
            {text("paused"), yes(view.paused)},
            {text("suspended"), yes(suspended)}};
}

traffic average(const traffic &before, const traffic &now, base::duration period) {
    traffic result;
    const auto more = [&](figure which) { return now[which] - before[which]; };
    const auto seconds = std::max(1e-6, std::chrono::duration<double>(period).count());
    for (std::size_t i = 0; i < figures; ++i) {
        const auto which = static_cast<figure>(i);
        result[which] = static_cast<std::uint64_t>(static_cast<double>(more(which)) / seconds);
    }
    const auto each = [&](figure time, figure count) { result[time] = more(count) > 0 ? more(time) / more(count) : 0; };
    each(figure::transaction_time, figure::transactions);
    each(figure::query_time, figure::queries);
    return result;
}

console_rows stats_rows(console_table which, const traffic_by_database &totals, const traffic_by_database &averages) {
    const auto average_of = [&](const std::string &name) {
        const auto found = averages.find(name);
        return found == averages.end() ? traffic{} : found->second;
    };
    console_rows rows;
    if (which == console_table::totals) {
        traffic total, mean;
        for (const auto &[name, it] : totals) total += it;
        for (const auto &[name, it] : averages) mean += it;
        for (const auto &[prefix, all] : {std::pair("total_", &total), std::pair("avg_", &mean)})
            for (std::size_t i = 0; i < figures; ++i)
                rows.push_back(
                    {text(prefix + std::string(names_in_totals[i])), static_cast<std::int64_t>(all->counts[i])});
        return rows;
    }
    for (const auto &[name, it] : totals) {
        console_row row{text(name)};
        if (which != console_table::stats_averages) append(row, it);
        if (which != console_table::stats_totals) append(row, average_of(name));
        rows.push_back(std::move(row));
    }
    return rows;
}

std::string stats_line(const traffic &it) {
    const auto of = [&](figure which) { return std::to_string(it[which]); };
    return "stats: " + of(figure::transactions) + " xacts/s, " + of(figure::queries) + " queries/s, " +
           of(figure::client_parses) + " client parses/s, " + of(figure::server_parses) + " server parses/s, " +
           of(figure::binds) + " binds/s, " + of(figure::logins) + " client logins/s, in " + of(figure::received) +
           " B/s, out " + of(figure::sent) + " B/s, xact " + of(figure::transaction_time) + " us, query " +
           of(figure::query_time) + " us, wait " + of(figure::wait_time) + " us";
}

}  // namespace pgsluice::core
