// Which value holds for a pool and for a client: user before database before [pgbouncer].
#include <gtest/gtest.h>

#include "unit/config_support.hpp"

namespace pgsluice::config {
namespace {

std::shared_ptr<const settings> make(const std::string &databases, const std::string &users = "",
                                     const std::string &global = "") {
    const auto result = test::load_text("[pgbouncer]\nauth_file=users.txt\n" + global + "\n[databases]\n" + databases +
                                        "\n[users]\n" + users);
    EXPECT_EQ(test::fault_of(result), "");
    return result.has_value() ? result->value : std::make_shared<const settings>();
}

pool_settings pool(const settings &all, const std::string &database, const std::string &user) {
    return resolve_pool(all, *all.find_database(database), database, user);
}
client_limits client(const settings &all, const std::string &database, const std::string &user) {
    return resolve_client(all, *all.find_database(database), user);
}

TEST(config_resolve, database_by_name_then_wildcard_then_none) {
    const auto named = make("app = port=1");
    EXPECT_EQ(named->find_database("app")->port, 1);
    EXPECT_EQ(named->find_database("App"), nullptr);
    EXPECT_EQ(named->find_database("other"), nullptr);
    const auto wild = make("app = port=1\n* = port=2");
    EXPECT_EQ(wild->find_database("app")->port, 1);
    EXPECT_EQ(wild->find_database("other")->port, 2);
    EXPECT_EQ(wild->find_database("other")->name, "*");
    EXPECT_EQ(wild->find_user("nobody"), nullptr);
}

TEST(config_resolve, an_empty_entry_is_the_local_socket) {
    const auto bare = pool(*make("db ="), "db", "u");
    EXPECT_EQ(bare.database, "db");
    EXPECT_EQ(bare.server_dbname, "db");
    EXPECT_EQ(bare.user, "u");
    EXPECT_EQ(bare.hosts, std::vector<std::string>{"/tmp"});
    EXPECT_EQ(bare.port, 5432);
    EXPECT_FALSE(bare.forced_user);
    EXPECT_FALSE(bare.from_wildcard);
    EXPECT_EQ(pool(*make("db =", "", "unix_socket_dir = /run/pg"), "db", "u").hosts,
              std::vector<std::string>{"/run/pg"});
    EXPECT_EQ(pool(*make("db =", "", "unix_socket_dir ="), "db", "u").hosts, std::vector<std::string>{"/tmp"});
}

TEST(config_resolve, wildcard_names) {
    const auto plain = pool(*make("* = host=h"), "asked", "u");
    EXPECT_EQ(plain.database, "asked");
    EXPECT_EQ(plain.server_dbname, "asked");
    EXPECT_TRUE(plain.from_wildcard);
    EXPECT_EQ(pool(*make("* = dbname=one"), "asked", "u").server_dbname, "one");
}

TEST(config_resolve, forced_user_and_connection_options) {
    const auto p = pool(*make("db = host=a,b dbname=real user=owner password='it''s' connect_query='SET x' "
                              "load_balance_hosts=disable timezone=UTC datestyle=ISO"),
                        "db", "client");
    EXPECT_EQ(p.user, "owner");
    EXPECT_TRUE(p.forced_user);
    EXPECT_TRUE(p.password.equals("it's"));
    EXPECT_EQ(p.hosts, (std::vector<std::string>{"a", "b"}));
    EXPECT_FALSE(p.load_balance);
    EXPECT_EQ(p.connect_query, "SET x");
    EXPECT_EQ(p.startup_parameters,
              (std::vector<std::pair<std::string, std::string>>{{"timezone", "UTC"}, {"datestyle", "ISO"}}));
    EXPECT_TRUE(pool(*make("db = password=x"), "db", "client").password.empty());
}

TEST(config_resolve, pool_values_user_then_database_then_global) {
    const auto global =
        "pool_mode=statement\ndefault_pool_size=1\nreserve_pool_size=2\nmin_pool_size=3\n"
        "max_db_connections=4\nmax_user_connections=5\nserver_lifetime=6";
    const auto database =
        "db = pool_mode=transaction pool_size=11 reserve_pool=12 min_pool_size=13 "
        "max_db_connections=14 server_lifetime=16";
    const auto user = "u = pool_mode=session pool_size=21 reserve_pool_size=22 max_user_connections=25";

    const auto g = pool(*make("db =", "", global), "db", "u");
    EXPECT_EQ(g.pool_mode, pool_mode::statement);
    EXPECT_EQ(g.pool_size, 1);
    EXPECT_EQ(g.reserve_pool_size, 2);
    EXPECT_EQ(g.min_pool_size, 3);
    EXPECT_EQ(g.max_db_connections, 4);
    EXPECT_EQ(g.max_user_connections, 5);
    EXPECT_EQ(g.server_lifetime, base::seconds(6));

    const auto d = pool(*make(database, "", global), "db", "u");
    EXPECT_EQ(d.pool_mode, pool_mode::transaction);
    EXPECT_EQ(d.pool_size, 11);
    EXPECT_EQ(d.reserve_pool_size, 12);
    EXPECT_EQ(d.min_pool_size, 13);
    EXPECT_EQ(d.max_db_connections, 14);
    EXPECT_EQ(d.max_user_connections, 5);
    EXPECT_EQ(d.server_lifetime, base::seconds(16));

    const auto all = make(database, user, global);
    const auto u = pool(*all, "db", "u");
    EXPECT_EQ(u.pool_mode, pool_mode::session);
    EXPECT_EQ(u.pool_size, 21);
    EXPECT_EQ(u.reserve_pool_size, 22);
    EXPECT_EQ(u.min_pool_size, 13);
    EXPECT_EQ(u.max_user_connections, 25);
    EXPECT_EQ(pool(*all, "db", "other").pool_size, 11);
}

TEST(config_resolve, queries_of_the_pooler) {
    const auto plain = pool(*make("db ="), "db", "u");
    EXPECT_EQ(plain.server_check_query, ";");
    EXPECT_EQ(plain.server_reset_query, "DISCARD ALL");
    EXPECT_FALSE(plain.server_reset_query_always);
    const auto set = pool(*make("db =", "",
                                "server_check_query = select 1\nserver_reset_query =\n"
                                "server_reset_query_always = 1"),
                          "db", "u");
    EXPECT_EQ(set.server_check_query, "select 1");
    EXPECT_EQ(set.server_reset_query, "");
    EXPECT_TRUE(set.server_reset_query_always);
}

TEST(config_resolve, zero_and_minus_one) {
    // A pool size of 0 is "no limit", -1 is "unset"; limits of 0 or less are unset.
    const auto all = make("db = pool_size=0 max_db_connections=0 server_lifetime=0\nun = pool_size=-1 min_pool_size=-1",
                          "u = pool_size=-1 max_user_connections=-1", "max_db_connections=4\nmax_user_connections=5");
    EXPECT_EQ(pool(*all, "db", "u").pool_size, 0);
    EXPECT_EQ(pool(*all, "db", "u").max_db_connections, 4);
    EXPECT_EQ(pool(*all, "db", "u").max_user_connections, 5);
    EXPECT_EQ(pool(*all, "db", "u").server_lifetime, base::seconds(3600));
    EXPECT_EQ(pool(*all, "un", "u").pool_size, 20);
    EXPECT_EQ(pool(*all, "un", "u").min_pool_size, 0);
}

TEST(config_resolve, a_pool_follows_the_forced_user_a_client_its_own) {
    const auto all =
        make("db = user=owner", "owner = pool_size=7 query_timeout=70\nclient = pool_size=8 query_timeout=80", "");
    EXPECT_EQ(pool(*all, "db", "client").pool_size, 7);
    EXPECT_EQ(client(*all, "db", "client").query_timeout, base::seconds(80));
}

TEST(config_resolve, client_limits) {
    const auto global =
        "client_idle_timeout=1\nquery_wait_timeout=2\nquery_timeout=3\nidle_transaction_timeout=4\n"
        "transaction_timeout=5\nmax_db_client_connections=6\nmax_user_client_connections=7";
    const auto all = make("db = query_wait_timeout=12 max_db_client_connections=16\nbare = query_wait_timeout=0",
                          "u = client_idle_timeout=21 query_wait_timeout=22 query_timeout=23.5 "
                          "idle_transaction_timeout=24 transaction_timeout=25 max_user_client_connections=27\n"
                          "zero = client_idle_timeout=0 query_wait_timeout=0",
                          global);
    const auto u = client(*all, "db", "u");
    EXPECT_EQ(u.client_idle_timeout, base::seconds(21));
    EXPECT_EQ(u.query_wait_timeout, base::seconds(22));
    EXPECT_EQ(u.query_timeout, base::milliseconds(23500));
    EXPECT_EQ(u.idle_transaction_timeout, base::seconds(24));
    EXPECT_EQ(u.transaction_timeout, base::seconds(25));
    EXPECT_EQ(u.max_db_client_connections, 16);
    EXPECT_EQ(u.max_user_client_connections, 27);
    EXPECT_EQ(client(*all, "db", "zero").client_idle_timeout, base::seconds(1));
    EXPECT_EQ(client(*all, "db", "zero").query_wait_timeout, base::seconds(12));
    const auto g = client(*all, "bare", "other");
    EXPECT_EQ(g.client_idle_timeout, base::seconds(1));
    EXPECT_EQ(g.query_wait_timeout, base::seconds(2));
    EXPECT_EQ(g.query_timeout, base::seconds(3));
    EXPECT_EQ(g.idle_transaction_timeout, base::seconds(4));
    EXPECT_EQ(g.transaction_timeout, base::seconds(5));
    EXPECT_EQ(g.max_db_client_connections, 6);
    EXPECT_EQ(g.max_user_client_connections, 7);
}

// PgBouncer drops every other user's idle clients then, and ignores the second one.
TEST(config_resolve, one_users_timeout_leaves_the_others_alone) {
    const auto all = make("db =", "u = client_idle_timeout=5 query_wait_timeout=6", "query_wait_timeout=0");
    EXPECT_EQ(client(*all, "db", "other").client_idle_timeout, base::duration(0));
    EXPECT_EQ(client(*all, "db", "u").client_idle_timeout, base::seconds(5));
    EXPECT_EQ(client(*all, "db", "u").query_wait_timeout, base::seconds(6));
}

TEST(config_resolve, same_connection) {
    const auto base_line = "db = host=a,b port=1 dbname=d user=u password=p connect_query=q timezone=UTC ";
    const auto before = pool(*make(base_line), "db", "x");
    for (const auto *same : {"password=other", "pool_size=9", "pool_mode=session", "load_balance_hosts=disable"})
        EXPECT_TRUE(before.same_connection(pool(*make(base_line + std::string(same)), "db", "x"))) << same;
    for (const auto *other :
         {"host=b,a", "port=2", "dbname=e", "user=v", "connect_query=r", "timezone=CET", "datestyle=ISO"})
        EXPECT_FALSE(before.same_connection(pool(*make(base_line + std::string(other)), "db", "x"))) << other;
}

}  // namespace
}  // namespace pgsluice::config
