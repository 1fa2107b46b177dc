// The ledger: each limit at its value, who gets which server, reserve, minimum, eviction, lifetimes, failed logins,
// checks, servers between workers, pause, shutdown, reload, keys. ledger::check() runs after every call.
#include "core/ledger.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "auth/userlist.hpp"

namespace pgsluice::core {
namespace {

using base::seconds;

/// A ledger with a clock, the orders it gave, and short ways to play workers.
class account {
public:
    std::shared_ptr<config::settings> settings = std::make_shared<config::settings>();
    base::time_point now{std::chrono::hours(1000)};
    orders out;  ///< not looked at yet
    std::unique_ptr<ledger> it;
    base::worker_index workers = 1;

    account() {
        auto &global = settings->global;
        global.auth_type = config::auth_type::trust;
        global.pool_mode = config::pool_mode::transaction;
        global.default_pool_size = 2;
        global.server_check_delay = seconds(1'000'000);
        add_database("db");
    }
    config::database &add_database(const std::string &name) {
        auto &entry = settings->databases[name];
        entry.name = name;
        entry.hosts = {"h0", "h1"};
        return entry;
    }
    account &open_book(base::worker_index count = 1) {
        workers = count;
        it = std::make_unique<ledger>(settings, count);
        return *this;
    }
    void checked() { EXPECT_EQ(it->check(), ""); }
    void pass(base::duration time) { now += time; }

    // ---- clients ----

    client_seat *connect(base::worker_index worker = 0) {
        auto *const seat = it->connected(worker, nullptr);
        EXPECT_EQ(it->admit(*seat), refusal::none);
        return seat;
    }
    ledger::joined join(client_seat *seat, const std::string &database = "db", const std::string &user = "u") {
        auto result = it->join(*seat, database, user, {}, now, out);
        checked();
        return result;
    }
    /// A welcomed client; opens the pool's first server if there is none.
    client_seat *client(base::worker_index worker = 0, const std::string &database = "db",
                        const std::string &user = "u") {
        auto *const seat = connect(worker);
        const auto result = join(seat, database, user);
        EXPECT_EQ(result.why, refusal::none);
        if (!result.greeting) {
            for (auto *const server : opens()) opened(server);
            EXPECT_FALSE(take(order::kind::welcome).empty());
        }
        return seat;
    }
    server_seat *want(client_seat *seat) {
        auto *const server = it->want(*seat, now, out);
        checked();
        return server;
    }
    void leave(client_seat *seat) {
        it->leave(*seat, out);
        checked();
    }

    // ---- servers ----

