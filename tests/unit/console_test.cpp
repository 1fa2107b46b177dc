// The console's language, its tables against a list that was written from the specification, and its protocol machine:
// simple and extended, text and binary, with every cut of its bytes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/console_rows.hpp"
#include "core/console_session.hpp"
#include "support/messages.hpp"

namespace pgsluice::core {
namespace {

using namespace test;
using verb = console_command::verb;

console_command parsed(std::string_view text) {
    auto it = parse_console(text);
    EXPECT_TRUE(it.has_value()) << text;
    return it.has_value() ? *it : console_command{};
}

refusal refused(std::string_view text) {
    const auto it = parse_console(text);
    return it.has_value() ? refusal::none : it.error().why;
}

// ---- the language ----

TEST(console_command, words) {
    struct row {
        std::string_view text;
        verb what;
        std::string_view name, value, tag;
    };
    const row table[] = {
        {"RELOAD", verb::reload, "", "", "RELOAD"},
        {"reload;", verb::reload, "", "", "RELOAD"},
        {" PAUSE ", verb::pause, "", "", "PAUSE"},
        {"pause app", verb::pause, "app", "", "PAUSE"},
        {"pause \"My-db\"", verb::pause, "My-db", "", "PAUSE"},
        {"pause \"a\"\"b\"", verb::pause, "a\"b", "", "PAUSE"},
        {"PAUSE app TIMEOUT '2s'", verb::pause, "app", "2", "PAUSE"},
        {"PAUSE TIMEOUT '500ms'", verb::pause, "", "0.5", "PAUSE"},
        {"PAUSE app TIMEOUT 1min", verb::pause, "app", "60", "PAUSE"},
        {"Resume app", verb::resume, "app", "", "RESUME"},
        {"DISABLE app", verb::disable, "app", "", "DISABLE"},
        {"ENABLE app", verb::enable, "app", "", "ENABLE"},
        {"RECONNECT", verb::reconnect, "", "", "RECONNECT"},
        {"KILL app", verb::kill, "app", "", "KILL"},
        {"KILL_CLIENT 17", verb::kill_client, "17", "", "KILL_CLIENT"},
        {"SUSPEND", verb::suspend, "", "", "SUSPEND"},
        {"SHUTDOWN", verb::shutdown, "", "", "SHUTDOWN"},
        {"SHUTDOWN WAIT_FOR_SERVERS", verb::shutdown_wait_for_servers, "", "", "SHUTDOWN"},
        {"shutdown wait_for_clients", verb::shutdown_wait_for_clients, "", "", "SHUTDOWN"},
        {"WAIT_CLOSE app", verb::wait_close, "app", "", "WAIT_CLOSE"},
        {"SET max_client_conn = 5", verb::set, "max_client_conn", "5", "SET max_client_conn=5"},
        {"SET max_client_conn=5;", verb::set, "max_client_conn", "5", "SET max_client_conn=5"},
        {"set auth_file to '/a b''c'", verb::set, "auth_file", "/a b'c", "SET auth_file=/a b'c"},
        {"SET client_encoding = 'x'", verb::set_ignored, "client_encoding", "x", "SET"},
        {"SET extra_float_digits = 3", verb::set_ignored, "extra_float_digits", "3", "SET"},
        {"SHOW version", verb::show, "", "", "SHOW"},
        {"SHOW WHY 12", verb::show, "12", "", "SHOW"},
        {"/* a */ SHOW /* b */ POOLS -- c", verb::show, "", "", "SHOW"},
        {"", verb::nothing, "", "", ""},
        {" ; ", verb::nothing, "", "", ""},
        {"-- ping", verb::nothing, "", "", ""},
    };
    for (const auto &it : table) {
        const auto got = parsed(it.text);
        EXPECT_EQ(got.what, it.what) << it.text;
        EXPECT_EQ(got.name, it.name) << it.text;
        EXPECT_EQ(got.value, it.value) << it.text;
        EXPECT_EQ(tag_of(got), it.tag);
    }
}

TEST(console_command, what_is_none) {
    for (const auto *const text : {"FOO",           "SHOW",
                                   "SHOW nosuch",   "SHOW POOLS x",
                                   "SHOW HELP x",   "BEGIN",
                                   "SET",           "SET a",
                                   "SET a =",       "SET a b c",
                                   "PAUSE a b",     "RELOAD x",
                                   "SHUTDOWN now",  "SHOW VERSION; SHOW VERSION",
                                   "SHOW 'pools'",  "'SHOW' pools",
                                   "PAUSE \"a",     "SET a = 'b",
                                   "/* SHOW POOLS", "PAUSE a $",
                                   "SELECT 1",      "SUSPEND app"})
        EXPECT_EQ(refused(text), refusal::console_invalid_command) << text;
    EXPECT_EQ(refused("PAUSE " + std::string(64, 'a')), refusal::console_bad_arguments);
    EXPECT_EQ(refused(std::string(16, 'a')), refusal::console_bad_arguments);
    EXPECT_EQ(refused("SET a = '" + std::string(256, 'a') + "'"), refusal::console_bad_arguments);
    EXPECT_EQ(refused("SET a = '" + std::string(255, 'a') + "'"), refusal::none);
    EXPECT_EQ(refused("PAUSE app TIMEOUT soon"), refusal::console_bad_arguments);
}

TEST(console_command, what_it_lacks) {
    EXPECT_EQ(what_lacks(parsed("DISABLE")), refusal::console_database_required);
    EXPECT_EQ(what_lacks(parsed("ENABLE \"\"")), refusal::console_database_required);
    EXPECT_EQ(what_lacks(parsed("KILL_CLIENT")), refusal::console_bad_client);
    for (const auto *const text : {"DISABLE app", "KILL_CLIENT 1", "PAUSE", "KILL", "RELOAD", "SHOW POOLS"})
        EXPECT_EQ(what_lacks(parsed(text)), refusal::none) << text;
}

TEST(console_command, the_log_has_no_value_that_is_set) {
    EXPECT_EQ(text_of(parsed("show pools")), "SHOW pools");
    EXPECT_EQ(text_of(parsed("PAUSE app")), "PAUSE app");
    EXPECT_EQ(text_of(parsed("SET auth_ldap_options = 'hunter2'")), "SET auth_ldap_options");
}

TEST(console_command, what_stats_users_may) {
    for (const auto *const text : {"SHOW POOLS", "SHOW CONFIG", "SHOW HELP", "SHOW WHY", "SET timezone = 'x'", ""})
        EXPECT_TRUE(may_stats_users(parsed(text))) << text;
    for (const auto *const text : {"SHOW FDS", "RELOAD", "PAUSE", "RESUME", "SET verbose = 1", "KILL app", "SHUTDOWN",
                                   "KILL_CLIENT 1", "SUSPEND", "RECONNECT", "WAIT_CLOSE", "DISABLE app", "ENABLE app"})
        EXPECT_FALSE(may_stats_users(parsed(text))) << text;
}

// ---- the tables ----

// Names and types (i int4, q int8, s text, b bytea, N numeric) of PgBouncer's columns, in order; behind the bar ours.
TEST(console_table, columns_are_pgbouncers_in_its_order) {
    const std::string connection =
        "type s, user s, database s, replication s, state s, addr s, port i, local_addr s, local_port i, connect_time "
        "s, request_time s, wait i, wait_us i, close_needed i, ptr s, link s, remote_pid i, tls s, application_name s, "
        "prepared_statements i, id i";
    const std::string socket = connection +
                               ", recv_pos i, pkt_pos i, pkt_remain i, send_pos i, send_remain i, pkt_avail i, "
                               "send_avail i";
    const std::map<std::string, std::string> table{
        {"CLIENTS", connection},
        {"SERVERS", connection},
        {"SOCKETS", socket},
        {"ACTIVE_SOCKETS", socket},
        {"DATABASES",
         "name s, host s, port i, database s, force_user s, pool_size i, min_pool_size i, reserve_pool_size i, "
         "server_lifetime i, pool_mode s, load_balance_hosts s, max_connections i, current_connections i, "
         "max_client_connections i, current_client_connections i, paused i, disabled i"},
        {"POOLS",
         "database s, user s, cl_active i, cl_waiting i, cl_active_cancel_req i, cl_waiting_cancel_req i, sv_active i, "
         "sv_active_cancel i, sv_being_canceled i, sv_idle i, sv_used i, sv_tested i, sv_login i, maxwait i, "
         "maxwait_us i, pool_mode s, load_balance_hosts s | sv_closing i"},
        {"PEERS", "peer_id i, host s, port i, pool_size i"},
        {"PEER_POOLS", "peer_id i, cl_active_cancel_req i, cl_waiting_cancel_req i, sv_active_cancel i, sv_login i"},
        {"LISTS", "list s, items i"},
        {"USERS",
         "name s, pool_size s, reserve_pool_size s, pool_mode s, max_user_connections i, current_connections i, "
         "max_user_client_connections i, current_client_connections i"},
        {"STATS",
         "database s, total_server_assignment_count N, total_xact_count N, total_query_count N, total_received N, "
         "total_sent N, total_xact_time N, total_query_time N, total_wait_time N, total_client_parse_count N, "
         "total_server_parse_count N, total_bind_count N, total_client_login_count N, avg_server_assignment_count N, "
         "avg_xact_count N, avg_query_count N, avg_recv N, avg_sent N, avg_xact_time N, avg_query_time N, "
         "avg_wait_time N, avg_client_parse_count N, avg_server_parse_count N, avg_bind_count N, "
         "avg_client_login_count N"},
        {"STATS_TOTALS",
         "database s, server_assignment_count N, xact_count N, query_count N, bytes_received N, bytes_sent N, "
         "xact_time N, query_time N, wait_time N, client_parse_count N, server_parse_count N, bind_count N, "
         "client_login_count N"},
        {"STATS_AVERAGES",
         "database s, server_assignment_count N, xact_count N, query_count N, bytes_received N, bytes_sent N, "
         "xact_time N, query_time N, wait_time N, avg_client_parse_count N, avg_server_parse_count N, avg_bind_count "
         "N, avg_client_login_count N"},
        {"TOTALS", "name s, value N"},
        {"CONFIG", "key s, value s, default s, changeable s | file s, line i"},
        {"STATE", "key s, value s"},
        {"MEM", "name s, size i, used i, free i, memtotal i"},
        {"DNS_HOSTS", "hostname s, ttl q, addrs s"},
        {"DNS_ZONES", "zonename s, serial q, count i"},
        {"VERSION", "version s"},
        {"FDS",
         "fd i, task s, user s, database s, addr s, port i, cancel q, link i, client_encoding s, std_strings s, "
         "datestyle s, timezone s, password s, scram_client_key b, scram_server_key b"},
    };
    const std::map<column_type, char> letters{{column_type::int4, 'i'},
                                              {column_type::int8, 'q'},
                                              {column_type::text, 's'},
                                              {column_type::bytea, 'b'},
                                              {column_type::numeric, 'N'}};
    for (const auto &[name, want] : table) {
        std::string got;
        const auto bar = want.find(" | ");
        for (const auto &it : columns_of(parsed("SHOW " + name).table)) {
            if (!got.empty()) got += bar != std::string::npos && got.size() == bar ? " | " : ", ";
            got += std::string(it.name) + " " + letters.at(it.type);
        }
        EXPECT_EQ(got, want) << name;
    }
}

TEST(console_table, numbers_in_binary) {
    const std::map<std::uint64_t, std::string> table{
        {0, be16(0) + be16(0) + be32(0)},
        {7, be16(1) + be16(0) + be32(0) + be16(7)},
        {10000, be16(1) + be16(1) + be32(0) + be16(1)},
        {123456789, be16(3) + be16(2) + be32(0) + be16(1) + be16(2345) + be16(6789)},
        {50000000, be16(1) + be16(1) + be32(0) + be16(5000)},
    };
    for (const auto &[value, bytes] : table) EXPECT_EQ(binary_numeric(value), bytes) << value;
}

// ---- the machine ----

/// A console whose driver answers SHOW POOLS with two rows, and everything else with its tag.
class desk {
public:
    explicit desk(console_rights rights = console_rights::admin) : session_(rights, &counts) {}

