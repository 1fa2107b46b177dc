// The texts that clients match on, word for word as PgBouncer has them (SQLSTATEs are PostgreSQL's), and what must be
// true of every row: five characters, a severity, a DETAIL or HINT where a setting refused.
#include "core/errors.hpp"

#include <gtest/gtest.h>

#include <map>

#include "support/messages.hpp"

namespace pgsluice::core {
namespace {

using namespace test;

constexpr auto last = refusal::internal;

TEST(errors, words_as_clients_know_them) {
    struct row {
        std::string_view severity, sqlstate, message;
    };
    const std::map<refusal, row> table{
        {refusal::bad_startup_length, {"FATAL", "08P01", "bad packet header: 'X'"}},
        {refusal::bad_startup_layout,
         {"FATAL", "08P01", "invalid startup packet layout: expected terminator as last byte"}},
        {refusal::protocol_2, {"FATAL", "0A000", "old V2 protocol not supported"}},
        {refusal::bad_protocol, {"FATAL", "0A000", "bad packet header: 'X'"}},
        {refusal::data_after_ssl_request, {"FATAL", "08P01", "received unencrypted data after SSL request"}},
        {refusal::data_after_gssenc_request,
         {"FATAL", "08P01", "received unencrypted data after GSSAPI encryption request"}},
        {refusal::startup_again, {"FATAL", "08P01", "client re-sent startup pkt"}},
        {refusal::ssl_inside_ssl, {"FATAL", "08P01", "SSL req inside SSL"}},
        {refusal::ssl_required, {"FATAL", "08P01", "SSL required"}},
        {refusal::no_user, {"FATAL", "28000", "no username supplied"}},
        {refusal::user_too_long, {"FATAL", "28000", "username too long"}},
        {refusal::bad_options,
         {"FATAL", "0A000",
          "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"}},
        {refusal::invalid_replication, {"FATAL", "22023", "invalid value for parameter \"replication\": \"X\""}},
        {refusal::bad_login_message, {"FATAL", "08P01", "bad packet"}},
        {refusal::password_failed, {"FATAL", "28P01", "password authentication failed"}},
        {refusal::sasl_failed, {"FATAL", "28P01", "SASL authentication failed"}},
        {refusal::sasl_mechanism, {"FATAL", "08P01", "client selected an invalid SASL authentication mechanism"}},
        {refusal::trust_failed, {"FATAL", "28000", "\"trust\" authentication failed"}},
        {refusal::auth_query_failed, {"FATAL", "57P03", "bouncer config error"}},
        {refusal::too_many_lookups, {"FATAL", "53300", "too many users are being looked up"}},
        {refusal::login_rejected, {"FATAL", "28000", "login rejected"}},
        {refusal::peer_failed, {"FATAL", "28000", "unix socket login rejected"}},
        {refusal::pam_failed, {"FATAL", "28000", "PAM authentication failed"}},
        {refusal::ldap_failed, {"FATAL", "28000", "LDAP authentication failed"}},
        {refusal::password_unchecked, {"FATAL", "57P03", "the password could not be checked"}},
        {refusal::too_many_checks, {"FATAL", "53300", "too many passwords are being checked"}},
        {refusal::certificate_failed, {"FATAL", "28000", "certificate authentication failed"}},
        {refusal::empty_password, {"FATAL", "28P01", "empty password returned by client"}},
        {refusal::password_too_long, {"FATAL", "08P01", "password too long"}},
        {refusal::no_forced_user, {"FATAL", "28000", "bouncer config error"}},
        {refusal::no_such_database, {"FATAL", "3D000", "no such database: X"}},
        {refusal::database_removed, {"FATAL", "57P01", "database removed"}},
        {refusal::too_many_logins, {"FATAL", "53300", "too many connections that have not logged in"}},
        {refusal::too_many_passwords, {"FATAL", "53300", "too many passwords to check at once"}},
        {refusal::too_many_clients, {"FATAL", "53300", "no more connections allowed (max_client_conn)"}},
        {refusal::too_many_database_clients,
         {"FATAL", "53300", "client connections exceeded (max_db_client_connections)"}},
        {refusal::too_many_user_clients,
         {"FATAL", "53300", "client connections exceeded (max_user_client_connections)"}},
        {refusal::login_timeout, {"FATAL", "57014", "client_login_timeout"}},
        {refusal::login_timeout_server_down, {"FATAL", "08006", "client_login_timeout (server down)"}},
        {refusal::shutting_down, {"FATAL", "57P01", "pooler is shutting down"}},
        {refusal::server_login_failing,
         {"FATAL", "08006", "server login has been failing, cached error: X (server_login_retry)"}},
        {refusal::query_wait_timeout, {"FATAL", "57014", "query_wait_timeout"}},
        {refusal::query_timeout, {"FATAL", "57014", "query timeout"}},
        {refusal::query_timeout_waiting, {"FATAL", "57014", "query_timeout"}},
        {refusal::idle_transaction_timeout, {"FATAL", "25P03", "idle transaction timeout"}},
        {refusal::transaction_timeout, {"FATAL", "25P04", "transaction timeout"}},
        {refusal::client_idle_timeout, {"FATAL", "57P05", "client_idle_timeout"}},
        {refusal::server_shutting_down, {"FATAL", "57P01", "server shutting down"}},
        {refusal::configuration_changed, {"FATAL", "57P01", "database configuration changed"}},
        {refusal::suspend_timeout, {"FATAL", "57P01", "suspend_timeout"}},
        {refusal::statement_mode_transaction,
         {"FATAL", "0A000", "transaction blocks not allowed in statement pooling mode"}},
        {refusal::server_gone, {"FATAL", "08006", "server conn crashed?"}},
        {refusal::invalid_server_parameter, {"FATAL", "22023", "invalid server parameter"}},
        {refusal::bad_packet_header, {"FATAL", "08P01", "bad packet header: 'X'"}},
        {refusal::protocol_violation, {"FATAL", "08P01", "unknown pkt"}},
        {refusal::message_too_long, {"FATAL", "54000", "bad packet header: 'X'"}},
        {refusal::head_too_long, {"FATAL", "54000", "statement or portal name too long"}},
        {refusal::pqexec_disallowed, {"FATAL", "0A000", "PQexec disallowed"}},
        {refusal::prepared_unsupported, {"ERROR", "0A000", "named prepared statements are switched off"}},
        {refusal::unknown_statement, {"ERROR", "26000", "prepared statement \"X\" does not exist"}},
        {refusal::duplicate_statement, {"ERROR", "42P05", "prepared statement \"X\" already exists"}},
        {refusal::statement_too_long, {"ERROR", "54000", "prepared statement too long"}},
        {refusal::too_many_statements, {"ERROR", "53200", "too many prepared statements"}},
        {refusal::too_many_portals, {"ERROR", "53200", "too many portals"}},
        {refusal::statement_in_doubt, {"FATAL", "08P01", "prepared statement after a broken COPY"}},
        {refusal::rows_changed, {"ERROR", "0A000", "cached plan must not change result type"}},
        {refusal::canceled, {"ERROR", "57014", "canceling statement due to user request"}},
        {refusal::unknown_portal, {"ERROR", "34000", "portal \"X\" does not exist"}},
        {refusal::database_disabled, {"FATAL", "57P03", "database \"X\" is disabled"}},
        {refusal::database_killed, {"FATAL", "57P01", "database removed"}},
        {refusal::client_killed, {"FATAL", "57P01", "admin forced disconnect"}},
        {refusal::console_not_allowed, {"FATAL", "28000", "not allowed"}},
        {refusal::console_invalid_command, {"ERROR", "08P01", "invalid command 'X', use SHOW HELP;"}},
        {refusal::console_bad_arguments, {"ERROR", "08P01", "bad arguments"}},
        {refusal::console_admin_needed, {"ERROR", "08P01", "admin access needed"}},
        {refusal::console_set_failed, {"ERROR", "08P01", "SET failed"}},
        {refusal::console_no_such_database, {"ERROR", "08P01", "no such database: X"}},
        {refusal::console_already_paused, {"ERROR", "08P01", "already suspended/paused"}},
        {refusal::console_suspend_while_paused, {"ERROR", "08P01", "cannot suspend with paused databases"}},
        {refusal::console_not_paused, {"ERROR", "08P01", "pooler is not paused/suspended"}},
        {refusal::console_database_not_paused, {"ERROR", "08P01", "database X is not paused"}},
        {refusal::console_shutting_down, {"ERROR", "08P01", "pooler is shutting down"}},
        {refusal::console_database_required, {"ERROR", "08P01", "a database is required"}},
        {refusal::console_not_in_admin_database, {"ERROR", "08P01", "cannot X"}},
        {refusal::console_bad_client, {"ERROR", "08P01", "invalid client pointer supplied"}},
        {refusal::console_no_client, {"ERROR", "08P01", "client not found"}},
        {refusal::console_reload_failed, {"ERROR", "F0000", "RELOAD failed, see logs for additional details"}},
        {refusal::console_wait_over, {"ERROR", "57014", "X took too long"}},
        {refusal::internal, {"FATAL", "XX000", "internal error"}},
    };
    EXPECT_EQ(table.size(), static_cast<std::size_t>(last)) << "every refusal but none has its row here";
    for (const auto &[which, want] : table) {
        const auto got = words(which, "X");
        EXPECT_EQ(got.severity, want.severity) << want.message;
        EXPECT_EQ(got.sqlstate, want.sqlstate) << want.message;
        EXPECT_EQ(got.message, want.message);
        EXPECT_EQ(is_fatal(which), want.severity == "FATAL");
    }
}

TEST(errors, every_row_is_well_formed) {
    for (int i = 0; i <= static_cast<int>(last); ++i) {
        const auto which = static_cast<refusal>(i);
        const auto it = words(which, "argument");
        EXPECT_EQ(it.sqlstate.size(), 5U) << it.message;
        EXPECT_TRUE(it.severity == "FATAL" || it.severity == "ERROR") << it.message;
        EXPECT_EQ(it.message.find('%'), std::string::npos) << it.message;
        EXPECT_EQ(it.detail.find('%'), std::string::npos) << it.detail;
        EXPECT_EQ(it.hint.find('%'), std::string::npos) << it.hint;
        std::string out;
        append_refusal(out, which, "argument");
        const auto all = frames(out);
        ASSERT_EQ(all.size(), 1U);
        EXPECT_EQ(all[0].type, 'E');
        EXPECT_EQ(field(all[0].body, 'S'), it.severity);
        EXPECT_EQ(field(all[0].body, 'V'), it.severity);
        EXPECT_EQ(field(all[0].body, 'C'), it.sqlstate);
        EXPECT_EQ(field(all[0].body, 'M'), it.message);
        EXPECT_EQ(field(all[0].body, 'D'), it.detail);
        EXPECT_EQ(field(all[0].body, 'H'), it.hint);
    }
}

TEST(errors, those_who_match_on_08P01_get_it_where_the_connection_ends) {
    for (int i = 0; i <= static_cast<int>(last); ++i) {
        const auto which = static_cast<refusal>(i);
        const auto standard = words(which, "x"), as_pgbouncer = words(which, "x", error_codes::pgbouncer);
        EXPECT_EQ(as_pgbouncer.sqlstate, is_fatal(which) ? "08P01" : standard.sqlstate) << standard.message;
        EXPECT_EQ(as_pgbouncer.message, standard.message);
        std::string out;
        append_refusal(out, which, "x", error_codes::pgbouncer);
        EXPECT_EQ(field(frames(out).at(0).body, 'C'), as_pgbouncer.sqlstate);
    }
}

TEST(errors, limits_and_timeouts_say_which_setting_and_what_to_do) {
    const struct {
        refusal which;
        std::string_view setting;
    } table[] = {
        {refusal::too_many_logins, "max_unauthenticated_conn"},
        {refusal::too_many_clients, "max_client_conn"},
        {refusal::too_many_database_clients, "max_db_client_connections"},
        {refusal::too_many_user_clients, "max_user_client_connections"},
        {refusal::login_timeout, "client_login_timeout"},
        {refusal::login_timeout_server_down, "client_login_timeout"},
        {refusal::server_login_failing, "server_login_retry"},
        {refusal::query_wait_timeout, "query_wait_timeout"},
        {refusal::query_timeout, "query_timeout"},
        {refusal::query_timeout_waiting, "query_timeout"},
        {refusal::idle_transaction_timeout, "idle_transaction_timeout"},
        {refusal::transaction_timeout, "transaction_timeout"},
        {refusal::client_idle_timeout, "client_idle_timeout"},
        {refusal::configuration_changed, "server_fast_close"},
        {refusal::suspend_timeout, "suspend_timeout"},
        {refusal::message_too_long, "max_packet_size"},
        {refusal::no_such_database, "[databases]"},
        {refusal::prepared_unsupported, "max_prepared_statements"},
    };
    for (const auto &it : table) {
        const auto text = words(it.which);
        EXPECT_NE((text.detail + std::string(text.hint)).find(it.setting), std::string::npos) << text.message;
    }
}

TEST(errors, a_header_is_shown_as_pgbouncer_shows_it) {
    EXPECT_EQ(header_in_hex("Q\0\0\0\2"s), "5100000002");
    EXPECT_EQ(header_in_hex("Q\0\0\x13\x8cxxxx"s), "510000138c787878") << "of a longer one eight bytes";
    EXPECT_EQ(header_in_hex(""), "");
}

TEST(errors, what_more_is_known_stands_in_the_detail) {
    std::string out;
    append_refusal(out, refusal::server_login_failing, "connect failed", error_codes::standard, "Connection refused");
    const auto body = frames(out).at(0).body;
    EXPECT_EQ(field(body, 'M'), "server login has been failing, cached error: connect failed (server_login_retry)");
    EXPECT_EQ(field(body, 'D'), "Connection refused");
}

TEST(errors, an_argument_may_hold_anything) {
    std::string out;
    append_refusal(out, refusal::no_such_database, "%s\0x"s);
    EXPECT_EQ(field(frames(out).at(0).body, 'M'), "no such database: %s");
}

TEST(errors, the_notice_of_query_wait_notify) {
    std::string out;
    append_queued_notice(out);
    const auto all = frames(out);
    EXPECT_EQ(all.at(0).type, 'N');
    EXPECT_EQ(field(all[0].body, 'S'), "NOTICE");
    EXPECT_EQ(field(all[0].body, 'C'), "00000");
    EXPECT_EQ(field(all[0].body, 'M'), "No server connection available in postgres backend, client being queued");
}

}  // namespace
}  // namespace pgsluice::core
