// Every deadline of a client on a virtual clock: nothing 1 us before its value, and at its value the right words. Also
// what moves a deadline, cancels while waiting, and every message type in every state of a client.
#include <gtest/gtest.h>

#include <functional>

#include "support/rig.hpp"

namespace pgsluice::core {
namespace {

using namespace test;
using base::microseconds;
using base::seconds;

std::string refused(refusal why, std::string_view argument = {}) {
    std::string out;
    append_refusal(out, why, argument);
    return out;
}
const std::string selected = be::selected("1") + be::ready('I');
const std::string begun = be::complete("BEGIN") + be::ready('T');

/// Nothing may happen before `length` from now; then the client is told `want`.
void expect_end(rig &it, base::duration length, const std::string &want) {
    it.take_client();
    it.pass(length - microseconds(1));
    it.ring();
    EXPECT_FALSE(it.client_gone);
    EXPECT_EQ(it.to_client, "");
    it.pass(microseconds(1));
    it.ring();
    EXPECT_TRUE(it.client_gone);
    EXPECT_EQ(it.take_client(), want);
}
void expect_no_end(rig &it) {
    EXPECT_EQ(it.client().deadline(), base::never);
    it.pass(std::chrono::hours(10000));
    it.ring();
    EXPECT_FALSE(it.client_gone);
}

// ---- at the value ----

TEST(client_time, client_login_timeout) {
    world around;
    around.settings.global.client_login_timeout = seconds(60);
    around.settings.global.auth_type = config::auth_type::plain;
    const std::function<void(rig &)> places[] = {[](rig &) {}, [](rig &it) { it.client_sends("\0\0"); },
                                                 [](rig &it) { it.client_sends(ssl_request); },
                                                 [](rig &it) {
                                                     it.client_sends(startup({{"user", "u"}}));
                                                 }};
    for (const auto &bring : places) {
        rig it(around);
        bring(it);
        expect_end(it, seconds(60), refused(refusal::login_timeout));
    }
}

TEST(client_time, the_login_timeout_goes_on_while_there_is_no_server) {
    world around;
    around.settings.global.client_login_timeout = seconds(60);
    rig it(around);
    it.hold_welcome = true;
    it.pass(seconds(20));
    it.client_sends(startup({{"user", "u"}}));
    expect_end(it, seconds(40), refused(refusal::login_timeout_server_down));
}

TEST(client_time, client_idle_timeout) {
    world around;
    around.limits.client_idle_timeout = seconds(30);
    rig it(around);
    it.welcomed();
    it.pass(seconds(29));
    it.client_sends(fe::query("x"));
    it.server_sends(selected);
    expect_end(it, seconds(30), refused(refusal::client_idle_timeout));
    EXPECT_EQ(it.idle(), 1U);
}

TEST(client_time, client_idle_timeout_with_a_server_of_ones_own) {
    world around;
    around.pool.pool_mode = config::pool_mode::session;
    around.limits.client_idle_timeout = seconds(30);
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("x"));
    it.pass(seconds(100));  // a long query is not idleness
    it.ring();
    EXPECT_FALSE(it.client_gone);
    it.server_sends(selected);
    expect_end(it, seconds(30), refused(refusal::client_idle_timeout));
}

TEST(client_time, query_wait_timeout) {
    world around;
    around.limits.query_wait_timeout = seconds(120);
    rig it(around, 0);
    it.welcomed();
    it.pass(seconds(1000));
    it.client_sends(fe::query("x"));
    expect_end(it, seconds(120), refused(refusal::query_wait_timeout));
}

TEST(client_time, query_timeout_while_waiting_has_its_own_words) {
    world around;
    around.limits.query_timeout = seconds(5);
    rig it(around, 0);
    it.welcomed();
    it.client_sends(fe::query("x"));
    expect_end(it, seconds(5), refused(refusal::query_timeout_waiting));
}

TEST(client_time, query_wait_notify_comes_once_and_ends_nothing) {
    world around;
    around.query_wait_notify = seconds(5);
    rig it(around, 1);
    it.welcomed();
    it.hold();
    it.client_sends(fe::query("x"));
    it.pass(seconds(5) - microseconds(1));
    it.ring();
    EXPECT_EQ(it.take_client(), "");
    it.pass(microseconds(1));
    it.ring();
    EXPECT_EQ(types(it.take_client()), "N");
    it.pass(seconds(50));
    it.ring();
    EXPECT_EQ(it.take_client(), "");
    it.grant();
    it.server_sends(selected);
    EXPECT_EQ(it.take_client(), selected);
    it.hold();
    it.client_sends(fe::query("x"));
    it.pass(seconds(5));
    it.ring();
    EXPECT_EQ(types(it.take_client()), "N") << "once for each wait";
}

TEST(client_time, query_timeout) {
    world around;
    around.limits.query_timeout = seconds(5);
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("x"));
    it.server_sends(be::columns("c") + be::row("1"));
    expect_end(it, seconds(5), refused(refusal::query_timeout));
    EXPECT_EQ(it.lost(), 1U);
}

