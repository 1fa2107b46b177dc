// The table of texts. One row an error; a test holds it against the list of PgBouncer's.
#include "core/errors.hpp"

#include <array>

#include "wire/error_response.hpp"

namespace pgsluice::core {

namespace {

constexpr std::string_view fatal = "FATAL";
constexpr std::string_view error = "ERROR";

struct row {
    refusal which;
    std::string_view severity, sqlstate, message, detail, hint;
};

// In the order of the enum; checked by a test.
constexpr std::array table{
    row{refusal::none, fatal, "XX000", "no error", "", ""},
    row{refusal::bad_startup_length, fatal, "08P01", "bad packet header: '%s'",
        "The first packet has an impossible length.", "Connect with a PostgreSQL client, protocol 3."},
    row{refusal::bad_startup_layout, fatal, "08P01", "invalid startup packet layout: expected terminator as last byte",
        "", ""},
    row{refusal::protocol_2, fatal, "0A000", "old V2 protocol not supported", "",
        "Use a client that speaks protocol 3.0 or newer."},
    row{refusal::bad_protocol, fatal, "0A000", "bad packet header: '%s'",
        "The protocol version asked for does not exist.", "pgsluice speaks protocol 3.0 to 3.2."},
    row{refusal::data_after_ssl_request, fatal, "08P01", "received unencrypted data after SSL request",
        "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.", ""},
    row{refusal::data_after_gssenc_request, fatal, "08P01", "received unencrypted data after GSSAPI encryption request",
        "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.", ""},
    row{refusal::startup_again, fatal, "08P01", "client re-sent startup pkt",
        "At most one SSLRequest and one GSSENCRequest may come before the startup packet.", ""},
    row{refusal::ssl_inside_ssl, fatal, "08P01", "SSL req inside SSL", "The connection is encrypted already.", ""},
    row{refusal::ssl_required, fatal, "08P01", "SSL required",
        "client_tls_sslmode lets no client in over TCP without TLS.", "Connect with sslmode=require or stronger."},
    row{refusal::no_user, fatal, "28000", "no username supplied", "", "Name a user in the connection string."},
    row{refusal::user_too_long, fatal, "28000", "username too long", "A user name has at most 127 bytes.", ""},
    row{refusal::bad_options, fatal, "0A000",
        "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed",
        "Other switches of a server process can not be set for one of the clients that share it.",
        "Leave them out, or add options to ignore_startup_parameters."},
    row{refusal::invalid_replication, fatal, "22023", "invalid value for parameter \"replication\": \"%s\"", "",
        "Valid values are: \"false\", 0, \"true\", 1, \"database\"."},
    row{refusal::bad_login_message, fatal, "08P01", "bad packet",
        "It is not the message that the login waits for, or not well formed.", ""},
    row{refusal::password_failed, fatal, "28P01", "password authentication failed", "", ""},
    row{refusal::sasl_failed, fatal, "28P01", "SASL authentication failed", "", ""},
    row{refusal::sasl_mechanism, fatal, "08P01", "client selected an invalid SASL authentication mechanism", "", ""},
    row{refusal::trust_failed, fatal, "28000", "\"trust\" authentication failed", "", ""},
    row{refusal::auth_query_failed, fatal, "57P03", "bouncer config error",
        "The user could not be looked up: auth_query failed or was not answered in time.",
        "The log of the pooler says why."},
    row{refusal::too_many_lookups, fatal, "53300", "too many users are being looked up",
        "auth_query is slower than clients log in, and the queue is full.", "Connect again in a moment."},
    // Which line of auth_hba_file it was is for the log alone.
    row{refusal::login_rejected, fatal, "28000", "login rejected", "", ""},
    row{refusal::peer_failed, fatal, "28000", "unix socket login rejected", "", ""},
    row{refusal::certificate_failed, fatal, "28000", "certificate authentication failed", "", ""},
    // The same for an unknown user. Why it was is for the log alone.
    row{refusal::pam_failed, fatal, "28000", "PAM authentication failed", "", ""},
    row{refusal::ldap_failed, fatal, "28000", "LDAP authentication failed", "", ""},
    row{refusal::password_unchecked, fatal, "57P03", "the password could not be checked",
        "PAM or the LDAP server has failed or did not answer in time.", "The log of the pooler says why."},
    row{refusal::too_many_checks, fatal, "53300", "too many passwords are being checked",
        "PAM or the LDAP server is slower than clients log in, and the queue is full.", "Connect again in a moment."},
    row{refusal::empty_password, fatal, "28P01", "empty password returned by client", "", ""},
    row{refusal::password_too_long, fatal, "08P01", "password too long", "", ""},
    row{refusal::no_forced_user, fatal, "28000", "bouncer config error",
        "auth_type = any needs a database entry with user=.", "Set user= for this database, or another auth_type."},
    row{refusal::no_such_database, fatal, "3D000", "no such database: %s",
        "[databases] has neither this name nor the wildcard *.", "Add the database to [databases] and reload."},
    row{refusal::database_disabled, fatal, "57P03", "database \"%s\" is disabled",
        "DISABLE was given on the admin console: no new clients are let in.",
        "ENABLE on the console lets them in again."},
    row{refusal::database_removed, fatal, "57P01", "database removed",
        "A reload took this database out of [databases].", ""},
    row{refusal::database_killed, fatal, "57P01", "database removed",
        "KILL was given on the admin console: all connections of this database are closed, and it is paused.",
        "RESUME on the console lets its clients work again."},
    row{refusal::too_many_logins, fatal, "53300", "too many connections that have not logged in",
        "A newer one has taken the place of this one (max_unauthenticated_conn).", "Log in sooner."},
    row{refusal::too_many_passwords, fatal, "53300", "too many passwords to check at once",
        "Checking one in the clear by a SCRAM verifier, or by SCRAM where auth_query finds plain ones, takes long; as "
        "many "
        "as may wait do wait.",
        "Log in again later. By SCRAM, with verifiers stored, the checking is the client's."},
    row{refusal::too_many_clients, fatal, "53300", "no more connections allowed (max_client_conn)",
        "As many clients as max_client_conn allows are connected.", "Raise max_client_conn, or close idle clients."},
    row{refusal::too_many_database_clients, fatal, "53300", "client connections exceeded (max_db_client_connections)",
        "As many clients as max_db_client_connections allows are connected to this database.",
        "Raise max_db_client_connections, or close idle clients."},
    row{refusal::too_many_user_clients, fatal, "53300", "client connections exceeded (max_user_client_connections)",
        "As many clients as max_user_client_connections allows are connected as this user.",
        "Raise max_user_client_connections, or close idle clients."},
    row{refusal::login_timeout, fatal, "57014", "client_login_timeout",
        "The login took longer than client_login_timeout.", ""},
    row{refusal::login_timeout_server_down, fatal, "08006", "client_login_timeout (server down)",
        "No server of this pool could be logged in to within client_login_timeout%s.",
        "See the log for why connecting fails."},
    row{refusal::shutting_down, fatal, "57P01", "pooler is shutting down", "", "Connect again in a moment."},
    row{refusal::server_login_failing, fatal, "08006",
        "server login has been failing, cached error: %s (server_login_retry)", "The pool has no working server.",
        "The next attempt follows after server_login_retry."},
    row{refusal::console_not_allowed, fatal, "28000", "not allowed",
        "The admin console is for users that admin_users or stats_users name.",
        "Name the user there, or connect over the Unix socket as user pgbouncer with the pooler's own system user."},
    row{refusal::client_killed, fatal, "57P01", "admin forced disconnect",
        "KILL_CLIENT was given on the admin console.", "Connect again."},
    row{refusal::query_wait_timeout, fatal, "57014", "query_wait_timeout",
        "No server of the pool became free within query_wait_timeout%s.",
        "Raise pool_size (default_pool_size), shorten transactions, or raise query_wait_timeout."},
    row{refusal::query_timeout, fatal, "57014", "query timeout", "The query ran longer than query_timeout.",
        "Raise query_timeout, or make the query faster."},
    row{refusal::query_timeout_waiting, fatal, "57014", "query_timeout",
        "query_timeout passed while the query still waited for a server.",
        "Raise pool_size (default_pool_size) or query_timeout."},
    row{refusal::idle_transaction_timeout, fatal, "25P03", "idle transaction timeout",
        "The client was idle inside a transaction for longer than idle_transaction_timeout.",
        "Commit or roll back sooner, or raise idle_transaction_timeout."},
    row{refusal::transaction_timeout, fatal, "25P04", "transaction timeout",
        "The transaction lasted longer than transaction_timeout.",
        "Make the transaction shorter, or raise transaction_timeout."},
    row{refusal::client_idle_timeout, fatal, "57P05", "client_idle_timeout",
        "The client sent nothing for client_idle_timeout.", "Connect again, or raise client_idle_timeout."},
    row{refusal::server_shutting_down, fatal, "57P01", "server shutting down", "", "Connect again in a moment."},
    row{refusal::configuration_changed, fatal, "57P01", "database configuration changed",
        "The server of this session has to go (RECONNECT, a reload or a changed address), and server_fast_close is on.",
        "Connect again."},
    row{refusal::suspend_timeout, fatal, "57P01", "suspend_timeout",
        "SUSPEND was given on the admin console, and this connection did not come to rest within suspend_timeout.",
        "Connect again in a moment."},
    row{refusal::statement_mode_transaction, fatal, "0A000", "transaction blocks not allowed in statement pooling mode",
        "", "Set pool_mode = transaction for clients that use transactions."},
    row{refusal::server_gone, fatal, "08006", "server conn crashed?",
        "The server closed the connection in the middle of the work.",
        "See the server's log; a transaction that was open is rolled back."},
    row{refusal::invalid_server_parameter, fatal, "22023", "invalid server parameter",
        "The server refused a parameter that this client set.", "Check the parameters in the connection string."},
    row{refusal::bad_packet_header, fatal, "08P01", "bad packet header: '%s'", "The message has an impossible length.",
        ""},
    row{refusal::protocol_violation, fatal, "08P01", "unknown pkt", "%s", ""},
    row{refusal::pqexec_disallowed, fatal, "0A000", "PQexec disallowed",
        "disable_pqexec is on: a simple query may hold several statements, which is what SQL injection likes.",
        "Use a driver's extended query protocol (bind parameters)."},
    row{refusal::message_too_long, fatal, "54000", "bad packet header: '%s'", "packet too long (max_packet_size)",
        "Raise max_packet_size."},
    row{refusal::head_too_long, fatal, "54000", "statement or portal name too long", "A name may have at most 32 KiB.",
        ""},
    row{refusal::prepared_unsupported, error, "0A000", "named prepared statements are switched off",
        "max_prepared_statements is 0, and a named statement lives on one server while the next transaction may run on "
        "another.",
        "Set max_prepared_statements (200 by default), use unnamed statements, or pool_mode = session."},
    row{refusal::unknown_statement, error, "26000", "prepared statement \"%s\" does not exist", "", ""},
    row{refusal::duplicate_statement, error, "42P05", "prepared statement \"%s\" already exists", "", ""},
    row{refusal::statement_too_long, error, "54000", "prepared statement too long",
        "A named prepared statement may have at most 16 MiB of text.", "Use an unnamed statement, which has no limit."},
    row{refusal::too_many_statements, error, "53200", "too many prepared statements",
        "The named statements of one client may take at most 64 MiB in all: text, names and 200 bytes for each.",
        "Close (DEALLOCATE) statements that are not needed any more."},
    row{refusal::too_many_portals, error, "53200", "too many portals",
        "A transaction, with those pipelined behind it, may bind DEALLOCATE to at most 1000 portals.",
        "Close portals that are not needed any more, or bind the unnamed one."},
    row{refusal::statement_in_doubt, fatal, "08P01", "prepared statement after a broken COPY",
        "A COPY failed while Syncs were on their way to it: which of them the server has read is not known.",
        "Send Sync after CopyDone or CopyFail, not before."},
    row{refusal::rows_changed, error, "0A000", "cached plan must not change result type",
        "A table has changed since this client was told what the statement returns.",
        "Prepare the statement again; most drivers do so by themselves."},
    row{refusal::canceled, error, "57014", "canceling statement due to user request",
        "The query was still waiting for a server.", ""},
    row{refusal::unknown_portal, error, "34000", "portal \"%s\" does not exist", "", ""},
    // Those of the console have one code in PgBouncer, which its scripts match.
    row{refusal::console_invalid_command, error, "08P01", "invalid command '%s', use SHOW HELP;", "", ""},
    row{refusal::console_bad_arguments, error, "08P01", "bad arguments", "", "SHOW HELP lists the commands."},
    row{refusal::console_admin_needed, error, "08P01", "admin access needed",
        "Users of stats_users may SHOW everything but FDS, and nothing else.", "Connect as one of admin_users."},
    row{refusal::console_set_failed, error, "08P01", "SET failed", "", "SHOW CONFIG lists the settings."},
    row{refusal::console_no_such_database, error, "08P01", "no such database: %s", "", "SHOW DATABASES lists them."},
    row{refusal::console_already_paused, error, "08P01", "already suspended/paused", "", "RESUME ends it."},
    row{refusal::console_suspend_while_paused, error, "08P01", "cannot suspend with paused databases", "",
        "RESUME them first."},
    row{refusal::console_not_paused, error, "08P01", "pooler is not paused/suspended", "", ""},
    row{refusal::console_database_not_paused, error, "08P01", "database %s is not paused", "", ""},
    row{refusal::console_shutting_down, error, "08P01", "pooler is shutting down", "", ""},
    row{refusal::console_database_required, error, "08P01", "a database is required", "", ""},
    row{refusal::console_not_in_admin_database, error, "08P01", "cannot %s", "", ""},
    row{refusal::console_bad_client, error, "08P01", "invalid client pointer supplied", "",
        "Give a number of the column id of SHOW CLIENTS."},
    row{refusal::console_no_client, error, "08P01", "client not found", "", "SHOW CLIENTS lists them."},
    row{refusal::console_reload_failed, error, "F0000", "RELOAD failed, see logs for additional details",
        "Nothing was changed.", ""},
    row{refusal::console_wait_over, error, "57014", "%s took too long",
        "Its TIMEOUT has passed, and the database works on as before.", ""},
    row{refusal::internal, fatal, "XX000", "internal error", "%s", "This is a bug in pgsluice: please report it."},
};

constexpr bool in_order() {
    for (std::size_t i = 0; i < table.size(); ++i) {
        if (static_cast<std::size_t>(table[i].which) != i) return false;
    }
    return true;
}
static_assert(in_order());
static_assert(table.size() == static_cast<std::size_t>(refusal::internal) + 1);

std::string put_in(std::string_view text, std::string_view argument) {
    const auto at = text.find("%s");
    if (at == std::string_view::npos) return std::string(text);
    return std::string(text.substr(0, at)).append(argument).append(text.substr(at + 2));
}

const row &row_of(refusal which) {
    return table[static_cast<std::size_t>(which)];
}

}  // namespace

wording words(refusal which, std::string_view argument, error_codes codes) {
    const row &it = row_of(which);
    const bool as_pgbouncer = codes == error_codes::pgbouncer && it.severity == fatal;
    return {it.severity, as_pgbouncer ? "08P01" : it.sqlstate, put_in(it.message, argument),
            put_in(it.detail, argument), it.hint};
}

void append_refusal(std::string &out, refusal which, std::string_view argument, error_codes codes,
                    std::string_view detail) {
    const auto it = words(which, argument, codes);
    wire::append_error_response(
        out, {it.severity, it.sqlstate, it.message, detail.empty() ? std::string_view(it.detail) : detail, it.hint});
}

void append_refusal(std::string &out, refusal which, std::string_view argument, std::string_view detail) {
    append_refusal(out, which, argument, error_codes::standard, detail);
}

std::string_view wrong_type_detail(auth::secret_form stored, bool empty) {
    if (empty) return "The server asks for a password, and the pooler has none of this user.";
    switch (stored) {
        case auth::secret_form::md5:
            return "Only the md5 hash of this user's password is stored: it serves servers that ask for md5.";
        case auth::secret_form::scram:
            return "Only a SCRAM secret of this user is stored: it serves servers that ask for SCRAM, once a client "
                   "has "
                   "logged in by SCRAM or with its password.";
        case auth::secret_form::plain:
            break;
    }
    return "";
}

std::string header_in_hex(std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    constexpr std::size_t shown_bytes = 8;
    std::string text;
    for (const char c : bytes.substr(0, shown_bytes)) {
        const auto value = static_cast<unsigned char>(c);
        text += digits[value >> 4];
        text += digits[value & 15];
    }
    return text;
}

bool is_fatal(refusal which) {
    return row_of(which).severity == fatal;
}

void append_queued_notice(std::string &out) {
    wire::append_notice_response(
        out, {"NOTICE", "00000", "No server connection available in postgres backend, client being queued",
              "All servers of the pool are busy (query_wait_notify).", ""});
}

void append_login_notice(std::string &out, std::string_view message) {
    wire::append_notice_response(out, {"NOTICE", "00000", message, "", ""});
}

}  // namespace pgsluice::core
