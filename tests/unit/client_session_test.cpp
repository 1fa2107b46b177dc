// client_session, with real server_sessions behind it: relay, welcome, unlinked answers, statements, parameters.
// Each script runs with every cut of its bytes and with each peer gone at every step (support/rig.hpp).
#include "core/client_session.hpp"

#include <gtest/gtest.h>

#include "support/rig.hpp"
#include "wire/error_response.hpp"

namespace pgsluice::core {
namespace {

using namespace test;

/// A script for a welcomed client in front of one server.
void expect_script(world &around, const script &lines,
                   const pairs &parameters = {{"user", "app"}, {"database", "db"}}) {
    EXPECT_EQ(run_every_way(
                  [&] {
                      around.starts = {};  // each is the first client
                      auto it = std::make_unique<rig>(around);
                      it->welcomed(parameters);
                      return it;
                  },
                  lines),
              "");
}
void expect_script(const script &lines) {
    world around;
    expect_script(around, lines);
}

std::string refused(refusal why, std::string_view argument = {}) {
    std::string out;
    append_refusal(out, why, argument);
    return out;
}

const std::string selected = be::selected("1") + be::ready('I');

// ---- relay ----

TEST(client_relay, a_simple_query) {
    expect_script({client(fe::query("select 1")), to_server(fe::query("select 1")), server(selected),
                   to_client(selected), released, client(fe::query("select 2")), to_server(fe::query("select 2"))});
}

TEST(client_relay, a_transaction_keeps_its_server) {
    const auto begun = be::complete("BEGIN") + be::ready('T');
    const auto failed = be::error("ERROR", "42601", "syntax error") + be::ready('E');
    const auto over = be::complete("ROLLBACK") + be::ready('I');
    expect_script({client(fe::query("begin")), to_server(fe::query("begin")), server(begun), to_client(begun),
                   client(fe::query("oops")), to_server(fe::query("oops")), server(failed), to_client(failed),
                   client(fe::query("rollback")), server(over), to_client(over), released});
}

TEST(client_relay, nothing_is_said_after_the_servers_farewell) {
    // A message of no type closes the client: told so after an ERROR, not after a FATAL, which has told it already.
    for (const auto *const severity : {"ERROR", "FATAL"}) {
        world around;
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("copy t from stdin"));
        it.server_sends(be::copy_in + be::error(severity, "08P01", "synchronization was lost"));
        it.client_sends(message('~'));
        EXPECT_EQ(types(it.to_client), severity == "FATAL"s ? "GE" : "GEE");
    }
}

TEST(client_relay, an_extended_batch) {
    const auto batch = fe::unnamed("select $1") + fe::sync;
    const auto answer = be::parse_complete + be::bind_complete + be::selected("1") + be::ready('I');
    expect_script({client(batch), to_server(batch), server(answer), to_client(answer), released});
}

TEST(client_relay, a_pipeline_is_not_over_at_its_first_ready) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("a") + fe::query("b") + fe::unnamed("c") + fe::sync);
    it.server_sends(selected);
    EXPECT_NE(it.server(), nullptr);
    it.server_sends(selected);
    EXPECT_NE(it.server(), nullptr);
    it.server_sends(be::parse_complete + be::bind_complete + be::selected("1") + be::ready('I'));
    EXPECT_EQ(it.server(), nullptr);
    EXPECT_EQ(types(it.to_client), "TDCZTDCZ12TDCZ");
}

TEST(client_relay, flush_goes_through_and_keeps_the_server) {
    const auto batch = fe::parse("", "select 1") + fe::flush;
    expect_script({client(batch), to_server(batch), server(be::parse_complete), to_client(be::parse_complete),
                   client(fe::bind("", "") + fe::execute("") + fe::sync),
                   to_server(fe::bind("", "") + fe::execute("") + fe::sync),
                   server(be::bind_complete + be::complete("SELECT 0") + be::ready('I')),
                   to_client(be::bind_complete + be::complete("SELECT 0") + be::ready('I')), released});
}

TEST(client_relay, an_error_in_a_batch) {
    const auto batch = fe::unnamed("selec") + fe::sync;
    const auto answer = be::error("ERROR", "42601", "syntax error") + be::ready('I');
    expect_script({client(batch), to_server(batch), server(answer), to_client(answer), released});
}