TEST(client_time, query_timeout_in_the_middle_of_a_message_says_nothing) {
    world around;
    around.limits.query_timeout = seconds(5);
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("x"));
    it.server_sends(be::columns("c") + header('D', 1000) + "half");
    expect_end(it, seconds(5), "");
}

TEST(client_time, query_timeout_while_parameters_are_set) {
    world around;
    around.limits.query_timeout = seconds(5);
    rig it(around);
    it.welcomed({{"user", "u"}, {"timezone", "CET"}});
    it.client_sends(fe::query("x"));
    EXPECT_EQ(it.client().state(), client_state::preparing);
    expect_end(it, seconds(5), refused(refusal::query_timeout));
}

TEST(client_time, query_timeout_starts_anew_with_each_answer) {
    world around;
    around.limits.query_timeout = seconds(5);
    around.limits.transaction_timeout = seconds(5);
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("0"));
    for (int i = 0; i < 20; ++i) {  // never without a request
        it.client_sends(fe::query("x"));
        it.pass(seconds(3));
        it.ring();
        ASSERT_FALSE(it.client_gone) << i;
        it.server_sends(selected);
    }
    expect_end(it, seconds(5), refused(refusal::transaction_timeout));
}

TEST(client_time, idle_transaction_timeout) {
    world around;
    around.limits.idle_transaction_timeout = seconds(7);
    for (const char status : {'T', 'E'}) {
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("begin"));
        it.pass(seconds(100));  // the query itself may take its time
        it.ring();
        EXPECT_FALSE(it.client_gone);
        it.server_sends(be::complete("BEGIN") + be::ready(status));
        it.pass(seconds(6));
        it.client_sends(fe::query("x"));
        it.pass(seconds(100));
        it.server_sends(be::complete("X") + be::ready(status));
        expect_end(it, seconds(7), refused(refusal::idle_transaction_timeout));
        EXPECT_EQ(it.lost(), 1U);
    }
}

TEST(client_time, transaction_timeout_runs_on_through_queries) {
    world around;
    around.limits.transaction_timeout = seconds(10);
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("begin"));
    it.server_sends(begun);
    it.pass(seconds(4));
    it.client_sends(fe::query("x"));
    it.server_sends(be::complete("X") + be::ready('T'));
    it.pass(seconds(4));
    it.client_sends(fe::query("y"));
    expect_end(it, seconds(2), refused(refusal::transaction_timeout));
    rig next(around);
    next.welcomed();
    next.client_sends(fe::query("begin"));
    next.server_sends(begun);
    expect_end(next, seconds(10), refused(refusal::transaction_timeout));
}

TEST(client_time, session_mode_counts_transactions_not_sessions) {
    world around;
    around.pool.pool_mode = config::pool_mode::session;
    around.limits.transaction_timeout = seconds(10);
    rig it(around);
    it.welcomed();
    for (int i = 0; i < 5; ++i) {
        it.client_sends(fe::query("x"));
        it.pass(seconds(4));
        it.ring();
        it.server_sends(selected);
        it.pass(seconds(4));
        it.ring();
        ASSERT_FALSE(it.client_gone) << i;
    }
    it.client_sends(fe::query("x"));
    expect_end(it, seconds(10), refused(refusal::transaction_timeout));
}

