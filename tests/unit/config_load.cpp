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
using test::warnings_of;

const std::string lacks = ": not in this version; refused, since starting without it would be weaker than asked";
const std::string no_effect = " is known from PgBouncer but has no effect in this version\n";

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
        {"server_lifetime = 1h", "server_lifetime = 1h: must be a number of seconds, without a unit"},
        {"server_lifetime = -1", "server_lifetime = -1: must be from 0 to 2147483647 seconds"},
        {"listen_addr = 127.0.0.1 ::1",
         "listen_addr = 127.0.0.1 ::1: \"127.0.0.1 ::1\" is no address; a comma stands between two"},
        {"pool_mode = query", "pool_mode = query: must be session, transaction or statement"},
        {"auth_type = peer", "auth_type = peer: must be any, trust, plain, md5, scram-sha-256, cert, hba, pam or ldap"},
        {"auth_type = cert", "auth_type = cert needs client_tls_sslmode = verify-ca or verify-full"},
        {"auth_type = LDAP", "auth_type = ldap needs auth_ldap_options"},
        {"listen_prot = 6432", "unknown setting \"listen_prot\" in [pgbouncer]"},
        {"service_name = x", "unknown setting \"service_name\" in [pgbouncer]"},
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
        {"auth_file = gone.txt", "auth_file = gone.txt: No such file or directory"},
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
        {"db = server_lifetime=1h",
         "database \"db\": server_lifetime = 1h: must be a number of seconds, without a unit"},
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
        {"u = query_timeout=5s", "user \"u\": query_timeout = 5s: must be a number of seconds, without a unit"},
        {"u = client_idle_timeout=abc",
         "user \"u\": client_idle_timeout = abc: must be a number of seconds, without a unit"},
        {"u = pool_size=x", "user \"u\": pool_size = x: must be a whole number"},
        {"u = pool_mode=x", "user \"u\": pool_mode = x: must be session, transaction or statement"},
        {"u = host=h", "user \"u\": unrecognized user parameter: host"},
        {std::string(128, 'u') + " =", "user \"" + std::string(128, 'u') + "\": the name is longer than 127 bytes"},
    };
    for (const auto &[line, text] : users) EXPECT_EQ(fault_of(load_entry("users", line)), "p.ini:3: " + text);
    EXPECT_EQ(fault_of(load_entry("users", std::string(127, 'u') + " =")), "");
    EXPECT_EQ(fault_of(load_entry("users", "a = pool_size=1\nb =\na = pool_size=2")),
              "p.ini:5: user \"a\" is named twice; first in p.ini:3");

    const std::vector<std::pair<std::string, std::string>> peers{
        {"x = host=h", "peer \"x\": the name must be a whole number"},
        {"0 = host=h", "peer \"0\": the name must be from 1 to 65535"},
        {"1 = port=1", "peer \"1\": host was not provided"},
        {"1 = host=h dbname=d", "peer \"1\": unrecognized connection parameter: dbname"},
    };
    for (const auto &[line, text] : peers) EXPECT_EQ(fault_of(load_entry("peers", line)), "p.ini:3: " + text);
    EXPECT_EQ(fault_of(load_entry("peers", "1 = host=h port=6432 pool_size=3")), "");
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

TEST(config_load, settings_without_effect_are_warned_of) {
    for (const auto &known : known_settings()) {
        const auto name = std::string(known.name);
        if (known.kind == known_class::harmless) {
            EXPECT_EQ(warnings_of(load_global(name + " = 1")), "p.ini:4: setting " + name + no_effect);
            continue;
        }
        EXPECT_EQ(fault_of(load_global(name + " = x")), "p.ini:4: " + name + " = x" + lacks);
        const auto empty = load_global(name + " =");
        EXPECT_EQ(fault_of(empty) + warnings_of(empty), "");
        const auto nothing = std::string(known.nothing.substr(0, known.nothing.find(',')));
        const auto given = load_global(name + " = " + nothing);
        EXPECT_EQ(fault_of(given) + warnings_of(given), "");
    }
    EXPECT_EQ(warnings_of(load_text("[pgbouncer]\nauth_file = users.txt\n[databases]\na =\n[peers]\n1 = host=h")),
              "p.ini:5: section [peers] has no effect in this version\n");
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

TEST(config_load, auth_file) {
    EXPECT_EQ(fault_of(load_text("[pgbouncer]\n[databases]\na =\n")),
              "p.ini: auth_type = md5 needs auth_file: without it nobody can log in");
    EXPECT_EQ(fault_of(load_text("[pgbouncer]\nauth_type = trust\n")),
              "p.ini:2: auth_type = trust needs auth_file: without it nobody can log in");
    EXPECT_EQ(fault_of(load_text("[pgbouncer]\nauth_type = any\n[databases]\na = user=u\n")), "");

    const std::string ini = "[pgbouncer]\nauth_file = users.txt\n[databases]\na =\n";
    const auto twice = fault_of(load_files({{"p.ini", ini}, {"users.txt", "\"a\" \"x\"\n\"b\" \"y\"\n\"a\" \"z\"\n"}}));
    EXPECT_EQ(twice.substr(0, 13), "users.txt:3: ");
    const auto broken = fault_of(load_files({{"p.ini", ini}, {"users.txt", "; good\nbroken\n"}}));
    EXPECT_EQ(broken.substr(0, 13), "users.txt:2: ");
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
            const auto fault = fault_of(load_text(text));
            const auto named = "p.ini:" + std::to_string(bad + 1) + ": ";
            EXPECT_EQ(fault.substr(0, named.size()), comment ? "" : named) << text << fault;
        }
    }
}

}  // namespace
}  // namespace pgsluice::config
