// The ledger and servers: each limit at its value, who gets which server, reserve, minimum, eviction, lifetimes,
// checks, servers between workers.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "core/ledger.hpp"
#include "unit/ledger_account.hpp"

namespace pgsluice::core {
namespace {

using step = handing_on::step;

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
    const auto opened = a.take(order::kind::open);
    EXPECT_EQ(opened.size(), 2U) << "and no more than that";
    for (const auto &it : opened) EXPECT_TRUE(it.client) << "the log tells for whom";
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

TEST(ledger_pool, limits_as_large_as_they_may_be) {
    account a;
    auto &global = a.settings->global;
    for (auto *const it : {&global.default_pool_size, &global.reserve_pool_size, &global.max_db_connections,
                           &global.max_user_connections})
        *it = std::numeric_limits<int>::max();
    global.reserve_pool_timeout = seconds(5);
    a.open_book();
    auto *const client = a.client();
    auto *const server = a.want(client);
    a.tick();
    EXPECT_TRUE(a.closes().empty()) << "the sum of two is no negative number";
    EXPECT_EQ(a.give_back(server).next, step::idle);
    a.tick();
    EXPECT_TRUE(a.closes().empty());
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

/// Where both limits bind and no one server frees both, two go, and make one slot together.
TEST(ledger_limits, both_limits_bind_and_two_servers_go) {
    account a;
    a.settings->global.max_db_connections = 2;
    a.settings->global.max_user_connections = 2;
    a.add_database("other");
    a.add_database("third");
    a.open_book();
    const auto open_idle = [&](const std::string &database, const std::string &user) {
        auto *const it = a.client(0, database, user);
        auto *const server = a.want(it);
        a.give_back(server);
        a.pass(seconds(1));
        return server;
    };
    auto *const of_database = open_idle("db", "v");
    auto *const of_user = open_idle("other", "u");
    open_idle("db", "w");
    open_idle("third", "u");
    auto *const first = a.connect();
    EXPECT_FALSE(a.join(first, "db", "u").greeting);
    std::vector<base::server_id> victims;
    for (const auto &it : a.take(order::kind::close)) victims.push_back(it.server);
    EXPECT_EQ(victims, (std::vector{of_database->id, of_user->id})) << "the longest idle of each";
    // The half that is free meanwhile is nobody else's.
    auto *const late = a.connect();
    a.join(late, "db", "x");
    a.take(order::kind::close);  // one more goes, for that one
    for (auto *const it : {of_user, of_database}) {
        a.tick();
        EXPECT_TRUE(a.opens().empty()) << "the slot is not free yet";
        EXPECT_EQ(a.it->servers(), 4U);
        a.closed(it);
    }
    EXPECT_EQ(a.it->servers(), 3U);
    const auto opens = a.opens();
    ASSERT_EQ(opens.size(), 1U);
    a.opened(opens[0]);
    EXPECT_EQ(a.take(order::kind::welcome).at(0).client, first->id);
}

TEST(ledger_limits, nothing_goes_that_would_not_make_room) {
    account a;
    a.settings->global.max_db_connections = 1;
    a.settings->global.max_user_connections = 1;
    a.add_database("other");
    a.open_book();
    a.client(0, "db", "v");
    auto *const busy = a.want(a.client(0, "other", "u"));
    a.join(a.connect(), "db", "u");
    a.tick();
    EXPECT_TRUE(a.take(order::kind::close).empty()) << "there is no slot for u";
    EXPECT_EQ(a.give_back(busy).next, step::idle);
    a.tick();
    EXPECT_EQ(a.closes(), (std::vector<std::string_view>{"evicted", "evicted"}));
    EXPECT_EQ(a.opens().size(), 1U);
}

TEST(ledger_limits, the_reserve_evicts_as_well) {
    account a;
    auto &global = a.settings->global;
    global.default_pool_size = 1;
    global.reserve_pool_size = 1;
    global.reserve_pool_timeout = seconds(5);
    global.max_db_connections = 2;
    a.open_book();
    a.client(0, "db", "v");
    EXPECT_NE(a.want(a.client(0, "db", "u")), nullptr);
    EXPECT_EQ(a.want(a.client(0, "db", "u")), nullptr);
    a.tick();
    EXPECT_TRUE(a.closes().empty()) << "the pool is full";
    a.pass(seconds(5));
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
    a.pass(ledger::between_quiet_looks);
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
    a.pass(ledger::between_quiet_looks);
    for (int i = 0; i < 4; ++i) {
        a.tick();
        EXPECT_EQ(a.closes().size(), 1U) << "spaced by lifetime / pool_size";
        a.pass(seconds(100) - ledger::between_quiet_looks - base::microseconds(1));
        a.tick();
        EXPECT_TRUE(a.closes().empty());
        a.pass(ledger::between_quiet_looks + base::microseconds(1));
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

TEST(ledger_check, where_one_is_silent_those_idle_for_as_long_are_not_tried) {
    for (const bool silent : {false, true}) {
        account a;
        a.settings->global.server_check_delay = seconds(30);
        a.settings->global.server_connect_timeout = seconds(15);
        a.settings->global.default_pool_size = 5;
        a.open_book();
        std::vector<client_seat *> clients{a.client(), a.client(), a.client()};
        std::vector<server_seat *> servers{a.want(clients[0])};
        for (auto i : {1U, 2U}) a.want(clients[i]);
        for (auto *const it : a.opens()) a.opened(servers.emplace_back(it));
        ASSERT_EQ(servers.size(), 3U);
        for (auto *const it : servers) a.give_back(it);
        a.pass(seconds(30));
        EXPECT_EQ(a.want(clients[0]), nullptr);
        const auto checks = a.take(order::kind::check);
        ASSERT_EQ(checks.size(), 1U);
        a.pass(silent ? seconds(15) : seconds(1));
        a.it->closing(*a.names.at(checks[0].server), a.now, a.out);
        a.checked();
        EXPECT_EQ(a.take(order::kind::check).size(), silent ? 0U : 1U)
            << "one that failed at once says nothing of others";
        EXPECT_EQ(a.opens().size(), silent ? 1U : 0U);
        EXPECT_EQ(a.closes().size(), silent ? 2U : 0U);
    }
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

}  // namespace
}  // namespace pgsluice::core
