// Opens a connection to a server: a Unix socket, an address, or a name that is looked up first. All of it happens on
// the control thread's loop; the result is a connected descriptor. Source: PgBouncer documentation, [databases] host.
#pragma once

#include <functional>
#include <string>

#include "base/time.hpp"
#include "net/asio.hpp"

namespace pgsluice::net {

/// Where a connection leads: enough to open another one to the very same place (for cancels), and to name it.
struct place_to_dial {
    asio::generic::stream_protocol::endpoint endpoint;
    std::string host;  ///< as configured: what a server's certificate must name
    std::string text;  ///< for logs: address:port or unix:path
    bool tcp = false;
};

struct dialled {
    int fd = -1;  ///< connected and non-blocking; -1 on failure
    place_to_dial place;
    std::string problem;  ///< why it failed
};

/// Connects to `host` (name, address, /directory or @abstract) within `limit` (zero: no limit). `attempt` rotates the
/// addresses of a name. Any thread may call; `done` is called once, on the control thread.
void dial(asio::io_context &control, const std::string &host, int port, std::size_t attempt, base::duration limit,
          std::function<void(dialled)> done);
/// Connects to the very same place again.
void dial(asio::io_context &control, const place_to_dial &, base::duration limit, std::function<void(dialled)> done);

}  // namespace pgsluice::net