    std::string says(std::string_view bytes) {
        std::string answers;
        left = 0;
        while (!bytes.empty()) {
            effects fx;
            const auto used = session_.on_bytes(bytes, fx);
            answers += fx.to_client.text();
            bytes.remove_prefix(used);
            if (fx.client == client_next::close) return answers + "|closed";
            if (fx.client != client_next::command) {
                left = bytes.size();
                if (used == 0) return answers;
                continue;
            }
            EXPECT_TRUE(session_.running());
            asked.push_back(tag_of(session_.command()));
            effects more;
            if (session_.command().table == console_table::state && session_.command().what == verb::show) {
                session_.on_rows({{"active", "yes"}}, more);
                session_.on_rows({{"paused", console_cell()}}, more);
            } else if (session_.command().what == verb::show) {
                session_.on_rows({{"x", std::int64_t{258}}}, more);
            }
            session_.on_done(outcome, more);
            EXPECT_FALSE(session_.running());
            answers += more.to_client.text();
        }
        return answers;
    }

    traffic counts;
    console_outcome outcome;
    std::vector<std::string> asked;
    std::size_t left = 0;  ///< bytes that it has not taken

private:
    console_session session_;
};

const std::string ready = message('Z', "I");
std::string done(std::string_view tag) {
    return message('C', z(tag));
}
std::string refusal_text(refusal why, std::string_view argument = {}) {
    std::string out;
    append_refusal(out, why, argument);
    return out;
}
std::string column(std::string_view name, unsigned type, unsigned size, unsigned format = 0) {
    return z(name) + be32(0) + be16(0) + be32(type) + be16(size) + be32(0xffffffff) + be16(format);
}
const std::string state_columns = message('T', be16(2) + column("key", 25, 0xffff) + column("value", 25, 0xffff));
const std::string two_rows = message('D', be16(2) + be32(6) + "active" + be32(3) + "yes") +
                             message('D', be16(2) + be32(6) + "paused" + be32(0xffffffff));

TEST(console_session, simple_queries) {
    desk it;
    EXPECT_EQ(it.says(fe::query("SHOW STATE")), state_columns + two_rows + done("SHOW") + ready);
    EXPECT_EQ(it.says(fe::query("RELOAD")), done("RELOAD") + ready);
    EXPECT_EQ(it.says(fe::query("NO")), refusal_text(refusal::console_invalid_command, "NO") + ready);
    EXPECT_EQ(it.says(fe::query("SHOW timezone")), message('T', be16(1) + column("timezone", 25, 0xffff)) +
                                                       message('D', be16(1) + be32(3) + "GMT") + done("SHOW") + ready);
    EXPECT_EQ(it.says(fe::query(";")), message('I') + ready);
    EXPECT_EQ(it.asked, (std::vector<std::string>{"SHOW", "RELOAD"}));
    EXPECT_EQ(it.counts[figure::queries], 4U) << "what is no command is not counted";
    it.outcome.refused = {refusal::console_no_such_database, "x", {}};
    EXPECT_EQ(it.says(fe::query("PAUSE x")), refusal_text(refusal::console_no_such_database, "x") + ready);
    EXPECT_EQ(it.says(message('X')), "|closed");
}

TEST(console_session, the_welcome_repeats_what_was_asked_for) {
    const auto told = [](const std::vector<std::pair<std::string, std::string>> &asked) {
        effects fx;
        console_session::welcome(1, "abcd", asked, fx);
        std::string all;
        for (const auto &it : frames(fx.to_client.text()))
            if (it.type == 'S') all += std::string(it.body) + "|";
        std::replace(all.begin(), all.end(), '\0', ' ');
        return all;
    };
    const std::string ours =
        "server_version 1.25.2/bouncer |client_encoding UTF8 |server_encoding UTF8 |DateStyle ISO |TimeZone GMT "
        "|standard_conforming_strings on |is_superuser on |";
    EXPECT_EQ(told({}), ours);
    EXPECT_EQ(told({{"extra_float_digits", "2"}}), ours) << "what it has no word for";
    EXPECT_EQ(told({{"application_name", "x"}, {"timezone", "a"}, {"TIMEZONE", "b"}, {"client_encoding", "LATIN1"}}),
              ours + "client_encoding LATIN1 |TimeZone b |application_name x |");
}

TEST(console_session, notices) {
    desk it;
    const auto help = frames(it.says(fe::query("SHOW HELP")));
    ASSERT_EQ(help.size(), 3U);
    EXPECT_EQ(help[0].type, 'N');
    EXPECT_EQ(field(help[0].body, 'S'), "NOTICE");
    EXPECT_EQ(field(help[0].body, 'C'), "00000");
    EXPECT_EQ(field(help[0].body, 'M'), "Console usage");
    EXPECT_TRUE(std::string(field(help[0].body, 'D')).starts_with("\n\tSHOW HELP|CONFIG|DATABASES|"));
    const auto set = frames(it.says(fe::query("SET datestyle TO 'ISO'")));
    EXPECT_EQ(field(set.at(0).body, 'M'), "SET ignored");
    EXPECT_EQ(set.at(1).body, z("SET"));
}

TEST(console_session, stats_users_are_held_off) {
    desk it(console_rights::stats);
    const auto no = refusal_text(refusal::console_admin_needed);
    EXPECT_EQ(it.says(fe::query("PAUSE")), no + ready);
    EXPECT_EQ(it.says(fe::query("SHOW FDS")), no + ready);
    EXPECT_EQ(it.says(fe::query("DISABLE")), no + ready) << "before what it lacks";
    EXPECT_EQ(it.says(fe::parse("", "KILL app") + fe::bind("", "") + fe::execute("") + message('S')),
              message('1') + message('2') + no + ready);
    EXPECT_EQ(it.asked, std::vector<std::string>{});
    EXPECT_EQ(it.says(fe::query("SHOW STATE")), state_columns + two_rows + done("SHOW") + ready);
}

TEST(console_session, extended_queries) {
    desk it;
    const auto describe = [](char what, std::string_view name) { return message('D', what + z(name)); };
    EXPECT_EQ(it.says(fe::parse("s", "SHOW STATE") + describe('S', "s") + message('S')),
              message('1') + message('t', be16(0)) + state_columns + ready);
    EXPECT_EQ(it.says(fe::bind("p", "s") + describe('P', "p") + fe::execute("p") + message('S')),
              message('2') + state_columns + two_rows + done("SHOW") + ready);
    EXPECT_EQ(it.says(fe::execute("p") + message('S')), refusal_text(refusal::unknown_portal, "p") + ready)
        << "portals end with their transaction";
    EXPECT_EQ(it.says(fe::parse("s", "RELOAD") + message('S')),
              refusal_text(refusal::duplicate_statement, "s") + ready);
    EXPECT_EQ(
        it.says(message('C', "S" + z("s")) + fe::bind("", "s") + fe::execute("") + message('S') + fe::query("RELOAD")),
        message('3') + refusal_text(refusal::unknown_statement, "s") + ready + done("RELOAD") + ready)
        << "after an error all is skipped up to the Sync";
    EXPECT_EQ(it.says(fe::parse("", "RELOAD") + fe::bind("", "") + describe('P', "") + fe::execute("") + message('S')),
              message('1') + message('2') + message('n') + done("RELOAD") + ready);
    EXPECT_EQ(it.says(fe::parse("", "NO") + message('S')),
              refusal_text(refusal::console_invalid_command, "NO") + ready);
}

TEST(console_session, binary_results) {
    desk it;
    // One format for all: LISTS is a text and an int4.
    const auto bound = message('B', z("") + z("") + be16(0) + be16(0) + be16(1) + be16(1));
    EXPECT_EQ(it.says(fe::parse("", "SHOW LISTS") + bound + message('D', "P" + z("")) + fe::execute("") + message('S')),
              message('1') + message('2') +
                  message('T', be16(2) + column("list", 25, 0xffff, 1) + column("items", 23, 4, 1)) +
                  message('D', be16(2) + be32(1) + "x" + be32(4) + be32(258)) + done("SHOW") + ready);
    // One each.
    const auto mixed = message('B', z("") + z("") + be16(0) + be16(0) + be16(2) + be16(0) + be16(0));
    EXPECT_EQ(it.says(mixed + fe::execute("") + message('S')),
              message('2') + message('D', be16(2) + be32(1) + "x" + be32(3) + "258") + done("SHOW") + ready);
    // As many as there are not.
    const auto wrong = message('B', z("") + z("") + be16(0) + be16(0) + be16(3) + be16(0) + be16(0) + be16(0));
    const auto answer = it.says(wrong + fe::execute("") + message('S'));
    EXPECT_NE(answer.find("result formats"), std::string::npos);
    EXPECT_TRUE(answer.ends_with(ready)) << "an error, as PostgreSQL's, and what follows is skipped";
}

TEST(console_session, rows_by_rows) {
    desk it;
    const auto execute_one = message('E', z("") + be32(1));
    const auto rows = frames(two_rows);
    const auto row = [&](std::size_t i) { return message('D', rows[i].body); };
    EXPECT_EQ(it.says(fe::parse("", "SHOW STATE") + fe::bind("", "") + execute_one + execute_one + message('S')),
              message('1') + message('2') + row(0) + message('s') + row(1) + done("SHOW") + ready);
}

TEST(console_session, what_is_no_message_ends_it) {
    for (const auto &bytes :
         {message('F', "x"), header('Q', 3), message('Q', std::string(40'000, 'a')), message('Q', "a"), message('?'),
          message('P', "a"), message('B', "a"), message('E', "a"), message('D', "Xa")})
        EXPECT_TRUE(desk().says(bytes).ends_with("|closed")) << bytes.substr(0, 10);
}

TEST(console_session, every_cut_is_the_same) {
    const auto bytes = fe::query("SHOW STATE") + fe::parse("", "SHOW STATE") + fe::bind("", "") + fe::execute("") +
                       message('S') + fe::query("NO") + fe::query("PAUSE app");
    const auto whole = desk().says(bytes);
    for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
        desk it;
        auto got = it.says(bytes.substr(0, cut));
        // What was not taken comes again, with the rest.
        const auto left = it.left;
        got += it.says(bytes.substr(cut - left));
        EXPECT_EQ(got, whole) << cut;
    }
}

// ---- rows ----

TEST(console_rows, averages) {
    traffic before, now;
    before[figure::queries] = 10;
    now[figure::queries] = 30;
    now[figure::query_time] = 4000;
    now[figure::transactions] = 2;
    now[figure::transaction_time] = 5000;
    now[figure::wait_time] = 1000;
    now[figure::received] = 100;
    const auto mean = average(before, now, base::seconds(10));
    EXPECT_EQ(mean[figure::queries], 2U) << "a second";
    EXPECT_EQ(mean[figure::query_time], 200U) << "a query";
    EXPECT_EQ(mean[figure::transaction_time], 2500U) << "a transaction";
    EXPECT_EQ(mean[figure::wait_time], 100U) << "a second";
    EXPECT_EQ(mean[figure::received], 10U);
    EXPECT_EQ(stats_line(mean),
              "stats: 0 xacts/s, 2 queries/s, 0 client parses/s, 0 server parses/s, 0 binds/s, 0 client logins/s, in "
              "10 B/s, out 0 B/s, xact 2500 us, query 200 us, wait 100 us");
    const auto totals = stats_rows(console_table::totals, {{"a", now}, {"b", now}}, {{"a", mean}});
    ASSERT_EQ(totals.size(), 2 * figures);
    EXPECT_EQ(totals[2], (console_row{"total_query_count", std::int64_t{60}}));
    EXPECT_EQ(totals[3], (console_row{"total_client_bytes", std::int64_t{200}}));
    EXPECT_EQ(totals[figures + 2], (console_row{"avg_query_count", std::int64_t{2}}));
    for (const auto which : {console_table::stats, console_table::stats_totals, console_table::stats_averages})
        for (const auto &row : stats_rows(which, {{"a", now}}, {})) EXPECT_EQ(row.size(), columns_of(which).size());
}

TEST(console_rows, tables_have_as_many_cells_as_columns) {
    config::settings all;
    all.databases["app"].name = "app";
    all.databases["app"].hosts = {"a", "b"};
    all.users["bob"].pool_size = 7;
    console_view view;
    view.consoles = 1;
    view.databases["app"] = {2, 3, true, false};
    view.pools.push_back({.database = "app",
                          .user = "bob",
                          .settings = std::make_shared<const config::pool_settings>(
                              config::resolve_pool(all, all.databases["app"], "app", "bob"))});
    const auto check = [](console_table which, const console_rows &rows) {
        EXPECT_FALSE(rows.empty());
        for (const auto &row : rows) {
            const auto columns = columns_of(which);
            ASSERT_EQ(row.size(), columns.size());
            for (std::size_t i = 0; i < row.size(); ++i) {
                const bool number = columns[i].type == column_type::int4 || columns[i].type == column_type::int8;
                const bool is_null = std::holds_alternative<std::monostate>(row[i]);
                EXPECT_TRUE(is_null || std::holds_alternative<std::int64_t>(row[i]) == number) << columns[i].name;
            }
        }
    };
    check(console_table::config, config_rows(all));
    check(console_table::databases, database_rows(all, view));
    check(console_table::pools, pool_rows(view));
    check(console_table::users, user_rows(all, view));
    check(console_table::lists, list_rows(all, view, {}));
    check(console_table::state, state_rows(view, false));
    EXPECT_EQ(user_rows(all, view)[0][1], console_cell("        7")) << "padded, as PgBouncer has it";
    EXPECT_EQ(user_rows(all, view)[0][2], console_cell(""));
    EXPECT_EQ(database_rows(all, view)[0][15], console_cell(std::int64_t{1})) << "paused";
    EXPECT_EQ(database_rows(all, view)[0][10], console_cell("round-robin"));
    EXPECT_EQ(user_rows(all, view).back()[0], console_cell("pgbouncer")) << "as there: whose pool the console's is";
    EXPECT_EQ(list_rows(all, view, {})[1], (console_row{"users", std::int64_t{2}}));
}

TEST(console_rows, settings_as_pgbouncer_lists_them) {
    config::settings all;
    const auto rows = config_rows(all);
    const auto find = [&](std::string_view name) {
        return std::find_if(rows.begin(), rows.end(),
                            [&](const console_row &row) { return row[0] == console_cell(std::string(name)); });
    };
    for (const auto *const name : {"auth_dbname", "auth_user", "auth_file", "server_tls13_ciphers", "user"}) {
        EXPECT_EQ((*find(name))[1], console_cell()) << name;
        EXPECT_EQ((*find(name))[2], console_cell()) << name;
    }
    EXPECT_EQ(find("pool_mode") + 1, find("pool_idle_timeout"));
    EXPECT_LT(find("pkt_buf"), find("pool_mode"));
}

TEST(console_rows, addresses_of_names_have_a_port_that_is_none) {
    name_book book;
    const base::time_point now{};
    book.find("db.test", now);
    book.answered("db.test", {{"127.0.0.1", "::1"}, base::seconds(5), {}}, now);
    const auto rows = dns_host_rows(book, now);
    ASSERT_EQ(rows.size(), 1U);
    EXPECT_EQ(rows[0][2], console_cell("127.0.0.1:0,[::1]:0"));
}

}  // namespace
}  // namespace pgsluice::core