TEST(client_relay, copy_in) {
    const auto data = fe::copy_data("1\n") + fe::copy_data("2\n") + fe::copy_done;
    const auto over = be::complete("COPY 2") + be::ready('I');
    expect_script({client(fe::query("copy t from stdin")), server(be::copy_in), to_client(be::copy_in), client(data),
                   to_server(fe::query("copy t from stdin") + data), server(over), to_client(over), released});
}

TEST(client_relay, copy_in_sent_ahead) {
    const auto all = fe::query("copy t from stdin") + fe::copy_data("1\n") + fe::copy_done;
    const auto over = be::complete("COPY 1") + be::ready('I');
    expect_script({client(all), to_server(all), server(be::copy_in + over), to_client(be::copy_in + over), released});
}

TEST(client_relay, late_copy_data_is_dropped) {
    const auto failed = be::error("ERROR", "22P02", "invalid input") + be::ready('I');
    expect_script({client(fe::query("copy t from stdin")), server(be::copy_in), to_client(be::copy_in),
                   client(fe::copy_data("x\n")), to_server(fe::query("copy t from stdin") + fe::copy_data("x\n")),
                   server(failed), to_client(failed), released,
                   client(fe::copy_data("y\n") + fe::copy_done + fe::flush), to_server(""),
                   client(fe::query("select 1")), to_server(fe::query("select 1"))});
}

TEST(client_relay, a_copy_message_half_sent_when_the_server_fails_is_finished_first) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("copy t from stdin"));
    it.server_sends(be::copy_in);
    const auto data = fe::copy_data(std::string(1000, 'x'));
    it.client_sends(data.substr(0, 500));
    it.server_sends(be::error("ERROR", "22P02", "invalid input") + be::ready('I'));
    EXPECT_NE(it.server(), nullptr) << "half a message is with the server";
    it.client_sends(data.substr(500));
    EXPECT_EQ(it.server(), nullptr) << "nothing keeps it here";
    EXPECT_EQ(it.idle(), 1U);
    EXPECT_FALSE(it.released_unclean);
}

TEST(client_relay, copy_out_and_function_call) {
    const auto out = be::copy_out + message('d', "1\n") + message('c') + be::complete("COPY 1") + be::ready('I');
    expect_script({client(fe::query("copy t to stdout")), server(out), to_client(out), released});
    const auto result = message('V', be32(4) + "abcd") + be::ready('I');
    expect_script(
        {client(fe::function_call), to_server(fe::function_call), server(result), to_client(result), released});
}

