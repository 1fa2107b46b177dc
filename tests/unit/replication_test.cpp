// Replication clients: the ledger's account of servers of their own (who gets a slot, who makes room, who is refused),
// and the two machines around a server that hears nothing but its client's words.
#include <gtest/gtest.h>

#include <algorithm>

#include "auth/userlist.hpp"
#include "core/ledger.hpp"
#include "support/rig.hpp"

namespace pgsluice::core {
namespace {

using namespace test;
using base::seconds;
using step = handing_on::step;

/// A ledger with one database, its clock, and the orders that were not looked at yet.
struct account {
    config::settings settings;
    base::time_point now{std::chrono::hours(1000)};
    orders out;
    std::unique_ptr<ledger> it;
    shared_welcome greeting = std::make_shared<const welcome>();

    account() {
        settings.global.auth_type = config::auth_type::trust;
        settings.global.pool_mode = config::pool_mode::transaction;
        settings.global.default_pool_size = 1;
        settings.global.server_check_delay = seconds(1'000'000);
        auto &entry = settings.databases["db"];
        entry.name = "db";
        entry.hosts = {"h"};
        entry.connect_query = "select 1";
        entry.startup_parameters = {{"application_name", "entry"}, {"timezone", "UTC"}};
    }
    account &open_book() {
        it = std::make_unique<ledger>(std::make_shared<config::settings>(settings), 2);
        return *this;
    }
    void reload() { it->apply(std::make_shared<config::settings>(settings), now, out); }
    void checked() const { EXPECT_EQ(it->check(), ""); }

