// A client that goes in the middle of something: what is sent to its server for it, when the server is kept, when it is
// closed, and that nobody gets the answers. Also cancels: for which query, and what they hold up.
#include <gtest/gtest.h>

#include <functional>

#include "core/server_session.hpp"
#include "support/rig.hpp"

namespace pgsluice::core {
namespace {

using namespace test;

const std::string copy_fail = fe::copy_fail("the client has gone");
const std::string canceled = be::error("ERROR", "57014", "canceling statement due to user request");

/// What a client has said and heard before it goes, and what follows until the server is in the pool: lines "we say",
/// "the server says" in turn. A cancel that was begun at once is over after the first answer.
struct farewell_script {
    std::string_view name;
    std::function<void(rig &)> before;
    int cancels = 0;  ///< cancel connections begun at once
    std::vector<std::string> lines;
};

const std::string rollback = fe::query("ROLLBACK");
const std::string rolled_back = be::complete("ROLLBACK") + be::ready('I');

std::vector<farewell_script> farewells() {
    const auto begun = [](rig &it) {
        it.client_sends(fe::query("begin"));
        it.server_sends(be::complete("BEGIN") + be::ready('T'));
    };
    const auto asked = [](rig &it) { it.client_sends(fe::query("x")); };
    const auto copying = [](rig &it) {
        it.client_sends(fe::query("copy"));
        it.server_sends(be::copy_in);
        it.client_sends(fe::copy_data("1\n"));
    };
    const auto copy_failed = be::error("ERROR", "57014", "COPY from stdin failed");
    const auto not_begun = be::notice("there is no transaction in progress");
    const auto row = be::columns("c") + be::row("0123456789");
    return {
        {"idle in a transaction", begun, 0, {rollback, rolled_back}},
        {"failed transaction",
         [=](rig &it) {
             begun(it);
             it.client_sends(fe::query("x"));
             it.server_sends(be::error("ERROR", "42601", "x") + be::ready('E'));
         },
         0,
         {rollback, rolled_back}},
        {"a query runs", asked, 1, {"", canceled + be::ready('I')}},
        {"a query has just ended", asked, 1, {"", be::selected("1") + be::ready('I')}},
        {"a query that begins a transaction",
         asked,
         1,
         {"", be::complete("BEGIN") + be::ready('T'), rollback, rolled_back}},
        {"in the middle of a row",
         [=](rig &it) {
             it.client_sends(fe::query("x"));
             it.server_sends(row.substr(0, 40));
         },
         1,
         {"", row.substr(40) + canceled + be::ready('I')}},
        {"a batch without end, answered",
         [](rig &it) {
             it.client_sends(fe::parse("", "x") + fe::bind("", "") + fe::flush);
             it.server_sends(be::parse_complete + be::bind_complete);
         },
         0,
         {rollback + fe::sync, not_begun + rolled_back + be::ready('I')}},
        {"a batch without end, running",
         [](rig &it) { it.client_sends(fe::unnamed("x")); },
         1,
         {fe::flush, be::parse_complete + be::bind_complete + be::columns("c") + canceled, fe::sync, be::ready('I')}},
        {"a batch without end, run meanwhile",
         [](rig &it) { it.client_sends(fe::unnamed("x")); },
         1,
         {fe::flush, be::parse_complete + be::bind_complete + be::no_data + be::complete("INSERT 0 1"),
          rollback + fe::sync, not_begun + rolled_back + be::ready('I')}},
        {"a batch that failed, without its Sync",
         [](rig &it) {
             it.client_sends(fe::unnamed("x") + fe::flush);
             it.server_sends(be::error("ERROR", "42601", "x"));
         },
         0,
         {fe::sync, be::ready('I')}},
        {"a batch that failed in a transaction",
         [=](rig &it) {
             begun(it);
             it.client_sends(fe::unnamed("x") + fe::flush);
             it.server_sends(be::error("ERROR", "42601", "x"));
         },
         0,
         {fe::sync, be::ready('E'), rollback, rolled_back}},
        {"a batch with its Sync",
         [](rig &it) { it.client_sends(fe::unnamed("x") + fe::sync); },
         1,
         {"", be::parse_complete + be::bind_complete + be::columns("c") + canceled + be::ready('I')}},
        {"copy in by a query", copying, 0, {copy_fail, copy_failed + be::ready('I')}},
        {"copy in by a batch",
         [](rig &it) {
             it.client_sends(fe::unnamed("copy") + fe::flush);
             it.server_sends(be::parse_complete + be::bind_complete + be::no_data + be::copy_in);
         },
         0,
         {copy_fail + fe::flush, copy_failed, fe::sync, be::ready('I')}},
        {"copy in, in a transaction",
         [=](rig &it) {
             begun(it);
             copying(it);
         },
         0,
         {copy_fail, copy_failed + be::ready('E'), rollback, rolled_back}},
        {"copy in, all data sent",
         [=](rig &it) {
             copying(it);
             it.client_sends(fe::copy_done);
         },
         0,
         {copy_fail, be::complete("COPY 1") + be::ready('I')}},
        {"copy in that has yet to begin", asked, 1, {"", be::copy_in, copy_fail, copy_failed + be::ready('I')}},
        {"copy in of a batch that has yet to begin",
         [](rig &it) { it.client_sends(fe::unnamed("copy")); },
         1,
         {fe::flush, be::parse_complete + be::bind_complete + be::no_data + be::copy_in, copy_fail + fe::flush,
          copy_failed, fe::sync, be::ready('I')}},
        {"copy out",
         [](rig &it) {
             it.client_sends(fe::query("copy"));
             it.server_sends(be::copy_out + message('d', "1\n"));
         },
         1,
         {"", message('d', "2\n") + canceled + be::ready('I')}},
        {"a function",
         [](rig &it) { it.client_sends(fe::function_call); },
         1,
         {"", message('V', be32(1) + "x") + be::ready('I')}},
    };
}

TEST(farewell, everything_is_ended_and_the_server_kept) {
    for (const auto &line : farewells()) {
        for (const bool bytewise : {false, true}) {
            world around;
            rig it(around);
            it.welcomed();
            line.before(it);
            it.take_client();
            it.take_server();
            it.client_vanishes();
            for (std::size_t i = 0; i < line.lines.size(); i += 2) {
                ASSERT_NE(it.server(), nullptr) << line.name;
                EXPECT_EQ(it.server()->state(), server_state::abandoned) << line.name;
                EXPECT_FALSE(it.server()->clean()) << line.name;
                EXPECT_EQ(it.take_server(), line.lines[i]) << line.name << ", line " << i;
                EXPECT_EQ(it.cancels, line.cancels) << line.name;
                const auto &says = line.lines[i + 1];
                if (bytewise) {
                    for (const char c : says) it.server_sends(std::string_view(&c, 1));
                } else {
                    it.server_sends(says);
                }
                if (i > 0 || line.cancels == 0) continue;
                ASSERT_NE(it.server(), nullptr) << line.name << ": held until the cancel is over";
                const auto meanwhile = it.take_server();
                EXPECT_TRUE(meanwhile.empty() || meanwhile.starts_with(copy_fail)) << line.name;
                it.cancel_over();
                it.to_server.insert(0, meanwhile);
            }
            EXPECT_EQ(it.server(), nullptr) << line.name;
            EXPECT_EQ(it.lost(), 0U) << line.name;
            EXPECT_EQ(it.idle(), 1U) << line.name;
            EXPECT_EQ(it.cancels, line.cancels) << line.name;
            EXPECT_FALSE(it.released_unclean) << line.name;
            EXPECT_EQ(it.take_client(), "") << line.name << ": answers are for nobody";
            EXPECT_EQ(it.take_server(), "") << line.name;
        }
    }
}

TEST(farewell, closes_where_it_must) {
    for (const auto &line : farewells()) {
        const auto gone = [&](config::disconnect_action action, auto &&go) {
            world around;
            around.pool.client_disconnect_action = action;
            rig it(around);
            it.welcomed();
            line.before(it);
            it.take_server();
            go(it);
            EXPECT_EQ(it.lost(), 1U) << line.name;
            EXPECT_EQ(it.idle(), 0U) << line.name;
            EXPECT_EQ(it.take_server(), "") << line.name;
        };
        gone(config::disconnect_action::close, [](rig &it) { it.client_vanishes(); });
        gone(config::disconnect_action::cancel, [](rig &it) { it.client_dies(); });  // we ended it
    }
}

TEST(farewell, half_a_message_is_never_finished) {
    const auto all = fe::query("select 1");
    for (std::size_t cut = 1; cut < all.size(); ++cut) {
        world around;
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("begin"));
        it.server_sends(be::complete("BEGIN") + be::ready('T'));
        it.take_server();
        it.client_sends(all.substr(0, cut));
        const bool partly_sent = !it.take_server().empty();
        it.client_vanishes();
        EXPECT_EQ(it.lost(), partly_sent ? 1U : 0U) << cut;
        EXPECT_EQ(it.take_server(), partly_sent ? "" : fe::query("ROLLBACK")) << cut;
    }
}

TEST(farewell, a_copy_that_may_have_eaten_the_sync) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::unnamed("copy") + fe::sync);
    it.client_vanishes();
    it.server_sends(be::parse_complete + be::bind_complete + be::no_data + be::copy_in);
    it.cancel_over();
    it.take_server();
    it.server_sends(canceled);
    EXPECT_EQ(it.take_server(), fe::sync + fe::close('P', "PGSLUICE_0") + fe::sync) << "it is found out";
    it.server_sends(be::ready('I') + be::close_complete + be::ready('I'));
    EXPECT_EQ(it.take_client(), "");
    EXPECT_EQ(it.take_server(), fe::sync) << "the client's was eaten: its batch still waits for one";
    it.server_sends(be::ready('I'));
    EXPECT_EQ(it.lost(), 0U);
    EXPECT_EQ(it.idle(), 1U);
}

