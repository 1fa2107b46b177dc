// One function a kind of advice.
#include "config/advice.hpp"

#include <algorithm>
#include <string>

#include "config/settings_table.hpp"

namespace pgsluice::config {
namespace {

bool is_loopback(const std::string &address) {
    return address == "localhost" || address == "::1" || address.starts_with("127.");
}

class adviser {
public:
    explicit adviser(const settings &all) : all_(all), global_(all.global) {}

    std::vector<error> run() {
        without_effect();
        tls();
        sizes();
        authentication();
        return std::move(found_);
    }

private:
    void say(const std::string &name, const std::string &text) { found_.push_back(all_.at_setting(name, text)); }
    bool is_set(const char *name) const { return all_.set_at.contains(name); }
    bool changed(const char *name) const {
        return is_set(name) && !same_value(*find_setting(name), global_, global_settings{});
    }
    /// Each of `names` that is set, unless `useful`.
    void useless(bool useful, std::initializer_list<const char *> names, const std::string &why) {
        for (const auto *const name : names)
            if (!useful && changed(name)) say(name, std::string(name) + " has no effect: " + why);
    }
    bool any_pool(bool (*wanted)(pool_mode)) const {
        const auto of = [&](const std::optional<pool_mode> &own) { return own && wanted(*own); };
        return wanted(global_.pool_mode) || (all_.wildcard && of(all_.wildcard->pool_mode)) ||
               std::any_of(all_.databases.begin(), all_.databases.end(),
                           [&](const auto &it) { return of(it.second.pool_mode); }) ||
               std::any_of(all_.users.begin(), all_.users.end(),
                           [&](const auto &it) { return of(it.second.pool_mode); });
    }
    bool asks_auth_query() const { return all_.asks_auth_query; }

    void without_effect() {
        for (const auto &it : {"pkt_buf", "sbuf_loopcnt", "job_name"})
            if (changed(it)) say(it, std::string(it) + " has no effect: it is taken for the sake of PgBouncer's files");
        const bool session = any_pool([](pool_mode it) { return it == pool_mode::session; });
        const bool shared = any_pool([](pool_mode it) { return it != pool_mode::session; });
        useless(session, {"server_fast_close"}, "no pool_mode is session");
        useless(session || global_.server_reset_query_always, {"server_reset_query"},
                "no pool_mode is session, and server_reset_query_always = 0");
        useless(shared, {"max_prepared_statements"}, "every pool_mode is session");
        useless(asks_auth_query(), {"auth_query", "auth_dbname"}, "nobody has an auth_user");
        useless(global_.client_tls_sslmode != sslmode::disable,
                {"client_tls_key_file", "client_tls_cert_file", "client_tls_ca_file", "client_tls_protocols",
                 "client_tls_ciphers", "client_tls13_ciphers", "client_tls_ecdhcurve", "client_tls_dheparams"},
                "client_tls_sslmode = disable");
        useless(global_.server_tls_sslmode != sslmode::disable,
                {"server_tls_key_file", "server_tls_cert_file", "server_tls_ca_file", "server_tls_protocols",
                 "server_tls_ciphers", "server_tls13_ciphers"},
                "server_tls_sslmode = disable");
        useless(global_.syslog, {"syslog_ident", "syslog_facility"}, "syslog = 0");
        useless(global_.tcp_keepalive, {"tcp_keepcnt", "tcp_keepidle", "tcp_keepintvl"}, "tcp_keepalive = 0");
        useless(!global_.unix_socket_dir.empty(), {"unix_socket_mode", "unix_socket_group"},
                "unix_socket_dir is empty");
        useless(!global_.unix_socket_dir.starts_with('@'), {"unix_socket_mode", "unix_socket_group"},
                "an abstract socket has no permissions");
        useless(!global_.listen_addr.empty(), {"so_reuseport", "tcp_defer_accept", "client_tls_sslmode"},
                "listen_addr is empty");
        useless(all_.wildcard.has_value(), {"autodb_idle_timeout"}, "[databases] has no *");
        useless(!global_.server_check_query.empty(), {"server_check_delay"}, "server_check_query is empty");
        useless(global_.default_pool_size > 0, {"reserve_pool_size"}, "default_pool_size = 0 is no limit");
        if (global_.reserve_pool_size > 0 && global_.reserve_pool_timeout == base::duration::zero())
            say("reserve_pool_size", "reserve_pool_size has no effect: reserve_pool_timeout = 0");
    }

    void tls() {
        const auto look = [&](const std::string &side, const tls_settings &of) {
            if (of.mode == sslmode::disable) return;
            if (asks_for_weak_ciphers(of.ciphers))
                say(side + "_tls_ciphers",
                    side + "_tls_ciphers = " + of.ciphers + " takes ciphers too that OpenSSL leaves out by default");
            const bool old_alone = !of.protocols.has(tls_protocols::v1_2) && !of.protocols.has(tls_protocols::v1_3);
            if (old_alone && of.ciphers.find("@SECLEVEL=0") == std::string::npos)
                say(side + "_tls_protocols",
                    "no handshake can succeed: " + side + "_tls_protocols = " + to_string(of.protocols) +
                        " without @SECLEVEL=0 in " + side + "_tls_ciphers, which OpenSSL wants for them");
        };
        look("client", global_.client_tls());
        look("server", global_.server_tls());
    }