TEST(client_relay, large_messages_stream) {
    const auto big = fe::query(std::string(100'000, 'x'));
    const auto row = be::columns("c") + be::row(std::string(100'000, 'y')) + be::complete("SELECT 1") + be::ready('I');
    world around;
    rig it(around);
    it.welcomed();
    std::size_t sent = 0;
    for (std::size_t at = 0; at < big.size(); at += 777) {
        it.client_sends(std::string_view(big).substr(at, 777));
        sent = std::min(big.size(), at + 777);
        ASSERT_EQ(it.to_server.size(), sent) << "nothing is held back";
    }
    for (std::size_t at = 0; at < row.size(); at += 777) it.server_sends(std::string_view(row).substr(at, 777));
    EXPECT_EQ(it.to_client, row);
    EXPECT_EQ(it.server(), nullptr);
}

TEST(client_relay, notices_and_parameters_keep_their_place) {
    const auto answer = be::columns("c") + be::notice("one") + be::row("1") + be::parameter("TimeZone", "CET") +
                        be::parameter("crdb_version", "x") + be::notice("two") + be::complete("SELECT 1") +
                        be::ready('I');
    expect_script({client(fe::query("select")), server(answer), to_client(answer), released});
}

TEST(client_relay, notifications_are_for_session_mode_only) {
    for (const auto mode : {config::pool_mode::transaction, config::pool_mode::session}) {
        world around;
        around.pool.pool_mode = mode;
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("select 1"));
        it.server_sends(be::notification("c") + selected);
        EXPECT_EQ(types(it.to_client), mode == config::pool_mode::session ? "ATDCZ" : "TDCZ");
    }
}

TEST(client_relay, a_pipeline_without_end_waits_for_answers) {
    constexpr std::size_t most = 1 << 14;
    for (const auto &next : {fe::sync, fe::query("")}) {
        world around;
        rig it(around);
        it.welcomed();
        std::string many;
        for (std::size_t i = 0; i < most + 9; ++i) many += next;
        it.client_sends(fe::query("") + many);
        EXPECT_EQ(it.server()->owed().owed(), most);
        EXPECT_EQ(it.take_server().size(), fe::query("").size() + (most - 1) * next.size());
        it.server_sends(be::complete("X") + be::ready('I'));
        EXPECT_EQ(it.take_server(), next) << "one for one";
    }
}

// ---- without a server ----

TEST(client_unlinked, sync_flush_and_terminate) {
    expect_script({client(fe::sync), to_client(be::ready('I')), to_server(""), client(fe::flush + fe::sync),
                   to_client(be::ready('I')), to_server(""), client(fe::terminate), closed, to_client(""),
                   to_server("")});
}

TEST(client_unlinked, what_follows_terminate_is_ignored) {
    expect_script({client(fe::terminate + fe::query("drop table t")), closed, to_server("")});
}

TEST(client_unlinked, an_unknown_type_is_a_violation) {
    for (const char type : {'p', 'y', '\0', 'Z', 'W'}) {
        world around;
        rig it(around);
        it.welcomed();
        it.client_sends(message(type, "abc"));
        EXPECT_TRUE(it.client_gone) << type;
        EXPECT_EQ(field(frames(it.to_client).at(0).body, 'C'), "08P01");
        EXPECT_EQ(it.grants, 0);
    }
}

TEST(client_unlinked, lengths_that_can_not_be) {
    for (const std::uint64_t length : {0ULL, 1ULL, 2ULL, 3ULL, 0x80000000ULL, 0xffffffffULL, 0x80000003ULL}) {
        for (int type = 0; type < 256; ++type) {
            world around;
            rig it(around);
            it.welcomed();
            it.client_sends(header(static_cast<char>(type), length));
            ASSERT_TRUE(it.client_gone) << type << " " << length;
            ASSERT_EQ(it.to_client,
                      refused(refusal::bad_packet_header, header_in_hex(header(static_cast<char>(type), length))));
        }
    }
}

TEST(client_unlinked, max_packet_size) {
    world around;
    around.settings.global.max_packet_size = 100;
    for (const std::size_t body : {99U, 100U, 101U}) {
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query(std::string(body - 1, 'x')));
        EXPECT_EQ(it.client_gone, body > 100) << body;
        if (body > 100) {
            EXPECT_EQ(it.to_client, refused(refusal::message_too_long, "5100000069787878"));
        }
    }
}

// ---- statements ----

TEST(client_statements, named_portals_pass) {
    const auto batch = fe::parse("", "x") + fe::bind("p", "") + fe::describe('P', "p") + fe::execute("p") +
                       fe::close('P', "p") + fe::sync;
    expect_script({client(batch), to_server(batch)});
}

TEST(client_statements, session_mode_lets_names_through) {
    world around;
    around.pool.pool_mode = config::pool_mode::session;
    const auto batch = fe::parse("s1", "select 1") + fe::bind("", "s1") + fe::execute("") + fe::sync;
    expect_script(around, {client(batch), to_server(batch)});
}

TEST(client_statements, anothers_unnamed_one_is_taken_away_first) {
    world around;
    rig first(around);
    first.welcomed();
    const auto batch = fe::bind("", "") + fe::execute("") + fe::sync;
    first.client_sends(batch);
    const auto close = message('C', "S"s + '\0');
    EXPECT_EQ(first.take_server(), close + batch);
    const auto missing = be::error("ERROR", "26000", "unnamed prepared statement does not exist") + be::ready('I');
    first.server_sends(be::close_complete + missing);
    EXPECT_EQ(first.take_client(), missing);
    EXPECT_EQ(first.server(), nullptr);
    // Its own, made in the same batch or before in the same transaction, is bound as it is.
    first.client_sends(fe::parse("", "x") + batch);
    EXPECT_EQ(first.take_server(), fe::parse("", "x") + batch);
    first.server_sends(be::parse_complete + be::bind_complete + be::complete("SELECT 0") + be::ready('T'));
    first.client_sends(batch);
    EXPECT_EQ(first.take_server(), batch);
}

TEST(client_statements, a_bind_behind_a_parse_of_an_earlier_batch_waits_for_its_answer) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("begin"));
    it.server_sends(be::complete("BEGIN") + be::ready('T'));
    it.take_server();
    const auto parse = fe::parse("", "x") + fe::sync;
    const auto rest = fe::bind("", "") + fe::execute("") + fe::sync;
    it.client_sends(parse + rest);
    EXPECT_EQ(it.take_server(), parse);
    it.server_sends(be::parse_complete);
    EXPECT_EQ(it.take_server(), rest) << "the answer to the Parse is all it takes";
}

