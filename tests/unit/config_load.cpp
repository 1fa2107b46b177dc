// The whole configuration: what is refused, with its exact line; what is warned of; what is taken.
#include <gtest/gtest.h>

#include "config/load.hpp"
#include "config/settings_table.hpp"
#include "unit/config_support.hpp"

namespace pgsluice::config {
namespace {

using test::fault_of;
using test::load_files;
using test::load_text;
using test::memory_files;
using test::warnings_of;

/// `lines` stand from line 4 on: in [pgbouncer], after one good database and the auth_file.
auto load_global(const std::string &lines) {
    return load_text("[databases]\ndb = host=h user=u\n[pgbouncer] auth_file = users.txt\n" + lines + "\n");
}
/// `line` is line 3, in the given section.
auto load_entry(const std::string &section, const std::string &line) {
    return load_text("[pgbouncer] auth_file = users.txt\n[" + section + "]\n" + line + "\n");
}

TEST(config_load, the_documented_application_configuration) {
    const auto result = load_files({{"p.ini",
                                     "[databases]\n"
                                     "app = host=127.0.0.1 port=5432 dbname=app\n"
                                     "[pgbouncer]\n"
                                     "listen_port = 6432\nlisten_addr = 127.0.0.1\nauth_type = scram-sha-256\n"
                                     "auth_file = /etc/userlist.txt\npool_mode = transaction\n"
                                     "max_client_conn = 200\ndefault_pool_size = 20\n"},
                                    {"/etc/userlist.txt", "\"app\" \"strongpassword\"\n"}});
    ASSERT_EQ(fault_of(result), "");
    EXPECT_EQ(warnings_of(result), "");
    const auto &all = *result->value;
    EXPECT_EQ(all.file, "p.ini");
    EXPECT_EQ(all.global.listen_port, 6432);
    EXPECT_EQ(all.global.listen_addr, std::vector<std::string>{"127.0.0.1"});
    EXPECT_EQ(all.global.auth_type, auth_type::scram_sha_256);
    EXPECT_EQ(all.global.pool_mode, pool_mode::transaction);
    EXPECT_EQ(all.global.max_client_conn, 200);
    const auto pool = resolve_pool(all, *all.find_database("app"), "app", "app");
    EXPECT_EQ(pool.hosts, std::vector<std::string>{"127.0.0.1"});
    EXPECT_EQ(pool.server_dbname, "app");
    EXPECT_EQ(pool.pool_size, 20);
    const auto &credential = all.credentials.at("app");
    ASSERT_TRUE(credential.verifier);
    EXPECT_EQ(credential.verifier->iterations, 4096);
    EXPECT_EQ(credential.verifier->salt.size(), 16U);
}

TEST(config_load, refused_settings) {
    const std::vector<std::pair<std::string, std::string>> table{
        {"listen_port = 0", "listen_port = 0: must be from 1 to 65535"},
        {"listen_port = 65536", "listen_port = 65536: must be from 1 to 65535"},
        {"Max_Client_Conn = yes", "max_client_conn = yes: must be a whole number"},
        {"default_pool_size = -1", "default_pool_size = -1: must be from 0 to 2147483647"},
        {"worker_threads = 1025", "worker_threads = 1025: must be from 0 to 1024"},
        {"log_connections = yes", "log_connections = yes: must be 0 or 1"},
        {"server_lifetime = 1y",
         "server_lifetime = 1y: must be a number of seconds, or a number with us, ms, s, min, h or d behind it"},
        {"server_lifetime = -1", "server_lifetime = -1: must be from 0 to 2147483647 seconds"},
        {"listen_addr = 127.0.0.1 ::1",
         "listen_addr = 127.0.0.1 ::1: \"127.0.0.1 ::1\" is no address; a comma stands between two"},
        {"pool_mode = query", "pool_mode = query: must be session, transaction or statement"},
        {"auth_type = peer", "auth_type = peer: must be any, trust, plain, md5, scram-sha-256, cert, hba, pam or ldap"},
        {"auth_type = cert", "auth_type = cert needs client_tls_sslmode = verify-ca or verify-full"},
        {"auth_type = LDAP", "auth_type = ldap needs auth_ldap_options"},
        {"listen_prot = 6432", "unknown parameter \"listen_prot\" in [pgbouncer]"},
        {"service_name = x", "unknown parameter \"service_name\" in [pgbouncer]"},
        {"auth_dbname = pgbouncer", "auth_dbname = pgbouncer: the name is reserved for the admin console"},
        {"auth_ldap_options = hunter2",
         "auth_ldap_options: behind the method stand options as name=value; a value with blanks or # in it needs "
         "quotes"},
        {"client_tls_sslmode = on",
         "client_tls_sslmode = on: must be disable, allow, prefer, require, verify-ca or verify-full"},
        {"client_tls_sslmode = allow", "client_tls_sslmode = allow needs client_tls_key_file and client_tls_cert_file"},
        {"syslog_facility = mail", "syslog_facility = mail: must be auth, authpriv, daemon, user or local0 to local7"},
        {"client_tls_dheparams = 1024", "client_tls_dheparams = 1024: must be auto, none or legacy"},
        {"client_tls_protocols = sslv3",
         "client_tls_protocols = sslv3: must list tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3, secure or all, each perhaps with "
         "a ! before it"},
        {"client_tls_protocols = tlsv1.3,!tlsv1.3",
         "client_tls_protocols = tlsv1.3,!tlsv1.3: must leave one version at least"},
        {"server_tls_sslmode = verify-ca", "server_tls_sslmode = verify-ca needs server_tls_ca_file"},
        {"server_tls_key_file = k", "server_tls_key_file and server_tls_cert_file go together"},
        {"server_tls_cert_file = c", "server_tls_key_file and server_tls_cert_file go together"},
        {"server_tls_negotiation = direct",
         "server_tls_negotiation = direct needs server_tls_sslmode = require or more"},
        {"max_packet_size = 1kb",
         "max_packet_size = 1kb: must be a whole number, or one with B, kB, MB or GB behind it"},
        {"tcp_keepidle = 1500ms", "tcp_keepidle = 1500ms: must be a whole number of seconds"},
        {"tcp_keepidle = 1d", "tcp_keepidle = 1d: must be from 0 to 32767 seconds"},
        {"tcp_socket_buffer = 2GB", "tcp_socket_buffer = 2GB: must be from 0 to 2147483647 bytes"},
        {"%include gone.ini", "\"gone.ini\": No such file or directory"},
        {"nonsense", "syntax error: expected name = value"},
    };
    for (const auto &[line, text] : table) EXPECT_EQ(fault_of(load_global(line)), "p.ini:4: " + text);
}

TEST(config_load, refused_databases) {
    const std::string long_name(64, 'd');
    const std::vector<std::pair<std::string, std::string>> table{
        {"db = port=0", "database \"db\": port = 0: must be from 1 to 65535"},
        {"db = port=65536", "database \"db\": port = 65536: must be from 1 to 65535"},
        {"db = port=abc", "database \"db\": port = abc: must be a whole number"},
        {"db = port=' 1'", "database \"db\": port =  1: must be a whole number"},
        {"db = pool_size=5s", "database \"db\": pool_size = 5s: must be a whole number"},
        {"db = pool_size=-2", "database \"db\": pool_size = -2: must be from -1 to 2147483647"},
        {"db = server_lifetime=1H",
         "database \"db\": server_lifetime = 1H: must be a number of seconds, or a number with us, ms, s, min, h or d "
         "behind it"},
        {"db = pool_mode=x", "database \"db\": pool_mode = x: must be session, transaction or statement"},
        {"db = load_balance_hosts=on", "database \"db\": load_balance_hosts = on: must be round-robin or disable"},
        {"db = host=a,,b", "database \"db\": host = a,,b: has an empty host in its list"},
        {"db = dbname=''", "database \"db\": dbname must not be empty"},
        {"db = dbname=" + long_name, "database \"db\": dbname is longer than 63 bytes"},
        {"db = user=''", "database \"db\": user must not be empty"},
        {"db = user=" + std::string(128, 'u'), "database \"db\": user is longer than 127 bytes"},
        {"db = sslmode=require", "database \"db\": unrecognized connection parameter: sslmode"},
        {"db = HOST=h", "database \"db\": unrecognized connection parameter: HOST"},
        {"db = auth_dbname=pgbouncer", "database \"db\": auth_dbname is reserved for the admin console"},
        {"db = host", "database \"db\": syntax error: expected key=value at position 1"},
        {"db = host=h port=", "database \"db\": syntax error: empty value at position 13"},
        {"pgbouncer = host=h", "database \"pgbouncer\": the name is reserved for the admin console"},
        {"pgsluice = host=h", "database \"pgsluice\": the name is reserved for the admin console"},
        {long_name + " = host=h", "database \"" + long_name + "\": the name is longer than 63 bytes"},
    };
    for (const auto &[line, text] : table) EXPECT_EQ(fault_of(load_entry("databases", line)), "p.ini:3: " + text);
    EXPECT_EQ(fault_of(load_entry("databases", std::string(63, 'd') + " =")), "");
}

TEST(config_load, refused_users_and_peers) {
    const std::vector<std::pair<std::string, std::string>> users{
        {"u = query_timeout=5m",
         "user \"u\": query_timeout = 5m: must be a number of seconds, or a number with us, ms, s, min, h or d behind "
         "it"},
        {"u = client_idle_timeout=abc",
         "user \"u\": client_idle_timeout = abc: must be a number of seconds, or a number with us, ms, s, min, h or d "
         "behind it"},
        {"u = pool_size=x", "user \"u\": pool_size = x: must be a whole number"},
        {"u = pool_mode=x", "user \"u\": pool_mode = x: must be session, transaction or statement"},
        {"u = host=h", "user \"u\": unrecognized user parameter: host"},
        {std::string(128, 'u') + " =", "user \"" + std::string(128, 'u') + "\": the name is longer than 127 bytes"},
    };
    for (const auto &[line, text] : users) EXPECT_EQ(fault_of(load_entry("users", line)), "p.ini:3: " + text);
    EXPECT_EQ(fault_of(load_entry("users", std::string(127, 'u') + " =")), "");
    const auto again = load_entry("users", "a = pool_size=1 pool_mode=session\nb =\na = pool_size=2");
    ASSERT_EQ(fault_of(again), "") << "the last one holds, as a whole";
    EXPECT_EQ(again->value->users.at("a").pool_size, 2);
    EXPECT_EQ(again->value->users.at("a").pool_mode, std::nullopt);

    const std::vector<std::pair<std::string, std::string>> peers{
        {"x = host=h", "peer \"x\": the name must be a whole number"},
        {"0 = host=h", "peer \"0\": the name must be from 1 to 65535"},
        {"1 = port=1", "peer \"1\": host was not provided"},
        {"1 = host=h dbname=d", "peer \"1\": unrecognized connection parameter: dbname"},
    };
    for (const auto &[line, text] : peers) EXPECT_EQ(fault_of(load_entry("peers", line)), "p.ini:3: " + text);
    const auto good =
        load_entry("peers", "1 = host=h port=6433 pool_size=3\n65535 = host=/run\n7 = host=a,b pool_size=-1");
    ASSERT_EQ(fault_of(good), "");
    const std::map<int, peer> read{
        {1, {1, {"h"}, 6433, 3}}, {7, {7, {"a", "b"}, 6432, {}}}, {65535, {65535, {"/run"}, 6432, {}}}};
    EXPECT_EQ(good->value->peers, read);
}

TEST(config_load, a_password_is_never_shown) {
    const auto fault = fault_of(load_entry("databases", "db = password='s3cret' port=x"));
    EXPECT_EQ(fault, "p.ini:3: database \"db\": port = x: must be a whole number");
    for (const auto *line : {"db = password='s3cret", "db = password='s3cret'x", "db password=s3cret"})
        EXPECT_EQ(fault_of(load_entry("databases", line)).find("s3cret"), std::string::npos) << line;
}

TEST(config_load, sections) {
    EXPECT_EQ(fault_of(load_text("[databases]\n")), "p.ini: there is no [pgbouncer] (or [pgsluice]) section");
    EXPECT_EQ(fault_of(load_text("[pgbouncer]\n[tables]\n")),
              "p.ini:2: unknown section [tables]; there are [pgbouncer] (or [pgsluice]), [databases], [users] and "
              "[peers]");
    EXPECT_EQ(fault_of(load_text("[PgBouncer]\n")).substr(0, 32), "p.ini:1: unknown section [PgBoun");
    EXPECT_EQ(fault_of(load_files({})), "p.ini: No such file or directory");

    // Opened again, and under its other name: merged, where PgBouncer would fall back to the defaults.
    const auto merged = load_text(
        "[pgbouncer]\nauth_file = users.txt\nlisten_port = 1000\nverbose = 1\n[databases]\na =\n[pgsluice]\n"
        "verbose = 2\n[databases]\nb =\n");
    ASSERT_EQ(fault_of(merged), "");
    EXPECT_EQ(merged->value->global.listen_port, 1000);
    EXPECT_EQ(merged->value->global.verbose, 2);
    EXPECT_EQ(merged->value->databases.size(), 2U);
    EXPECT_EQ(warnings_of(merged),
              "p.ini:7: section [pgsluice] goes on from p.ini:1\np.ini:9: section [databases] goes on from p.ini:5\n");
}

TEST(config_load, the_last_one_holds) {
    const auto result = load_files({{"p.ini",
                                     "[databases]\na = host=x port=1\na = host=y\n[pgbouncer]\nverbose = 1\n"
                                     "auth_file = gone.txt\n%include more.ini\nauth_file = users.txt\n"},
                                    {"more.ini", "verbose = 3"},
                                    {"users.txt", ""}});
    ASSERT_EQ(fault_of(result), "");
    EXPECT_EQ(result->value->global.verbose, 3);
    EXPECT_EQ(result->value->databases.at("a").hosts, std::vector<std::string>{"y"});
    EXPECT_EQ(result->value->databases.at("a").port, 5432);
}

TEST(config_load, names_keep_their_case) {
    const auto result = load_text(
        "[databases]\nDb = port=1\ndb = port=2\n'we ird' =\n[users]\nU =\nu =\n[pgbouncer]\n"
        "AUTH_FILE = users.txt\n");
    ASSERT_EQ(fault_of(result), "");
    EXPECT_EQ(result->value->databases.size(), 3U);
    EXPECT_EQ(result->value->users.size(), 2U);
}

TEST(config_load, peers_without_peer_id_are_warned_of) {
    const std::string peers = "auth_file = users.txt\n[databases]\na =\n[peers]\n1 = host=h\n2 = host=i";
    EXPECT_EQ(warnings_of(load_text("[pgbouncer]\n" + peers)), "p.ini:6: [peers] has no effect without peer_id\n");
    EXPECT_EQ(warnings_of(load_text("[pgbouncer]\npeer_id = 1\n" + peers)), "");
}

TEST(config_load, tls_of_both_legs) {
    const auto result = load_global(
        "client_tls_sslmode = Verify-Full\nclient_tls_key_file = k\nclient_tls_cert_file = c\nclient_tls_ca_file = a\n"
        "client_tls_protocols = tlsv1.3\nserver_tls_sslmode = require\nserver_tls_negotiation = direct");
    ASSERT_EQ(fault_of(result), "");
    const auto clients = result->value->global.client_tls(), servers = result->value->global.server_tls();
    EXPECT_EQ(clients.mode, sslmode::verify_full);
    EXPECT_EQ(clients.key_file + clients.cert_file + clients.ca_file, "kca");
    EXPECT_EQ(clients.protocols.set, tls_protocols::v1_3);
    EXPECT_EQ(servers.mode, sslmode::require);
    EXPECT_EQ(servers.negotiation, tls_negotiation::direct);
    EXPECT_EQ(global_settings{}.server_tls().mode, sslmode::prefer);
    for (const auto *missing : {"client_tls_key_file", "client_tls_cert_file", "client_tls_ca_file"}) {
        std::string lines = "client_tls_sslmode = verify-ca\n";
        for (const auto *name : {"client_tls_key_file", "client_tls_cert_file", "client_tls_ca_file"})
            if (std::string(name) != missing) lines += std::string(name) + " = x\n";
        EXPECT_NE(fault_of(load_global(lines)).find(missing), std::string::npos) << missing;
    }
}

TEST(config_load, set_takes_one_by_one_what_goes_together) {
    auto running = load_text("[pgbouncer]\nauth_file = users.txt\nauth_type = md5\n")->value;
    const test::memory_files files{{{"users.txt", "\"app\" \"strongpassword\"\n"}}};
    const auto set = [&](const char *name, const char *value) {
        const auto it = load_one(*running, name, value, files, "salt key");
        EXPECT_EQ(fault_of(it), "") << name;
        if (it.has_error()) return std::string("refused");
        running = it->value;
        return it->tls_gap;
    };
    const std::string pair = "server_tls_key_file and server_tls_cert_file go together";
    EXPECT_EQ(set("server_tls_key_file", "k"), pair);
    EXPECT_EQ(set("default_pool_size", "7"), pair) << "it is still there";
    EXPECT_EQ(set("server_tls_cert_file", "c"), "");
    EXPECT_EQ(set("server_tls_sslmode", "verify-ca"), "server_tls_sslmode = verify-ca needs server_tls_ca_file");
    EXPECT_EQ(set("server_tls_ca_file", "a"), "");
    EXPECT_EQ(set("server_tls_ca_file", ""), "server_tls_sslmode = verify-ca needs server_tls_ca_file");
    EXPECT_EQ(set("server_tls_sslmode", "prefer"), "");
    EXPECT_EQ(set("server_tls_negotiation", "direct"),
              "server_tls_negotiation = direct needs server_tls_sslmode = require or more");
    EXPECT_EQ(set("server_tls_sslmode", "require"), "");
    EXPECT_EQ(set("client_tls_sslmode", "verify-ca"),
              "client_tls_sslmode = verify-ca needs client_tls_key_file and client_tls_cert_file");
    set("client_tls_key_file", "k");
    EXPECT_EQ(set("client_tls_cert_file", "c"), "client_tls_sslmode = verify-ca needs client_tls_ca_file");
    EXPECT_EQ(set("client_tls_ca_file", "a"), "");
    EXPECT_EQ(set("client_tls_sslmode", "disable"), "");
    EXPECT_EQ(set("auth_type", "cert"), "") << "nobody gets in, which is no matter of TLS";
    EXPECT_EQ(set("auth_type", "hba"), "");
    EXPECT_TRUE(running->hba->all().empty()) << "nor here";
    // A value that is wrong by itself is no gap.
    EXPECT_TRUE(load_one(*running, "client_tls_dheparams", "1024", files, "salt key").has_error());
    EXPECT_TRUE(load_one(*running, "auth_hba_file", "gone", files, "salt key").has_error());
}

TEST(config_load, open_doors_are_warned_of) {
    const std::string open = " asks for no password, and listen_addr reaches beyond this machine\n";
    EXPECT_EQ(warnings_of(load_global("auth_type = trust")), "");
    EXPECT_EQ(warnings_of(load_global("listen_addr = 127.0.0.1, ::1\nauth_type = trust")), "");
    EXPECT_EQ(warnings_of(load_global("listen_addr = *\nauth_type = md5")), "");
    EXPECT_EQ(warnings_of(load_global("listen_addr = *\nauth_type = trust")), "p.ini:5: auth_type = trust" + open);
    EXPECT_EQ(warnings_of(load_global("auth_type = any\nlisten_addr = 127.0.0.1,10.0.0.1")),
              "p.ini:4: auth_type = any" + open);
    EXPECT_EQ(warnings_of(load_text("[pgbouncer]\nauth_type = any\n[databases]\na = user=u\nb =\n")),
              "p.ini:5: database \"b\" has no user, so nobody can use it with auth_type = any\n");
    EXPECT_EQ(warnings_of(load_text("[pgbouncer]\nauth_file = users.txt\n")),
              "p.ini: no entry in [databases]: no client can connect\n");
}

TEST(config_load, an_auth_dbname_that_is_not_there_is_warned_of) {
    const std::string start = "[pgbouncer]\nauth_user = asker\n", none =
                                                                      ": there is no such entry in [databases], so "
                                                                      "auth_query can not be asked\n";
    EXPECT_EQ(warnings_of(load_text(start + "auth_dbname = nosuch\n[databases]\na =\n")),
              "p.ini:3: auth_dbname = nosuch" + none);
    EXPECT_EQ(warnings_of(load_text(start + "[databases]\na = auth_dbname=nosuch\nb = auth_dbname=a\n")),
              "p.ini:4: database \"a\": auth_dbname = nosuch" + none);
    EXPECT_EQ(warnings_of(load_text(start + "auth_dbname = nosuch\n[databases]\n* =\n")), "");
    EXPECT_EQ(warnings_of(load_text(start + "auth_dbname = a\n[databases]\na =\n")), "");
    EXPECT_EQ(warnings_of(load_text("[pgbouncer]\nauth_type = any\nauth_dbname = x\n[databases]\na = user=u\n")), "")
        << "nobody has an auth_user";
}

TEST(config_load, auth_file) {
    const std::string needed = " needs auth_file or auth_user: without them nobody can log in\n";
    EXPECT_EQ(warnings_of(load_text("[pgbouncer]\n[databases]\na =\n")), "p.ini: auth_type = md5" + needed);
    EXPECT_EQ(warnings_of(load_text("[pgbouncer]\nauth_type = trust\n[databases]\na =\n")),
              "p.ini:2: auth_type = trust" + needed);
    EXPECT_EQ(fault_of(load_text("[pgbouncer]\nauth_type = any\n[databases]\na = user=u\n")), "");

    const std::string ini = "[pgbouncer]\nauth_file = users.txt\n[databases]\na =\n";
    const auto twice = load_files({{"p.ini", ini}, {"users.txt", "\"a\" \"x\"\n\"b\" \"y\"\n\"a\" \"z\"\n"}});
    ASSERT_EQ(fault_of(twice), "");
    EXPECT_EQ(twice->value->credentials.at("a").text.reveal(), "z");
    EXPECT_EQ(warnings_of(twice).substr(0, 13), "users.txt:3: ");
    const auto broken = fault_of(load_files({{"p.ini", ini}, {"users.txt", "; good\nbroken\n"}}));
    EXPECT_EQ(broken.substr(0, 13), "users.txt:2: ");
}

// As in PgBouncer (1.18, run): it starts, and a reload keeps the users that it has.
TEST(config_load, an_auth_file_that_can_not_be_read_takes_nobody_away) {
    const std::string ini = "[pgbouncer]\nauth_file = users.txt\nauth_type = scram-sha-256\n[databases]\na =\n";
    const auto without = load_files({{"p.ini", ini}});
    ASSERT_EQ(fault_of(without), "");
    EXPECT_EQ(warnings_of(without), "p.ini:2: auth_file = users.txt: No such file or directory; no user is known\n");
    EXPECT_TRUE(without->value->credentials.empty());
    const auto with = load_files({{"p.ini", ini}, {"users.txt", "\"a\" \"x\"\n"}});
    const auto again = load_files({{"p.ini", ini}}, with->value.get());
    ASSERT_EQ(fault_of(again), "");
    EXPECT_EQ(warnings_of(again),
              "p.ini:2: auth_file = users.txt: No such file or directory; the users read before are kept\n");
    EXPECT_TRUE(again->value->credentials.at("a").verifier);
    const auto other =
        load_files({{"p.ini", "[databases]\na =\n[pgbouncer]\nauth_file = gone.txt\n"}}, with->value.get());
    EXPECT_EQ(other->value->credentials.size(), 1U) << "also when it is another file";
}

TEST(config_load, check_finds_every_problem) {
    const memory_files files{{{"p.ini",
                               "[pgbouncer]\nlisten_port = x\nauth_type = peer\nnonsense\nlisten_port = 7\n"
                               "auth_file = users.txt\nserver_tls_sslmode = verify-ca\nserver_tls_key_file = k\n"
                               "[tables]\na = b\n[databases]\ndb = port=0\ndb = host=h\n[users]\nu = x=1\n"},
                              {"users.txt", "broken\n\"a\" \"x\"\n\"a\" \"y\"\n"}}};
    const auto all = check("p.ini", files);
    std::string errors, warnings;
    for (const auto &it : all.errors) errors += to_string(it).substr(0, to_string(it).find(' ')) + " ";
    for (const auto &it : all.warnings) warnings += to_string(it) + "\n";
    EXPECT_EQ(errors, "p.ini:4: p.ini:9: p.ini:2: p.ini:3: p.ini:12: p.ini:15: p.ini:7: p.ini:8: users.txt:1: ");
    EXPECT_EQ(warnings,
              "p.ini:5: listen_port is given again; p.ini:2 has no effect\n"
              "p.ini:13: db is given again; p.ini:12 has no effect\n"
              "users.txt:3: user was named before, on line 2\n");
    EXPECT_EQ(all.value->global.listen_port, 7);
    EXPECT_EQ(to_string(check("gone.ini", files).errors.at(0)), "gone.ini: No such file or directory");
    EXPECT_EQ(check("gone.ini", files).errors.size(), 1U) << "and nothing that follows from it";
}

TEST(config_load, what_a_reload_changes_is_told) {
    const auto of = [](const std::string &databases, const std::string &users, const std::string &secrets) {
        return load_files(
            {{"p.ini", "[pgbouncer]\nauth_file = users.txt\n[databases]\n" + databases + "[users]\n" + users},
             {"users.txt", secrets}});
    };
    const auto before = of("a = host=h password=x pool_size=5\nb =\n* = port=1\n", "u = pool_size=1\nv =\n",
                           "\"a\" \"x\"\n\"b\" \"y\"\n");
    const auto now = of("a = host=h,i password=y timezone=utc\nc =\n* = port=2\n", "u = query_timeout=2min\nw =\n",
                        "\"a\" \"z\"\n\"c\" \"y\"\n\"d\" \"y\"\n");
    EXPECT_EQ(
        changes(*before->value, *now->value),
        (std::vector<std::string>{
            "removed: database b", "changed: database *: port = 2 (was 1)",
            "changed: database a: host = h,i (was h), password, pool_size = none (was 5), timezone = utc (was none)",
            "added: database c", "removed: user v",
            "changed: user u: pool_size = none (was 1), query_timeout = 120 (was none)", "added: user w",
            "changed: users of auth_file: 2 added, 1 removed, 1 with another secret"}));
    EXPECT_TRUE(changes(*now->value, *now->value).empty());
}

TEST(config_load, verifiers_are_made_for_plain_passwords_under_scram_only) {
    const std::string users =
        "\"plain\" \"pw\"\n\"empty\" \"\"\n\"md5\" \"md5d41d8cd98f00b204e9800998ecf8427e\"\n\"same\" \"pw\"\n";
    const std::string ini = "[databases]\na =\n[pgbouncer]\nauth_file = users.txt\nscram_iterations = 1\nauth_type = ";
    const auto scram = load_files({{"p.ini", ini + "scram-sha-256"}, {"users.txt", users}});
    ASSERT_EQ(fault_of(scram), "");
    const auto &made = scram->value->credentials;
    ASSERT_TRUE(made.at("plain").verifier && made.at("same").verifier);
    EXPECT_EQ(made.at("plain").verifier->iterations, 1);
    EXPECT_NE(made.at("plain").verifier->salt, made.at("same").verifier->salt);
    EXPECT_FALSE(made.at("empty").verifier);
    EXPECT_FALSE(made.at("md5").verifier);

    const auto md5 = load_files({{"p.ini", ini + "md5"}, {"users.txt", users}});
    ASSERT_EQ(fault_of(md5), "");
    EXPECT_FALSE(md5->value->credentials.at("plain").verifier);
}

TEST(config_load, verifiers_may_be_made_in_any_order) {
    std::string users;
    for (int i = 0; i < 20; ++i) users += "\"u" + std::to_string(i) + "\" \"password" + std::to_string(i) + "\"\n";
    const test::memory_files files{
        {{"p.ini",
          "[databases]\na =\n[pgbouncer]\nauth_file = users.txt\nauth_type = scram-sha-256\nscram_iterations = 2"},
         {"users.txt", users}}};
    std::size_t asked = 0;
    const auto backwards = [&](std::size_t count, const std::function<void(std::size_t)> &one) {
        asked += count;
        while (count > 0) one(--count);
    };
    const auto usual = load("p.ini", files, "salt key");
    const auto other = load("p.ini", files, "salt key", nullptr, this_build(), backwards);
    ASSERT_EQ(fault_of(usual) + fault_of(other), "");
    EXPECT_EQ(asked, 20U);
    for (const auto &[user, it] : usual->value->credentials) {
        const auto &same = other->value->credentials.at(user);
        ASSERT_TRUE(it.verifier && same.verifier) << user;
        EXPECT_EQ(it.verifier->salt, same.verifier->salt) << user;
        EXPECT_TRUE(it.verifier->stored_key.equals(same.verifier->stored_key)) << user;
    }
    // None is left to be made.
    asked = 0;
    EXPECT_EQ(fault_of(load("p.ini", files, "salt key", usual->value.get(), this_build(), backwards)), "");
    EXPECT_EQ(asked, 0U);
}

TEST(config_load, a_reload_uses_verifiers_again_where_nothing_changed) {
    const auto ini = [](const std::string &iterations) {
        return "[databases]\na =\n[pgbouncer]\nauth_file = users.txt\nauth_type = scram-sha-256\nscram_iterations = " +
               iterations;
    };
    const auto first = load_files({{"p.ini", ini("2")}, {"users.txt", "\"a\" \"one\"\n\"b\" \"two\"\n"}});
    ASSERT_EQ(fault_of(first), "");
    // Mark the running verifiers, so that a verifier used again can be told from one made anew.
    auto running = *first->value;
    for (auto &[name, credential] : running.credentials) credential.verifier->salt = "marked";
    const auto salts = [&](const std::string &iterations, const std::string &users) {
        const auto next = load_files({{"p.ini", ini(iterations)}, {"users.txt", users}}, &running);
        EXPECT_EQ(fault_of(next), "");
        std::string used;
        for (const auto &[name, credential] : next->value->credentials)
            used += name + (credential.verifier->salt == "marked" ? "=" : "!");
        return used;
    };
    EXPECT_EQ(salts("2", "\"a\" \"one\"\n\"b\" \"two\"\n"), "a=b=");
    EXPECT_EQ(salts("2", "\"a\" \"changed\"\n\"b\" \"two\"\n\"c\" \"new\"\n"), "a!b=c!");
    EXPECT_EQ(salts("3", "\"a\" \"one\"\n\"b\" \"two\"\n"), "a!b!");
}

// Each line of a good file in turn is made bad: the fault names that line, or the line was a comment.
TEST(config_load, every_corrupt_line_is_named) {
    const std::vector<std::string> lines{"; a comment",
                                         "[databases]",
                                         "app = host=127.0.0.1 port=5432 dbname=app",
                                         "# another",
                                         "'we ird' = pool_size=5 connect_query='select 1'",
                                         "[users]",
                                         "app = pool_mode=session query_timeout=5",
                                         "[pgbouncer]",
                                         "listen_port = 6432",
                                         "pool_mode = transaction",
                                         "server_lifetime = 3600",
                                         "auth_type = scram-sha-256",
                                         "auth_file = users.txt",
                                         "log_connections = 1",
                                         "listen_addr = 127.0.0.1"};
    const std::vector<std::function<std::string(const std::string &)>> corruptions{
        [](const std::string &line) { return "!" + line; },
        [](const std::string &line) { return line + " no_such=1"; },
        [](const std::string &line) { return line.substr(0, line.find_first_of("=]")); },
        [](const std::string &line) { return line + std::string(1, '\0'); },
    };
    for (std::size_t bad = 0; bad < lines.size(); ++bad) {
        for (std::size_t way = 0; way < corruptions.size(); ++way) {
            const bool comment = lines[bad].front() == ';' || lines[bad].front() == '#';
            // A comment stays one, unless something stands before its mark or it holds a NUL.
            if (comment && way != 1 && way != 2) continue;
            std::string text;
            for (std::size_t i = 0; i < lines.size(); ++i)
                text += (i == bad ? corruptions[way](lines[i]) : lines[i]) + "\n";
            const auto result = load_text(text);
            // A file that can not be read is only warned of.
            const auto fault =
                lines[bad].starts_with("auth_file") ? fault_of(result) + warnings_of(result) : fault_of(result);
            const auto named = "p.ini:" + std::to_string(bad + 1) + ": ";
            EXPECT_EQ(fault.substr(0, named.size()), comment ? "" : named) << text << fault;
        }
    }
}

}  // namespace
}  // namespace pgsluice::config
