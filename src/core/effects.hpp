// What a session machine asks of its driver after one event: bytes to send each way and the one thing to do next.
// The driver sends, does what `client` and `server` name, and decides nothing. A worker has a stack of them
// (effects_lease), reused; never shared.
#pragma once

#include <string>
#include <string_view>

#include "core/errors.hpp"
#include "core/outbox.hpp"

namespace pgsluice::core {

/// What a client's machine needs done.
enum class client_next : std::uint8_t {
    none,
    admit,           ///< the startup packet is good: ask the ledger for a place under max_client_conn
    find_name,       ///< find the host name of its address, then on_named()
    find_secret,     ///< auth_file does not know the user: find the answer to question(), then on_secret()
    check_password,  ///< ask PAM or LDAP what take_check() says, then on_checked()
    derive,          ///< have work() of the login done elsewhere, then on_derived()
    join,            ///< logged in: ask the ledger for its pool and the welcome
    command,         ///< an admin's command is to be carried out: on_console_rows() and on_console_done() follow
    want,            ///< has a request: ask the ledger for a server
    cancel,          ///< this connection is a CancelRequest: look its key up, then close
    secure,  ///< send what is in the outbox, then let the TLS handshake begin with the bytes that were not taken
    resume,  ///< what the machine waited for is done: give it the bytes it has not taken yet
    close,   ///< send what is in the outbox, then close
};

/// What a server's machine needs done.
enum class server_next : std::uint8_t {
    none,
    logged_in,     ///< ready for its first client
    login_failed,  ///< see server_session::error()
    errand_done,   ///< the check or reset query succeeded
    cancel,        ///< open the cancel connection, if begin_cancel() still says so
    secure,        ///< let the TLS handshake begin
    derive,        ///< have work() done elsewhere, then on_derived()
    release,       ///< the transaction is over and the proof holds: give it back
    lose,          ///< close it; a linked client is told server_gone unless `client` says otherwise
};

/// Why a client that says Terminate is closed; nothing of ours goes out with it. PgBouncer's words.
inline constexpr std::string_view client_left = "client close request";

struct effects {
    outbox to_client;
    outbox to_server;
    client_next client = client_next::none;
    server_next server = server_next::none;
    std::string why;      ///< reason for the log when something closes: PgBouncer's words
    bool untold = false;  ///< it is an error of ours that the client could not be told

    void clear() {
        to_client.clear();
        to_server.clear();
        client = client_next::none;
        server = server_next::none;
        why.clear();
        untold = false;
    }
};

}  // namespace pgsluice::core
