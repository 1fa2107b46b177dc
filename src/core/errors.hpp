// Every text a client may get from pgsluice itself, in one table: severity, SQLSTATE, message, DETAIL and HINT.
// Messages are PgBouncer's word for word where it has one (clients match on them); SQLSTATEs are PostgreSQL's
// (manual, Appendix A), 08P01 only for violations of the protocol. A server's own errors never pass through here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "auth/userlist.hpp"
#include "config/settings.hpp"

namespace pgsluice::core {

enum class refusal : std::uint8_t {
    none,
    // The first packet.
    bad_startup_length,  ///< argument: header_in_hex()
    bad_startup_layout,
    protocol_2,
    bad_protocol,  ///< argument: header_in_hex()
    data_after_ssl_request,
    data_after_gssenc_request,
    startup_again,
    ssl_inside_ssl,
    ssl_required,
    no_user,
    user_too_long,
    bad_options,
    invalid_replication,  ///< argument: the value
    // Login.
    bad_login_message,
    password_failed,
    sasl_failed,
    sasl_mechanism,
    trust_failed,
    auth_query_failed,
    too_many_lookups,
    login_rejected,
    peer_failed,
    certificate_failed,
    pam_failed,
    ldap_failed,
    password_unchecked,
    too_many_checks,
    empty_password,
    password_too_long,
    no_forced_user,
    no_such_database,   ///< argument: its name
    database_disabled,  ///< argument: its name
    database_removed,
    database_killed,
    too_many_logins,
    too_many_passwords,
    too_many_clients,
    too_many_database_clients,
    too_many_user_clients,
    login_timeout,
    login_timeout_server_down,  ///< argument: "", or ": " and what it has waited for
    shutting_down,
    server_login_failing,  ///< argument: the cached error
    console_not_allowed,
    // A session.
    client_killed,
    query_wait_timeout,  ///< argument: "", or ": " and what it has waited for
    query_timeout,
    query_timeout_waiting,
    idle_transaction_timeout,
    transaction_timeout,
    client_idle_timeout,
    server_shutting_down,
    configuration_changed,
    suspend_timeout,
    statement_mode_transaction,
    server_gone,
    invalid_server_parameter,
    bad_packet_header,   ///< argument: header_in_hex()
    protocol_violation,  ///< argument: what was wrong
    pqexec_disallowed,
    message_too_long,  ///< argument: header_in_hex()
    head_too_long,
    prepared_unsupported,
    unknown_statement,    ///< argument: its name
    duplicate_statement,  ///< argument: its name
    statement_too_long,
    too_many_statements,
    too_many_portals,
    statement_in_doubt,
    rows_changed,
    canceled,
    unknown_portal,  ///< argument: its name
    // The console.
    console_invalid_command,  ///< argument: the whole text
    console_bad_arguments,
    console_admin_needed,
    console_set_failed,
    console_no_such_database,  ///< argument: its name
    console_already_paused,
    console_suspend_while_paused,
    console_not_paused,
    console_database_not_paused,  ///< argument: its name
    console_shutting_down,
    console_database_required,
    console_not_in_admin_database,  ///< argument: "pause admin db: pgbouncer"
    console_bad_client,
    console_no_client,
    console_reload_failed,
    console_wait_over,  ///< argument: the command
    internal,
};

/// One row of the table, with the argument put in where the text has %s.
struct wording {
    std::string_view severity;
    std::string_view sqlstate;
    std::string message;
    std::string detail;
    std::string_view hint;
};

using config::error_codes;

wording words(refusal, std::string_view argument = {}, error_codes = error_codes::standard);
/// The ErrorResponse for it.
void append_refusal(std::string &out, refusal, std::string_view argument, error_codes, std::string_view detail = {});
/// The same with PostgreSQL's SQLSTATE, for what does not end the connection. `detail` replaces the table's when given.
void append_refusal(std::string &out, refusal, std::string_view argument = {}, std::string_view detail = {});
/// DETAIL of a server login that can not go on: what is stored of the user's secret does not answer the server.
std::string_view wrong_type_detail(auth::secret_form stored, bool empty);
/// How PgBouncer shows a message whose header is wrong: its first bytes, of those that have come.
std::string header_in_hex(std::string_view bytes);
/// True when the connection ends with it (severity FATAL).
bool is_fatal(refusal);
/// The NOTICE of a SET that leaves TLS without what it needs, until another brings it.
inline constexpr std::string_view tls_not_applied = "TLS settings could not be applied, still using old configuration";
/// The NOTICE of query_wait_notify.
void append_queued_notice(std::string &out);
/// The NOTICE of login_notify_message.
void append_login_notice(std::string &out, std::string_view message);

}  // namespace pgsluice::core
