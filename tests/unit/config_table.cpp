// The table of settings: that its defaults are those of global_settings, and the bounds of every value.
#include <gtest/gtest.h>

#include <set>

#include "config/settings_table.hpp"
#include "config/values.hpp"

namespace pgsluice::config {
namespace {

/// Whether `text` is taken; a refusal must leave the value alone.
bool accepts(const setting &row, const std::string &text) {
    global_settings values;
    const auto wrong = assign(row, text, values);
    EXPECT_TRUE(!wrong || same_value(row, values, global_settings{})) << row.name << " = " << text;
    return !wrong;
}

const setting &row_of(std::string_view name) {
    const auto *row = find_setting(name);
    if (!row) throw std::runtime_error("no row " + std::string(name));
    return *row;
}

bool is_number(const setting &row) {
    return std::holds_alternative<int global_settings::*>(row.member) ||
           std::holds_alternative<std::uint32_t global_settings::*>(row.member);
}

TEST(config_table, defaults_are_those_of_global_settings) {
    for (const auto &row : settings_table()) {
        global_settings values;
        EXPECT_EQ(assign(row, row.default_text, values), std::nullopt) << row.name;
        EXPECT_TRUE(same_value(row, values, global_settings{})) << row.name;
    }
}

TEST(config_table, names_are_unique_and_found_in_any_case) {
    std::set<std::string_view> names;
    for (const auto &row : settings_table()) {
        EXPECT_TRUE(names.insert(row.name).second) << row.name;
        EXPECT_EQ(find_setting(row.name), &row);
        EXPECT_FALSE(row.meaning.empty()) << row.name;
    }
    for (const auto &row : known_settings()) {
        EXPECT_TRUE(names.insert(row.name).second) << row.name;
        EXPECT_EQ(find_known_setting(row.name), &row);
    }
    EXPECT_EQ(find_setting("Listen_PORT"), &row_of("listen_port"));
    EXPECT_EQ(find_setting("listen_por"), nullptr);
    EXPECT_EQ(find_setting(""), nullptr);
}

// PgBouncer 1.25.2 and its git head have 100 settings on Linux; ours are worker_threads, max_unauthenticated_conn,
// login_failure_max_delay, client_disconnect_action, server_protocol and server_tls_negotiation.
TEST(config_table, every_setting_of_pgbouncer_is_known) {
    EXPECT_EQ(settings_table().size() + known_settings().size(), 107U);
}

TEST(config_table, numbers_at_their_bounds) {
    for (const auto &row : settings_table()) {
        if (!is_number(row)) continue;
        EXPECT_LT(row.min, row.max) << row.name;
        EXPECT_TRUE(accepts(row, std::to_string(row.min))) << row.name;
        EXPECT_TRUE(accepts(row, std::to_string(row.max))) << row.name;
        EXPECT_FALSE(accepts(row, std::to_string(row.min - 1))) << row.name;
        EXPECT_FALSE(accepts(row, std::to_string(row.max + 1))) << row.name;
        for (const auto *junk : {"", "yes", "on", "5s", "1.5", "0x", "08", "1 2", "99999999999999999999", "-"})
            EXPECT_FALSE(accepts(row, junk)) << row.name << " = " << junk;
    }
}

TEST(config_table, bounds_that_are_not_zero_to_int_max) {
    const std::vector<std::tuple<const char *, std::int64_t, std::int64_t>> table{
        {"listen_port", 1, 65535},   {"unix_socket_mode", 0, 0777},      {"listen_backlog", 1, int_max},
        {"worker_threads", 0, 1024}, {"max_client_conn", 1, int_max},    {"scram_iterations", 1, 1'000'000},
        {"verbose", 0, 3},           {"max_packet_size", 1024, int_max}, {"tcp_keepcnt", 0, 127},
        {"tcp_keepidle", 0, 32767},  {"tcp_keepintvl", 0, 32767},        {"pkt_buf", 1, int_max},
    };
    std::set<std::string_view> special;
    for (const auto &[name, min, max] : table) {
        EXPECT_EQ(row_of(name).min, min) << name;
        EXPECT_EQ(row_of(name).max, max) << name;
        special.insert(name);
    }
    for (const auto &row : settings_table())
        if (is_number(row) && !special.contains(row.name)) {
            EXPECT_EQ(row.min, 0) << row.name;
            EXPECT_EQ(row.max, int_max) << row.name;
        }
}

TEST(config_table, numbers_as_strtol_base_0_reads_them) {
    global_settings values;
    EXPECT_EQ(assign(row_of("unix_socket_mode"), "0700", values), std::nullopt);
    EXPECT_EQ(values.unix_socket_mode, 0700);
    EXPECT_EQ(value_text(row_of("unix_socket_mode"), values), "448");
    EXPECT_EQ(assign(row_of("max_client_conn"), "0x10", values), std::nullopt);
    EXPECT_EQ(values.max_client_conn, 16);
    EXPECT_EQ(assign(row_of("max_client_conn"), "+5", values), std::nullopt);
    EXPECT_EQ(values.max_client_conn, 5);
}

TEST(config_table, booleans_are_0_and_1) {
    int booleans = 0;
    for (const auto &row : settings_table()) {
        if (!std::holds_alternative<bool global_settings::*>(row.member)) continue;
        ++booleans;
        EXPECT_TRUE(accepts(row, "0")) << row.name;
        EXPECT_TRUE(accepts(row, "1")) << row.name;
        EXPECT_EQ(accepts(row, "45"), row.name == "tcp_defer_accept") << row.name;
        for (const auto *junk : {"", "yes", "on", "true", "-1", "1.0"}) EXPECT_FALSE(accepts(row, junk)) << row.name;
    }
    EXPECT_GT(booleans, 5);
}

TEST(config_table, times_are_seconds) {
    int times = 0;
    for (const auto &row : settings_table()) {
        if (!std::holds_alternative<base::duration global_settings::*>(row.member)) continue;
        ++times;
        for (const auto *good : {"0", "0.0", ".5", "1e3", "2147483647"}) EXPECT_TRUE(accepts(row, good)) << row.name;
        for (const auto *junk : {"", "1h", "5 s", "-1", "-0.1", "2147483648", "1e400", "nan", "inf", "0x10", "1,5"})
            EXPECT_FALSE(accepts(row, junk)) << row.name << " = " << junk;
    }
    EXPECT_GT(times, 10);
    global_settings values;
    const auto &row = row_of("query_timeout");
    EXPECT_EQ(assign(row, "1.25", values), std::nullopt);
    EXPECT_EQ(values.query_timeout, base::milliseconds(1250));
    EXPECT_EQ(value_text(row, values), "1.25");
    EXPECT_EQ(assign(row, "3600", values), std::nullopt);
    EXPECT_EQ(value_text(row, values), "3600");
}

TEST(config_table, enumerations_in_any_case) {
    global_settings values;
    EXPECT_EQ(assign(row_of("pool_mode"), "Transaction", values), std::nullopt);
    EXPECT_EQ(values.pool_mode, pool_mode::transaction);
    EXPECT_EQ(assign(row_of("auth_type"), "SCRAM-SHA-256", values), std::nullopt);
    EXPECT_EQ(value_text(row_of("auth_type"), values), "scram-sha-256");
    EXPECT_EQ(assign(row_of("pool_mode"), "", values), "must be session, transaction or statement");
    EXPECT_EQ(assign(row_of("auth_type"), "peer", values),
              "must be any, trust, plain, md5, scram-sha-256, cert, hba, pam or ldap");
}

TEST(config_table, tls_protocols_as_pgbouncer_lists_them) {
    const auto read = [](const std::string &text) {
        const auto it = parse_tls_protocols(text);
        return it.has_error() ? "refused" : to_string(*it);
    };
    const std::vector<std::pair<const char *, const char *>> table{
        {"secure", "secure"},
        {"DEFAULT", "secure"},
        {"all", "all"},
        {"tlsv1", "all"},
        {"legacy", "all"},
        {"tlsv1.2, tlsv1.3", "secure"},
        {"tlsv1.3", "tlsv1.3"},
        {"tlsv1.0:tlsv1.2", "tlsv1.0,tlsv1.2"},
        {"secure,!tlsv1.3", "tlsv1.2"},
        {"!tlsv1.0", "tlsv1.1,tlsv1.2,tlsv1.3"},
        {"all,! tlsv1.0,!tlsv1.1", "secure"},
        {"", "refused"},
        {"sslv3", "refused"},
        {"tlsv1.3,", "refused"},
        {"!all", "refused"},
        {"tlsv1.4", "refused"},
    };
    for (const auto &[text, outcome] : table) EXPECT_EQ(read(text), outcome) << text;
}

TEST(config_table, lists_are_split_and_trimmed) {
    global_settings values;
    EXPECT_EQ(assign(row_of("listen_addr"), " 127.0.0.1 ,::1,, * ", values), std::nullopt);
    EXPECT_EQ(values.listen_addr, (std::vector<std::string>{"127.0.0.1", "::1", "*"}));
    EXPECT_EQ(value_text(row_of("listen_addr"), values), "127.0.0.1, ::1, *");
    EXPECT_EQ(assign(row_of("listen_addr"), "", values), std::nullopt);
    EXPECT_TRUE(values.listen_addr.empty());
}

TEST(config_table, what_needs_a_restart_keeps_its_running_value) {
    settings running, fresh;
    running.global.quiet = true;
    running.global.listen_port = 7000;
    fresh.global.worker_threads = 4;
    fresh.global.listen_addr = {"*"};
    fresh.global.default_pool_size = 50;
    EXPECT_EQ(restart_needed(running, fresh),
              (std::vector<std::string>{"listen_addr", "listen_port", "worker_threads"}));
    const auto kept = keep_unchangeable(running, fresh);
    EXPECT_EQ(kept.global.listen_port, 7000);
    EXPECT_EQ(kept.global.worker_threads, 0);
    EXPECT_TRUE(kept.global.listen_addr.empty());
    EXPECT_TRUE(kept.global.quiet);
    EXPECT_EQ(kept.global.default_pool_size, 50);
    EXPECT_TRUE(restart_needed(running, kept).empty());
}

}  // namespace
}  // namespace pgsluice::config
