// What holds for one pool and one client: every fallback of settings.hpp resolved. Pure look-ups.
// Source: PgBouncer's config documentation: user before database before [pgbouncer]; where its code differs from that
// (per-user timeouts that follow the forced user instead of the client) the documentation is followed.
#include <algorithm>

#include "config/settings.hpp"

namespace pgsluice::config {
namespace {

constexpr const char *default_socket_dir = "/tmp";

/// The first of the two that is set, else the fallback.
template <class T>
T first_set(const std::optional<T> &first, const std::optional<T> &second, T fallback) {
    return first ? *first : second ? *second : fallback;
}

/// For options where 0 means "not set here".
template <class T>
T positive_or(const std::optional<T> &value, T fallback) {
    return value && *value > T{} ? *value : fallback;
}

}  // namespace

const database *settings::find_database(std::string_view name) const {
    if (const auto found = databases.find(name); found != databases.end()) return &found->second;
    return wildcard ? &*wildcard : nullptr;
}

bool settings::asks_pam_or_ldap() const {
    if (global.auth_type == auth_type::pam || global.auth_type == auth_type::ldap) return true;
    const auto &rules = hba->all();
    return std::any_of(rules.begin(), rules.end(), [](const auth::hba_rule &it) {
        return it.method == auth::hba_method::pam || it.method == auth::hba_method::ldap;
    });
}

const user *settings::find_user(std::string_view name) const {
    const auto found = users.find(name);
    return found == users.end() ? nullptr : &found->second;
}

error settings::at_setting(std::string_view name, std::string text) const {
    const auto found = set_at.find(name);
    if (found == set_at.end()) return {file, 0, std::move(text)};
    return {found->second.file, found->second.line, std::move(text)};
}

pool_settings resolve_pool(const settings &all, const database &entry, std::string_view database,
                           std::string_view client_user) {
    const auto &global = all.global;
    pool_settings pool;
    pool.database = database;
    pool.user = entry.user ? *entry.user : std::string(client_user);
    pool.server_dbname = entry.dbname ? *entry.dbname : std::string(database);
    pool.hosts = entry.hosts;
    if (pool.hosts.empty())
        pool.hosts.push_back(global.unix_socket_dir.empty() ? default_socket_dir : global.unix_socket_dir);
    pool.port = entry.port;
    pool.load_balance = entry.load_balance;
    pool.forced_user = entry.user.has_value();
    pool.from_wildcard = entry.name == "*";
    if (entry.user && entry.password) pool.password = *entry.password;
    pool.startup_parameters = entry.startup_parameters;
    pool.connect_query = entry.connect_query.value_or("");

    // A pool belongs to the user the servers log in as, so the forced user's entry counts here, not the client's.
    static const config::user no_entry;
    const auto *found = all.find_user(pool.user);
    const auto &user = found ? *found : no_entry;
    pool.pool_mode = first_set(user.pool_mode, entry.pool_mode, global.pool_mode);
    pool.pool_size = first_set(user.pool_size, entry.pool_size, global.default_pool_size);
    pool.min_pool_size = entry.min_pool_size.value_or(global.min_pool_size);
    pool.reserve_pool_size = first_set(user.reserve_pool_size, entry.reserve_pool_size, global.reserve_pool_size);
    pool.reserve_pool_timeout = global.reserve_pool_timeout;
    pool.max_db_connections = positive_or(entry.max_db_connections, global.max_db_connections);
    pool.max_user_connections = positive_or(user.max_user_connections, global.max_user_connections);
    pool.server_lifetime = positive_or(entry.server_lifetime, global.server_lifetime);
    // An empty query can not be told from "no check", so it is written as a lone semicolon: the same to a server.
    pool.server_check_query = global.server_check_query == "<empty>" ? ";" : global.server_check_query;
    pool.server_reset_query = global.server_reset_query;
    pool.server_reset_query_always = global.server_reset_query_always;
    pool.server_fast_close = global.server_fast_close;
    pool.client_disconnect_action = global.client_disconnect_action;
    pool.error_sqlstate = global.error_sqlstate;
    pool.server_protocol = global.server_protocol;
    pool.server_tls = global.server_tls();
    pool.server_idle_timeout = global.server_idle_timeout;
    pool.server_check_delay = global.server_check_delay;
    pool.server_connect_timeout = global.server_connect_timeout;
    pool.server_login_retry = global.server_login_retry;
    pool.server_round_robin = global.server_round_robin;
    return pool;
}

client_limits resolve_client(const settings &all, const database &entry, std::string_view client_user) {
    const auto &global = all.global;
    static const config::user no_entry;
    const auto *found = all.find_user(client_user);
    const auto &user = found ? *found : no_entry;
    client_limits limits;
    limits.max_db_client_connections = positive_or(entry.max_db_client_connections, global.max_db_client_connections);
    limits.max_user_client_connections =
        positive_or(user.max_user_client_connections, global.max_user_client_connections);
    limits.client_idle_timeout = positive_or(user.client_idle_timeout, global.client_idle_timeout);
    limits.query_wait_timeout =
        positive_or(user.query_wait_timeout, positive_or(entry.query_wait_timeout, global.query_wait_timeout));
    limits.query_timeout = positive_or(user.query_timeout, global.query_timeout);
    limits.idle_transaction_timeout = positive_or(user.idle_transaction_timeout, global.idle_transaction_timeout);
    limits.transaction_timeout = positive_or(user.transaction_timeout, global.transaction_timeout);
    return limits;
}

bool pool_settings::same_connection(const pool_settings &other) const {
    // The password is left out: a server that is logged in stays so when the password is changed, as in PostgreSQL.
    return hosts == other.hosts && port == other.port && server_dbname == other.server_dbname && user == other.user &&
           startup_parameters == other.startup_parameters && connect_query == other.connect_query &&
           server_tls == other.server_tls;
}

tls_settings global_settings::client_tls() const {
    return {.mode = client_tls_sslmode,
            .key_file = client_tls_key_file,
            .cert_file = client_tls_cert_file,
            .ca_file = client_tls_ca_file,
            .protocols = client_tls_protocols,
            .ciphers = client_tls_ciphers,
            .tls13_ciphers = client_tls13_ciphers,
            .ecdhcurve = client_tls_ecdhcurve,
            .dheparams = client_tls_dheparams};
}

tls_settings global_settings::server_tls() const {
    return {.mode = server_tls_sslmode,
            .negotiation = server_tls_negotiation,
            .key_file = server_tls_key_file,
            .cert_file = server_tls_cert_file,
            .ca_file = server_tls_ca_file,
            .protocols = server_tls_protocols,
            .ciphers = server_tls_ciphers,
            .tls13_ciphers = server_tls13_ciphers};
}

}  // namespace pgsluice::config