TEST(client_time, zero_is_off) {
    world around;
    around.settings.global.client_login_timeout = seconds(0);
    around.limits = {};
    rig login(around);
    expect_no_end(login);
    rig waiting(around, 0);
    waiting.welcomed();
    expect_no_end(waiting);
    waiting.client_sends(fe::query("x"));
    expect_no_end(waiting);
    rig running(around);
    running.welcomed();
    running.client_sends(fe::query("begin"));
    expect_no_end(running);
    running.server_sends(begun);
    expect_no_end(running);
}

// ---- canceled while waiting ----

struct canceled {
    bool done;
    std::size_t taken;
    std::string told;
    client_next next;
};
canceled cancel_waiting(rig &it, std::string_view bytes, base::time_point now) {
    effects fx;
    canceled result{};
    result.done = it.client().on_cancel_unsent(bytes, result.taken, now, fx);
    result.told = fx.to_client.text();
    result.next = fx.client;
    return result;
}

TEST(client_cancel, a_waiting_query_is_answered_at_once) {
    world around;
    for (const auto &bytes : {fe::query("x"), fe::function_call}) {
        rig it(around, 0);
        it.welcomed();
        it.client_sends(bytes);
        const auto result = cancel_waiting(it, bytes, around.now);
        EXPECT_TRUE(result.done);
        EXPECT_EQ(result.taken, bytes.size());
        EXPECT_EQ(result.told, refused(refusal::canceled) + be::ready('I'));
        EXPECT_EQ(result.next, client_next::resume);
        EXPECT_EQ(it.client().state(), client_state::idle);
    }
}

TEST(client_cancel, a_waiting_batch_is_skipped_to_its_sync) {
    world around;
    rig it(around, 0);
    it.welcomed();
    const auto batch = fe::unnamed("x") + fe::sync;
    it.client_sends(batch);
    const auto result = cancel_waiting(it, batch, around.now);
    EXPECT_TRUE(result.done);
    EXPECT_EQ(result.told, refused(refusal::canceled));
    effects fx;
    EXPECT_EQ(it.client().on_bytes(std::string_view(batch).substr(result.taken), around.now, fx),
              batch.size() - result.taken);
    EXPECT_EQ(fx.to_client.text(), be::ready('I'));
}

TEST(client_cancel, the_rest_of_a_long_message_is_dropped) {
    world around;
    rig it(around, 0);
    it.welcomed();
    const auto query = fe::query(std::string(2000, 'x'));
    const auto here = query.substr(0, 100);
    it.client_sends(here);
    EXPECT_EQ(cancel_waiting(it, here, around.now).taken, 100U);
    effects fx;
    EXPECT_EQ(it.client().on_bytes(query.substr(100), around.now, fx), 1906U);
    EXPECT_EQ(fx.client, client_next::none);
    EXPECT_TRUE(fx.to_server.empty());
}

TEST(client_cancel, nobody_else_is_waiting) {
    world around;
    rig it(around);
    EXPECT_FALSE(cancel_waiting(it, "", around.now).done);
    it.welcomed();
    EXPECT_FALSE(cancel_waiting(it, "", around.now).done);
    it.client_sends(fe::query("x"));
    EXPECT_FALSE(cancel_waiting(it, "", around.now).done);
}

// ---- every type in every state ----

struct placed {
    std::string_view name;
    std::function<void(rig &)> bring;
};

