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
    EXPECT_EQ(find_setting("Listen_PORT"), &row_of("listen_port"));
    EXPECT_EQ(find_setting("listen_por"), nullptr);
    EXPECT_EQ(find_setting(""), nullptr);
}

// PgBouncer 1.25.2 and its git head have 100 settings on Linux; ours are worker_threads, max_unauthenticated_conn,
// login_failure_max_delay, io_uring, client_disconnect_action, server_protocol and server_tls_negotiation.
TEST(config_table, every_setting_of_pgbouncer_is_known) {
    EXPECT_EQ(settings_table().size(), 108U);
}

TEST(config_table, numbers_at_their_bounds) {
    for (const auto &row : settings_table()) {
        if (!is_number(row)) continue;
        EXPECT_LT(row.min, row.max) << row.name;
        EXPECT_TRUE(accepts(row, std::to_string(row.min))) << row.name;
        EXPECT_TRUE(accepts(row, std::to_string(row.max))) << row.name;
        EXPECT_FALSE(accepts(row, std::to_string(row.min - 1))) << row.name;
        EXPECT_FALSE(accepts(row, std::to_string(row.max + 1))) << row.name;
        for (const auto *junk : {"", "yes", "on", "5m", "1.5", "0x", "08", "1 2", "99999999999999999999", "-", "s",
                                 "kB", "99999999999999999999GB", "-1kB", "1.5MB", "5 s", "9999999999d"})
            EXPECT_FALSE(accepts(row, junk)) << row.name << " = " << junk;
    }
}

