// Opens a connection to a server: a Unix socket, an address, or a name that is looked up first. All of it happens on
// the control thread's loop; the result is a connected descriptor. Source: PgBouncer documentation, [databases] host.
#pragma once

#include <functional>
#include <string>

#include "base/time.hpp"
#include "net/asio.hpp"

namespace pgsluice::net {

struct shared;

/// Where a connection leads: enough to open another one to the very same place (for cancels), and to name it.
struct place_to_dial {
    asio::generic::stream_protocol::endpoint endpoint;
    std::string host;     ///< as configured: what a server's certificate must name
    std::string text;     ///< for logs: address:port or unix:path
    std::string address;  ///< numeric; "" where `host` was no name
    bool tcp = false;
};

struct dialled {
    int fd = -1;  ///< connected and non-blocking; -1 on failure
    place_to_dial place;
    std::string problem;  ///< why it failed, in PgBouncer's words
    std::string detail;   ///< and in the system's
    bool ours = false;    ///< there was no descriptor or memory for a socket: of the server nothing is known
};

/// What of a connection is told on the way; on the control thread.
using place_chosen = std::function<void(const place_to_dial &)>;

/// Connects to `host` (name, address, /directory or @abstract) within `limit` (zero: no limit). The addresses of a name
/// are used in turn; where one can not be reached the next one is tried within the same limit. `chosen`, where given,
/// is called ahead of each try of an address that was found by name. Any thread may call; `done` is called once, on the
/// control thread.
void dial(shared &, const std::string &host, int port, base::duration limit, place_chosen chosen,
          std::function<void(dialled)> done);
/// Connects to the very same place again.
void dial(shared &, const place_to_dial &, base::duration limit, std::function<void(dialled)> done);

}  // namespace pgsluice::net
