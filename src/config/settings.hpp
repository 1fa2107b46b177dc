// The whole configuration as one immutable value: what pgsluice.ini and auth_file say, typed and checked.
// It is made by config::load(), then shared as std::shared_ptr<const settings>; a reload makes a new one.
// Nothing here reads files, clocks or sockets. Any thread may read it.
// Source of names, units and defaults: PgBouncer's config documentation (1.25.2).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "auth/hba.hpp"
#include "auth/ident_map.hpp"
#include "auth/ldap_options.hpp"
#include "auth/secret_mix.hpp"
#include "auth/userlist.hpp"
#include "base/secret.hpp"
#include "base/time.hpp"
#include "config/source.hpp"
#include "config/tls_settings.hpp"

namespace pgsluice::config {

/// When a server goes back to its pool: after the client leaves, after a transaction, after a statement.
enum class pool_mode : std::uint8_t { session, transaction, statement };

/// How clients prove who they are.
enum class auth_type : std::uint8_t { any, trust, plain, md5, scram_sha_256, cert, hba, pam, ldap };

/// What becomes of a server whose client goes away in the middle of something: ended there and kept, or closed.
enum class disconnect_action : std::uint8_t { cancel, close };

/// The version of PostgreSQL's protocol that servers are asked for.
enum class protocol_version : std::uint8_t { v3_0, v3_2 };

/// The SQLSTATE of what pgsluice itself ends a connection with: PostgreSQL's for the reason, or always 08P01.
enum class error_codes : std::uint8_t { standard, pgbouncer };

const char *to_string(pool_mode);
const char *to_string(auth_type);
const char *to_string(disconnect_action);
const char *to_string(protocol_version);
const char *to_string(error_codes);

/// [pgbouncer] / [pgsluice]. Counts: 0 = no limit unless said otherwise. Times: 0 = off unless said otherwise.
struct global_settings {
    // Where to listen and what to be.
    std::string conffile;                  ///< read at the next reload; from load() on the file that was read
    std::string logfile;                   ///< "" = none; reopened on SIGHUP
    std::string pidfile;                   ///< "" = none
    std::vector<std::string> listen_addr;  ///< numeric addresses or "*"; empty = Unix socket only
    int listen_port = 6432;                ///< also names the Unix socket .s.PGSQL.<port>
    std::string unix_socket_dir = "/tmp";  ///< "" = none; "@name" = abstract
    int unix_socket_mode = 0777;
    std::string unix_socket_group;  ///< "" = as the process
    std::string user;               ///< switch to this user after start; "" = stay
    int listen_backlog = 128;
    bool so_reuseport = false;
    int worker_threads = 0;  ///< 0 = one a CPU
    bool io_uring = true;    ///< if the kernel has it for us
    bool quiet = false;      ///< -q: nothing to stderr
    int verbose = 0;         ///< 0 to 3

    // Pools.
    config::pool_mode pool_mode = config::pool_mode::session;
    int max_client_conn = 100;
    int max_unauthenticated_conn = 1000;
    int default_pool_size = 20;
    int min_pool_size = 0;
    int reserve_pool_size = 0;
    base::duration reserve_pool_timeout = base::seconds(5);
    int max_db_connections = 0;
    int max_db_client_connections = 0;
    int max_user_connections = 0;
    int max_user_client_connections = 0;
    bool server_round_robin = false;
    std::vector<std::string> track_extra_parameters{"IntervalStyle"};
    std::vector<std::string> ignore_startup_parameters;
    int max_prepared_statements = 200;  ///< of one server; 0 = named ones are refused outside session mode
    base::duration autodb_idle_timeout = base::seconds(3600);
    base::duration pool_idle_timeout{0};

    // Authentication.
    config::auth_type auth_type = config::auth_type::md5;
    std::string auth_file;
    std::string auth_user;  ///< asks auth_query about users that auth_file lacks; "" = nobody does
    std::string auth_query =
        "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END "
        "FROM pg_authid WHERE rolname=$1 AND rolcanlogin";
    std::string auth_dbname;  ///< entry of [databases] to ask; "" = the client's
    base::duration login_failure_max_delay = base::seconds(3);
    std::string auth_hba_file;      ///< with auth_type hba alone
    std::string auth_ident_file;    ///< with auth_type hba alone; "" = no maps
    std::string auth_ldap_options;  ///< with auth_type ldap alone; may hold a password
    int scram_iterations = 4096;    ///< for verifiers made from plain passwords; at least 1

    // The console.
    std::vector<std::string> admin_users, stats_users;
    base::duration stats_period = base::seconds(60);

    // Logging.
    bool log_stats = true;
    bool log_connections = true;
    bool log_disconnections = true;
    bool log_pooler_errors = true;
    bool syslog = false;
    std::string syslog_ident = "pgbouncer";
    std::string syslog_facility = "daemon";