TEST(client_statements, no_wait_that_only_a_later_sync_could_end) {
    // PostgreSQL holds CloseComplete back until Sync: to wait for it would be to wait for ever.
    world around;
    rig it(around);
    it.welcomed();
    const auto batch = fe::close('P', "") + fe::bind("", "") + fe::execute("");
    it.client_sends(batch + fe::sync);
    EXPECT_EQ(types(it.take_server()), "CCBES");
    it.server_sends(be::close_complete + be::close_complete + be::error("ERROR", "26000", "no") + be::ready('I'));
    EXPECT_EQ(types(it.take_client()), "3EZ");
}

TEST(client_statements, a_message_whose_names_have_no_end_is_the_server_s_to_refuse) {
    const auto broken = be::error("ERROR", "08P01", "invalid string in message") + be::ready('I');
    for (const auto &it : {message('P', "abc"), message('B', "a"), message('B', "a\0b"s), message('D', "Sabc"),
                           message('C', ""), message('D', ""), message('C', "Ss")})
        expect_script({client(it + fe::sync), to_server(it + fe::sync), server(broken), to_client(broken), released});
}

TEST(client_statements, names_longer_than_what_is_held) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(header('P', 1'000'000) + std::string(32 * 1024, 'x'));
    EXPECT_FALSE(it.client_gone);
    it.client_sends("x");
    EXPECT_TRUE(it.client_gone);
    EXPECT_EQ(it.to_client, refused(refusal::head_too_long));
}

/// Only a length says that there is more than the name: nothing is held for it.
TEST(client_statements, more_than_a_name_in_a_describe_or_close) {
    world around;
    for (const char type : {'D', 'C'}) {
        rig it(around);
        it.welcomed();
        it.client_sends(header(type, 1'000'000) + std::string("Ss\0", 3) + "x");
        EXPECT_TRUE(it.client_gone) << type;
        EXPECT_EQ(it.to_client, refused(refusal::head_too_long)) << type;
    }
}

// ---- the server goes ----

TEST(client_server_lost, gets_one_fatal_and_only_between_messages) {
    world around;
    const auto row = be::row(std::string(100, 'x'));
    for (const bool mid : {false, true}) {
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("select"));
        it.server_sends(be::columns("c") + (mid ? row.substr(0, 50) : row));
        it.take_client();
        it.server_dies();
        EXPECT_TRUE(it.client_gone);
        EXPECT_EQ(it.to_client, mid ? "" : refused(refusal::server_gone));
        EXPECT_EQ(it.why, "server conn crashed?");
    }
}

TEST(client_server_lost, the_servers_own_last_words_are_not_doubled) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("select"));
    const auto words = be::error("FATAL", "57P01", "terminating connection due to administrator command");
    it.server_sends(words);
    it.server_dies();
    EXPECT_TRUE(it.client_gone);
    EXPECT_EQ(it.to_client, words);
    EXPECT_EQ(it.why, "server conn crashed?");
}

TEST(client_server_lost, a_violation_by_the_server) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("select"));
    it.server_sends(be::parse_complete);
    EXPECT_TRUE(it.client_gone);
    EXPECT_EQ(it.to_client, refused(refusal::server_gone));
    EXPECT_EQ(it.why, "unknown pkt from server");
    EXPECT_EQ(it.lost(), 1U);
}

// ---- statement mode ----