TEST(client_states, every_type_in_every_state) {
    const placed places[] = {
        {"idle", [](rig &) {}},
        {"active", [](rig &it) { it.client_sends(fe::query("x")); }},
        {"in transaction",
         [](rig &it) {
             it.client_sends(fe::query("begin"));
             it.server_sends(begun);
         }},
        {"in a batch", [](rig &it) { it.client_sends(fe::parse("", "x")); }},
        {"copying",
         [](rig &it) {
             it.client_sends(fe::query("copy"));
             it.server_sends(be::copy_in);
         }},
        {"skipping",
         [](rig &it) {
             it.client_sends(fe::parse("", "x"));
             it.server_sends(be::error("ERROR", "42601", "no"));
         }},
    };
    constexpr std::string_view known = "BCDEFHPQSXcdf";
    for (const auto &place : places) {
        for (int type = 0; type < 256; ++type) {
            const char letter = static_cast<char>(type);
            const auto bytes = message(letter, letter == 'D' || letter == 'C' ? "P"s + '\0' : z("") + z("") + be32(0));
            std::string first;
            for (const bool bytewise : {false, true}) {
                world around;
                rig it(around);
                it.welcomed();
                place.bring(it);
                it.take_client();
                it.take_server();
                if (bytewise) {
                    for (const char c : bytes) it.client_sends(std::string_view(&c, 1));
                } else {
                    it.client_sends(bytes);
                }
                const bool legal = letter != '\0' && known.find(letter) != std::string_view::npos;
                EXPECT_EQ(it.client_gone, !legal || letter == 'X') << place.name << " " << type;
                if (!legal) {
                    EXPECT_EQ(field(frames(it.to_client).at(0).body, 'C'), "08P01") << place.name << " " << type;
                }
                if (letter == 'X') {
                    EXPECT_EQ(it.to_client, "");
                }
                if (!legal || letter == 'X' || (place.name == "skipping" && letter != 'S')) {
                    EXPECT_EQ(it.to_server, "") << place.name << type;
                }
                if (legal && letter != 'X' && place.name != "idle" && place.name != "skipping") {
                    EXPECT_TRUE(it.to_server.ends_with(bytes))
                        << place.name << " " << letter;  // Bind: behind a Close of ours
                }
                EXPECT_FALSE(it.released_unclean);
                if (bytewise) {
                    EXPECT_EQ(it.to_client + it.to_server, first) << place.name << " " << type;
                }
                first = it.to_client + it.to_server;
            }
        }
    }
}

TEST(client_states, while_it_waits_its_bytes_wait) {
    for (const bool preparing : {false, true}) {
        for (int type = 0; type < 256; ++type) {
            world around;
            rig it(around);
            it.welcomed(preparing ? pairs{{"user", "u"}, {"timezone", "CET"}} : pairs{{"user", "u"}});
            if (!preparing) it.hold();
            it.client_sends(fe::query("x"));
            const auto before = it.take_server();
            it.client_sends(message(static_cast<char>(type), z("")));
            EXPECT_EQ(it.take_server() + it.take_client(), "") << type;
            EXPECT_FALSE(it.client_gone);
        }
    }
}

TEST(client_states, refused_at_any_time) {
    for (const auto why : {refusal::database_removed, refusal::server_shutting_down, refusal::shutting_down}) {
        world around;
        rig idle(around);
        idle.welcomed();
        idle.refuse(why);
        EXPECT_EQ(idle.to_client, refused(why));
        rig active(around);
        active.welcomed();
        active.client_sends(fe::query("x"));
        active.refuse(why);
        EXPECT_EQ(active.to_client, refused(why));
        EXPECT_EQ(active.lost(), 1U);
    }
}

TEST(client_states, words_that_show_prints) {
    EXPECT_STREQ(to_string(client_state::login), "login");
    EXPECT_STREQ(to_string(client_state::idle), "idle");
    EXPECT_STREQ(to_string(client_state::waiting), "waiting");
    EXPECT_STREQ(to_string(client_state::preparing), "active");
    EXPECT_STREQ(to_string(client_state::active), "active");
    EXPECT_STREQ(to_string(server_state::login), "login");
    EXPECT_STREQ(to_string(server_state::idle), "idle");
    EXPECT_STREQ(to_string(server_state::tested), "tested");
    EXPECT_STREQ(to_string(server_state::active), "active");
}

}  // namespace
}  // namespace pgsluice::core
