// Pools that come to an end: forgotten when nobody uses them, or their sessions ended by server_fast_close. And what is
// said of a wait that takes too long.
#include <gtest/gtest.h>

#include "core/ledger.hpp"
#include "unit/ledger_account.hpp"

namespace pgsluice::core {
namespace {

/// A client comes, works and goes, and its server goes too.
void pass_through(account &a, const std::string &database) {
    auto *const client = a.client(0, database);
    a.leave(client);
    a.it->pause("", a.out);
    a.closes();
    a.it->resume("", a.now, a.out);
}

TEST(ledger_pools, are_forgotten_when_nobody_uses_them) {
    for (const bool autodb : {false, true}) {
        account a;
        a.settings->wildcard = a.add_database("*");
        a.settings->databases.erase("*");
        a.settings->global.pool_idle_timeout = autodb ? base::duration::zero() : base::duration(seconds(10));
        a.settings->global.autodb_idle_timeout = autodb ? base::duration(seconds(10)) : base::duration::zero();
        a.open_book();
        for (const auto *name : {"db", "made"}) pass_through(a, name);
        a.tick();
        a.pass(seconds(9));
        a.tick();
        EXPECT_EQ(a.it->view(a.now).pools.size(), 2U);
        a.pass(seconds(1));
        a.tick();
        const std::string gone = autodb ? "made" : "db", stays = autodb ? "db" : "made";
        auto view = a.it->view(a.now);
        ASSERT_EQ(view.pools.size(), 1U);
        EXPECT_EQ(view.pools[0].database, stays);
        EXPECT_EQ(view.databases.count(gone), 0U);
        const std::size_t number = autodb ? 1 : 0;
        EXPECT_EQ(view.database_of_pool.at(number), gone) << "what it has counted is still its database's";

        auto *const other = a.client(0, "third");
        EXPECT_EQ(other->route->pool, 2U) << "its number is not free yet";
        const auto forgotten = a.it->take_forgotten();
        ASSERT_EQ(forgotten.size(), 1U);
        EXPECT_EQ(forgotten[0].index, number);
        EXPECT_EQ(forgotten[0].database, gone);
        EXPECT_FALSE(a.it->has_forgotten());
        a.it->reuse(forgotten[0].index);
        auto *const again = a.client(0, gone);
        EXPECT_EQ(again->route->pool, number);
        EXPECT_NE(a.want(again), nullptr);
        EXPECT_EQ(a.it->view(a.now).database_of_pool.at(number), gone);
    }
}

TEST(ledger_pools, are_not_forgotten_while_they_are_needed) {
    account a;
    a.settings->wildcard = a.add_database("*");
    a.settings->databases.erase("*");
    a.settings->global.autodb_idle_timeout = a.settings->global.pool_idle_timeout = seconds(1);
    auto &kept = a.add_database("kept");
    kept.user = "forced";
    kept.min_pool_size = 1;
    a.add_database("bare").user = "forced";  // nothing is kept there: it has no pool until somebody comes
    a.open_book();
    a.tick();
    for (auto *const it : a.opens()) a.fail(it, unreachable);  // min_pool_size can not be had for now
    for (const auto *name : {"paused", "disabled", "plain"}) pass_through(a, name);
    auto *const client = a.client(0, "busy");
    a.it->pause("paused", a.out);
    a.it->disable("disabled", true);
    const auto names = [&] {
        std::string all;
        for (const auto &pool : a.it->view(a.now).pools) all += pool.database + " ";
        return all;
    };
    a.tick();
    a.pass(seconds(3));
    a.tick();
    EXPECT_EQ(names(), "busy disabled kept paused ");
    EXPECT_TRUE(a.it->is_paused("paused"));
    a.leave(client);
    a.tick();
    a.pass(seconds(3));
    a.tick();
    EXPECT_EQ(names(), "busy disabled kept paused ") << "it has a server";
    a.it->pause("busy", a.out);
    a.closes();
    for (const auto *const name : {"busy", "paused"}) EXPECT_EQ(a.it->resume(name, a.now, a.out), refusal::none);
    a.it->disable("disabled", false);
    a.pass(ledger::between_quiet_looks);
    a.tick();
    a.pass(seconds(3));
    a.tick();
    EXPECT_EQ(names(), "kept ");
}

TEST(ledger_pools, their_places_are_used_again) {
    account a;
    a.settings->wildcard = a.add_database("*");
    a.settings->databases.erase("*");
    a.settings->global.autodb_idle_timeout = seconds(1);
    a.open_book();
    for (int round = 0; round < 50; ++round) {
        for (int i = 0; i < 10; ++i) pass_through(a, "name" + std::to_string(round) + "_" + std::to_string(i));
        a.tick();
        a.pass(seconds(2));
        a.tick();
        for (const auto &it : a.it->take_forgotten()) a.it->reuse(it.index);
    }
    const auto view = a.it->view(a.now);
    EXPECT_TRUE(view.pools.empty());
    EXPECT_TRUE(view.databases.empty());
    EXPECT_TRUE(view.users.empty());
    EXPECT_EQ(view.database_of_pool.size(), 10U);
}

TEST(ledger_pools, sessions_end_by_server_fast_close) {
    for (const bool fast : {false, true}) {
        account a;
        a.settings->global.server_fast_close = fast;
        a.settings->global.pool_mode = config::pool_mode::session;
        a.open_book();
        auto *const busy = a.client(), *const idle = a.client();
        auto *const server = a.want(busy);
        a.want(idle);
        for (auto *const it : a.opens()) a.opened(it);
        ASSERT_NE(idle->linked, nullptr);
        a.give_back(idle->linked);
        a.tick();
        EXPECT_TRUE(a.take(order::kind::end_session).empty()) << "nothing has to go";
        a.it->reconnect("db", a.now, a.out);
        a.closes();
        for (int i = 0; i < 2; ++i) {  // said again while it is not done
            a.tick();
            const auto ends = a.take(order::kind::end_session);
            ASSERT_EQ(ends.size(), fast ? 1U : 0U);
            for (const auto &it : ends) {
                EXPECT_EQ(it.server, server->id);
                EXPECT_EQ(it.refused, refusal::configuration_changed);
            }
        }
        a.leave(busy);
        EXPECT_EQ(a.give_back(server).next, handing_on::step::close);
        a.closed(server);
        a.tick();
        EXPECT_TRUE(a.take(order::kind::end_session).empty());
    }
}

TEST(ledger_pools, server_fast_close_leaves_other_modes_alone) {
    account a;
    a.settings->global.server_fast_close = true;
    a.open_book();
    auto *const client = a.client();
    ASSERT_NE(a.want(client), nullptr);
    a.it->reconnect("", a.now, a.out);
    a.tick();
    EXPECT_TRUE(a.take(order::kind::end_session).empty());
}

TEST(ledger_pools, why_a_client_waits_in_short) {
    account a;
    a.settings->global.default_pool_size = 1;
    a.open_book();
    auto *const holder = a.client(0, "db", "u"), *const waiter = a.client(0, "db", "u");
    ASSERT_NE(a.want(holder), nullptr);
    EXPECT_EQ(a.it->why_waiting(*waiter, a.now), "") << "it waits for nothing";
    a.want(waiter);
    a.pass(base::milliseconds(2500));
    EXPECT_EQ(a.it->why_waiting(*waiter, a.now),
              ": all 1 servers of the pool are in use (pool_size); the longest, for 2.5 s, by client " +
                  std::to_string(holder->id.value) + " of user u (SHOW WHY, SHOW CLIENTS)");
    a.it->pause("db", a.out);
    EXPECT_EQ(a.it->why_waiting(*waiter, a.now).substr(0, 55),
              ": the database is paused: RESUME db ends it (PAUSE); th");
}

}  // namespace
}  // namespace pgsluice::core