TEST(farewell, a_pipeline_is_cancelled_only_in_its_last_batch) {
    // A cancel that strikes a BEGIN would let what was meant for that transaction be committed by itself.
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("begin") + fe::query("insert") + fe::query("update"));
    it.client_vanishes();
    EXPECT_EQ(it.cancels, 0);
    it.server_sends(be::complete("BEGIN") + be::ready('T'));
    EXPECT_EQ(it.cancels, 0);
    it.server_sends(be::complete("INSERT 0 1") + be::ready('T'));
    EXPECT_EQ(it.cancels, 1) << "nothing is behind it";
    it.server_sends(canceled + be::ready('E'));
    it.take_server();
    it.cancel_over();
    EXPECT_EQ(it.take_server(), fe::query("ROLLBACK"));
}

TEST(farewell, a_cancel_that_did_nothing_is_repeated_after_a_while) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("a"));
    it.client_vanishes();
    it.cancel_over();
    EXPECT_EQ(it.cancels, 1);
    it.slow();
    EXPECT_EQ(it.cancels, 2);
    it.slow();
    EXPECT_EQ(it.cancels, 2) << "one at a time";
}

TEST(farewell, a_cancel_of_the_client_comes_first) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("a"));
    EXPECT_EQ(it.cancel(), cancel_answer::begin);
    it.client_vanishes();
    it.server_sends(canceled + be::ready('T'));
    EXPECT_EQ(it.take_server(), fe::query("a")) << "no ROLLBACK while a cancel is under way";
    it.cancel_over();
    EXPECT_EQ(it.take_server(), fe::query("ROLLBACK"));
    it.server_sends(be::complete("ROLLBACK") + be::ready('I'));
    EXPECT_EQ(it.idle(), 1U);
    EXPECT_EQ(it.cancels, 1);
}