    orders take(order::kind what) {
        orders taken;
        for (auto at = out.begin(); at != out.end();) {
            if (at->what != what) {
                ++at;
                continue;
            }
            taken.push_back(std::move(*at));
            at = out.erase(at);
        }
        return taken;
    }
    std::vector<server_seat *> opens() {
        std::vector<server_seat *> all;
        for (const auto &order : take(order::kind::open)) {
            all.push_back(static_cast<server_seat *>(order.seat));
            names[order.server] = all.back();
        }
        return all;
    }
    shared_welcome greeting = std::make_shared<const welcome>();
    handing_on opened(server_seat *seat) {
        it->opened(*seat, greeting, {}, now, out);
        return give_back(seat);
    }
    handing_on give_back(server_seat *seat) {
        const auto next = it->give_back(*seat, now, out);
        checked();
        return next;
    }
    void closed(server_seat *seat) {
        names.erase(seat->id);
        it->closed(*seat, now, out);
        checked();
    }
    /// Carries out the orders to close; the reasons.
    std::vector<std::string_view> closes() {
        std::vector<std::string_view> why;
        for (const auto &order : take(order::kind::close)) {
            why.push_back(order.why);
            closed(names.at(order.server));
        }
        return why;
    }
    void tick() {
        it->tick(now, out);
        checked();
    }
    void fail(server_seat *seat, const login_error &error) {
        it->open_failed(*seat, error, now, out);
        checked();
        closed(seat);
    }
    std::map<base::server_id, server_seat *> names;
};

using step = handing_on::step;
const login_error refused_by_server{"3D000", "no such database", true};
const login_error starting_up{"57P03", "starting up", true};
const login_error unreachable{"08006", "connection refused", false};

// ---- clients ----

TEST(ledger_clients, max_client_conn) {
    account a;
    a.settings->global.max_client_conn = 3;
    a.open_book();
    std::vector<client_seat *> in;
    for (int i = 0; i < 3; ++i) in.push_back(a.connect());
    auto *const fourth = a.it->connected(0, nullptr);
    EXPECT_EQ(a.it->admit(*fourth), refusal::too_many_clients);
    a.leave(fourth);
    a.leave(in[0]);
    EXPECT_EQ(a.it->admit(*a.it->connected(0, nullptr)), refusal::none);
    EXPECT_EQ(a.it->admit(*a.it->connected(0, nullptr)), refusal::too_many_clients);
}

TEST(ledger_clients, limits_by_database_and_by_user) {
    account a;
    a.settings->global.max_db_client_connections = 2;
    a.settings->global.max_user_client_connections = 3;
    a.add_database("other");
    a.add_database("third");
    a.open_book();
    a.client(0, "db", "u");
    auto *const second = a.client(0, "db", "v");
    EXPECT_EQ(a.join(a.connect(), "db", "w").why, refusal::too_many_database_clients);
    a.client(0, "other", "u");
    auto *const last = a.client(0, "other", "u");
    EXPECT_EQ(a.join(a.connect(), "third", "u").why, refusal::too_many_user_clients);
    a.leave(second);
    EXPECT_EQ(a.join(a.connect(), "db", "w").why, refusal::none);
    a.leave(last);
    EXPECT_EQ(a.join(a.connect(), "third", "u").why, refusal::none);
    EXPECT_EQ(a.join(a.connect(), "third", "u").why, refusal::too_many_user_clients);
}

TEST(ledger_clients, a_refused_one_costs_nothing) {
    account a;
    a.settings->global.max_db_client_connections = 1;
    a.open_book();
    auto *const first = a.client();
    for (int i = 0; i < 5; ++i) {
        auto *const seat = a.connect();
        EXPECT_EQ(a.join(seat).why, refusal::too_many_database_clients);
        a.leave(seat);
    }
    a.leave(first);
    EXPECT_EQ(a.join(a.connect()).why, refusal::none);
}

TEST(ledger_clients, no_such_database_and_no_forced_user) {
    account a;
    a.settings->global.auth_type = config::auth_type::any;
    a.open_book();
    const auto result = a.join(a.connect(), "nowhere");
    EXPECT_EQ(result.why, refusal::no_such_database);
    EXPECT_EQ(result.argument, "nowhere");
    EXPECT_EQ(a.join(a.connect(), "db").why, refusal::no_forced_user);
}

TEST(ledger_clients, cancel_keys) {
    using namespace std::string_literals;
    account a;
    a.open_book();
    auto *const one = a.connect(0);
    auto *const two = a.connect(0);
    const std::string secret(cancel_key::long_bytes, 'k');
    EXPECT_FALSE(a.it->give_key(*one, {0, "five"})) << "pid 0 stands for none";
    EXPECT_TRUE(a.it->give_key(*one, {7, "five"}));
    EXPECT_FALSE(a.it->give_key(*two, {7, "six!"})) << "the pid is taken";
    EXPECT_TRUE(a.it->give_key(*two, {8, secret}));
    ASSERT_TRUE(a.it->find_key({7, "five"}));
    EXPECT_EQ(a.it->find_key({7, "five"})->client, one->id);
    EXPECT_EQ(a.it->find_key({8, secret})->client, two->id);
    for (const auto &wrong : {""s, "fiv"s, "six!"s, "five\0"s, secret, secret + 'k'}) {
        EXPECT_FALSE(a.it->find_key({7, wrong})) << wrong;
        EXPECT_FALSE(a.it->find_key({9, wrong})) << wrong;
    }
    for (const auto &wrong : {""s, secret.substr(1), secret + 'k', secret + std::string(200, '\0')}) {
        EXPECT_FALSE(a.it->find_key({8, wrong})) << wrong;
    }
    EXPECT_FALSE(a.it->find_key({0, ""})) << "clients that have no key yet";
    a.leave(one);
    EXPECT_FALSE(a.it->find_key({7, "five"}));
    EXPECT_TRUE(a.it->give_key(*a.connect(), {7, "nine"}));
}

// ---- the first server and failed logins ----

TEST(ledger_login, the_welcome_waits_for_the_first_server) {
    account a;
    a.open_book();
    auto *const one = a.connect();
    auto *const two = a.connect();
    EXPECT_FALSE(a.join(one).greeting);
    EXPECT_FALSE(a.join(two).greeting);
    const auto opens = a.opens();
    ASSERT_EQ(opens.size(), 1U) << "one login until the first has succeeded";
    EXPECT_EQ(a.opened(opens[0]).next, step::idle);
    EXPECT_EQ(a.take(order::kind::welcome).size(), 2U);
    EXPECT_TRUE(a.join(a.connect()).greeting);
}

TEST(ledger_login, a_standby_is_asked_again_before_it_greets) {
    const auto standing_by = [](std::string_view how) {
        auto set = std::make_shared<parameter_set>();
        set->put({.name = "in_hot_standby", .value = how, .reported = true, .confirmed = true});
        return std::make_shared<const welcome>(welcome{set});
    };
    account a;
    a.open_book();
    a.greeting = standing_by("on");
    a.join(a.connect());
    auto *const server = a.opens().at(0);
    a.opened(server);
    EXPECT_EQ(a.take(order::kind::welcome).size(), 1U);
    EXPECT_TRUE(a.join(a.connect()).greeting) << "it has just said so";
    a.pass(seconds(1));
    EXPECT_FALSE(a.join(a.connect()).greeting);
    EXPECT_FALSE(a.join(a.connect()).greeting) << "waits for the same answer";
    EXPECT_EQ(a.take(order::kind::check).size(), 1U);
    EXPECT_TRUE(a.take(order::kind::welcome).empty());
    a.it->renew_greeting(*server, standing_by("off"));
    a.give_back(server);
    const auto welcomed = a.take(order::kind::welcome);
    ASSERT_EQ(welcomed.size(), 2U);
    EXPECT_FALSE(welcomed[0].greeting->of_standby());
    EXPECT_TRUE(a.opens().empty());
    a.pass(seconds(100));
    EXPECT_TRUE(a.join(a.connect()).greeting) << "a primary stays one";
    // Without a server there is nobody to ask.
    a.it->renew_greeting(*server, standing_by("on"));
    a.it->closing(*server, a.now, a.out);
    a.closed(server);
    EXPECT_FALSE(a.join(a.connect()).greeting);
    EXPECT_EQ(a.opens().size(), 1U);
}

TEST(ledger_login, the_servers_refusal_reaches_those_who_wait_and_is_cached) {
    account a;
    a.settings->global.server_login_retry = seconds(15);
    a.open_book();
    for (int i = 0; i < 2; ++i) a.join(a.connect());
    a.fail(a.opens().at(0), refused_by_server);
    const auto refused = a.take(order::kind::refuse_by_server);
    ASSERT_EQ(refused.size(), 2U);
    EXPECT_EQ(refused[0].error->sqlstate, "3D000");
    a.pass(seconds(15) - base::microseconds(1));
    const auto early = a.join(a.connect());
    EXPECT_EQ(early.why, refusal::server_login_failing);
    EXPECT_EQ(early.argument, "no such database");
    EXPECT_TRUE(a.opens().empty());
    a.pass(base::microseconds(1));
    EXPECT_EQ(a.join(a.connect()).why, refusal::none);
    EXPECT_EQ(a.opens().size(), 1U);
}

TEST(ledger_login, who_may_yet_come_is_waited_for) {
    for (const auto &error : {starting_up, unreachable}) {
        account a;
        a.settings->global.server_login_retry = seconds(15);
        a.open_book();
        a.join(a.connect());
        a.fail(a.opens().at(0), error);
        EXPECT_TRUE(a.take(order::kind::refuse_by_server).empty());
        a.pass(seconds(15) - base::microseconds(1));
        a.tick();
        EXPECT_TRUE(a.opens().empty());
        a.pass(base::microseconds(1));
        a.tick();
        const auto again = a.opens();
        ASSERT_EQ(again.size(), 1U);
        a.opened(again[0]);
        EXPECT_EQ(a.take(order::kind::welcome).size(), 1U);
    }
}

TEST(ledger_login, a_server_that_refuses_the_version_is_asked_for_3_0) {
    constexpr std::uint32_t oldest = 3U << 16, newest = oldest | 2;
    for (const bool by_a_word : {true, false}) {
        account a;
        a.settings->global.server_login_retry = seconds(15);
        a.open_book();
        a.join(a.connect());
        const auto next = [&a] {
            auto orders = a.take(order::kind::open);
            EXPECT_EQ(orders.size(), 1U);
            return orders.at(0);
        };
        const auto first = next();
        EXPECT_EQ(first.connect->protocol, newest);
        a.fail(static_cast<server_seat *>(first.seat), {"0A000", "unsupported frontend protocol", by_a_word, true});
        if (by_a_word) {
            EXPECT_TRUE(a.take(order::kind::refuse_by_server).empty()) << "it may yet come";
        } else {
            EXPECT_TRUE(a.take(order::kind::open).empty()) << "it may be down: no sooner than others";
            a.pass(seconds(15));
            a.tick();
        }
        const auto second = next();
        EXPECT_EQ(second.connect->protocol, oldest);
        a.fail(static_cast<server_seat *>(second.seat), refused_by_server);
        EXPECT_EQ(a.take(order::kind::refuse_by_server).size(), 1U);
        EXPECT_TRUE(a.take(order::kind::open).empty());
    }
    account b;
    b.settings->global.server_protocol = config::protocol_version::v3_0;
    b.open_book();
    b.join(b.connect());
    EXPECT_EQ(b.take(order::kind::open).at(0).connect->protocol, oldest);
}

TEST(ledger_login, a_working_pool_takes_a_failure_calmly) {
    account a;
    a.settings->global.server_login_retry = seconds(15);
    a.settings->global.default_pool_size = 4;
    a.open_book();
    auto *const first = a.client();
    EXPECT_NE(a.want(first), nullptr);
    auto *const second = a.client();
    auto *const third = a.client();
    a.want(second);
    a.want(third);
    const auto opens = a.opens();
    ASSERT_EQ(opens.size(), 2U) << "in parallel while they succeed";
    a.fail(opens[0], refused_by_server);
    EXPECT_TRUE(a.opens().empty()) << "one at a time, later, once they fail";
    EXPECT_EQ(a.join(a.connect()).why, refusal::none) << "the pool works";
    a.pass(seconds(15));
    a.tick();
    EXPECT_TRUE(a.opens().empty()) << "one is still under way";
    EXPECT_EQ(a.opened(opens[1]).next, step::grant);
    a.tick();
    EXPECT_EQ(a.opens().size(), 1U);
}

TEST(ledger_login, hosts_take_turns_or_stay) {
    for (const bool balance : {true, false}) {
        account a;
        a.settings->databases["db"].load_balance = balance;
        a.settings->global.server_login_retry = base::duration(0);
        a.settings->global.default_pool_size = 10;
        a.open_book();
        a.join(a.connect());
        auto first = a.take(order::kind::open);
        EXPECT_EQ(first.at(0).connect->host, 0U);
        a.opened(static_cast<server_seat *>(first[0].seat));
        std::vector<std::size_t> hosts;
        for (int i = 0; i < 3; ++i) {
            auto *const client = a.client();
            if (a.want(client) != nullptr) continue;
            for (const auto &order : a.take(order::kind::open)) hosts.push_back(order.connect->host);
        }
        EXPECT_EQ(hosts, balance ? (std::vector<std::size_t>{1, 0}) : (std::vector<std::size_t>{0, 0}));
    }
    account a;
    a.settings->databases["db"].load_balance = false;
    a.settings->global.server_login_retry = base::duration(0);
    a.open_book();
    a.join(a.connect());
    a.fail(a.opens().at(0), unreachable);
    a.tick();
    EXPECT_EQ(a.take(order::kind::open).at(0).connect->host, 1U) << "until it fails";
}

// ---- pool size, order, reserve ----

TEST(ledger_pool, pool_size) {
    account a;
    a.settings->global.default_pool_size = 3;
    a.open_book();
    std::vector<client_seat *> clients;
    for (int i = 0; i < 6; ++i) clients.push_back(a.client());
    int granted = 0, opened = 0;
    for (auto *const it : clients) granted += a.want(it) != nullptr ? 1 : 0;
    for (auto *const server : a.opens()) {
        ++opened;
        EXPECT_EQ(a.opened(server).next, step::grant);
    }
    EXPECT_EQ(granted, 1);
    EXPECT_EQ(opened, 2);
    EXPECT_EQ(a.it->servers(), 3U);
    a.tick();
    EXPECT_TRUE(a.opens().empty());
}

TEST(ledger_pool, zero_is_no_limit) {
    account a;
    a.settings->global.default_pool_size = 0;
    a.open_book();
    a.client();
    for (int i = 0; i < 50; ++i) a.want(a.client());
    EXPECT_EQ(a.opens().size(), 49U);
}

TEST(ledger_pool, first_come_first_served) {
    account a;
    a.settings->global.default_pool_size = 1;
    a.open_book();
    auto *const holder = a.client();
    auto *const server = a.want(holder);
    ASSERT_NE(server, nullptr);
    std::vector<client_seat *> waiters;
    for (int i = 0; i < 5; ++i) {
        waiters.push_back(a.client());
        EXPECT_EQ(a.want(waiters.back()), nullptr);
    }
    a.leave(waiters[1]);
    a.it->stop_wanting(*waiters[3]);
    for (const int next : {0, 2, 4}) {
        const auto handed = a.give_back(server);
        EXPECT_EQ(handed.next, step::grant);
        EXPECT_EQ(handed.client, waiters[static_cast<std::size_t>(next)]);
    }
    EXPECT_EQ(a.give_back(server).next, step::idle);
    EXPECT_EQ(a.want(waiters[3]), server);
}

TEST(ledger_pool, idle_servers_last_in_first_out_or_in_turn) {
    for (const bool round_robin : {false, true}) {
        account a;
        a.settings->global.default_pool_size = 3;
        a.settings->global.server_round_robin = round_robin;
        a.open_book();
        std::vector<client_seat *> clients{a.client(), a.client(), a.client()};
        std::vector<server_seat *> servers{a.want(clients[0])};
        a.want(clients[1]);
        a.want(clients[2]);
        for (auto *const it : a.opens()) {
            a.opened(it);
            servers.push_back(it);
        }
        for (auto *const it : servers) a.give_back(it);
        EXPECT_EQ(a.want(clients[0]), round_robin ? servers[0] : servers[2]);
    }
}

TEST(ledger_pool, locality_within_its_bound) {
    account a;
    a.settings->global.default_pool_size = 1;
    a.open_book(2);
    auto *const server = a.want(a.client(0));
    auto *const far = a.client(1);
    a.want(far);
    std::vector<client_seat *> near;
    for (int i = 0; i < 50; ++i) {
        near.push_back(a.client(0));
        a.want(near.back());
    }
    std::uint64_t overtaken = 0;
    for (;;) {
        const auto next = a.give_back(server);
        if (next.next == step::move) {
            EXPECT_EQ(next.for_client, far->id);
            EXPECT_EQ(next.to, 1U);
            break;
        }
        ASSERT_EQ(next.client, near.at(overtaken));
        ++overtaken;
    }
    EXPECT_EQ(overtaken, ledger::locality_bound);
}

TEST(ledger_pool, reserve_after_its_timeout) {
    account a;
    auto &global = a.settings->global;
    global.default_pool_size = 1;
    global.reserve_pool_size = 2;
    global.reserve_pool_timeout = seconds(5);
    a.open_book();
    a.want(a.client());
    a.want(a.client());
    a.want(a.client());
    a.want(a.client());
    a.pass(seconds(5) - base::microseconds(1));
    a.tick();
    EXPECT_TRUE(a.opens().empty());
    a.pass(base::microseconds(1));
    a.tick();
    EXPECT_EQ(a.opens().size(), 2U) << "and no more than that";
    EXPECT_EQ(a.it->servers(), 3U);
    account off;
    off.settings->global.default_pool_size = 1;
    off.settings->global.reserve_pool_size = 2;
    off.settings->global.reserve_pool_timeout = base::duration(0);
    off.open_book();
    off.want(off.client());
    off.want(off.client());
    off.pass(seconds(1000));
    off.tick();
    EXPECT_TRUE(off.opens().empty()) << "0 turns the reserve off";
}

TEST(ledger_pool, min_pool_size) {
    account a;
    a.settings->global.min_pool_size = 3;
    a.settings->global.default_pool_size = 5;
    auto &forced = a.add_database("forced");
    forced.user = "owner";
    a.open_book(2);
    a.tick();
    const auto first = a.opens();
    ASSERT_EQ(first.size(), 1U) << "a forced user's pool, before any client; one login until it has succeeded";
    a.opened(first[0]);
    a.tick();
    for (auto *const it : a.opens()) a.opened(it);
    EXPECT_EQ(a.it->servers(), 3U);
    auto *const client = a.client(0, "db");
    a.tick();
    EXPECT_EQ(a.opens().size(), 2U) << "a pool that has clients";
    EXPECT_EQ(a.it->servers(), 6U);
    a.leave(client);
}

TEST(ledger_pool, min_pool_size_stays_under_every_limit) {
    account a;
    a.settings->global.min_pool_size = 5;
    a.settings->global.default_pool_size = 3;
    a.settings->global.max_db_connections = 2;
    a.open_book();
    a.client();
    a.tick();
    for (auto *const it : a.opens()) a.opened(it);
    EXPECT_EQ(a.it->servers(), 2U);
}

// ---- limits over pools ----

TEST(ledger_limits, max_db_connections_evicts_the_longest_idle) {
    account a;
    a.settings->global.max_db_connections = 2;
    a.open_book();
    a.client(0, "db", "u");
    a.pass(seconds(1));
    a.client(0, "db", "v");
    EXPECT_EQ(a.it->servers(), 2U);
    a.pass(seconds(1));
    auto *const third = a.connect();
    EXPECT_FALSE(a.join(third, "db", "w").greeting);
    EXPECT_TRUE(a.opens().empty());
    const auto order = a.take(order::kind::close);
    ASSERT_EQ(order.size(), 1U);
    EXPECT_EQ(order[0].why, "evicted");
    auto *const victim = a.names.at(order[0].server);
    EXPECT_EQ(victim->id, std::min_element(a.names.begin(), a.names.end())->first) << "the one of u";
    EXPECT_TRUE(a.opens().empty()) << "the slot is free when PostgreSQL has ended it";
    a.closed(victim);
    const auto opens = a.opens();
    ASSERT_EQ(opens.size(), 1U);
    a.opened(opens[0]);
    EXPECT_EQ(a.take(order::kind::welcome).at(0).client, third->id);
}

TEST(ledger_limits, max_user_connections_over_databases) {
    account a;
    a.settings->global.max_user_connections = 1;
    a.add_database("other");
    a.open_book();
    auto *const holder = a.client(0, "db");
    auto *const server = a.want(holder);
    auto *const waiter = a.connect();
    a.join(waiter, "other");
    a.tick();
    EXPECT_TRUE(a.opens().empty());
    EXPECT_TRUE(a.closes().empty()) << "nothing idle to evict";
    EXPECT_EQ(a.give_back(server).next, step::idle);
    a.tick();
    EXPECT_EQ(a.closes(), (std::vector<std::string_view>{"evicted"}));
    EXPECT_EQ(a.opens().size(), 1U);
}

TEST(ledger_limits, a_freed_slot_goes_to_the_pool_that_waits_longest) {
    account a;
    a.settings->global.max_db_connections = 1;
    a.open_book();
    auto *const server = a.want(a.client(0, "db", "u"));
    std::vector<client_seat *> waiters;
    for (const auto *user : {"x", "y", "z"}) {
        a.pass(seconds(1));
        waiters.push_back(a.connect());
        a.join(waiters.back(), "db", user);
    }
    a.it->closing(*server, a.now, a.out);
    a.checked();
    EXPECT_TRUE(a.opens().empty());
    a.closed(server);
    const auto opens = a.take(order::kind::open);
    ASSERT_EQ(opens.size(), 1U);
    EXPECT_EQ(opens[0].connect->secret.user, "x");
}

// ---- age ----

TEST(ledger_age, server_idle_timeout_down_to_the_minimum) {
    account a;
    auto &global = a.settings->global;
    global.default_pool_size = 5;
    global.min_pool_size = 2;
    global.server_idle_timeout = seconds(600);
    a.open_book();
    std::vector<client_seat *> clients;
    for (int i = 0; i < 5; ++i) clients.push_back(a.client());
    std::vector<server_seat *> servers{a.want(clients[0])};
    for (int i = 1; i < 5; ++i) a.want(clients[static_cast<std::size_t>(i)]);
    for (auto *const it : a.opens()) {
        a.opened(it);
        servers.push_back(it);
    }
    for (auto *const it : servers) a.give_back(it);
    a.pass(seconds(600) - base::microseconds(1));
    a.tick();
    EXPECT_TRUE(a.closes().empty());
    a.pass(base::microseconds(1));
    a.tick();
    const auto closes = a.closes();
    EXPECT_EQ(closes, (std::vector<std::string_view>(3, "server idle timeout")));
    EXPECT_EQ(a.it->servers(), 2U);
}

TEST(ledger_age, server_lifetime_ends_them_one_after_the_other) {
    account a;
    auto &global = a.settings->global;
    global.default_pool_size = 4;
    global.server_lifetime = seconds(400);
    global.server_idle_timeout = seconds(0);
    a.open_book();
    std::vector<client_seat *> clients{a.client(), a.client(), a.client(), a.client()};
    std::vector<server_seat *> servers{a.want(clients[0])};
    for (int i = 1; i < 4; ++i) a.want(clients[static_cast<std::size_t>(i)]);
    for (auto *const it : a.opens()) {
        a.opened(it);
        servers.push_back(it);
    }
    for (auto *const it : servers) a.give_back(it);
    a.pass(seconds(400) - base::microseconds(1));
    a.tick();
    EXPECT_TRUE(a.closes().empty());
    a.pass(base::microseconds(1));
    for (int i = 0; i < 4; ++i) {
        a.tick();
        EXPECT_EQ(a.closes().size(), 1U) << "spaced by lifetime / pool_size";
        a.pass(seconds(100) - base::microseconds(1));
        a.tick();
        EXPECT_TRUE(a.closes().empty());
        a.pass(base::microseconds(1));
    }
}

TEST(ledger_age, lifetime_is_looked_at_on_release_too) {
    account a;
    a.settings->global.server_lifetime = seconds(10);
    a.open_book();
    auto *const server = a.want(a.client());
    a.pass(seconds(10));
    const auto next = a.give_back(server);
    EXPECT_EQ(next.next, step::close);
    EXPECT_EQ(next.why, "server lifetime over");
    a.closed(server);
}

TEST(ledger_age, a_lifetime_of_zero_is_one_use) {
    account a;
    a.settings->global.server_lifetime = seconds(0);
    a.open_book();
    auto *const client = a.client();
    auto *const server = a.want(client);
    ASSERT_NE(server, nullptr) << "a server that nobody has used may serve";
    EXPECT_EQ(a.give_back(server).next, step::close);
    a.closed(server);
    EXPECT_EQ(a.want(client), nullptr);
    EXPECT_EQ(a.opens().size(), 1U);
}

// ---- checks ----

TEST(ledger_check, an_old_idle_server_is_checked_first) {
    account a;
    a.settings->global.server_check_delay = seconds(30);
    a.open_book();
    auto *const client = a.client();
    a.pass(seconds(30) - base::microseconds(1));
    auto *const server = a.want(client);
    ASSERT_NE(server, nullptr) << "not old enough";
    a.give_back(server);
    a.pass(seconds(30));
    EXPECT_EQ(a.want(client), nullptr);
    ASSERT_EQ(a.take(order::kind::check).size(), 1U);
    EXPECT_TRUE(a.opens().empty()) << "it will do";
    const auto next = a.give_back(server);
    EXPECT_EQ(next.next, step::grant);
    EXPECT_EQ(next.client, client);
}

TEST(ledger_check, a_check_that_fails_opens_another) {
    account a;
    a.settings->global.server_check_delay = seconds(30);
    a.settings->global.default_pool_size = 1;
    a.open_book();
    auto *const client = a.client();
    a.pass(seconds(30));
    a.want(client);
    auto *const server = a.names.begin()->second;
    a.it->closing(*server, a.now, a.out);
    a.checked();
    EXPECT_TRUE(a.opens().empty());
    a.closed(server);
    EXPECT_EQ(a.opens().size(), 1U);
}

TEST(ledger_check, none_without_a_query_and_always_at_zero) {
    account none;
    none.settings->global.server_check_delay = seconds(0);
    none.settings->global.server_check_query = "";
    none.open_book();
    EXPECT_NE(none.want(none.client()), nullptr);
    account always;
    always.settings->global.server_check_delay = seconds(0);
    always.open_book();
    EXPECT_EQ(always.want(always.client()), nullptr);
    EXPECT_EQ(always.take(order::kind::check).size(), 1U);
}

TEST(ledger_check, several_waiters_check_several_and_a_fresh_one_goes_first) {
    account a;
    a.settings->global.server_check_delay = seconds(30);
    a.settings->global.default_pool_size = 3;
    a.open_book(2);
    std::vector<client_seat *> clients{a.client(0), a.client(0), a.client(1)};
    auto *const first = a.want(clients[0]);
    a.want(clients[1]);
    a.want(clients[2]);
    std::vector<server_seat *> others = a.opens();
    for (auto *const it : others) a.opened(it);
    a.give_back(first);
    a.give_back(others[0]);
    a.pass(seconds(30));
    // The third client's server comes back now: fresh, on the worker where it was opened.
    a.give_back(others[1]);
    for (auto *const it : clients) a.want(it);
    a.checked();
    EXPECT_EQ(a.take(order::kind::check).size(), 2U) << "two old ones, for two waiters";
}

// ---- between workers ----

TEST(ledger_move, an_idle_server_comes_from_another_worker) {
    account a;
    a.settings->global.default_pool_size = 1;
    a.open_book(2);
    a.client(0);
    auto *const far = a.client(1);
    EXPECT_EQ(a.want(far), nullptr);
    const auto move = a.take(order::kind::move);
    ASSERT_EQ(move.size(), 1U);
    EXPECT_EQ(move[0].worker, 0U);
    EXPECT_EQ(move[0].to, 1U);
    auto *const server = a.names.at(move[0].server);
    const auto next = a.it->arrived(*server, 1, nullptr, far->id, a.now, a.out);
    EXPECT_EQ(next.next, step::grant);
    EXPECT_EQ(next.client, far);
    EXPECT_EQ(server->worker, 1U);
    EXPECT_EQ(a.give_back(server).next, step::idle);
    EXPECT_EQ(a.want(far), server) << "it stays where it was used last";
}

TEST(ledger_move, one_that_dies_on_the_way_gives_its_client_the_old_place_back) {
    account a;
    a.settings->global.default_pool_size = 2;
    a.open_book(2);
    a.client(0);
    auto *const holder = a.client(0);
    auto *const held = a.want(holder);
    auto *const other = a.client(0);
    a.want(other);
    auto *const second = a.opens().at(0);
    a.opened(second);
    a.give_back(second);  // idle on worker 0
    auto *const far = a.client(1);
    a.want(far);
    const auto move = a.take(order::kind::move);
    ASSERT_EQ(move.size(), 1U);
    auto *const later = a.client(0);
    EXPECT_EQ(a.want(later), nullptr);
    a.it->closing(*a.names.at(move[0].server), a.now, a.out);
    a.checked();
    EXPECT_TRUE(far->waiting);
    a.closed(a.names.at(move[0].server));
    EXPECT_EQ(a.opens().size(), 1U);
    // far asked first; but it is on another worker, and the bound lets the near one go ahead.
    EXPECT_EQ(a.give_back(held).next, step::grant);
}

TEST(ledger_move, one_whose_client_has_left_serves_the_next) {
    account a;
    a.settings->global.default_pool_size = 1;
    a.open_book(2);
    a.client(0);
    auto *const far = a.client(1);
    a.want(far);
    const auto move = a.take(order::kind::move).at(0);
    auto *const server = a.names.at(move.server);
    auto *const next = a.client(1);
    EXPECT_EQ(a.want(next), nullptr);
    const auto gone = far->id;
    a.leave(far);
    const auto handed = a.it->arrived(*server, 1, nullptr, gone, a.now, a.out);
    a.checked();
    EXPECT_EQ(handed.next, step::grant);
    EXPECT_EQ(handed.client, next);
}

TEST(ledger_move, a_client_that_asks_again_is_not_taken_for_the_one_promised) {
    account a;
    a.settings->global.default_pool_size = 1;
    a.open_book(2);
    a.client(0);
    auto *const far = a.client(1);
    a.want(far);
    auto *const server = a.names.at(a.take(order::kind::move).at(0).server);
    a.it->stop_wanting(*far);
    a.checked();
    EXPECT_EQ(a.want(far), nullptr);
    const auto handed = a.it->arrived(*server, 1, nullptr, far->id, a.now, a.out);
    a.checked();
    EXPECT_EQ(handed.next, step::grant);
    EXPECT_EQ(handed.client, far);
}

TEST(ledger_move, leaving_before_the_server_is_given_back_is_harmless) {
    account a;
    a.open_book();
    auto *const client = a.client();
    auto *const server = a.want(client);
    a.leave(client);
    EXPECT_EQ(a.give_back(server).next, step::idle);
    auto *const other = a.client();
    auto *const again = a.want(other);
    a.leave(other);
    a.it->closing(*again, a.now, a.out);
    a.closed(again);
    EXPECT_EQ(a.it->servers(), 0U);
}

TEST(ledger_move, a_server_given_back_twice_is_closed) {
    account a;
    a.open_book();
    auto *const server = a.want(a.client());
    EXPECT_EQ(a.give_back(server).next, step::idle);
    EXPECT_EQ(a.give_back(server).next, step::close);
    a.closed(server);
}

// ---- the whole ----

TEST(ledger_whole, pause_and_resume) {
    account a;
    a.open_book();
    auto *const one = a.client();
    auto *const two = a.client();
    auto *const server = a.want(one);
    a.want(two);
    for (auto *const it : a.opens()) a.opened(it);
    a.give_back(a.names.rbegin()->second);
    a.it->pause(a.out);
    a.checked();
    EXPECT_EQ(a.closes(), (std::vector<std::string_view>{"pause mode"})) << "idle ones at once";
    EXPECT_EQ(a.give_back(server).next, step::close) << "the others when they are released";
    a.closed(server);
    EXPECT_EQ(a.want(one), nullptr);
    a.tick();
    EXPECT_TRUE(a.opens().empty());
    a.it->resume(a.now, a.out);
    a.checked();
    EXPECT_EQ(a.opens().size(), 1U);
}

TEST(ledger_whole, shut_down) {
    account a;
    a.settings->global.default_pool_size = 1;
    a.open_book();
    auto *const one = a.client();
    auto *const two = a.client();
    auto *const server = a.want(one);
    a.want(two);
    a.it->shut_down(false, a.out);
    EXPECT_EQ(a.it->admit(*a.it->connected(0, nullptr)), refusal::shutting_down);
    EXPECT_TRUE(a.take(order::kind::refuse).empty());
    EXPECT_EQ(a.give_back(server).client, two) << "those who are in go on";
    a.want(one);
    a.it->shut_down(true, a.out);
    a.checked();
    const auto refused = a.take(order::kind::refuse);
    ASSERT_EQ(refused.size(), 1U);
    EXPECT_EQ(refused[0].client, one->id);
    EXPECT_EQ(refused[0].refused, refusal::server_shutting_down);
    a.leave(one);
    EXPECT_EQ(a.give_back(server).next, step::close);
    a.closed(server);
    a.want(two);
    EXPECT_EQ(a.take(order::kind::refuse).size(), 1U);
    a.it->resume(a.now, a.out);
    EXPECT_TRUE(a.opens().empty()) << "RESUME is ignored now";
}

std::shared_ptr<config::settings> copy(const account &a) {
    return std::make_shared<config::settings>(*a.settings);
}

TEST(ledger_reload, a_lower_limit_is_reached_by_closing) {
    account a;
    a.settings->global.default_pool_size = 4;
    a.open_book();
    std::vector<client_seat *> clients{a.client(), a.client(), a.client(), a.client()};
    std::vector<server_seat *> servers{a.want(clients[0])};
    for (int i = 1; i < 4; ++i) a.want(clients[static_cast<std::size_t>(i)]);
    for (auto *const it : a.opens()) {
        a.opened(it);
        servers.push_back(it);
    }
    a.give_back(servers[0]);
    auto fresh = copy(a);
    fresh->global.default_pool_size = 2;
    a.it->apply(fresh, a.now, a.out);
    a.checked();
    EXPECT_EQ(a.take(order::kind::reroute).size(), 4U);
    a.tick();
    EXPECT_EQ(a.closes(), (std::vector<std::string_view>{"too many servers in the pool"}));
    EXPECT_EQ(a.give_back(servers[1]).why, "too many servers in the pool");
    a.closed(servers[1]);
    EXPECT_EQ(a.give_back(servers[2]).next, step::idle);
    EXPECT_EQ(a.it->servers(), 2U);
    for (auto *const it : clients) a.it->stop_wanting(*it);
}

TEST(ledger_reload, another_place_exchanges_the_servers) {
    account a;
    a.open_book();
    auto *const client = a.client();
    auto *const server = a.want(client);
    auto *const other = a.client();
    a.want(other);
    auto *const opening = a.opens().at(0);
    auto fresh = copy(a);
    fresh->databases["db"].hosts = {"elsewhere"};
    a.it->apply(fresh, a.now, a.out);
    a.checked();
    EXPECT_EQ(a.give_back(server).why, "close_needed");
    // One that was being opened at the old place does not count as the new one's first login.
    auto *const newcomer = a.connect();
    EXPECT_FALSE(a.join(newcomer).greeting);
    EXPECT_EQ(a.opened(opening).next, step::close);
    EXPECT_TRUE(a.take(order::kind::welcome).empty());
    a.closed(server);
    a.closed(opening);
    const auto opens = a.take(order::kind::open);
    ASSERT_EQ(opens.size(), 1U);
    EXPECT_EQ(opens[0].connect->settings->hosts.at(0), "elsewhere");
}

TEST(ledger_reload, newcomers_do_not_wait_for_old_servers_to_end) {
    account a;
    a.settings->global.default_pool_size = 5;
    a.open_book();
    a.want(a.client());  // a long transaction
    auto fresh = copy(a);
    fresh->databases["db"].port = 5433;
    a.it->apply(fresh, a.now, a.out);
    a.join(a.connect());
    EXPECT_EQ(a.opens().size(), 1U);
}

TEST(ledger_reload, a_database_that_is_gone) {
    account a;
    a.add_database("other");
    a.open_book();
    auto *const client = a.client(0, "other");
    auto fresh = copy(a);
    fresh->databases.erase("other");
    a.it->apply(fresh, a.now, a.out);
    a.checked();
    const auto refused = a.take(order::kind::refuse);
    ASSERT_EQ(refused.size(), 1U);
    EXPECT_EQ(refused[0].refused, refusal::database_removed);
    a.leave(client);
    EXPECT_EQ(a.closes(), (std::vector<std::string_view>{"database removed"}));
    EXPECT_EQ(a.join(a.connect(), "other").why, refusal::no_such_database);
    // And back again.
    a.it->apply(copy(a), a.now, a.out);
    a.checked();
    auto *const again = a.connect();
    EXPECT_EQ(a.join(again, "other").why, refusal::none);
    EXPECT_EQ(a.want(again), nullptr);
    EXPECT_EQ(a.opens().size(), 1U) << "a new server, once one is needed";
}

TEST(ledger_reload, a_forced_users_password) {
    account a;
    auto &entry = a.add_database("forced");
    entry.user = "owner";
    entry.password = base::secret(std::string("first"));
    a.open_book();
    auto *const seat = a.connect();
    a.join(seat, "forced");
    const auto open = a.take(order::kind::open);
    EXPECT_EQ(open.at(0).connect->secret.user, "owner");
    EXPECT_TRUE(open[0].connect->secret.credential.text.equals("first"));
    auto fresh = copy(a);
    fresh->databases["forced"].password = base::secret(std::string("second"));
    a.it->apply(fresh, a.now, a.out);
    EXPECT_EQ(a.opened(static_cast<server_seat *>(open[0].seat)).next, step::close) << "logged in with the old one";
    a.closed(static_cast<server_seat *>(open[0].seat));
    EXPECT_TRUE(a.take(order::kind::open).at(0).connect->secret.credential.text.equals("second"));
}

TEST(ledger_reload, limits_and_mode_reach_clients_that_are_in) {
    account a;
    a.open_book();
    a.client();
    auto fresh = copy(a);
    fresh->global.query_timeout = seconds(7);
    fresh->global.pool_mode = config::pool_mode::session;
    a.it->apply(fresh, a.now, a.out);
    const auto orders = a.take(order::kind::reroute);
    ASSERT_EQ(orders.size(), 1U);
    EXPECT_EQ(orders[0].new_route->limits.query_timeout, seconds(7));
    EXPECT_EQ(orders[0].new_route->settings->pool_mode, config::pool_mode::session);
    EXPECT_TRUE(a.closes().empty());
}

// ---- pass-through ----

TEST(ledger_keys, a_clients_keys_open_servers_for_the_same_secret_only) {
    account a;
    const auto *stored =
        "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    a.settings->credentials.emplace("u", auth::parse_secret(stored));
    a.open_book();
    auto *const seat = a.connect();
    auth::scram_keys keys;
    keys.client_key[0] = 7;
    a.it->join(*seat, "db", "u", keys, a.now, a.out);
    const auto open = a.take(order::kind::open);
    ASSERT_EQ(open.size(), 1U);
    ASSERT_TRUE(open[0].connect->secret.keys);
    EXPECT_TRUE(open[0].connect->secret.keys->client_key.equals(keys.client_key));
    // The secret changes: the keys are no longer good.
    auto fresh = copy(a);
    fresh->credentials.clear();
    fresh->credentials.emplace("u", auth::parse_secret("plain"));
    a.it->apply(fresh, a.now, a.out);
    a.opened(static_cast<server_seat *>(open[0].seat));
    a.closed(static_cast<server_seat *>(open[0].seat));
    const auto next = a.take(order::kind::open);
    ASSERT_EQ(next.size(), 1U);
    EXPECT_FALSE(next[0].connect->secret.keys);
    EXPECT_TRUE(next[0].connect->secret.credential.text.equals("plain"));
}

}  // namespace
}  // namespace pgsluice::core