TEST(client_statement_mode, releases_after_each_and_refuses_transactions) {
    world around;
    around.pool.pool_mode = config::pool_mode::statement;
    expect_script(around, {client(fe::query("select 1")), server(selected), to_client(selected), released});
    rig it(around);
    it.welcomed();
    const auto begun = be::complete("BEGIN") + be::ready('T');
    it.client_sends(fe::query("begin"));
    it.server_sends(begun);
    EXPECT_TRUE(it.client_gone);
    EXPECT_EQ(it.to_client, be::complete("BEGIN") + refused(refusal::statement_mode_transaction));
    EXPECT_EQ(it.lost(), 1U);
}

// ---- session mode ----

TEST(client_session_mode, keeps_the_server_and_resets_it_at_the_end) {
    world around;
    around.pool.pool_mode = config::pool_mode::session;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("select 1"));
    it.server_sends(selected);
    EXPECT_NE(it.server(), nullptr);
    it.take_server();
    it.client_sends(fe::terminate);
    EXPECT_TRUE(it.client_gone);
    EXPECT_EQ(it.take_server(), fe::query("DISCARD ALL"));
    EXPECT_EQ(it.idle(), 0U);
    it.server_sends(be::complete("DISCARD ALL") + be::parameter("TimeZone", "GMT") + be::ready('I'));
    EXPECT_EQ(it.idle(), 1U);
}

TEST(client_session_mode, a_reset_that_fails_loses_the_server) {
    world around;
    around.pool.pool_mode = config::pool_mode::session;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("select 1"));
    it.server_sends(selected);
    it.client_dies();
    it.server_sends(be::error("ERROR", "42601", "syntax error") + be::ready('I'));
    EXPECT_EQ(it.why, "reset query failed");
    EXPECT_EQ(it.lost(), 1U);
    EXPECT_EQ(it.idle(), 0U);
}

// ---- parameters ----

TEST(client_parameters, welcome_in_order_with_its_own_values) {
    world around;
    rig it(around);
    it.client_sends(
        startup({{"user", "app"}, {"database", "db"}, {"timezone", "Europe/Berlin"}, {"application_name", "psql"}}));
    const std::string expected =
        be::auth(0) + be::parameter("integer_datetimes", "on") + be::parameter("is_superuser", "off") +
        be::parameter("server_encoding", "UTF8") + be::parameter("server_version", "15.14") +
        be::parameter("session_authorization", "app") + be::parameter("DateStyle", "ISO, MDY") +
        be::parameter("client_encoding", "UTF8") + be::parameter("TimeZone", "Europe/Berlin") +
        be::parameter("standard_conforming_strings", "on") + be::parameter("application_name", "psql") +
        be::parameter("IntervalStyle", "postgres") + be::key(42, "\1\2\3\4") + be::ready('I');
    EXPECT_EQ(it.take_client(), expected);
}

TEST(client_parameters, unconfirmed_ones_are_set_before_anything_else) {
    world around;
    const auto set = fe::query(R"(SET "application_name"='psql';SET "TimeZone"='utc+1';)");
    const auto done = be::parameter("TimeZone", "<UTC+1>-01") + be::complete("SET") +
                      be::parameter("application_name", "psql") + be::complete("SET") + be::ready('I');
    expect_script(
        around,
        {client(fe::query("select 1")), to_server(set), to_client(""), server(done), to_server(fe::query("select 1")),
         to_client(be::parameter("TimeZone", "<UTC+1>-01")), server(selected), to_client(selected), released,
         // The same server again: nothing to set.
         client(fe::query("select 2")), to_server(fe::query("select 2"))},
        {{"user", "app"}, {"timezone", "utc+1"}, {"application_name", "psql"}});
}

TEST(client_parameters, confirmed_ones_go_out_with_the_request) {
    world around;
    rig it(around, 2);
    it.welcomed({{"user", "app"}, {"timezone", "CET"}});
    const auto set = fe::query(R"(SET "TimeZone"='CET';)");
    const auto done = be::parameter("TimeZone", "CET") + be::complete("SET") + be::ready('I');
    it.client_sends(fe::query("select 1"));
    EXPECT_EQ(it.take_server(), set) << "no server has accepted the value yet";
    it.server_sends(done);
    EXPECT_EQ(it.take_server(), fe::query("select 1"));
    it.server_sends(selected);
    EXPECT_EQ(it.take_client(), selected);
    it.rotate();
    it.client_sends(fe::query("select 2"));
    EXPECT_EQ(it.take_server(), set + fe::query("select 2"));
    it.server_sends(done);
    EXPECT_NE(it.server(), nullptr);
    it.server_sends(selected);
    EXPECT_EQ(it.take_client(), selected);
    EXPECT_EQ(it.server(), nullptr);
}