TEST(farewell, a_cancel_that_may_still_strike_loses_the_server) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("a"));
    it.client_vanishes();
    it.server_sends(canceled + be::ready('I'));
    it.cancel_over(false);
    EXPECT_EQ(it.idle(), 0U);
    EXPECT_EQ(it.lost(), 1U);
}

TEST(farewell, without_a_key_it_waits_for_the_end) {
    world around;
    rig it(around, 0);
    auto server = around.new_server();
    effects fx;
    server->on_connected(fx);
    fx.clear();
    server->on_bytes(be::auth(0) + be::ready('I'), fx);
    it.add_server(std::move(server));
    it.welcomed();
    it.client_sends(fe::query("a"));
    EXPECT_EQ(it.cancel(), cancel_answer::nothing);
    it.client_vanishes();
    it.slow();
    EXPECT_EQ(it.cancels, 0);
    it.server_sends(be::selected("1") + be::ready('I'));
    EXPECT_EQ(it.idle(), 1U);
}

TEST(farewell, what_cannot_be_right_loses_the_server) {
    const std::pair<std::string, bool> table[] = {
        {be::parse_complete, true},
        {message('?', "x"), true},
        {be::error("FATAL", "57P01", "terminating") + be::ready('I'), false},
        {be::ready('X'), true},
        {be::notice("x") + be::notification("c") + be::parameter("TimeZone", "CET"), false},
    };
    for (const auto &[bytes, lost] : table) {
        world around;
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("a"));
        it.client_vanishes();
        it.server_sends(bytes);
        EXPECT_EQ(it.lost(), lost ? 1U : 0U);
        EXPECT_EQ(it.idle(), 0U);
        EXPECT_EQ(it.take_client(), "");
    }
    // ROLLBACK that fails, or does not end the transaction.
    for (const auto &bytes : {be::error("ERROR", "XX000", "x") + be::ready('I'), be::complete("X") + be::ready('T')}) {
        world around;
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("begin"));
        it.server_sends(be::complete("BEGIN") + be::ready('T'));
        it.client_vanishes();
        it.server_sends(bytes);
        EXPECT_EQ(it.lost(), 1U);
    }
}

