// A TCP proxy that misbehaves as networks do: delay, pieces of n bytes, RST at byte n, half-close at byte n, and a
// black hole from byte n on. What happens to a connection is drawn when it comes. One stands before the pooler, one
// behind it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "connection.hpp"
#include "random.hpp"

namespace oracle {

enum class ending : std::uint8_t { none, reset, half_close, black_hole };

/// What happens to one connection.
struct fault_plan {
    double delay = 0;       ///< seconds for each piece
    std::size_t piece = 0;  ///< bytes sent at once; 0: as they come
    ending how = ending::none;
    bool upstream = false;  ///< counted in the bytes to the server, else in those to the client
    std::size_t at = 0;     ///< byte after which it ends
    bool fired = false;
};

class fault_proxy {
public:
    /// `server_side`: counts the open connections of each pool and holds them against the limits.
    fault_proxy(world &, std::uint16_t port, std::uint16_t target, bool server_side);

    awaitable<void> serve();
    /// No more faults from now on; black holes end.
    void calm();
    /// Whether the connection from this port had its fault.
    bool fired(std::uint16_t port) const;
    bool black_hole(std::uint16_t port) const;

private:
    struct relay;
    awaitable<void> run(std::shared_ptr<relay>);
    static awaitable<void> pump(fault_proxy &, std::shared_ptr<relay>, bool upstream);
    fault_plan draw();
    void change(const relay &, std::string &bytes, bool upstream);
    void opened(relay &, std::string_view startup);
    void over(relay &);
    void kill(relay &, bool by_reset);

    world &world_;
    asio::ip::tcp::acceptor acceptor_;
    std::uint16_t target_;
    bool server_side_, calm_ = false;
    chance random_;
    std::vector<std::weak_ptr<relay>> relays_;
    std::map<std::uint16_t, std::shared_ptr<fault_plan>> plans_;  ///< by the port they came from
    std::map<std::string, std::size_t> open_;  ///< server connections by user@database, database and user
};

}  // namespace oracle