/// PgBouncer's words, with PostgreSQL's reason and code.
std::string parameter_refused(std::string_view sqlstate, std::string_view reason) {
    const auto ours = words(refusal::invalid_server_parameter);
    std::string out;
    wire::append_error_response(out, {"FATAL", sqlstate, "invalid server parameter", reason, ours.hint});
    return out;
}

TEST(client_parameters, one_that_the_server_refuses_ends_the_client_for_its_reason) {
    for (const auto *const name : {"timezone", "my.var"}) {
        world around;
        rig it(around);
        it.welcomed({{"user", "app"}, {name, "nowhere"}});
        it.client_sends(fe::query("select 1"));
        it.take_server();
        it.server_sends(be::error("ERROR", "22023", "invalid value for parameter") + be::ready('I'));
        EXPECT_TRUE(it.client_gone);
        EXPECT_EQ(it.to_client, parameter_refused("22023", "invalid value for parameter"));
        EXPECT_EQ(it.to_server, "") << "the request never went out";
        EXPECT_EQ(it.lost(), 0U);
        EXPECT_EQ(it.idle(), 1U) << "nothing of the client's ever ran on it";
        EXPECT_FALSE(it.released_unclean);
    }
}

// Found by the fuzz target `server_bytes`: the manual promises clients a SQLSTATE and a message.
TEST(client_parameters, a_refusal_without_words_gets_some) {
    for (const auto &error : {message('E', "\0"s), message('E', "SERROR\0C1\0\0"s)}) {
        world around;
        rig it(around);
        it.welcomed({{"user", "app"}, {"my.var", "nowhere"}});
        it.client_sends(fe::query("select 1"));
        it.server_sends(error + be::ready('I'));
        EXPECT_EQ(it.to_client, parameter_refused("XX000", "the server gave no reason"));
    }
}

TEST(client_parameters, one_that_is_refused_later_ends_both) {
    world around;
    rig it(around, 2);
    it.welcomed({{"user", "app"}, {"timezone", "CET"}});
    it.client_sends(fe::query("select 1"));
    it.server_sends(be::parameter("TimeZone", "CET") + be::complete("SET") + be::ready('I'));
    it.server_sends(selected);
    it.take_client();
    it.rotate();
    it.client_sends(fe::query("select 2"));
    it.server_sends(be::error("ERROR", "22023", "invalid value for parameter") + be::ready('I') + selected);
    EXPECT_EQ(it.to_client, parameter_refused("22023", "invalid value for parameter"));
    EXPECT_TRUE(it.client_gone);
    EXPECT_EQ(it.lost(), 1U) << "the request is with it already";
}

TEST(client_parameters, what_the_server_does_not_report_is_set_and_put_back) {
    world around;
    rig one(around, 1);
    one.welcomed({{"user", "app"}, {"geqo", "off"}});
    const auto set = be::complete("SET") + be::ready('I');
    one.client_sends(fe::query("a"));
    EXPECT_EQ(one.take_server(), fe::query(R"(SET "geqo"='off';)")) << "alone, since it might be refused";
    one.server_sends(set);
    EXPECT_EQ(one.take_server(), fe::query("a"));
    one.server_sends(selected);
    EXPECT_EQ(one.take_client(), selected);
    one.client_sends(fe::query("b"));
    EXPECT_EQ(one.take_server(), fe::query("b")) << "it is there already";
    one.server_sends(selected);
    auto server = one.take_idle();
    rig two(around, 0);
    two.add_server(std::move(server));
    two.welcomed();
    two.client_sends(fe::query("c"));
    EXPECT_EQ(two.take_server(), fe::query(R"(RESET "geqo";)") + fe::query("c"));
    two.server_sends(be::complete("RESET") + be::ready('I') + selected);
    EXPECT_EQ(two.take_client(), selected);
    one.add_server(two.take_idle());
    one.client_sends(fe::query("d"));
    EXPECT_EQ(one.take_server(), fe::query(R"(SET "geqo"='off';)") + fe::query("d")) << "accepted before";
}