TEST(config_table, bounds_that_are_not_zero_to_int_max) {
    const std::vector<std::tuple<const char *, std::int64_t, std::int64_t>> table{
        {"listen_port", 1, 65535},   {"unix_socket_mode", 0, 07777},     {"pkt_buf", 1, int_max},
        {"worker_threads", 0, 1024}, {"scram_iterations", 1, 1'000'000}, {"max_packet_size", 1024, 4294967295},
        {"tcp_keepcnt", 0, 127},     {"tcp_keepidle", 0, 32767},         {"tcp_keepintvl", 0, 32767},
        {"peer_id", 0, 16383},
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

TEST(config_table, sizes_and_counts_of_time_may_have_units) {
    global_settings values;
    const auto read = [&](const char *name, const char *text) {
        const auto wrong = assign(row_of(name), text, values);
        return wrong ? "refused" : value_text(row_of(name), values);
    };
    EXPECT_EQ(read("max_packet_size", "64kB"), "65536");
    EXPECT_EQ(read("max_packet_size", "1MB"), "1048576");
    EXPECT_EQ(read("max_packet_size", "2048B"), "2048");
    EXPECT_EQ(read("pkt_buf", "8kB"), "8192");
    EXPECT_EQ(read("tcp_socket_buffer", "1GB"), "1073741824");
    EXPECT_EQ(read("tcp_keepidle", "2min"), "120");
    EXPECT_EQ(read("tcp_keepintvl", "5000ms"), "5");
    EXPECT_EQ(read("tcp_user_timeout", "30s"), "30000");
    EXPECT_EQ(read("tcp_user_timeout", "1h"), "3600000");
    EXPECT_EQ(read("max_packet_size", "1s"), "refused");
    EXPECT_EQ(read("max_packet_size", "5GB"), "refused");
    EXPECT_EQ(read("stats_period", "010"), "8") << "an int in PgBouncer";
    EXPECT_EQ(read("stats_period", "1234567"), "1234567");
    EXPECT_EQ(read("stats_period", "1.5"), "1.5");
    EXPECT_EQ(read("stats_period", "2min"), "120");
    EXPECT_EQ(read("query_wait_notify", "-1"), "refused");
    EXPECT_EQ(read("query_timeout", "010"), "10");
    EXPECT_EQ(read("tcp_keepidle", "1kB"), "refused");
    EXPECT_EQ(read("default_pool_size", "10s"), "refused");
}

TEST(config_table, booleans_are_0_and_what_is_not) {
    int booleans = 0;
    for (const auto &row : settings_table()) {
        if (!std::holds_alternative<bool global_settings::*>(row.member)) continue;
        ++booleans;
        EXPECT_TRUE(accepts(row, "0")) << row.name;
        EXPECT_TRUE(accepts(row, "1")) << row.name;
        EXPECT_TRUE(accepts(row, "45") && accepts(row, "0x10")) << row.name << ": as in PgBouncer, where it is an int";
        for (const auto *junk : {"", "yes", "on", "true", "-1", "1.0"}) EXPECT_FALSE(accepts(row, junk)) << row.name;
    }
    EXPECT_GT(booleans, 5);
}

TEST(config_table, times_are_seconds) {
    int times = 0;
    for (const auto &row : settings_table()) {
        if (!std::holds_alternative<base::duration global_settings::*>(row.member)) continue;
        ++times;
        for (const auto *good : {"0", "0.0", ".5", "1e3", "2147483647", "10s", "1.5h", "500ms", "7us", "2min", "3d",
                                 "+5", "+.5", "0x10", "+0x10", "0X1p3", "-0"})
            EXPECT_TRUE(accepts(row, good)) << row.name;
        for (const auto *junk : {"", "1H", "5 s", "1m", "s", "-1s", "30000d", "-1", "-0.1", "2147483648", "1e400",
                                 "nan", "inf", "0x", "+", "+-5", "- 5", " 5", "1,5"})
            EXPECT_FALSE(accepts(row, junk)) << row.name << " = " << junk;
    }
    EXPECT_GT(times, 10);
    global_settings values;
    const auto &row = row_of("query_timeout");
    EXPECT_EQ(assign(row, "1.25", values), std::nullopt);
    EXPECT_EQ(values.query_timeout, base::milliseconds(1250));
    EXPECT_EQ(value_text(row, values), "1.25");
    EXPECT_EQ(assign(row, "1.5min", values), std::nullopt);
    EXPECT_EQ(value_text(row, values), "90");
    EXPECT_EQ(assign(row, "0x10", values), std::nullopt);
    EXPECT_EQ(value_text(row, values), "16") << "as PgBouncer reads it";
    EXPECT_EQ(assign(row, "+010.5", values), std::nullopt);
    EXPECT_EQ(value_text(row, values), "10.5");
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

TEST(config_table, tls_ciphers_by_the_shortcuts_of_pgbouncer) {
    for (const auto *own : {"default", "secure", "normal", "Fast"}) {
        EXPECT_EQ(openssl_ciphers(own), "") << own;
        EXPECT_FALSE(asks_for_weak_ciphers(own)) << own;
    }
    for (const auto *weak : {"compat", "legacy", "insecure", "all", "ALL"}) {
        EXPECT_NE(openssl_ciphers(weak).find(":!aNULL"), std::string::npos) << weak;
        EXPECT_TRUE(asks_for_weak_ciphers(weak)) << weak;
    }
    EXPECT_EQ(openssl_ciphers("HIGH:!ADH"), "HIGH:!ADH");
    EXPECT_FALSE(asks_for_weak_ciphers("HIGH:!ADH"));
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
    EXPECT_EQ(kept.global.default_pool_size, 50);
    EXPECT_TRUE(restart_needed(running, kept).empty());
}

TEST(config_table, tls_may_stay_as_it_is) {
    settings running, fresh;
    running.global.client_tls_sslmode = sslmode::require;
    running.global.server_tls_ca_file = "a";
    fresh.global.server_tls_sslmode = sslmode::verify_ca;
    fresh.global.client_tls_key_file = "k";
    fresh.global.default_pool_size = 50;
    const auto kept = keep_tls(running, fresh);
    EXPECT_EQ(kept.global.client_tls(), running.global.client_tls());
    EXPECT_EQ(kept.global.server_tls(), running.global.server_tls());
    EXPECT_EQ(kept.global.default_pool_size, 50);
}

}  // namespace
}  // namespace pgsluice::config