    client_seat *join(replication kind, base::worker_index worker = 0) {
        auto *const seat = it->connected(worker, nullptr, out);
        EXPECT_EQ(it->admit(*seat, out), refusal::none);
        if (kind != replication::none) {
            seat->replicates = std::make_shared<const replication_start>(
                replication_start{kind, {{"options", "-e"}, {"Application_Name", "mine"}}});
        }
        EXPECT_EQ(it->join(*seat, "db", "u", nullptr, {}, now, out).why, refusal::none);
        checked();
        return seat;
    }
    client_seat *replica(base::worker_index worker = 0) { return join(replication::physical, worker); }
    /// The ids of nothing are looked at: one order of that kind, or none.
    std::optional<order> take(order::kind what) {
        const auto at = std::find_if(out.begin(), out.end(), [&](const order &one) { return one.what == what; });
        if (at == out.end()) return std::nullopt;
        auto one = std::move(*at);
        out.erase(at);
        return one;
    }
    server_seat *opens() {
        const auto one = take(order::kind::open);
        return one ? static_cast<server_seat *>(one->seat) : nullptr;
    }
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
        it->closed(*seat, now, out);
        checked();
    }
    void leave(client_seat *seat) {
        it->leave(*seat, out);
        checked();
    }
    server_seat *want(client_seat *seat) {
        auto *const server = it->want(*seat, now, out);
        checked();
        return server;
    }
    /// An ordinary client that was welcomed, and the pool's idle server.
    std::pair<client_seat *, server_seat *> ordinary() {
        auto *const client = join(replication::none);
        auto *const server = opens();
        EXPECT_EQ(opened(server).next, step::idle);
        EXPECT_TRUE(take(order::kind::welcome));
        return {client, server};
    }
};

TEST(replication_ledger, a_server_is_opened_in_the_clients_words) {
    for (const auto kind : {replication::physical, replication::logical}) {
        account a;
        a.settings.global.query_timeout = a.settings.global.idle_transaction_timeout = seconds(1);
        a.settings.global.transaction_timeout = a.settings.global.client_idle_timeout = seconds(2);
        a.open_book();
        auto *const client = a.join(kind, 1);
        const auto order = a.take(order::kind::open);
        ASSERT_TRUE(order);
        EXPECT_EQ(order->worker, 1U);
        const auto &opened = *order->connect->settings;
        const pairs want{{"timezone", "UTC"},
                         {"replication", kind == replication::logical ? "database" : "true"},
                         {"options", "-e"},
                         {"Application_Name", "mine"}};
        EXPECT_EQ(opened.startup_parameters, want);
        EXPECT_EQ(opened.connect_query + opened.server_reset_query, "");
        EXPECT_EQ(opened.pool_mode, config::pool_mode::session);
        EXPECT_EQ(client->route->settings, order->connect->settings);
        EXPECT_EQ(client->route->replicates, kind);
        const auto &limits = client->route->limits;
        EXPECT_EQ(limits.query_timeout + limits.idle_transaction_timeout + limits.transaction_timeout, seconds(0));
        EXPECT_EQ(limits.client_idle_timeout, seconds(2));
        auto *const server = static_cast<server_seat *>(order->seat);
        const auto next = a.opened(server);
        EXPECT_EQ(next.next, step::grant);
        EXPECT_EQ(next.client, client);
        // It is given back when its client has left, and goes with it.
        a.it->unlinked(*server);
        EXPECT_EQ(a.give_back(server).next, step::close);
        a.leave(client);
        a.closed(server);
        EXPECT_EQ(a.it->servers(), 0U);
    }
}

TEST(replication_ledger, its_greeting_is_nobody_elses) {
    account a;
    a.settings.global.default_pool_size = 5;
    a.open_book();
    a.replica();
    EXPECT_EQ(a.opened(a.opens()).next, step::grant);
    a.join(replication::none);
    EXPECT_FALSE(a.take(order::kind::welcome));
    EXPECT_EQ(a.opened(a.opens()).next, step::idle);
    EXPECT_TRUE(a.take(order::kind::welcome));
}

TEST(replication_ledger, an_idle_server_makes_room) {
    const std::vector<std::function<void(config::settings &)>> limits{
        [](auto &) {}, [](auto &it) { it.global.default_pool_size = 9, it.global.max_db_connections = 1; },
        [](auto &it) { it.global.default_pool_size = 9, it.global.max_user_connections = 1; }};
    for (const auto &limit : limits) {
        account a;
        limit(a.settings);
        a.open_book();
        const auto [client, server] = a.ordinary();
        a.replica();
        EXPECT_EQ(a.opens(), nullptr);
        const auto close = a.take(order::kind::close);
        ASSERT_TRUE(close);
        EXPECT_EQ(close->server, server->id);
        EXPECT_EQ(a.want(client), nullptr) << "it comes later";
        a.closed(server);
        auto *const own = a.opens();
        ASSERT_NE(own, nullptr);
        EXPECT_TRUE(own->own);
        EXPECT_EQ(a.opens(), nullptr);
        EXPECT_EQ(a.opened(own).next, step::grant);
        a.it->unlinked(*own);
        EXPECT_EQ(a.give_back(own).next, step::close);
        a.closed(own);
        auto *const next = a.opens();
        ASSERT_NE(next, nullptr);
        EXPECT_FALSE(next->own);
        EXPECT_EQ(a.opened(next).client, client);
    }
}

TEST(replication_ledger, slots_go_in_the_order_of_asking) {
    account a;
    a.open_book();
    const auto [busy, server] = a.ordinary();
    EXPECT_EQ(a.want(busy), server);
    auto *const before = a.join(replication::none), *const later = a.join(replication::none);
    EXPECT_EQ(a.want(before), nullptr);
    auto *const replica = a.replica();
    EXPECT_EQ(a.want(later), nullptr);
    EXPECT_EQ(a.give_back(server).client, before);
    const auto next = a.give_back(server);
    EXPECT_EQ(next.next, step::close) << "it is the replication client's turn";
    a.closed(server);
    auto *const own = a.opens();
    ASSERT_TRUE(own != nullptr && own->client == replica);
    EXPECT_EQ(a.opens(), nullptr);
    EXPECT_EQ(a.opened(own).client, replica);
    a.leave(replica);
    EXPECT_EQ(a.give_back(own).next, step::close);
    a.closed(own);
    EXPECT_EQ(a.opened(a.opens()).client, later);
}

TEST(replication_ledger, one_that_leaves_in_the_line_or_while_its_server_opens) {
    account a;
    a.open_book();
    const auto [busy, server] = a.ordinary();
    EXPECT_EQ(a.want(busy), server);
    a.leave(a.replica());
    EXPECT_EQ(a.give_back(server).next, step::idle);
    auto *const replica = a.replica();
    EXPECT_TRUE(a.take(order::kind::close));
    a.closed(server);
    auto *const own = a.opens();
    a.leave(replica);
    const auto close = a.take(order::kind::close);
    ASSERT_TRUE(close);
    EXPECT_EQ(close->server, own->id);
    a.it->open_failed(*own, {"08006", "closed", false}, a.now, a.out);
    a.closed(own);
    EXPECT_EQ(a.it->servers(), 0U);
    EXPECT_TRUE(a.out.empty());
}

TEST(replication_ledger, a_refusal_is_its_clients_alone) {
    for (const bool from_server : {true, false}) {
        account a;
        a.settings.global.default_pool_size = 5;
        a.open_book();
        auto *const replica = a.replica();
        auto *const own = a.opens();
        a.it->open_failed(*own, {"42501", "not yours", from_server}, a.now, a.out);
        a.closed(own);
        const auto told = a.take(order::kind::refuse_by_server);
        ASSERT_TRUE(told);
        EXPECT_EQ(told->client, replica->id);
        EXPECT_EQ(told->error->message, "not yours");
        EXPECT_EQ(a.opens(), nullptr);
        a.leave(replica);
        a.join(replication::none);  // the pool does not fail for it
        EXPECT_NE(a.opens(), nullptr);
    }
}

TEST(replication_ledger, a_pool_that_fails_does_not_keep_it_from_asking) {
    account a;
    a.open_book();
    a.join(replication::none);
    auto *const server = a.opens();
    a.it->open_failed(*server, {"3D000", "no such database", true}, a.now, a.out);
    a.closed(server);
    a.replica();
    auto *const own = a.opens();
    ASSERT_NE(own, nullptr);
    EXPECT_EQ(a.opened(own).next, step::grant);
}

TEST(replication_ledger, a_lack_of_descriptors_is_waited_out) {
    account a;
    a.open_book();
    a.replica();
    auto *own = a.opens();
    a.it->open_failed(*own, {.sqlstate = "53000", .message = "too many open files", .ours = true}, a.now, a.out);
    a.closed(own);
    EXPECT_EQ(a.opens(), nullptr);
    EXPECT_FALSE(a.take(order::kind::refuse_by_server));
    a.now += base::milliseconds(100);
    a.it->tick(a.now, a.out);
    own = a.opens();
    ASSERT_NE(own, nullptr);
    EXPECT_EQ(a.opened(own).next, step::grant);
}

TEST(replication_ledger, an_older_protocol_is_asked_for_at_once) {
    account a;
    a.open_book();
    auto *const replica = a.replica();
    auto *own = a.opens();
    a.it->open_failed(*own, {"0A000", "unsupported", true, true}, a.now, a.out);
    a.closed(own);
    EXPECT_FALSE(a.take(order::kind::refuse_by_server));
    const auto order = a.take(order::kind::open);
    ASSERT_TRUE(order);
    EXPECT_EQ(order->connect->protocol, 3U << 16);
    EXPECT_EQ(a.opened(static_cast<server_seat *>(order->seat)).client, replica);
}

TEST(replication_ledger, reload_pause_and_shutdown) {
    account a;
    a.settings.global.default_pool_size = 3;
    a.open_book();
    auto *const replica = a.replica();
    auto *const own = a.opens();
    a.opened(own);
    a.reload();
    EXPECT_FALSE(a.take(order::kind::close)) << "nothing has changed for it";
    EXPECT_TRUE(a.take(order::kind::reroute));
    EXPECT_EQ(replica->route->replicates, replication::physical);
    EXPECT_EQ(replica->route->settings->pool_mode, config::pool_mode::session);
    // Opened under what is gone: another one is opened for the same client.
    auto *const second = a.replica();
    auto *const outdated = a.opens();
    a.settings.databases["db"].port = 1;
    a.reload();
    const auto close = a.take(order::kind::close);
    ASSERT_TRUE(close);
    EXPECT_EQ(close->server, own->id) << "it would not be given back for as long as its client stays";
    EXPECT_EQ(a.opened(outdated).next, step::close);
    a.closed(outdated);
    a.closed(own);
    a.leave(replica);
    auto *const fresh = a.opens();
    ASSERT_TRUE(fresh != nullptr && fresh->client == second);
    a.it->pause("", a.out);
    EXPECT_EQ(a.opened(fresh).next, step::close);
    a.closed(fresh);
    EXPECT_EQ(a.opens(), nullptr);
    a.it->resume("", a.now, a.out);
    EXPECT_NE(a.opens(), nullptr);
    a.it->shut_down(true, a.out);
    const auto refused = a.take(order::kind::refuse);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->client, second->id);
}