    // Names of servers.
    base::duration dns_max_ttl = base::seconds(15);       ///< an answer is used for no longer
    base::duration dns_nxdomain_ttl = base::seconds(15);  ///< after a look-up that failed, the next one
    base::duration dns_zone_check_period{0};
    std::string resolv_conf;  ///< "" = the system's

    int peer_id = 0;  ///< of [peers]; 0 = no peer

    // Accepted for the sake of PgBouncer's files; nothing here has use for them.
    std::string job_name = "pgbouncer";
    int pkt_buf = 4096;
    int sbuf_loopcnt = 5;

    // Servers.
    std::string server_reset_query = "DISCARD ALL";
    bool server_reset_query_always = false;
    bool server_fast_close = false;
    base::duration server_check_delay = base::seconds(30);
    std::string server_check_query = "<empty>";            ///< "" = no check; "<empty>" = an empty query
    base::duration server_lifetime = base::seconds(3600);  ///< 0 = use once, then close
    base::duration server_idle_timeout = base::seconds(600);
    base::duration server_connect_timeout = base::seconds(15);
    base::duration server_login_retry = base::seconds(15);
    base::duration cancel_wait_timeout = base::seconds(10);
    protocol_version server_protocol = protocol_version::v3_2;

    // Clients.
    base::duration client_login_timeout = base::seconds(60);
    base::duration client_idle_timeout{0};
    base::duration query_wait_timeout = base::seconds(120);
    base::duration query_timeout{0};
    base::duration idle_transaction_timeout{0};
    base::duration transaction_timeout{0};
    base::duration query_wait_notify = base::seconds(5);
    base::duration suspend_timeout = base::seconds(10);
    disconnect_action client_disconnect_action = disconnect_action::cancel;
    error_codes error_sqlstate = error_codes::standard;
    bool disable_pqexec = false;  ///< simple queries are refused
    bool application_name_add_host = false;
    std::string login_notify_message;  ///< "" = none

    // TLS; tls_settings.hpp says what each is.
    sslmode client_tls_sslmode = sslmode::disable;
    std::string client_tls_key_file, client_tls_cert_file, client_tls_ca_file;
    tls_protocols client_tls_protocols;
    std::string client_tls_ciphers = "default", client_tls13_ciphers;
    std::string client_tls_ecdhcurve = "auto", client_tls_dheparams = "auto";
    sslmode server_tls_sslmode = sslmode::prefer;
    tls_negotiation server_tls_negotiation = tls_negotiation::postgres;
    std::string server_tls_key_file, server_tls_cert_file, server_tls_ca_file;
    tls_protocols server_tls_protocols;
    std::string server_tls_ciphers = "default", server_tls13_ciphers;

    // The network.
    std::uint32_t max_packet_size = 2147483647;  ///< bytes; a longer message is refused
    bool tcp_keepalive = true;
    int tcp_keepcnt = 0;
    int tcp_keepidle = 0;       ///< seconds
    int tcp_keepintvl = 0;      ///< seconds
    int tcp_user_timeout = 0;   ///< milliseconds
    int tcp_socket_buffer = 0;  ///< bytes
    bool tcp_defer_accept = true;