TEST(client_parameters, sql_that_may_have_changed_it_makes_it_set_again) {
    for (const auto *const tag : {"SET", "RESET", "DISCARD ALL", "SELECT 1", "UPDATE 1"}) {
        world around;
        rig it(around);
        it.welcomed({{"user", "app"}, {"geqo", "off"}});
        it.client_sends(fe::query("a"));
        it.server_sends(be::complete("SET") + be::ready('I'));
        it.server_sends(be::complete(tag) + be::ready('I'));
        it.take_server();
        it.client_sends(fe::query("b"));
        const bool again = std::string_view("SETRESETDISCARD ALL").find(tag) != std::string_view::npos;
        EXPECT_EQ(it.take_server(), (again ? fe::query(R"(SET "geqo"='off';)") : "") + fe::query("b")) << tag;
    }
}

TEST(client_parameters, what_sql_took_back_is_set_again_before_the_next_request_whatever_keeps_the_link) {
    const auto reset = be::complete("RESET") + be::ready('I');
    const auto set_again = fe::query(R"(SET "geqo"='off';)") + fe::query("b");
    enum class keeps { cancel, half_a_message };
    for (const auto what : {keeps::cancel, keeps::half_a_message}) {
        world around;
        rig it(around);
        it.welcomed({{"user", "app"}, {"geqo", "off"}});
        it.client_sends(fe::query("a"));
        it.server_sends(be::complete("SET") + be::ready('I'));
        it.take_server();
        const auto notice = be::notice("late");
        const auto answer = what == keeps::cancel ? it.cancel() : cancel_answer::begin;
        EXPECT_EQ(answer, cancel_answer::begin);
        it.server_sends(what == keeps::cancel ? reset : reset + notice.substr(0, 3));
        ASSERT_NE(it.server(), nullptr) << "its link is kept";
        it.client_sends(fe::query("b"));
        EXPECT_EQ(it.take_server(), "") << "the server has not got geqo any more";
        what == keeps::cancel ? it.cancel_over() : it.server_sends(notice.substr(3));
        EXPECT_EQ(it.releases, 1);
        it.client_sends("");  // as drivers do after a release
        EXPECT_EQ(it.take_server(), set_again);
    }
}

TEST(client_parameters, a_transaction_goes_on_with_what_its_sql_took_back) {
    world around;
    rig it(around);
    it.welcomed({{"user", "app"}, {"geqo", "off"}});
    it.client_sends(fe::query("begin"));
    it.server_sends(be::complete("SET") + be::ready('I'));
    it.server_sends(be::complete("BEGIN") + be::ready('T'));
    it.client_sends(fe::query("reset geqo"));
    it.server_sends(be::complete("RESET") + be::ready('T'));
    it.take_server();
    it.client_sends(fe::query("b"));
    EXPECT_EQ(it.take_server(), fe::query("b"));
}

TEST(client_parameters, what_leaves_no_trace_is_nobody_elses_either) {
    world around;
    rig one(around);
    one.welcomed({{"user", "app"}, {"seed", "0.5"}});
    one.client_sends(fe::query("a"));
    one.server_sends(be::complete("SET") + be::ready('I'));
    one.server_sends(selected);
    rig two(around, 0);
    two.add_server(one.take_idle());
    two.welcomed();
    two.client_sends(fe::query("b"));
    EXPECT_EQ(two.take_server(), fe::query("b")) << "there is nothing to put back";
    two.server_sends(selected);
    two.take_idle();
    two.add_server(around.idle_server());
    two.client_sends(fe::query("c"));
    EXPECT_EQ(two.take_server(), fe::query("c")) << "the other client's wish";
}