// ---- the machines ----

const pairs start{{"user", "app"}, {"database", "db"}, {"replication", "database"}};
const std::string copy_both = message('W', "\0\0\0"s);

TEST(replication_session, welcome_comes_from_its_own_server) {
    world around;
    rig it(around, 0);
    it.hold_welcome = true;
    it.client_sends(startup(start));
    EXPECT_EQ(it.to_client, "");
    auto values = usual_parameters();
    values[0].second = "walsender";
    rig told(around, 0);
    told.add_server(around.idle_server(values));
    told.client_sends(startup(start));
    EXPECT_EQ(told.client().state(), client_state::active);
    EXPECT_NE(told.to_client.find(be::parameter("application_name", "walsender")), std::string::npos);
    EXPECT_TRUE(told.to_client.ends_with(be::ready('I')));
    EXPECT_EQ(told.to_server, "");
}

TEST(replication_session, query_wait_timeout_holds_while_it_waits_for_its_server) {
    world around;
    around.limits.query_wait_timeout = seconds(5);
    around.settings.global.client_login_timeout = seconds(1);
    rig it(around, 0);
    it.hold_welcome = true;
    it.client_sends(startup(start));
    it.pass(seconds(5) - base::microseconds(1));
    it.ring();
    EXPECT_FALSE(it.client_gone);
    it.pass(base::microseconds(1));
    it.ring();
    std::string want;
    append_refusal(want, refusal::query_wait_timeout);
    EXPECT_EQ(it.to_client, want);
}