    tls_settings client_tls() const;
    tls_settings server_tls() const;
};

/// An entry of [databases]. Unset options fall back to [pgbouncer] (or, for dbname, to the name the client asked for).
struct database {
    std::string name;  ///< "*" for the wildcard
    std::optional<std::string> dbname;
    std::vector<std::string> hosts;  ///< names, addresses, "/dir" or "@abstract"; empty = default Unix socket
    int port = 5432;
    std::optional<std::string> user;       ///< forced user: one pool for everybody
    std::optional<base::secret> password;  ///< of the forced user
    std::optional<std::string> connect_query;
    std::optional<config::pool_mode> pool_mode;
    std::optional<int> pool_size, min_pool_size, reserve_pool_size;
    std::optional<int> max_db_connections, max_db_client_connections;  ///< unset or <= 0: the global one
    std::optional<base::duration> server_lifetime, query_wait_timeout;
    std::optional<std::string> auth_user, auth_query, auth_dbname;
    bool load_balance = true;  ///< load_balance_hosts: true = round-robin, false = disable
    /// Sent in the server's startup packet: client_encoding, datestyle, timezone, application_name where given.
    std::vector<std::pair<std::string, std::string>> startup_parameters;
};

/// An entry of [users].
struct user {
    std::string name;
    std::optional<config::pool_mode> pool_mode;
    std::optional<int> pool_size, reserve_pool_size;
    std::optional<int> max_user_connections, max_user_client_connections;
    std::optional<base::duration> query_timeout, query_wait_timeout, idle_transaction_timeout, transaction_timeout,
        client_idle_timeout;
};

/// An entry of [peers]: another process that clients' cancels may be meant for.
struct peer {
    int id = 0;
    std::vector<std::string> hosts;  ///< at least one
    int port = 6432;
    std::optional<int> pool_size;  ///< unset: default_pool_size
    bool operator==(const peer &) const = default;
};

/// Where a value was set.
struct place_of_setting {
    std::string file;
    int line = 0;         ///< 0: not in a file, but by SET on the console
    std::string written;  ///< what stands there
};

struct settings {
    std::string file;  ///< the path given on the command line
    std::map<std::string, place_of_setting, std::less<>>
        set_at;  ///< of [pgbouncer]; those that are not here are defaults
    global_settings global;
    std::map<std::string, database, std::less<>> databases;  ///< by name; the wildcard is apart
    std::optional<database> wildcard;
    std::map<std::string, user, std::less<>> users;
    std::map<int, peer> peers;     ///< by id; our own may be among them, and means nothing
    auth::userlist credentials;    ///< auth_file, by user name
    auth::secret_mix mix;          ///< what those secrets look like: unknown users are shown the like
    bool asks_auth_query = false;  ///< some database's clients, or all
    /// auth_hba_file and auth_ident_file; never null. Without auth_type hba there are no rules and no maps.
    std::shared_ptr<const auth::hba_rules> hba = std::make_shared<const auth::hba_rules>();
    std::shared_ptr<const auth::ident_maps> ident = std::make_shared<const auth::ident_maps>();
    std::shared_ptr<const auth::ldap_options> ldap;  ///< auth_ldap_options; null without auth_type ldap

    /// Some client may be one whose password PAM or an LDAP server judges.
    bool asks_pam_or_ldap() const;

    /// The entry a client that asks for `name` gets: its own, else the wildcard, else null. Lives as long as *this.
    const database *find_database(std::string_view name) const;
    const user *find_user(std::string_view name) const;
    /// `text` about a setting, at the line that set it, or about the file as a whole where the default holds.
    error at_setting(std::string_view name, std::string text) const;
};

/// What holds for one pool (database, user): every fallback resolved. User before database before global.
/// Source: PgBouncer config documentation, sections [databases] and [users].
struct pool_settings {
    std::string database;  ///< name of the entry as the client asked for it
    std::string user;      ///< the user the servers log in as
    std::string server_dbname;
    std::vector<std::string> hosts;  ///< at least one
    int port = 5432;
    bool load_balance = true;
    bool forced_user = false;
    bool from_wildcard = false;  ///< an autodb, made on demand from "*"
    base::secret password;       ///< of the forced user; else empty (auth_file has it)
    std::vector<std::pair<std::string, std::string>> startup_parameters;
    std::string connect_query;  ///< "" = none
    config::pool_mode pool_mode = config::pool_mode::session;
    int pool_size = 20;  ///< 0 = no limit
    int min_pool_size = 0;
    int reserve_pool_size = 0;
    base::duration reserve_pool_timeout{0};  ///< 0 = the reserve is off
    int max_db_connections = 0;
    int max_user_connections = 0;
    base::duration server_lifetime{0}, server_idle_timeout{0}, server_check_delay{0};
    base::duration server_connect_timeout{0}, server_login_retry{0};
    bool server_round_robin = false;
    std::string server_check_query;  ///< "" = no check; "<empty>" was turned into ";"
    std::string server_reset_query;  ///< "" = none
    bool server_reset_query_always = false;
    bool server_fast_close = false;  ///< in session mode: one that has to go does not wait for its client's end
    disconnect_action client_disconnect_action = disconnect_action::cancel;
    error_codes error_sqlstate = error_codes::standard;
    protocol_version server_protocol = protocol_version::v3_2;
    tls_settings server_tls;

    /// True when servers opened under `other` may go on serving under this one: same place, same login, same start.
    bool same_connection(const pool_settings &other) const;
    /// With the reserve. Of a pool_size that is a limit.
    std::int64_t most_servers() const { return std::int64_t{pool_size} + reserve_pool_size; }
};

/// What holds for one client, after it has said who it is. Zero = off.
struct client_limits {
    int max_db_client_connections = 0;
    int max_user_client_connections = 0;
    base::duration client_idle_timeout{0}, query_wait_timeout{0}, query_timeout{0}, idle_transaction_timeout{0},
        transaction_timeout{0};
};

/// Resolves (database, user) as the client names them; `entry` comes from find_database(database).
pool_settings resolve_pool(const settings &, const database &entry, std::string_view database, std::string_view user);
client_limits resolve_client(const settings &, const database &entry, std::string_view user);

}  // namespace pgsluice::config
