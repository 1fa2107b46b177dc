// What is remembered of earlier clients' startup wishes, and how a later client gains by it.
#include "core/known_starts.hpp"

#include <gtest/gtest.h>

#include "net/shared_starts.hpp"
#include "support/rig.hpp"

namespace pgsluice::core {
namespace {

namespace be = test::be;
namespace fe = test::fe;
using test::rig;
using test::world;

shared_parameters defaults(std::string_view zone = "UTC") {
    auto set = std::make_shared<parameter_set>();
    set->put({.name = "TimeZone", .value = zone, .reported = true, .confirmed = true});
    set->put({.name = "in_hot_standby", .value = "off", .reported = true, .confirmed = true});
    return set;
}

TEST(known_starts, clients_that_ask_for_the_same_share_a_set) {
    known_starts it;
    const auto own = defaults();
    EXPECT_EQ(it.begin(1, own, {}), own);
    EXPECT_EQ(it.begin(1, own, {{"timezone", "UTC"}}), own) << "nothing of its own";
    const auto one = it.begin(1, own, {{"timezone", "cet"}, {"geqo", "off"}});
    EXPECT_EQ(it.begin(1, own, {{"timezone", "cet"}, {"geqo", "off"}}), one);
    EXPECT_EQ(it.begin(1, defaults(), {{"timezone", "cet"}, {"geqo", "off"}}), one) << "the same by value";
    EXPECT_NE(it.begin(2, own, {{"timezone", "cet"}, {"geqo", "off"}}), one) << "another pool";
    EXPECT_NE(it.begin(1, defaults("GMT"), {{"timezone", "cet"}, {"geqo", "off"}}), one);
    EXPECT_NE(it.begin(1, own, {{"timezone", "cet"}, {"geqo", "off6"}}), one);
    EXPECT_NE(it.begin(1, own, {{"timezone", "cet4:geqo"}, {"", "off"}}), one);
    EXPECT_EQ(one->value("geqo"), "off");
    EXPECT_FALSE(one->find("TIMEZONE")->confirmed);
    EXPECT_EQ(it.begin(1, own, {{"geqo", "off"}, {"GEQO", "on"}})->value("geqo"), "on") << "the later counts";
}

TEST(known_starts, the_servers_form_of_what_was_asked_for_and_nothing_else) {
    known_starts it;
    const auto own = defaults();
    const auto begun = it.begin(1, own, {{"timezone", "cet"}, {"geqo", "off"}});
    auto now = *begun;
    now.put({.name = "TimeZone", .value = "CET", .reported = true, .confirmed = true});
    now.put({.name = "geqo", .value = "off", .confirmed = true});
    now.put({.name = "in_hot_standby", .value = "on", .reported = true, .confirmed = true});
    it.accepted(begun, now);
    const auto next = it.begin(1, own, {{"timezone", "cet"}, {"geqo", "off"}});
    EXPECT_EQ(next->value("TimeZone"), "CET");
    EXPECT_TRUE(next->find("TimeZone")->confirmed);
    EXPECT_TRUE(next->find("geqo")->confirmed);
    EXPECT_EQ(next->value("in_hot_standby"), "off") << "that server's, not the pool's";
    now.put({.name = "TimeZone", .value = "GMT", .reported = true, .confirmed = true});
    it.accepted(begun, now);
    it.accepted(next, now);
    EXPECT_EQ(it.begin(1, own, {{"timezone", "cet"}, {"geqo", "off"}}), next) << "once";
}

TEST(known_starts, very_many_wishes_are_as_one_after_the_other) {
    const auto own = defaults();
    known_starts::asked wishes;
    parameter_set expected = *own;
    for (int i = 0; i < 2000; ++i) {  // each name twice, in another spelling, and out of order
        wishes.emplace_back((i % 2 == 0 ? "my.p" : "MY.P") + std::to_string(i * 7 % 1000), std::to_string(i));
        expected.put({.name = wishes.back().first, .value = wishes.back().second});
    }
    wishes.emplace_back("timezone", "cet");
    wishes.emplace_back("IN_HOT_STANDBY", "off");
    expected.put({.name = "TimeZone", .value = "cet", .reported = true});
    known_starts plain;
    EXPECT_EQ(*plain.begin(1, own, wishes), expected);
    EXPECT_EQ(plain.size(), 0U) << "too long to be remembered";
    net::shared_starts shared;
    EXPECT_EQ(*shared.begin(1, own, wishes), expected);
}

TEST(known_starts, shared_by_threads_it_gives_the_same) {
    net::shared_starts it;
    const auto own = defaults();
    const auto one = it.begin(1, own, {{"timezone", "cet"}});
    EXPECT_EQ(it.begin(1, defaults(), {{"timezone", "cet"}}), one);
    EXPECT_EQ(it.begin(1, own, {{"timezone", "UTC"}}), own);
    EXPECT_EQ(it.size(), 1U);
    auto now = *one;
    now.put({.name = "TimeZone", .value = "CET", .reported = true, .confirmed = true});
    it.accepted(one, now);
    EXPECT_EQ(it.begin(1, own, {{"timezone", "cet"}})->value("TimeZone"), "CET");
}

TEST(known_starts, is_bounded) {
    known_starts it;
    const auto own = defaults();
    for (std::size_t i = 0; i < 10 * known_starts::most; ++i) {
        const auto set = it.begin(1, own, {{"geqo", std::to_string(i)}});
        if (i % 3 == 0) it.accepted(set, *set);
        ASSERT_LE(it.size(), known_starts::most);
    }
    const auto before = it.size();
    const std::string big(known_starts::most_bytes, 'x');
    EXPECT_NE(it.begin(1, own, {{"my.big", big}}), it.begin(1, own, {{"my.big", big}}));
    EXPECT_EQ(it.size(), before);
}

TEST(known_starts, the_second_client_need_not_wait) {
    world around;
    const auto told = be::parameter("TimeZone", "Etc/CET") + be::complete("SET") + be::ready('I');
    rig first(around, 1);
    first.welcomed({{"user", "app"}, {"timezone", "cet"}});
    first.client_sends(fe::query("a"));
    EXPECT_EQ(first.take_server(), fe::query(R"(SET "TimeZone"='cet';)"));
    first.server_sends(told);
    EXPECT_EQ(first.take_server(), fe::query("a"));
    rig second(around, 1);
    second.client_sends(test::startup({{"user", "app"}, {"timezone", "cet"}}));
    EXPECT_NE(second.take_client().find(be::parameter("TimeZone", "Etc/CET")), std::string::npos)
        << "the server's spelling, in the welcome already";
    second.client_sends(fe::query("b"));
    EXPECT_EQ(second.take_server(), fe::query(R"(SET "TimeZone"='Etc/CET';)") + fe::query("b"));
}

}  // namespace
}  // namespace pgsluice::core
