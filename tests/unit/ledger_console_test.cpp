// What an admin may do to the ledger: one database or all of them paused, disabled, reconnected, killed; and the
// picture it draws.
#include <gtest/gtest.h>

#include "core/ledger.hpp"
#include "unit/ledger_account.hpp"

namespace pgsluice::core {
namespace {

using step = handing_on::step;

TEST(ledger_console, pause_of_one_database) {
    account a;
    a.add_database("other");
    a.open_book();
    auto *const one = a.client(0, "db");
    auto *const two = a.client(0, "other");
    auto *const first = a.want(one);
    auto *const second = a.want(two);
    EXPECT_EQ(a.it->pause("db", a.out), refusal::none);
    a.checked();
    EXPECT_FALSE(a.it->drained("db"));
    EXPECT_EQ(a.give_back(second).next, step::idle) << "the other goes on";
    EXPECT_EQ(a.give_back(first).next, step::close);
    a.closed(first);
    EXPECT_TRUE(a.it->drained("db"));
    EXPECT_FALSE(a.it->drained("")) << "not all of them";
    EXPECT_EQ(a.want(one), nullptr);
    a.tick();
    EXPECT_TRUE(a.opens().empty());
    EXPECT_NE(a.want(two), nullptr);
    const auto view = a.it->view(a.now);
    EXPECT_TRUE(view.databases.at("db").paused);
    EXPECT_FALSE(view.databases.at("other").paused);
    EXPECT_FALSE(view.paused);
    EXPECT_EQ(a.it->resume("other", a.now, a.out), refusal::console_database_not_paused);
    EXPECT_EQ(a.it->resume("db", a.now, a.out), refusal::none);
    a.checked();
    EXPECT_EQ(a.opens().size(), 1U) << "who waited is served";
    EXPECT_EQ(a.it->resume("", a.now, a.out), refusal::console_not_paused);
}

TEST(ledger_console, pause_does_not_wait_for_a_login) {
    account a;
    a.open_book();
    a.join(a.connect(0), "db", "u");
    EXPECT_EQ(a.opens().size(), 1U);
    EXPECT_EQ(a.it->pause("db", a.out), refusal::none);
    EXPECT_EQ(a.closes(), (std::vector<std::string_view>{"pause mode"}));
    EXPECT_TRUE(a.it->drained("db"));
    EXPECT_EQ(a.it->resume("db", a.now, a.out), refusal::none);
    const auto opens = a.opens();
    ASSERT_EQ(opens.size(), 1U) << "for who waits for the greeting";
    EXPECT_EQ(a.it->pause("db", a.out), refusal::none);
    EXPECT_EQ(a.take(order::kind::close).size(), 1U);
    EXPECT_EQ(a.it->resume("db", a.now, a.out), refusal::none);
    EXPECT_EQ(a.opened(opens[0]).next, handing_on::step::close) << "it was faster than the order";
}

TEST(ledger_console, resume_of_all_leaves_a_database_paused) {
    account a;
    a.add_database("other");
    a.open_book();
    EXPECT_EQ(a.it->may_suspend(), refusal::none);
    EXPECT_EQ(a.it->pause("db", a.out), refusal::none);
    EXPECT_EQ(a.it->may_suspend(), refusal::console_suspend_while_paused);
    EXPECT_EQ(a.it->pause("", a.out), refusal::none);
    EXPECT_EQ(a.it->may_suspend(), refusal::console_already_paused);
    EXPECT_EQ(a.it->pause("", a.out), refusal::console_already_paused);
    EXPECT_EQ(a.it->pause("other", a.out), refusal::console_already_paused);
    EXPECT_EQ(a.it->kill("", a.out), refusal::console_already_paused);
    EXPECT_EQ(a.it->kill("other", a.out), refusal::console_already_paused);
    auto view = a.it->view(a.now);
    EXPECT_TRUE(view.paused);
    EXPECT_TRUE(view.databases.at("db").paused);
    EXPECT_FALSE(view.databases.contains("other") && view.databases.at("other").paused) << "not by its name";
    EXPECT_EQ(a.it->resume("other", a.now, a.out), refusal::console_database_not_paused);
    EXPECT_EQ(a.it->resume("", a.now, a.out), refusal::none);
    EXPECT_FALSE(a.it->is_paused(""));
    EXPECT_TRUE(a.it->is_paused("db"));
    EXPECT_EQ(a.it->resume("", a.now, a.out), refusal::console_not_paused);
    EXPECT_EQ(a.it->kill("db", a.out), refusal::none) << "it alone is paused";
    EXPECT_EQ(a.it->resume("db", a.now, a.out), refusal::none);
    a.it->shut_down(true, a.out);
    EXPECT_EQ(a.it->pause("", a.out), refusal::console_shutting_down);
    EXPECT_EQ(a.it->resume("", a.now, a.out), refusal::console_shutting_down);
    EXPECT_EQ(a.it->may_suspend(), refusal::console_shutting_down);
}

TEST(ledger_console, pause_and_disable_go_with_their_database) {
    account a;
    a.add_database("other");
    a.open_book();
    auto *const one = a.client();
    EXPECT_EQ(a.it->pause("db", a.out), refusal::none);
    a.it->disable("other", true);
    a.it->apply(copy(a), a.now, a.out);
    EXPECT_TRUE(a.it->is_paused("db")) << "a reload alone changes nothing";
    EXPECT_EQ(a.join(a.connect(), "other").why, refusal::database_disabled);
    const auto full = copy(a);
    a.settings->databases.erase("db");
    a.settings->databases.erase("other");
    a.it->apply(copy(a), a.now, a.out);
    a.checked();
    EXPECT_FALSE(a.it->has_database("db"));
    EXPECT_EQ(a.take(order::kind::refuse).at(0).refused, refusal::database_removed);
    a.leave(one);
    a.it->apply(full, a.now, a.out);
    EXPECT_FALSE(a.it->is_paused("db"));
    EXPECT_EQ(a.join(a.connect(), "other").why, refusal::none);
}

TEST(ledger_console, what_is_known_of_a_wildcard) {
    account a;
    a.settings->wildcard = a.settings->databases.at("db");
    a.open_book();
    EXPECT_TRUE(a.it->has_database("any"));
    EXPECT_FALSE(a.it->knows_database("any"));
    EXPECT_EQ(a.it->resume("any", a.now, a.out), refusal::console_database_not_paused);
    EXPECT_FALSE(a.it->view(a.now).databases.contains("any")) << "a refusal leaves nothing behind";
    EXPECT_EQ(a.it->pause("any", a.out), refusal::none);
    EXPECT_TRUE(a.it->knows_database("any"));
    EXPECT_TRUE(a.it->knows_database("db"));
    EXPECT_EQ(a.it->resume("any", a.now, a.out), refusal::none);
    EXPECT_EQ(a.it->pause("any", a.out), refusal::none);
    a.it->apply(copy(a), a.now, a.out);
    EXPECT_TRUE(a.it->is_paused("any")) << "* still stands for it";
    a.settings->wildcard.reset();
    a.it->apply(copy(a), a.now, a.out);
    EXPECT_FALSE(a.it->is_paused("any"));
}

TEST(ledger_console, a_disabled_database_lets_nobody_in) {
    account a;
    a.open_book();
    auto *const one = a.client();
    a.it->disable("db", true);
    EXPECT_EQ(a.join(a.connect()).why, refusal::database_disabled);
    EXPECT_NE(a.want(one), nullptr) << "those who are in go on";
    EXPECT_TRUE(a.it->view(a.now).databases.at("db").disabled);
    a.it->disable("db", false);
    EXPECT_EQ(a.join(a.connect()).why, refusal::none);
}

TEST(ledger_console, reconnect) {
    account a;
    a.open_book();
    auto *const one = a.client();
    auto *const server = a.want(one);
    EXPECT_TRUE(a.it->reconnected("db"));
    a.it->reconnect("db", a.now, a.out);
    a.checked();
    EXPECT_FALSE(a.it->reconnected("db"));
    EXPECT_TRUE(a.it->close_needed(server->id));
    EXPECT_TRUE(a.closes().empty()) << "its transaction may end";
    EXPECT_EQ(a.give_back(server).next, step::close);
    a.closed(server);
    EXPECT_TRUE(a.it->reconnected("db"));
    const auto late = a.join(a.connect());
    EXPECT_FALSE(late.greeting) << "the next login waits for a new server";
    for (auto *const fresh : a.opens()) a.opened(fresh);
    EXPECT_EQ(a.take(order::kind::welcome).size(), 1U);
    a.it->reconnect("", a.now, a.out);
    EXPECT_EQ(a.closes(), (std::vector<std::string_view>{"database configuration changed"})) << "idle ones at once";
}

TEST(ledger_console, kill) {
    account a;
    a.open_book();
    auto *const one = a.client();
    auto *const two = a.client();
    auto *const server = a.want(one);
    EXPECT_EQ(a.it->kill("db", a.out), refusal::none);
    a.checked();
    EXPECT_TRUE(a.it->is_paused("db"));
    const auto refused = a.take(order::kind::refuse);
    EXPECT_EQ(refused.size(), 2U);
    for (const auto &it : refused) EXPECT_EQ(it.refused, refusal::database_killed);
    EXPECT_EQ(a.closes(), (std::vector<std::string_view>{"database removed"}));
    a.leave(one);
    a.leave(two);
    EXPECT_NE(server, nullptr);
    EXPECT_TRUE(a.it->drained("db"));
    EXPECT_FALSE(a.it->kill_client({12345}, a.out));
    auto *const three = a.connect();
    EXPECT_TRUE(a.it->kill_client(three->id, a.out));
    EXPECT_EQ(a.take(order::kind::refuse).at(0).refused, refusal::client_killed);
}

TEST(ledger_console, the_picture) {
    account a;
    a.settings->global.default_pool_size = 2;
    a.open_book();
    auto *const one = a.client();
    auto *const two = a.client();
    auto *const three = a.client();
    auto *const server = a.want(one);
    a.want(two);
    a.want(three);
    auto *const admin = a.it->connected(0, nullptr, a.out);
    a.it->join_console(*admin);
    a.pass(base::milliseconds(1500));
    const auto view = a.it->view(a.now);
    ASSERT_EQ(view.pools.size(), 1U);
    const auto &pool = view.pools[0];
    EXPECT_EQ(pool.clients_active, 1);
    EXPECT_EQ(pool.clients_waiting, 2);
    EXPECT_EQ(pool.active, 1);
    EXPECT_EQ(pool.login, 1);
    EXPECT_EQ(pool.idle + pool.used + pool.tested + pool.closing, 0);
    EXPECT_EQ(pool.longest_wait, base::milliseconds(1500));
    EXPECT_EQ(view.consoles, 1U);
    EXPECT_EQ(a.it->clients(), 3U) << "an admin keeps nobody from shutting down";
    EXPECT_EQ(view.database_of_pool.at(0), "db");
    const auto all = a.it->waits({}, 100, a.now);
    ASSERT_EQ(all.size(), 2U);
    EXPECT_EQ(all[0].client, two->id);
    EXPECT_EQ(all[0].place, 1);
    EXPECT_EQ(all[1].client, three->id);
    EXPECT_EQ(all[1].place, 2);
    EXPECT_EQ(all[1].limit, "pool_size");
    EXPECT_EQ(all[1].reason, "all 2 servers of the pool are in use");
    EXPECT_EQ(all[1].holder, one->id);
    EXPECT_EQ(all[1].held, base::milliseconds(1500));
    EXPECT_EQ(a.it->waits(three->id, 100, a.now).size(), 1U);
    EXPECT_TRUE(a.it->waits(one->id, 100, a.now).empty());
    a.it->leave(*admin, a.out);
    EXPECT_EQ(a.it->view(a.now).consoles, 0U);
    EXPECT_NE(server, nullptr);
}

}  // namespace
}  // namespace pgsluice::core
