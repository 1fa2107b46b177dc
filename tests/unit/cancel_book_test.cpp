// Cancel keys with peers in them, cancels that wait for a peer, and what SHOW tells of them.
#include "core/cancel_book.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/cancel_routing.hpp"
#include "core/console_rows.hpp"
#include "unit/ledger_account.hpp"

namespace pgsluice::core {

namespace {

using namespace std::string_literals;
using base::milliseconds;
using ::testing::ElementsAre;

const std::string short_secret = "\xff\x01\x02\xf8"s;

/// A key of a client of process `id`, as it was handed out.
cancel_key key_of(int id, std::string secret = short_secret) {
    return cancel_routing::of_process({0x7fffffffU, secret}, id);
}

class peers : public ::testing::Test {
protected:
    account a;
    peers() {
        auto &global = a.settings->global;
        global.peer_id = 1;
        global.default_pool_size = 2;
        global.cancel_wait_timeout = seconds(10);
        for (const int id : {1, 2, 300})
            a.settings->peers[id] = {.id = id, .hosts = {"h" + std::to_string(id)}, .port = 6432, .pool_size = {}};
        a.settings->peers[300].pool_size = 1;
        a.open_book();
    }
    ledger::canceled cancel(client_seat *from, const cancel_key &shown) {
        return a.it->cancel(*from, shown, a.now, a.out);
    }
    client_seat *comes() { return a.it->connected(0, nullptr, a.out); }
    cancel_book &book() { return a.it->cancels(); }
    std::vector<base::client_id> handed_on() {
        std::vector<base::client_id> all;
        for (const auto &order : a.take(order::kind::forward_cancel)) all.push_back(order.client);
        return all;
    }
    std::vector<base::client_id> dropped() {
        std::vector<base::client_id> all;
        for (const auto &order : a.take(order::kind::drop)) all.push_back(order.client);
        return all;
    }
    void over(client_seat *seat) { book().over(seat->id, a.out); }
    void reload(std::shared_ptr<config::settings> fresh) {
        a.settings = fresh;
        a.it->apply(fresh, a.now, a.out);
    }
};

}  // namespace

TEST(cancel_routings, a_key_says_whose_it_is_and_how_far_it_may_go) {
    std::set<std::uint32_t> numbers;
    for (const int id : {1, 255, 256, 258, 16383, 65535}) {
        const auto key = key_of(id);
        EXPECT_EQ(cancel_routing::peer_of(key), id);
        EXPECT_EQ(cancel_routing::hops_of(key), 3U);
        EXPECT_EQ(key.pid & 0x80000000U, 0U) << "drivers read the number as a signed one";
        numbers.insert(key.pid);
        for (const unsigned hops : {0U, 1U, 2U, 3U}) {
            const auto moved = cancel_routing::with_hops(key, hops);
            EXPECT_EQ(cancel_routing::hops_of(moved), hops);
            EXPECT_EQ(moved.pid, key.pid);
            EXPECT_EQ(cancel_routing::with_hops(moved, 3).text(), key.text());
        }
    }
    EXPECT_EQ(numbers.size(), 6U);
    const auto key = key_of(258, std::string(cancel_key::long_bytes, '\xfc'));
    EXPECT_EQ(key.pid, 0x7f0201ffU) << "the lower byte first";
    EXPECT_EQ(key.text(), "\xfc\xfc\xfc\xff" + std::string(28, '\xfc')) << "nothing else is changed";
    EXPECT_EQ(key_of(0).text(), short_secret) << "without peers all of it is random";
}

TEST_F(peers, a_cancel_for_our_own_client_stays_here) {
    auto *const client = a.client();
    ASSERT_TRUE(a.it->give_key(*client, key_of(1)));
    for (const unsigned hops : {0U, 1U, 2U, 3U}) {
        const auto found = cancel(comes(), cancel_routing::with_hops(key_of(1), hops));
        ASSERT_TRUE(found.owner) << "one that has been handed on is the same";
        EXPECT_EQ(found.owner->client, client->id);
    }
    EXPECT_TRUE(handed_on().empty());
}

TEST_F(peers, a_wrong_key_is_nobodys) {
    auto *const client = a.client();
    ASSERT_TRUE(a.it->give_key(*client, key_of(1)));
    for (const auto &shown : {key_of(1, "\xff\x01\x03\xf8"s), key_of(1, "\xff\x01\x02\xfc"s), key_of(7),
                              key_of(1, short_secret + "\0"s), key_of(1, std::string(32, 'x'))}) {
        const auto found = cancel(comes(), shown);
        EXPECT_FALSE(found.owner);
        EXPECT_FALSE(found.forwarded) << "our own number, or one of no peer";
    }
    EXPECT_FALSE(cancel(comes(), cancel_routing::with_hops(key_of(2), 0)).forwarded) << "it has come too far";
    EXPECT_FALSE(cancel(comes(), key_of(2, std::string(33, 'x'))).forwarded) << "longer than anybody's";
    EXPECT_TRUE(book().all().empty());
}

TEST_F(peers, a_cancel_for_a_peers_client_is_handed_on) {
    auto *const from = comes();
    const auto shown = key_of(300, std::string(32, 's'));
    EXPECT_TRUE(cancel(from, shown).forwarded);
    const auto all = a.take(order::kind::forward_cancel);
    ASSERT_EQ(all.size(), 1U);
    EXPECT_EQ(all[0].client, from->id);
    const auto &to = *all[0].forward_to;
    EXPECT_EQ(to.peer, 300);
    EXPECT_EQ(to.host, "h300");
    EXPECT_EQ(to.port, 6432);
    EXPECT_EQ(to.key.pid, shown.pid);
    EXPECT_EQ(to.key.text(), cancel_routing::with_hops(shown, 2).text()) << "one step less, and all else as it was";
}

TEST_F(peers, two_that_take_each_other_for_the_owner_do_not_go_on_for_ever) {
    auto key = key_of(2);
    int steps = 0;
    while (cancel(comes(), key).forwarded) {
        const auto all = a.take(order::kind::forward_cancel);
        if (all.empty()) {  // its turn has not come
            for (const auto &[id, it] : std::unordered_map(book().all())) book().over(id, a.out);
            a.take(order::kind::forward_cancel);
            break;
        }
        key = all[0].forward_to->key;
        book().connecting(all[0].client);
        book().over(all[0].client, a.out);
        ASSERT_LT(++steps, 10);
    }
    EXPECT_EQ(steps, 3);
}

TEST_F(peers, no_more_than_pool_size_at_once_and_in_order) {
    std::vector<client_seat *> all;
    for (int i = 0; i < 5; ++i) {
        all.push_back(comes());
        EXPECT_TRUE(cancel(all.back(), key_of(2)).forwarded);
    }
    EXPECT_THAT(handed_on(), ElementsAre(all[0]->id, all[1]->id)) << "default_pool_size";
    auto *const other = comes();
    EXPECT_TRUE(cancel(other, key_of(300)).forwarded);
    EXPECT_THAT(handed_on(), ElementsAre(other->id)) << "each peer has its own";
    EXPECT_TRUE(book().connecting(all[0]->id));
    EXPECT_TRUE(book().connecting(all[1]->id));
    book().sent(all[0]->id);
    over(all[1]);
    EXPECT_THAT(handed_on(), ElementsAre(all[2]->id));
    a.leave(all[3]);
    over(all[0]);
    EXPECT_THAT(handed_on(), ElementsAre(all[4]->id)) << "who has left is not waited for";
}

TEST_F(peers, a_connection_counts_until_it_has_ended) {
    auto *const one = comes(), *const two = comes(), *const three = comes();
    cancel(one, key_of(300));
    cancel(two, key_of(300));
    cancel(three, key_of(300));
    EXPECT_THAT(handed_on(), ElementsAre(one->id));
    ASSERT_TRUE(book().connecting(one->id));
    const auto first = one->id;
    a.leave(one);
    EXPECT_TRUE(handed_on().empty()) << "its sender is gone, it is not";
    book().over(first, a.out);
    EXPECT_THAT(handed_on(), ElementsAre(two->id));
    const auto second = two->id;
    a.leave(two);  // before its worker has seen the order
    EXPECT_THAT(handed_on(), ElementsAre(three->id));
    EXPECT_FALSE(book().connecting(second));
    book().over(second, a.out);
    EXPECT_TRUE(handed_on().empty());
}

TEST_F(peers, who_waits_too_long_is_let_go) {
    auto *const one = comes(), *const two = comes();
    cancel(one, key_of(300));
    a.pass(seconds(4));
    cancel(two, key_of(300));
    handed_on();
    a.pass(seconds(10) - milliseconds(1));
    a.tick();
    EXPECT_TRUE(dropped().empty());
    a.pass(milliseconds(1));
    a.tick();
    EXPECT_THAT(dropped(), ElementsAre(two->id)) << "the first has its own limit, that of its connection";
}

TEST_F(peers, a_reload_takes_and_gives_peers) {
    auto *const one = comes(), *const two = comes();
    cancel(one, key_of(300));
    cancel(two, key_of(300));
    handed_on();
    book().connecting(one->id);
    auto fresh = copy(a);
    fresh->peers.erase(300);
    fresh->peers[2].pool_size = 7;
    reload(fresh);
    EXPECT_THAT(dropped(), ElementsAre(two->id));
    EXPECT_FALSE(cancel(comes(), key_of(300)).forwarded);
    auto view = a.it->view(a.now);
    ASSERT_EQ(view.peers.size(), 1U);
    EXPECT_EQ(view.peers[0].pool_size, 7);
    fresh = copy(a);
    fresh->peers[300] = {.id = 300, .hosts = {"again"}, .port = 1, .pool_size = 1};
    reload(fresh);
    auto *const three = comes();
    EXPECT_TRUE(cancel(three, key_of(300)).forwarded);
    EXPECT_TRUE(handed_on().empty()) << "the connection of before the reload is still there";
    over(one);
    EXPECT_THAT(handed_on(), ElementsAre(three->id));
    fresh = copy(a);
    fresh->global.peer_id = 0;
    reload(fresh);
    EXPECT_FALSE(cancel(comes(), key_of(2)).forwarded) << "no peers any more";
}

TEST_F(peers, keys_of_before_a_reload_stay_good) {
    auto *const client = a.client();
    const auto old = key_of(1);
    ASSERT_TRUE(a.it->give_key(*client, old));
    auto fresh = copy(a);
    fresh->global.peer_id = 2;
    reload(fresh);
    ASSERT_TRUE(cancel(comes(), old).owner);
    EXPECT_EQ(cancel(comes(), old).owner->client, client->id);
}

TEST_F(peers, clients_may_have_the_number_in_common_but_not_the_key) {
    auto *const one = a.client(), *const two = a.client();
    const auto first = key_of(1), second = key_of(1, "\x01\x02\x03\xfb"s);
    ASSERT_EQ(first.pid, second.pid);
    EXPECT_TRUE(a.it->give_key(*one, first));
    EXPECT_FALSE(a.it->give_key(*two, second)) << "not if it can be helped";
    EXPECT_FALSE(a.it->give_key(*two, first, true));
    EXPECT_TRUE(a.it->give_key(*two, second, true));
    EXPECT_EQ(a.it->find_key(first)->client, one->id);
    EXPECT_EQ(a.it->find_key(second)->client, two->id);
    a.leave(one);
    EXPECT_FALSE(a.it->find_key(first));
    EXPECT_EQ(a.it->find_key(second)->client, two->id);
}

TEST_F(peers, show) {
    auto *const client = a.client();
    auto *const server = a.want(client);
    ASSERT_NE(server, nullptr);
    ASSERT_TRUE(a.it->give_key(*client, key_of(1)));
    std::vector<client_seat *> all;
    for (int i = 0; i < 4; ++i) cancel(all.emplace_back(comes()), key_of(2));
    for (int i = 0; i < 3; ++i) cancel(all.emplace_back(comes()), key_of(1));
    handed_on();
    book().connecting(all[0]->id);
    book().connecting(all[1]->id);
    book().sent(all[0]->id);
    book().sent(all[4]->id);
    a.it->canceling(*server, true, false);
    auto view = a.it->view(a.now);
    const console_cell one = std::int64_t{1}, none = std::int64_t{0}, two = std::int64_t{2};
    EXPECT_THAT(peer_rows(view), ElementsAre(console_row{two, "h2"s, std::int64_t{6432}, two},
                                             console_row{std::int64_t{300}, "h300"s, std::int64_t{6432}, one}));
    EXPECT_THAT(peer_pool_rows(view), ElementsAre(console_row{two, one, std::int64_t{3}, one, one},
                                                  console_row{std::int64_t{300}, none, none, none, none}));
    auto row = pool_rows(view)[0];
    EXPECT_EQ(row[4], one) << "cl_active_cancel_req";
    EXPECT_EQ(row[5], two) << "cl_waiting_cancel_req";
    EXPECT_EQ(row[6], one) << "sv_active";
    EXPECT_EQ(row[7], one) << "sv_active_cancel";
    EXPECT_EQ(row[8], none) << "sv_being_canceled";
    a.it->canceling(*server, true, true);
    row = pool_rows(a.it->view(a.now))[0];
    EXPECT_EQ(row[6], none) << "sv_active";
    EXPECT_EQ(row[7], one) << "sv_active_cancel";
    EXPECT_EQ(row[8], one) << "sv_being_canceled";
    a.it->canceling(*server, false, false);
    for (auto *const seat : all) a.leave(seat);
    row = pool_rows(a.it->view(a.now))[0];
    for (const std::size_t i : {4U, 5U, 7U, 8U}) EXPECT_EQ(row[i], none) << i;
    EXPECT_EQ(list_rows(*a.settings, view, {})[2][1], two);
}

}  // namespace pgsluice::core