TEST(farewell, session_mode_ends_with_the_reset_query) {
    world around;
    around.pool.pool_mode = config::pool_mode::session;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("begin"));
    it.server_sends(be::complete("BEGIN") + be::ready('T'));
    it.take_server();
    it.client_vanishes();
    EXPECT_EQ(it.take_server(), fe::query("ROLLBACK"));
    it.server_sends(be::complete("ROLLBACK") + be::ready('I'));
    EXPECT_EQ(it.take_server(), fe::query("DISCARD ALL"));
    EXPECT_EQ(it.server()->state(), server_state::tested);
    it.server_sends(be::complete("DISCARD ALL") + be::ready('I'));
    EXPECT_EQ(it.idle(), 1U);
    EXPECT_EQ(it.lost(), 0U);
}

TEST(farewell, statements_left_behind) {
    // The unnamed one is nobody's, whatever the answers say. A named one that was made is there for others.
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::parse("", "x") + fe::parse("s", "y") + fe::parse("t", "z") + fe::sync);
    auto &server = *it.server();
    const auto generation = server.unnamed_generation();
    EXPECT_EQ(server.statements().size(), 2U);
    it.client_vanishes();
    EXPECT_GT(server.unnamed_generation(), generation);
    it.server_sends(be::parse_complete + be::parse_complete + be::error("ERROR", "42601", "x") + be::ready('I'));
    it.cancel_over();
    EXPECT_EQ(it.idle(), 1U);
    EXPECT_EQ(server.statements().size(), 1U) << "the one that failed is not there";
}

