// A bare client over a real socket, for test programs: sends any bytes at any moment, keeps every message it gets.
// It logs in by trust and knows no SQL; what to wait for the caller says. Not for the program, not for unit tests.
// One thread each. Source: PostgreSQL manual, "Message Formats".
#pragma once

#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "support/messages.hpp"

namespace pgsluice::test {

/// Where something listens: a TCP port of 127.0.0.1, or the path of a Unix socket.
struct endpoint {
    std::string path;  ///< empty: TCP
    std::uint16_t port = 0;
};
/// "6432" or "/tmp/x/.s.PGSQL.6432".
endpoint parse_endpoint(std::string_view);

class peer {
public:
    using clock = std::chrono::steady_clock;
    enum class outcome : std::uint8_t { enough, closed, timeout };

    /// Connects; throws std::runtime_error when nobody listens.
    explicit peer(const endpoint &);
    peer(const peer &) = delete;
    peer &operator=(const peer &) = delete;
    ~peer() { close(); }

    /// Startup up to ReadyForQuery, by trust. Throws std::runtime_error with the server's words when it is refused.
    void login(const pairs &parameters);

    /// Queues bytes; pump() sends them, in pieces of at most `piece` bytes.
    void send(std::string_view bytes) { out_.append(bytes); }
    void set_piece(std::size_t bytes) { piece_ = bytes; }

    /// Sends and reads until everything is sent and enough() is true, or the other side has closed, or time is up.
    template <typename Enough>
    outcome pump(Enough enough, clock::duration timeout = std::chrono::seconds(20)) {
        const auto until = clock::now() + timeout;
        while (true) {
            if (out_.empty() && enough()) return outcome::enough;
            if (closed_) return outcome::closed;
            if (!step(until)) return outcome::timeout;
        }
    }
    /// Sends, and reads until `count` ReadyForQuery more have come.
    outcome ready(std::size_t count = 1, clock::duration timeout = std::chrono::seconds(20));

    /// Everything since the login or the last clear(), in order.
    const std::vector<cut> &received() const { return received_; }
    std::size_t readies() const { return readies_; }
    void clear();
    /// The other side has closed or reset the connection.
    bool closed() const { return closed_; }

    std::uint32_t pid() const { return pid_; }
    const std::string &secret() const { return secret_; }

    void half_close();  ///< nothing more comes from us, but we still read
    void reset();       ///< RST (TCP), with nothing said
    void close();

private:
    bool flush();
    bool step(clock::time_point until);
    void take(std::string_view bytes);

    int fd_ = -1;
    bool closed_ = false;
    std::string out_, in_;
    std::size_t piece_ = std::string::npos;
    std::vector<cut> received_;
    std::size_t readies_ = 0;
    std::uint32_t pid_ = 0;
    std::string secret_;
};

}  // namespace pgsluice::test
