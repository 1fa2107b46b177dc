// The ledger and clients: their limits, the wait for the first server, logins that fail, cancel keys, pass-through.
#include <gtest/gtest.h>

#include "auth/base64.hpp"
#include "auth/userlist.hpp"
#include "unit/ledger_account.hpp"

namespace pgsluice::core {
namespace {

using step = handing_on::step;

// ---- clients ----

TEST(ledger_clients, max_client_conn) {
    account a;
    a.settings->global.max_client_conn = 3;
    a.open_book();
    std::vector<client_seat *> in;
    for (int i = 0; i < 3; ++i) {
        in.push_back(a.connect());
        a.join(in.back());
    }
    a.out.clear();
    auto *const fourth = a.it->connected(0, nullptr, a.out);
    EXPECT_EQ(a.it->admit(*fourth, a.out), refusal::too_many_clients);
    EXPECT_TRUE(a.out.empty()) << "nobody who has logged in goes for it";
    a.leave(fourth);
    a.leave(in[0]);
    EXPECT_EQ(a.it->admit(*a.it->connected(0, nullptr, a.out), a.out), refusal::none);
}

TEST(ledger_clients, who_only_begins_to_log_in_keeps_nobody_out) {
    account a;
    a.settings->global.max_client_conn = 2;
    a.open_book();
    auto *const silent = a.it->connected(0, nullptr, a.out);  // has not even said who it is
    auto *const slow = a.connect(), *const quick = a.connect();
    a.out.clear();
    auto *const late = a.it->connected(0, nullptr, a.out);
    EXPECT_EQ(a.it->admit(*late, a.out), refusal::none);
    ASSERT_EQ(a.out.size(), 1U);
    EXPECT_EQ(a.out[0].client, slow->id);
    EXPECT_EQ(a.out[0].refused, refusal::too_many_clients);
    EXPECT_EQ(a.join(slow).why, refusal::too_many_clients) << "its last message came before the order";
    EXPECT_EQ(a.join(quick).why, refusal::none);
    EXPECT_EQ(a.join(late).why, refusal::none);
    EXPECT_EQ(a.it->admit(*silent, a.out), refusal::too_many_clients);
    EXPECT_EQ(a.it->check(), "");
}

TEST(ledger_clients, of_too_many_that_have_not_logged_in_the_oldest_goes) {
    account a;
    a.settings->global.max_unauthenticated_conn = 2;
    a.open_book();
    auto *const first = a.connect();
    auto *const second = a.connect();
    EXPECT_TRUE(a.take(order::kind::refuse).empty());
    a.join(first);
    auto *const third = a.connect();
    EXPECT_TRUE(a.take(order::kind::refuse).empty()) << "one of the three is in";
    a.connect();
    const auto refused = a.take(order::kind::refuse);
    ASSERT_EQ(refused.size(), 1U);
    EXPECT_EQ(refused[0].client, second->id);
    EXPECT_EQ(refused[0].refused, refusal::too_many_logins);
    a.leave(second);
    a.leave(third);
    a.connect();
    EXPECT_TRUE(a.take(order::kind::refuse).empty());
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

/// What check() demands after each: that no user and no route is remembered for nobody.
TEST(ledger_clients, made_up_users_leave_nothing_behind) {
    account a;
    a.settings->global.auth_type = config::auth_type::any;
    a.settings->databases["db"].user = "forced";
    a.add_database("other").user = "forced";
    a.settings->global.max_db_client_connections = 2;
    a.open_book();
    auto *const stays = a.client(0, "db", "stays");
    for (int i = 0; i < 1000; ++i) {
        const auto name = "u" + std::to_string(i);
        auto *const seat = a.client(0, "db", name);
        auto *const elsewhere = a.client(0, "other", name);
        auto *const refused = a.connect();
        EXPECT_EQ(a.join(refused, "db", "refused" + name).why, refusal::too_many_database_clients);
        ASSERT_EQ(a.it->view(a.now).users.size(), 3U) << "forced, stays and this one";
        for (auto *const it : {seat, refused, elsewhere}) a.leave(it);
        ASSERT_EQ(a.it->view(a.now).users.size(), 2U);
    }
    // As well after a reload.
    auto *const last = a.client(0, "db", "last");
    a.it->apply(copy(a), a.now, a.out);
    a.checked();
    EXPECT_EQ(a.it->view(a.now).users.at("last").clients, 1);
    a.leave(last);
    a.leave(stays);
    EXPECT_EQ(a.it->view(a.now).users.size(), 1U);
}

TEST(ledger_clients, clients_of_one_user_share_a_route) {
    account a;
    a.open_book();
    auto *const one = a.client();
    auto *const two = a.client();
    EXPECT_EQ(one->route, two->route);
    a.leave(one);
    EXPECT_EQ(a.client()->route, two->route);
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
    auto *const next = a.opens().at(0);
    a.opened(next);
    EXPECT_EQ(a.take(order::kind::welcome).size(), 1U);
    // One that does not answer makes room for another, whose words count.
    a.pass(seconds(1));
    EXPECT_FALSE(a.join(a.connect()).greeting);
    a.pass(a.settings->global.server_connect_timeout);
    a.it->closing(*next, a.now, a.out);
    a.checked();
    a.opened(a.opens().at(0));
    EXPECT_EQ(a.take(order::kind::welcome).size(), 1U);
}

TEST(ledger_login, what_will_not_change_reaches_those_who_wait_and_is_cached) {
    for (const auto &error : {refused_by_server, not_able}) {
        account a;
        a.settings->global.server_login_retry = seconds(15);
        a.open_book();
        for (int i = 0; i < 2; ++i) a.join(a.connect());
        a.fail(a.opens().at(0), error);
        const auto refused = a.take(order::kind::refuse_by_server);
        ASSERT_EQ(refused.size(), 2U);
        EXPECT_EQ(refused[0].error->sqlstate, error.sqlstate);
        EXPECT_EQ(refused[0].error->detail, error.detail);
        a.pass(seconds(15) - base::microseconds(1));
        const auto early = a.join(a.connect());
        EXPECT_EQ(early.why, refusal::server_login_failing);
        EXPECT_EQ(early.argument, error.message);
        EXPECT_EQ(early.detail, error.detail);
        EXPECT_TRUE(a.opens().empty());
        a.pass(base::microseconds(1));
        EXPECT_EQ(a.join(a.connect()).why, refusal::none);
        EXPECT_EQ(a.opens().size(), 1U);
    }
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

// ---- pass-through ----

TEST(ledger_keys, a_clients_keys_open_servers_for_the_same_secret_only) {
    account a;
    const auto verifier = auth::make_scram_verifier("secret", "0123456789abcdef", 4096);
    const auto stored = "SCRAM-SHA-256$4096:" + auth::base64_encode(verifier.salt) + "$" +
                        auth::base64_encode(verifier.stored_key.reveal()) + ":" +
                        auth::base64_encode(verifier.server_key.reveal());
    a.settings->credentials.emplace("u", auth::parse_secret(stored));
    a.open_book();
    const auto keys = auth::do_work(auth::work_for(verifier, "secret"));
    a.it->join(*a.connect(), "db", "u", nullptr, keys, a.now, a.out);
    const auto open = a.take(order::kind::open);
    ASSERT_EQ(open.size(), 1U);
    ASSERT_TRUE(open[0].connect->secret.keys);
    EXPECT_TRUE(open[0].connect->secret.keys->client_key.equals(keys.client_key));
    // A login that began before a reload brings those of the secret that was then: they spoil nothing.
    auth::scram_keys of_old_secret;
    of_old_secret.client_key[0] = 7;
    a.it->join(*a.connect(), "db", "u", nullptr, of_old_secret, a.now, a.out);
    a.closed(static_cast<server_seat *>(open[0].seat));
    const auto again = a.take(order::kind::open);
    ASSERT_FALSE(again.empty());
    for (const auto &it : again) {
        ASSERT_TRUE(it.connect->secret.keys);
        EXPECT_TRUE(it.connect->secret.keys->client_key.equals(keys.client_key));
    }
    // The secret changes: the keys are no longer good.
    auto fresh = copy(a);
    fresh->credentials.clear();
    fresh->credentials.emplace("u", auth::parse_secret("plain"));
    a.it->apply(fresh, a.now, a.out);
    for (const auto &it : again) {
        a.opened(static_cast<server_seat *>(it.seat));
        a.closed(static_cast<server_seat *>(it.seat));
    }
    const auto next = a.take(order::kind::open);
    ASSERT_FALSE(next.empty());
    EXPECT_FALSE(next[0].connect->secret.keys);
    EXPECT_TRUE(next[0].connect->secret.credential.text.equals("plain"));
}

}  // namespace
}  // namespace pgsluice::core