TEST(farewell, a_batch_that_was_to_be_sent_again_is_not) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::parse("s", "x") + fe::sync);
    it.server_sends(be::parse_complete + be::ready('I'));
    it.client_sends(fe::bind("", "s") + fe::execute("") + fe::sync);
    it.server_sends(be::error("ERROR", "0A000", "cached plan must not change result type"));
    ASSERT_NE(it.server(), nullptr);
    EXPECT_TRUE(it.server()->holds_client_back());
    it.take_server();
    it.client_vanishes();
    it.server_sends(be::ready('I'));
    EXPECT_EQ(it.take_server(), "");
    EXPECT_EQ(it.idle(), 1U);
}

// ---- cancels ----

TEST(cancel, of_one_query_is_one_and_of_the_next_another) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("a") + fe::query("b"));
    auto &server = *it.server();
    EXPECT_EQ(it.cancel(), cancel_answer::begin);
    EXPECT_TRUE(server.cancel_wanted());
    for (int i = 0; i < 10; ++i) EXPECT_EQ(it.cancel(), cancel_answer::wait);
    EXPECT_EQ(it.cancels, 1);
    const auto first = server.rounds();
    it.server_sends(canceled + be::ready('I'));
    EXPECT_FALSE(server.cancel_wanted()) << "another query runs by now";
    EXPECT_TRUE(server.cancel_waits(first));
    EXPECT_EQ(it.cancel(), cancel_answer::wait);
    const auto second = server.rounds();
    it.cancel_over();
    EXPECT_EQ(it.cancels, 2) << "the one for the next query";
    EXPECT_TRUE(server.cancel_waits(second));
    EXPECT_TRUE(server.cancel_wanted());
    it.server_sends(canceled + be::ready('I'));
    ASSERT_NE(it.server(), nullptr) << "held";
    it.cancel_over();
    EXPECT_EQ(it.server(), nullptr);
    EXPECT_EQ(it.idle(), 1U);
    EXPECT_EQ(it.cancels, 2);
}

/// What it was meant for has ended while it waited for the one before.
TEST(cancel, that_comes_too_late_strikes_nothing) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("a") + fe::query("b"));
    EXPECT_EQ(it.cancel(), cancel_answer::begin);
    it.server_sends(canceled + be::ready('I'));
    EXPECT_EQ(it.cancel(), cancel_answer::wait) << "of b";
    it.server_sends(be::selected("1") + be::ready('I'));
    it.client_sends(fe::query("c"));
    ASSERT_NE(it.server(), nullptr) << "held by the first";
    EXPECT_EQ(it.take_server(), fe::query("a") + fe::query("b") + fe::query("c"));
    it.cancel_over();
    EXPECT_EQ(it.cancels, 1);
    it.server_sends(be::selected("1") + be::ready('I'));
    EXPECT_EQ(it.idle(), 1U);
}

TEST(cancel, with_nothing_to_cancel) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("begin"));
    it.server_sends(be::complete("BEGIN") + be::ready('T'));
    EXPECT_EQ(it.cancel(), cancel_answer::nothing);
    it.client_sends(fe::query("x"));
    EXPECT_EQ(it.cancel(), cancel_answer::begin);
    it.server_sends(be::selected("1") + be::ready('T'));
    EXPECT_FALSE(it.server()->cancel_wanted());
    it.cancel_over();
    EXPECT_EQ(it.lost(), 0U);
}

