// Lists of hosts: turns, those that can not be reached and when they are tried again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/reachability.hpp"
#include "unit/ledger_account.hpp"

namespace pgsluice::core {

namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class host_lists : public ::testing::Test {
protected:
    account a;
    host_lists() {
        a.settings->databases["db"].hosts = {"a", "b", "c"};
        a.settings->global.server_login_retry = seconds(15);
        a.settings->global.default_pool_size = 100;
    }
    void begin(bool balance = true) {
        a.settings->databases["db"].load_balance = balance;
        a.open_book();
    }
    struct attempt {
        server_seat *seat;
        std::size_t host;
    };
    /// The orders to open, as they are now.
    std::vector<attempt> opens() {
        std::vector<attempt> all;
        for (const auto &order : a.take(order::kind::open)) {
            all.push_back({static_cast<server_seat *>(order.seat), order.connect->host});
            a.names[order.server] = all.back().seat;
        }
        return all;
    }
    std::size_t opens_at() {
        const auto all = opens();
        EXPECT_EQ(all.size(), 1U);
        if (all.empty()) return 99;
        last = all.front().seat;
        return all.front().host;
    }
    /// A new client wants a server; where it is opened.
    std::size_t next() {
        EXPECT_EQ(a.want(a.client()), nullptr);
        return opens_at();
    }
    server_seat *last = nullptr;
};

}  // namespace

TEST_F(host_lists, take_turns) {
    begin();
    a.join(a.connect());
    EXPECT_EQ(opens_at(), 0U);
    a.opened(last);
    a.want(a.client());
    std::vector<std::size_t> hosts;
    for (int i = 0; i < 5; ++i) hosts.push_back(next());
    EXPECT_THAT(hosts, ElementsAre(1U, 2U, 0U, 1U, 2U));
}

TEST_F(host_lists, or_stay_until_it_fails) {
    begin(false);
    a.join(a.connect());
    EXPECT_EQ(opens_at(), 0U);
    a.opened(last);
    a.want(a.client());
    EXPECT_EQ(next(), 0U);
    a.fail(last, unreachable);
    EXPECT_EQ(opens_at(), 1U) << "at once";
    EXPECT_EQ(next(), 1U);
    a.pass(seconds(60));
    EXPECT_EQ(next(), 1U) << "and stays there";
}

TEST_F(host_lists, two_failures_of_one_host_skip_no_other) {
    begin(false);
    a.join(a.connect());
    opens_at();
    a.opened(last);
    a.want(a.client());
    next();
    auto *const one = last;
    next();
    auto *const two = last;
    a.fail(one, unreachable);
    EXPECT_EQ(opens_at(), 1U);
    a.fail(two, unreachable);
    EXPECT_EQ(opens_at(), 1U);
}

TEST_F(host_lists, pass_over_the_dead_and_probe_them) {
    begin();
    a.join(a.connect());
    EXPECT_EQ(opens_at(), 0U);
    a.opened(last);
    a.want(a.client());
    EXPECT_EQ(next(), 1U);
    a.fail(last, unreachable);
    EXPECT_EQ(opens_at(), 2U) << "the next one at once, without server_login_retry";
    EXPECT_EQ(next(), 0U);
    EXPECT_EQ(next(), 2U) << "1 is passed over";
    a.pass(reachability::first_pause);
    std::vector<std::size_t> hosts;
    for (int i = 0; i < 4; ++i) hosts.push_back(next());
    EXPECT_EQ(std::count(hosts.begin(), hosts.end(), 1U), 1) << "one connection probes it";
}

TEST_F(host_lists, are_not_to_blame_for_what_is_short_here) {
    begin(false);
    auto *const first = a.connect();
    a.join(first);
    EXPECT_EQ(opens_at(), 0U);
    a.fail(last, no_socket);
    auto *const late = a.connect();
    EXPECT_EQ(a.join(late).why, refusal::none) << "the pool is not failing";
    EXPECT_EQ(a.it->why_waiting(*late, a.now),
              ": no connection to a server can be opened: too many open files (open files)");
    a.pass(base::milliseconds(99));
    a.tick();
    EXPECT_THAT(opens(), IsEmpty()) << "a moment later";
    a.pass(base::milliseconds(1));
    a.tick();
    EXPECT_EQ(opens_at(), 0U) << "the same host, without server_login_retry";
    a.opened(last);
    EXPECT_EQ(a.take(order::kind::welcome).size(), 2U);
    EXPECT_EQ(a.it->why_waiting(*late, a.now), "");
}

TEST_F(host_lists, wait_where_all_are_dead) {
    begin();
    auto *const client = a.connect();
    a.join(client);
    for (const std::size_t host : {0U, 1U, 2U}) {
        EXPECT_EQ(opens_at(), host);
        a.fail(last, unreachable);
    }
    EXPECT_THAT(opens(), IsEmpty());
    a.pass(seconds(14));
    a.tick();
    EXPECT_THAT(opens(), IsEmpty()) << "server_login_retry";
    a.pass(seconds(1));
    a.tick();
    EXPECT_EQ(opens_at(), 0U);
    a.fail(last, unreachable);
    EXPECT_EQ(opens_at(), 1U);
    a.opened(last);
    EXPECT_EQ(a.take(order::kind::welcome).size(), 1U);
}

TEST_F(host_lists, what_a_server_says_holds_for_all_but_that_it_is_starting) {
    begin();
    a.join(a.connect());
    opens_at();
    a.fail(last, starting_up);
    EXPECT_EQ(opens_at(), 1U);
    a.fail(last, refused_by_server);
    EXPECT_THAT(opens(), IsEmpty());
    EXPECT_EQ(a.take(order::kind::refuse_by_server).size(), 1U);
}

TEST_F(host_lists, are_new_after_a_reload) {
    begin();
    a.join(a.connect());
    opens_at();
    a.fail(last, unreachable);
    opens_at();
    auto *const old = last;
    auto fresh = copy(a);
    fresh->databases["db"].hosts = {"x", "y"};
    a.it->apply(fresh, a.now, a.out);
    a.fail(old, unreachable);
    EXPECT_EQ(opens_at(), 0U) << "nothing is known of these";
    a.fail(last, unreachable);
    EXPECT_EQ(opens_at(), 1U);
}

TEST_F(host_lists, one_host_alone_waits_as_ever) {
    a.settings->databases["db"].hosts = {"a"};
    begin();
    a.join(a.connect());
    opens_at();
    a.fail(last, unreachable);
    EXPECT_THAT(opens(), IsEmpty());
    a.pass(seconds(15));
    a.tick();
    EXPECT_EQ(opens_at(), 0U);
}

}  // namespace pgsluice::core