    void sizes() {
        const auto beyond = [&](const char *name, int value, const char *limit_name, int limit) {
            if (limit <= 0 || value <= limit) return;
            say(name, std::string(name) + " = " + std::to_string(value) + " can not be reached: " + limit_name + " = " +
                          std::to_string(limit));
        };
        beyond("default_pool_size", global_.default_pool_size, "max_db_connections", global_.max_db_connections);
        beyond("default_pool_size", global_.default_pool_size, "max_user_connections", global_.max_user_connections);
        beyond("min_pool_size", global_.min_pool_size, "default_pool_size", global_.default_pool_size);
        beyond("max_db_client_connections", global_.max_db_client_connections, "max_client_conn",
               global_.max_client_conn);
        beyond("max_user_client_connections", global_.max_user_client_connections, "max_client_conn",
               global_.max_client_conn);
        const auto of_entry = [&](const database &entry) {
            const auto pool = resolve_pool(all_, entry, entry.name, entry.user.value_or(""));
            const auto tell = [&](const char *name, int value, const char *limit_name, int limit) {
                if (limit <= 0 || value <= limit) return;
                found_.push_back({all_.file, 0,
                                  "database \"" + entry.name + "\": " + name + " = " + std::to_string(value) +
                                      " can not be reached: " + limit_name + " = " + std::to_string(limit)});
            };
            const bool own = entry.pool_size || entry.max_db_connections || entry.min_pool_size;
            if (!own) return;
            tell("pool_size", pool.pool_size, "max_db_connections", pool.max_db_connections);
            tell("min_pool_size", pool.min_pool_size, "pool_size", pool.pool_size);
        };
        for (const auto &[name, entry] : all_.databases) of_entry(entry);
        if (all_.wildcard) of_entry(*all_.wildcard);
        for (const auto &[name, user] : all_.users) {
            if (!user.pool_size || !user.max_user_connections || *user.max_user_connections <= 0) continue;
            if (*user.pool_size > *user.max_user_connections)
                found_.push_back(
                    {all_.file, 0,
                     "user \"" + name + "\": pool_size = " + std::to_string(*user.pool_size) +
                         " can not be reached: max_user_connections = " + std::to_string(*user.max_user_connections)});
        }
    }

    void authentication() {
        const auto &addresses = global_.listen_addr;
        const bool reached = !std::all_of(addresses.begin(), addresses.end(), is_loopback);
        const auto weak = [&](const std::string &text) { say("auth_type", "weak authentication: " + text); };
        if (global_.auth_type == auth_type::plain)
            weak("auth_type = plain asks for passwords in the clear; scram-sha-256 does not");
        std::size_t md5 = 0;
        for (const auto &[name, it] : all_.credentials) {
            md5 += it.form == auth::secret_form::md5 ? 1 : 0;
        }
        if (md5 > 0)
            say("auth_file", "weak authentication: " + std::to_string(md5) +
                                 " users of auth_file have md5 secrets: whoever reads the file can log in with them");
        const bool in_clear = global_.client_tls_sslmode < sslmode::require;
        const bool sends = global_.auth_type == auth_type::plain || global_.auth_type == auth_type::pam ||
                           global_.auth_type == auth_type::ldap;
        if (reached && in_clear && sends)
            weak(std::string("auth_type = ") + to_string(global_.auth_type) +
                 " sends passwords over a network, and client_tls_sslmode lets clients in without TLS");
        for (const auto &rule : all_.hba->all()) {
            const bool local = rule.connection == auth::hba_connection::local;
            const bool ssl = rule.connection == auth::hba_connection::hostssl;
            const auto of_rule = [&](const std::string &text) {
                found_.push_back({rule.file, rule.line, "weak authentication: " + text});
            };
            if (rule.method == auth::hba_method::trust && !local && reached)
                of_rule("method trust asks for no password");
            if (rule.method == auth::hba_method::password && !local && !ssl && reached)
                of_rule("method password sends it in the clear, also without TLS: hostssl asks for that");
        }
    }

    const settings &all_;
    const global_settings &global_;
    std::vector<error> found_;
};

}  // namespace

std::vector<error> advice(const settings &all) {
    return adviser(all).run();
}

int most_servers(const settings &all, const database &entry) {
    std::vector<std::string> users;
    if (entry.user) {
        users.push_back(*entry.user);
    } else {
        for (const auto &[name, it] : all.credentials) users.push_back(name);
        if (users.empty()) users.emplace_back();
    }
    long sum = 0;
    int limit = 0;
    for (const auto &user : users) {
        const auto pool = resolve_pool(all, entry, entry.name, user);
        limit = pool.max_db_connections;
        if (pool.pool_size == 0) return limit;
        auto most = static_cast<long>(pool.pool_size) + pool.reserve_pool_size;
        if (pool.max_user_connections > 0) most = std::min(most, static_cast<long>(pool.max_user_connections));
        sum += most;
    }
    if (limit > 0) sum = std::min(sum, static_cast<long>(limit));
    return static_cast<int>(std::min<long>(sum, 1'000'000'000));
}

std::uint64_t most_descriptors(const settings &all) {
    constexpr std::uint64_t own = 64,
                            of_a_worker = 4;  // the log, listeners, helpers, names; an epoll set and a mailbox
    const auto &global = all.global;
    const auto clients = static_cast<std::uint64_t>(global.max_client_conn);
    std::uint64_t servers = 0;
    const auto add = [&](const database &entry) {
        const int most = most_servers(all, entry);
        servers += most > 0 ? static_cast<std::uint64_t>(most) : clients;
    };
    for (const auto &[name, entry] : all.databases) add(entry);
    if (all.wildcard) add(*all.wildcard);
    // A client has one server at most; a cancel is a connection more.
    servers = std::min(servers, clients + static_cast<std::uint64_t>(global.min_pool_size) * all.databases.size());
    return own + of_a_worker * 64 + clients + static_cast<std::uint64_t>(global.max_unauthenticated_conn) + servers;
}

}  // namespace pgsluice::config
