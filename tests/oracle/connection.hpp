// One connection of a client to whatever speaks PostgreSQL's protocol: whole messages in, bytes out, everything that is
// received scanned for tokens of others. What the messages mean is session's business.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "world.hpp"

namespace oracle {

using asio::awaitable;
// GCC 12 makes wrong code of a co_await behind && or ?: (it jumps into nowhere): here each one stands alone in its
// `if`.
using boost::system::error_code;

/// A message; the body is valid until the next read.
struct message {
    char type = 0;
    std::string_view body;
};

class connection : public std::enable_shared_from_this<connection> {
public:
    /// `own`: the session whose tokens may come; nobody = nothing is scanned.
    connection(world &, std::uint32_t own);
    ~connection();

    awaitable<bool> connect(std::uint16_t port);
    /// Begins to send; written() waits. One at a time.
    void write(std::string bytes);
    awaitable<void> written();
    /// Nothing at the end of the connection, whatever its kind.
    awaitable<std::optional<message>> read();

    void close();
    /// Ends by RST.
    void reset();

    /// When the connection is closed unless this is moved on.
    void patience(double seconds);
    bool timed_out() const { return timed_out_; }
    /// Ended by FIN, not by RST or by us.
    bool ended_in_order() const { return in_order_; }
    std::uint16_t port() const { return port_; }

private:
    friend awaitable<void> watch_deadlines(world &);

    world &world_;
    asio::ip::tcp::socket socket_;
    asio::steady_timer sent_;
    std::optional<scanner> scanner_;
    std::uint32_t own_;
    std::vector<char> buffer_;
    std::size_t begin_ = 0, end_ = 0;
    std::string out_;
    bool writing_ = false, timed_out_ = false, in_order_ = false;
    std::uint16_t port_ = 0;  ///< our own
    steady::time_point deadline_ = steady::time_point::max();
};

/// Closes what is past its deadline, for as long as the program runs.
awaitable<void> watch_deadlines(world &);

/// Sleeps.
awaitable<void> pause(double seconds);

/// "SEVERITY SQLSTATE message" of an ErrorResponse or NoticeResponse.
struct error_text {
    std::string severity, sqlstate, message;
    std::string all() const { return severity + " " + sqlstate + " " + message; }
};
error_text read_error(std::string_view body);

/// A body for people: what can not be printed as dots, cut after `most` bytes.
std::string printable(std::string_view body, std::size_t most = 160);

}  // namespace oracle
