// Names of servers: how long an answer holds, turns, changes, failures, zones; and what is read from a resolv.conf.
#include "core/name_book.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/ledger.hpp"
#include "unit/ledger_account.hpp"

namespace pgsluice::core {

namespace {

using base::seconds;
using looked_up = name_book::lookup::step;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class name_books : public ::testing::Test {
protected:
    name_book book;
    base::time_point now{std::chrono::hours(1000)};

    void pass(base::duration time) { now += time; }
    bool answer(const std::string &name, std::vector<std::string> addresses,
                std::optional<base::duration> ttl = seconds(5)) {
        return book.answered(name, {std::move(addresses), ttl, {}}, now);
    }
    bool fail(const std::string &name) { return book.answered(name, {{}, {}, "no such name"}, now); }
    looked_up find(const std::string &name) { return book.find(name, now).next; }
    std::vector<std::string> addresses(const std::string &name) { return book.find(name, now).addresses; }
    std::vector<std::string> refresh() {
        return book.refresh(now, [](const std::string &) { return true; });
    }
};

}  // namespace

TEST_F(name_books, one_asks_and_the_others_wait) {
    EXPECT_EQ(find("db"), looked_up::ask);
    EXPECT_EQ(find("db"), looked_up::wait);
    EXPECT_EQ(book.counts().queries, 1U);
    EXPECT_FALSE(answer("db", {"10.0.0.1"})) << "the first answer changes nothing";
    EXPECT_EQ(book.counts().queries, 0U);
    EXPECT_THAT(addresses("db"), ElementsAre("10.0.0.1"));
}

TEST_F(name_books, what_has_failed_is_asked_again_when_name_servers_are_others) {
    book.use({.max_ttl = seconds(60), .nxdomain_ttl = seconds(60)});
    for (const char *name : {"known", "nowhere", "stale", "slow"}) find(name);
    answer("known", {"10.0.0.1"}, seconds(60));
    answer("stale", {"10.0.0.2"}, seconds(1));
    fail("nowhere");
    pass(seconds(2));
    ASSERT_EQ(find("stale"), looked_up::ask);
    fail("stale");
    ASSERT_EQ(find("nowhere"), looked_up::failed);
    ASSERT_EQ(find("stale"), looked_up::known);
    book.forget_failures();
    EXPECT_EQ(find("nowhere"), looked_up::ask);
    EXPECT_THAT(refresh(), ElementsAre("stale"));
    EXPECT_EQ(find("known"), looked_up::known);
    EXPECT_EQ(find("slow"), looked_up::wait) << "who asked for it asks the others";
    EXPECT_THAT(book.addresses("stale"), ElementsAre("10.0.0.2"));
}

TEST_F(name_books, an_answer_holds_for_its_time_to_live_and_no_longer_than_the_setting) {
    for (const auto &[told, max, holds] :
         {std::tuple(seconds(5), seconds(15), seconds(5)), std::tuple(seconds(3600), seconds(15), seconds(15)),
          std::tuple(seconds(0), seconds(15), seconds(1)), std::tuple(seconds(2147483647), seconds(7), seconds(7))}) {
        book = {};
        book.use({.max_ttl = max});
        ASSERT_EQ(find("db"), looked_up::ask);
        answer("db", {"10.0.0.1"}, told);
        pass(holds - base::microseconds(1));
        EXPECT_EQ(find("db"), looked_up::known) << told.count();
        pass(base::microseconds(1));
        EXPECT_EQ(find("db"), looked_up::ask) << told.count();
    }
}

TEST_F(name_books, a_file_knows_no_times) {
    book.use({.max_ttl = seconds(9)});
    find("db");
    answer("db", {"10.0.0.1"}, std::nullopt);
    EXPECT_EQ(book.hosts(now)[0].ttl_seconds, 9);
}

TEST_F(name_books, without_a_time_to_live_everybody_asks) {
    book.use({.max_ttl = seconds(0)});
    find("db");
    answer("db", {"10.0.0.1"});
    EXPECT_EQ(book.latest("db", now).next, looked_up::known) << "who waited is answered";
    EXPECT_EQ(find("db"), looked_up::ask);
}

TEST_F(name_books, addresses_are_used_in_turn) {
    find("db");
    answer("db", {"a", "b", "c"});
    EXPECT_THAT(addresses("db"), ElementsAre("a", "b", "c"));
    EXPECT_THAT(addresses("db"), ElementsAre("b", "c", "a"));
    EXPECT_THAT(addresses("db"), ElementsAre("c", "a", "b"));
    EXPECT_THAT(addresses("db"), ElementsAre("a", "b", "c"));
}

TEST_F(name_books, an_address_that_can_not_be_reached_comes_last_until_it_is_probed) {
    find("db");
    answer("db", {"a", "b"}, seconds(100));
    book.use({.max_ttl = seconds(100)});
    pass(seconds(1));
    find("db");
    answer("db", {"a", "b"}, seconds(100));
    book.reached("db", "a", false, now);
    book.reached("db", "elsewhere", false, now);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(addresses("db")[0], "b");
    pass(reachability::first_pause);
    std::vector<std::string> first;
    for (int i = 0; i < 4; ++i) first.push_back(addresses("db")[0]);
    EXPECT_EQ(std::count(first.begin(), first.end(), "a"), 1) << "one connection probes";
    book.reached("db", "a", true, now);
    EXPECT_NE(addresses("db")[0], addresses("db")[0]) << "and they are used in turn again";
}

TEST_F(name_books, all_are_tried_where_none_can_be_reached) {
    find("db");
    answer("db", {"a", "b"});
    book.reached("db", "a", false, now);
    book.reached("db", "b", false, now);
    EXPECT_EQ(addresses("db").size(), 2U);
}

TEST_F(name_books, a_change_is_told_once_whatever_the_order) {
    find("db");
    answer("db", {"a", "b"});
    EXPECT_FALSE(answer("db", {"b", "a"}));
    EXPECT_TRUE(answer("db", {"b", "c"}));
    EXPECT_FALSE(answer("db", {"c", "b"}));
    EXPECT_TRUE(answer("db", {"c"}));
}

TEST_F(name_books, a_failure_holds_for_its_own_time) {
    book.use({.nxdomain_ttl = seconds(3)});
    find("db");
    fail("db");
    auto found = book.find("db", now);
    EXPECT_EQ(found.next, looked_up::failed);
    EXPECT_EQ(found.problem, "no such name");
    pass(seconds(3));
    EXPECT_EQ(find("db"), looked_up::ask);
}

TEST_F(name_books, old_addresses_are_kept_while_a_new_look_up_fails) {
    book.use({.nxdomain_ttl = seconds(3)});
    find("db");
    answer("db", {"a"}, seconds(5));
    pass(seconds(5));
    EXPECT_EQ(find("db"), looked_up::ask);
    EXPECT_FALSE(fail("db"));
    EXPECT_THAT(addresses("db"), ElementsAre("a"));
    pass(seconds(3));
    EXPECT_EQ(find("db"), looked_up::ask) << "it is asked for again";
    EXPECT_TRUE(answer("db", {"b"}));
}

TEST_F(name_books, who_waits_for_a_new_answer_is_served_the_old_one_in_the_end) {
    find("db");
    answer("db", {"a"}, seconds(5));
    pass(seconds(5));
    EXPECT_EQ(find("db"), looked_up::ask);
    EXPECT_EQ(find("db"), looked_up::wait);
    pass(name_book::patience);
    EXPECT_EQ(find("db"), looked_up::known);
    EXPECT_EQ(find("new"), looked_up::ask);
    pass(name_book::patience);
    EXPECT_EQ(find("new"), looked_up::wait) << "nothing is known of it";
}

TEST_F(name_books, names_in_use_are_asked_for_again) {
    find("db");
    answer("db", {"a"}, seconds(5));
    EXPECT_THAT(refresh(), IsEmpty());
    pass(seconds(5));
    EXPECT_THAT(book.refresh(now, [](const std::string &) { return false; }), IsEmpty());
    EXPECT_THAT(refresh(), ElementsAre("db"));
    EXPECT_THAT(refresh(), IsEmpty()) << "it is being asked for";
    book.use({.max_ttl = seconds(0)});
    answer("db", {"a"});
    EXPECT_THAT(refresh(), IsEmpty()) << "not without a pause";
    pass(name_book::refresh_pause);
    EXPECT_THAT(refresh(), ElementsAre("db"));
}

TEST_F(name_books, names_that_nobody_configures_are_forgotten) {
    find("one");
    answer("one", {"a"});
    find("two");
    find("three");
    answer("three", {"a"});
    book.keep({"three"});
    EXPECT_EQ(book.counts().names, 2U) << "two is being asked for";
    EXPECT_EQ(find("one"), looked_up::ask);
    EXPECT_EQ(find("three"), looked_up::known);
}

TEST_F(name_books, a_new_serial_makes_the_names_of_its_zone_outdated) {
    book.use({.zone_check_period = seconds(2)});
    for (const auto *name : {"db.example.org", "x.example.org", "db.example.com", "plain"}) {
        find(name);
        answer(name, {"a"});
    }
    EXPECT_THAT(book.zones_to_check(now), ElementsAre("example.com", "example.org"));
    EXPECT_THAT(book.zones_to_check(now), IsEmpty());
    EXPECT_EQ(book.counts().queries, 2U);
    book.zone_answered("example.org", 7);
    book.zone_answered("example.com", std::nullopt);
    EXPECT_EQ(book.counts().queries, 0U);
    EXPECT_THAT(refresh(), IsEmpty()) << "the first serial is news of nothing";
    ASSERT_EQ(book.zones().size(), 2U);
    EXPECT_EQ(book.zones()[1].name, "example.org");
    EXPECT_EQ(book.zones()[1].serial, 7U);
    EXPECT_EQ(book.zones()[1].names, 2);
    pass(seconds(1));
    EXPECT_THAT(book.zones_to_check(now), IsEmpty());
    pass(seconds(1));
    EXPECT_THAT(book.zones_to_check(now), ElementsAre("example.com", "example.org"));
    book.zone_answered("example.org", 7);
    EXPECT_THAT(refresh(), IsEmpty());
    pass(seconds(2));
    book.zones_to_check(now);
    book.zone_answered("example.org", 8);
    EXPECT_THAT(refresh(), ElementsAre("db.example.org", "x.example.org"));
    book.zone_answered("gone.org", 8);
    book.use({});
    book.zone_answered("example.com", 1);
    EXPECT_THAT(book.zones_to_check(now), IsEmpty());
    EXPECT_THAT(book.zones(), IsEmpty()) << "switched off";
}

TEST(reachabilities, the_pause_doubles_up_to_its_limit) {
    base::time_point now{std::chrono::hours(1)};
    reachability it;
    EXPECT_FALSE(it.passed_over(now));
    for (const int pause : {1, 2, 4, 8, 15, 15}) {
        it.failed(now);
        now += seconds(pause) - base::microseconds(1);
        EXPECT_TRUE(it.passed_over(now)) << pause;
        now += base::microseconds(1);
        EXPECT_FALSE(it.passed_over(now)) << pause;
        it.tried(now);
        EXPECT_TRUE(it.passed_over(now)) << "one is enough";
    }
    it.worked();
    EXPECT_FALSE(it.dead());
    it.tried(now);
    EXPECT_FALSE(it.passed_over(now));
}

TEST(resolv_confs, name_servers_with_ports) {
    EXPECT_EQ(nameservers_with_ports(""), "");
    EXPECT_EQ(nameservers_with_ports("search a b\nnameserver 10.0.0.1\nnameserver ::1\n"), "");
    EXPECT_EQ(nameservers_with_ports("nameserver 127.0.0.1:5353"), "127.0.0.1:5353");
    EXPECT_EQ(nameservers_with_ports("# nameserver 1.1.1.1:1\nnameserver\t[::1]:5 # x\r\nnameserver 10.0.0.1\n"
                                     "nameserver fe80::1\nnameserversx 1.1.1.1:2\nnameserver\n"),
              "[::1]:5,10.0.0.1,[fe80::1]");
}

// ---- and the servers that were reached by a name ----

namespace {

struct named_servers : ::testing::Test {
    account a;
    named_servers() {
        a.settings->databases["db"].hosts = {"name"};
        a.open_book();
    }
    void changed(const std::vector<std::string> &addresses) {
        a.it->addresses_changed("name", addresses, a.now, a.out);
        a.checked();
    }
};

}  // namespace

TEST_F(named_servers, go_when_they_are_idle_and_their_address_is_gone) {
    auto *const client = a.client();
    auto *const idle = a.names.begin()->second;
    a.it->leads_to(idle->id, "name", "a");
    a.it->leads_to({12345}, "name", "a");
    EXPECT_TRUE(a.it->has_servers_by_name("name"));
    EXPECT_FALSE(a.it->has_servers_by_name("other"));
    a.it->leads_to(idle->id, "other", "a");  // it is connected anew, to the next host
    EXPECT_TRUE(a.it->has_servers_by_name("other"));
    EXPECT_FALSE(a.it->has_servers_by_name("name"));
    a.it->leads_to(idle->id, "name", "a");
    EXPECT_FALSE(a.it->has_servers_by_name("other"));
    changed({"b", "a"});
    EXPECT_TRUE(a.closes().empty()) << "it is among them";
    a.it->addresses_changed("other", {"b"}, a.now, a.out);
    EXPECT_TRUE(a.closes().empty());
    changed({"b"});
    EXPECT_THAT(a.closes(), ElementsAre("obsolete connection"));
    EXPECT_FALSE(a.it->has_servers_by_name("name"));
    EXPECT_EQ(a.want(client), nullptr);
    EXPECT_EQ(a.opens().size(), 1U);
}

TEST_F(named_servers, finish_what_they_do) {
    auto *const client = a.client();
    auto *const busy = a.want(client);
    ASSERT_NE(busy, nullptr);
    a.it->leads_to(busy->id, "name", "a");
    changed({"b"});
    EXPECT_TRUE(a.closes().empty());
    EXPECT_TRUE(a.it->close_needed(busy->id));
    EXPECT_EQ(a.give_back(busy).next, handing_on::step::close);
}

TEST_F(named_servers, that_are_being_opened_are_not_overlooked) {
    auto *const client = a.client();
    ASSERT_NE(a.want(client), nullptr);
    ASSERT_EQ(a.want(a.client()), nullptr);
    const auto opening = a.opens();
    ASSERT_EQ(opening.size(), 1U);
    a.it->leads_to(opening[0]->id, "name", "a");
    changed({"b"});
    EXPECT_EQ(a.opened(opening[0]).next, handing_on::step::close);
}

TEST_F(named_servers, a_pool_that_could_not_log_in_tries_again_when_the_name_leads_elsewhere) {
    a.client();
    a.it->reconnect({}, a.now, a.out);
    a.closes();
    auto *const client = a.connect();
    a.join(client);
    a.fail(a.opens().at(0), unreachable);
    a.tick();
    EXPECT_TRUE(a.opens().empty()) << "server_login_retry";
    changed({"b"});
    EXPECT_EQ(a.opens().size(), 1U);
}

}  // namespace pgsluice::core
