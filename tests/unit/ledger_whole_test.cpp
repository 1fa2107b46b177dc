// The ledger as a whole: pause, shutdown, reload.
#include <gtest/gtest.h>

#include "core/ledger.hpp"
#include "unit/ledger_account.hpp"

namespace pgsluice::core {
namespace {

using step = handing_on::step;

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
    a.it->pause("", a.out);
    a.checked();
    EXPECT_EQ(a.closes(), (std::vector<std::string_view>{"pause mode"})) << "idle ones at once";
    EXPECT_EQ(a.give_back(server).next, step::close) << "the others when they are released";
    a.closed(server);
    EXPECT_EQ(a.want(one), nullptr);
    a.tick();
    EXPECT_TRUE(a.opens().empty());
    a.it->resume("", a.now, a.out);
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
    EXPECT_EQ(a.it->admit(*a.it->connected(0, nullptr, a.out), a.out), refusal::shutting_down);
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
    a.it->resume("", a.now, a.out);
    EXPECT_TRUE(a.opens().empty()) << "RESUME is ignored now";
}

TEST(ledger_whole, who_had_connected_before_a_shutdown_is_let_in) {
    account a;
    a.open_book();
    auto *const early = a.connect(), *const later = a.connect();
    a.it->shut_down(false, a.out);
    EXPECT_EQ(a.join(early).why, refusal::none);
    a.it->shut_down(true, a.out);
    EXPECT_EQ(a.join(later).why, refusal::shutting_down) << "but not when nobody is waited for";
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
    auto *const client = a.client();
    auto fresh = copy(a);
    fresh->global.query_timeout = seconds(7);
    fresh->global.pool_mode = config::pool_mode::session;
    a.it->apply(fresh, a.now, a.out);
    EXPECT_EQ(a.take(order::kind::reroute).size(), 1U);
    EXPECT_EQ(client->route->limits.query_timeout, seconds(7));
    EXPECT_EQ(client->route->settings->pool_mode, config::pool_mode::session);
    EXPECT_TRUE(a.closes().empty());
}

}  // namespace
}  // namespace pgsluice::core