TEST(client_parameters, who_the_session_is_must_be_told_before_it_is_used) {
    world around;
    auto hello = usual_parameters();
    for (auto &[name, value] : hello)
        if (name == "is_superuser") value = "on";
    rig it(around, 0);
    it.add_server(around.idle_server(hello));
    it.welcomed({{"user", "app"}, {"role", "bob"}});
    it.client_sends(fe::query("a"));
    EXPECT_EQ(it.take_server(), fe::query(R"(SET "role"='bob';)"));
    it.server_sends(be::complete("SET") + be::parameter("is_superuser", "off") + be::ready('I'));
    it.server_sends(selected);
    EXPECT_EQ(it.idle(), 1U) << "the next client has it taken back first";
    auto server = it.take_idle();
    EXPECT_TRUE(server->same_identity());
    rig two(around, 0);
    two.add_server(std::move(server));
    two.welcomed();
    two.client_sends(fe::query("b"));
    EXPECT_EQ(two.take_server(), fe::query(R"(RESET "role";)")) << "awaited";
    two.server_sends(be::complete("RESET") + be::ready('I'));
    EXPECT_EQ(two.lost(), 1U) << "it did not say that it is the superuser again";
    EXPECT_EQ(two.take_server(), "");
}

TEST(client_parameters, a_server_that_became_somebody_else_goes_to_nobody) {
    for (const auto &[name, value] : pairs{{"session_authorization", "bob"}, {"is_superuser", "on"}}) {
        world around;
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("a"));
        it.server_sends(be::parameter(name, value) + be::complete("SET") + be::ready('I'));
        EXPECT_EQ(it.idle(), 0U);
        EXPECT_EQ(it.lost(), 1U);
        EXPECT_FALSE(it.client_gone);
    }
}

TEST(client_parameters, a_promotion_is_told_and_greets_the_next) {
    world around;
    auto hello = usual_parameters();
    hello.emplace_back("in_hot_standby", "on");
    for (const bool linked : {false, true}) {
        rig it(around, 0);
        it.add_server(around.idle_server(hello));
        it.welcomed();
        it.client_sends(fe::query("a"));
        EXPECT_EQ(it.take_client(), be::parameter("in_hot_standby", "on")) << "the greeting said nothing of it";
        const auto promoted = be::parameter("in_hot_standby", "off");
        if (linked) it.server_sends(promoted);
        it.server_sends(selected);
        EXPECT_EQ(it.take_client(), (linked ? promoted : "") + selected);
        auto server = it.take_idle();
        effects fx;
        if (!linked) server->on_bytes(promoted, fx);
        const auto news = server->take_news();
        ASSERT_TRUE(news);
        EXPECT_EQ(news->parameters->value("in_hot_standby"), "off");
        EXPECT_FALSE(server->take_news());
        it.add_server(std::move(server));
        it.client_sends(fe::query("b"));
        EXPECT_EQ(it.take_client(), linked ? "" : promoted);
    }
}

TEST(client_parameters, a_set_in_the_session_follows_the_client) {
    world around;
    rig it(around, 2);
    it.welcomed();
    const auto cet = be::parameter("TimeZone", "CET") + be::complete("SET") + be::ready('I');
    it.client_sends(fe::query("set timezone=cet"));
    it.server_sends(cet);
    EXPECT_EQ(it.take_client(), cet);
    it.take_server();
    it.rotate();
    it.client_sends(fe::query("a"));
    EXPECT_EQ(it.take_server(), fe::query(R"(SET "TimeZone"='CET';)") + fe::query("a"));
    it.server_sends(cet + selected);
    EXPECT_EQ(it.take_client(), selected);
    it.client_sends(fe::query("b"));
    EXPECT_EQ(it.take_server(), fe::query("b"));
    it.server_sends(selected);
    EXPECT_EQ(it.server(), nullptr);
}

TEST(client_parameters, what_the_server_reports_on_its_own_reaches_both) {
    world around;
    rig it(around, 1);
    it.welcomed();
    it.client_sends(fe::query("a"));
    it.server_sends(be::parameter("DateStyle", "German, DMY") + selected);  // pg_reload_conf()
    EXPECT_EQ(types(it.take_client()), "STDCZ");
    it.take_server();
    it.client_sends(fe::query("b"));
    EXPECT_EQ(it.take_server(), fe::query("b")) << "both have it already";
}

TEST(client_parameters, a_client_that_waited_long_is_not_skipped_for_its_parameters) {
    // The server was asked for back in the very event that made it ready.
    world around;
    rig it(around);
    it.welcomed({{"user", "app"}, {"application_name", "psql"}});
    it.client_sends(fe::query("a"));
    it.server_sends(be::complete("SET") + be::ready('I'));
    EXPECT_EQ(it.releases, 0);
    EXPECT_EQ(it.grants, 1);
}

}  // namespace
}  // namespace pgsluice::core