TEST(cancel, waits_for_an_errand_of_ours) {
    world around;
    rig it(around);
    it.welcomed({{"user", "app"}, {"database", "db"}, {"TimeZone", "CET"}});
    // The first time nobody knows whether the value is good: the request waits, and can be taken back.
    it.client_sends(fe::query("a"));
    ASSERT_EQ(it.client().state(), client_state::preparing);
    it.server_sends(be::parameter("TimeZone", "CET") + be::complete("SET") + be::ready('I'));
    it.server_sends(be::selected("1") + be::ready('I'));
    // Another client's server: the request goes along with the SET.
    rig again(around);
    again.welcomed({{"user", "app"}, {"database", "db"}, {"TimeZone", "UTC"}});
    auto changed = around.idle_server();
    effects fx;
    changed->on_bytes(be::parameter("TimeZone", "CET"), fx);
    again.add_server(std::move(changed));
    again.rotate();
    again.client_sends(fe::query("b"));
    ASSERT_NE(again.server(), nullptr);
    ASSERT_EQ(again.client().state(), client_state::active) << "the value is known to be good";
    const auto round = again.server()->rounds();
    EXPECT_EQ(again.cancel(), cancel_answer::wait);
    EXPECT_EQ(again.cancels, 0);
    EXPECT_TRUE(again.server()->cancel_waits(round));
    again.server_sends(be::parameter("TimeZone", "UTC") + be::complete("SET") + be::ready('I'));
    EXPECT_EQ(again.cancels, 1) << "now it is the client's query that runs";
    again.server_sends(canceled + be::ready('I'));
    again.cancel_over();
    EXPECT_EQ(again.idle(), 2U);
}

TEST(cancel, of_a_request_that_waits_for_its_server_to_be_ready) {
    for (const bool simple : {true, false}) {
        world around;
        rig it(around);
        it.welcomed({{"user", "app"}, {"database", "db"}, {"TimeZone", "CET"}});
        const auto asked = simple ? fe::query("a") : fe::unnamed("a") + fe::sync;
        it.client_sends(asked);
        ASSERT_EQ(it.client().state(), client_state::preparing);
        it.take_server();
        it.take_client();
        effects fx;
        std::size_t taken = 0;
        EXPECT_TRUE(it.client().on_cancel_unsent(asked, taken, around.now, fx));
        EXPECT_EQ(types(fx.to_client.text()), simple ? "EZ" : "E");
        EXPECT_EQ(field(frames(fx.to_client.text())[0].body, 'C'), "57014");
        EXPECT_EQ(it.client().state(), client_state::preparing) << "nothing else goes out before the answer either";
        it.drop_unread(taken);
        it.server_sends(be::parameter("TimeZone", "CET") + be::complete("SET") + be::ready('I'));
        EXPECT_EQ(it.take_server(), "") << "the request was never sent";
        EXPECT_EQ(types(it.take_client()), simple ? "" : "Z");
        EXPECT_EQ(it.server(), nullptr);
        EXPECT_EQ(it.idle(), 1U);
    }
}

TEST(cancel, twice_of_a_request_that_is_not_here_whole) {
    world around;
    rig it(around);
    it.welcomed({{"user", "app"}, {"database", "db"}, {"TimeZone", "CET"}});
    const auto asked = fe::query(std::string(100'000, ' '));
    it.client_sends(asked.substr(0, 100));
    ASSERT_EQ(it.client().state(), client_state::preparing);
    effects fx;
    std::size_t taken = 0;
    EXPECT_TRUE(it.client().on_cancel_unsent(asked.substr(0, 100), taken, around.now, fx));
    it.drop_unread(taken);
    EXPECT_FALSE(it.client().on_cancel_unsent(asked.substr(100, 100), taken, around.now, fx)) << "that is no header";
    it.client_sends(asked.substr(100) + fe::query("next"));
    it.take_server();
    it.server_sends(be::parameter("TimeZone", "CET") + be::complete("SET") + be::ready('I'));
    EXPECT_EQ(it.take_server(), fe::query("next"));
}

/// The next client is told why its server has gone, whatever the last one was told.
TEST(farewell, the_last_words_were_anothers) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::unnamed("broken"));
    it.server_sends(be::error("ERROR", "42601", "syntax error"));
    it.client_vanishes();
    it.server_sends(be::ready('I'));
    ASSERT_EQ(it.idle(), 1U);
    rig next(around, 0);
    next.welcomed();
    next.add_server(it.take_idle());
    next.client_sends(fe::query("a"));
    ASSERT_NE(next.server(), nullptr);
    EXPECT_FALSE(next.server()->said_last_words());
}

}  // namespace
}  // namespace pgsluice::core