TEST(replication_session, bytes_pass_as_they_are) {
    world around;
    const std::vector<std::pair<std::string, std::string>> script{
        {fe::query("IDENTIFY_SYSTEM"), be::selected("7") + be::ready('I')},
        {fe::parse("s", "select 1") + fe::bind("", "s") + fe::execute("") + fe::sync,
         be::parse_complete + be::bind_complete + be::complete("SELECT 1") + be::ready('I')},
        {fe::query("DEALLOCATE s"), be::complete("DEALLOCATE") + be::ready('I')},
        {fe::query("SET work_mem = 1"), be::complete("SET") + be::ready('I')},
        {fe::query("BASE_BACKUP"), be::selected("0/1") + be::selected("t") + be::copy_out + fe::copy_data("n") +
                                       fe::copy_data("d") + fe::copy_done + be::selected("0/2") +
                                       be::complete("BASE_BACKUP") + be::ready('I')},
        {fe::query("START_REPLICATION"), copy_both + fe::copy_data("w0")},
        {fe::copy_data("r0") + fe::copy_data("r1"), fe::copy_data("w1")},
        {fe::copy_done, fe::copy_data("w2") + fe::copy_done + be::selected("2") + be::complete("START_STREAMING") +
                            be::complete("START_REPLICATION") + be::ready('I')},
        {fe::query("copy t from stdin") + fe::sync, be::copy_in},
        {fe::copy_data("bad") + fe::sync + fe::copy_done,
         be::error("ERROR", "22P02", "bad") + be::ready('I') + be::ready('I')},
        {fe::query("select 2"), be::selected("2") + be::ready('I')},
    };
    for (const bool bytewise : {false, true}) {
        rig it(around);
        it.client_sends(startup(start));
        it.take_client();
        for (const auto &[sent, heard] : script) {
            for (std::size_t i = 0; i < sent.size(); i += bytewise ? 1 : sent.size()) {
                it.client_sends(std::string_view(sent).substr(i, bytewise ? 1 : sent.size()));
            }
            EXPECT_EQ(it.take_server(), sent);
            for (std::size_t i = 0; i < heard.size(); i += bytewise ? 1 : heard.size()) {
                it.server_sends(std::string_view(heard).substr(i, bytewise ? 1 : heard.size()));
            }
            EXPECT_EQ(it.take_client(), heard) << sent;
            EXPECT_FALSE(it.client_gone);
            EXPECT_EQ(it.releases, 0);
        }
    }
}

TEST(replication_session, only_copy_messages_while_it_streams) {
    world around;
    for (int type = 0; type < 256; ++type) {
        rig it(around);
        it.client_sends(startup(start));
        it.client_sends(fe::query("START_REPLICATION"));
        it.server_sends(copy_both);
        it.take_server();
        it.client_sends(message(static_cast<char>(type)));
        const bool good = type == 'd' || type == 'c' || type == 'f';
        EXPECT_EQ(it.client_gone, !good) << type;
        EXPECT_EQ(it.to_server, good ? message(static_cast<char>(type)) : "") << type;
    }
}

TEST(replication_session, no_time_ends_a_stream) {
    world around;
    around.limits.client_idle_timeout = seconds(1);  // the others are not in such a route
    rig it(around);
    it.client_sends(startup(start));
    it.client_sends(fe::query("START_REPLICATION"));
    it.server_sends(copy_both);
    EXPECT_EQ(it.client().deadline(), base::never);
    it.client_sends(fe::copy_done);
    it.server_sends(fe::copy_done + be::complete("x") + be::ready('I'));
    EXPECT_EQ(it.client().deadline(), around.now + seconds(1));
}

TEST(replication_session, whoever_leaves_takes_the_server_along) {
    world around;
    for (const auto action : {config::disconnect_action::cancel, config::disconnect_action::close}) {
        for (const bool streams : {false, true}) {
            around.pool.client_disconnect_action = action;
            around.build();
            rig it(around);
            it.client_sends(startup(start));
            if (streams) {
                it.client_sends(fe::query("START_REPLICATION"));
                it.server_sends(copy_both);
                EXPECT_EQ(it.cancel(), cancel_answer::begin);
                it.cancel_over();
            }
            it.take_server();
            it.client_vanishes();
            EXPECT_EQ(it.to_server, "") << "the goodbye is the driver's";
            EXPECT_EQ(it.lost(), streams ? 1U : 0U);
        }
    }
}

}  // namespace
}  // namespace pgsluice::core
