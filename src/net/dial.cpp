// Connecting by Unix socket, address or name, under one limit of time.
#include "net/dial.hpp"

#include <sys/un.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>

namespace pgsluice::net {

namespace {

using endpoint = asio::generic::stream_protocol::endpoint;

std::string address_text(const asio::ip::tcp::endpoint &it) {
    const auto address = it.address().to_string();
    return (it.address().is_v6() ? "[" + address + "]" : address) + ":" + std::to_string(it.port());
}

class dialer : public std::enable_shared_from_this<dialer> {
public:
    dialer(asio::io_context &context, std::function<void(dialled)> done)
        : socket_(context), resolver_(context), limit_(context), done_(std::move(done)) {}

    void begin(const std::string &host, int port, std::size_t attempt, base::duration limit) {
        attempt_ = attempt;
        result_.place.host = host;
        start_clock(limit);
        if (host.starts_with('/') || host.starts_with('@')) return begin_unix(host, port);
        error_code ec;
        const auto address = asio::ip::make_address(host, ec);
        if (!ec) return connect_to({address, static_cast<std::uint16_t>(port)});
        result_.place.text = host + ":" + std::to_string(port);
        // getaddrinfo() on Asio's own thread: this one never waits for a name server.
        resolver_.async_resolve(
            host, std::to_string(port), asio::ip::resolver_base::numeric_service,
            [self = shared_from_this()](error_code problem, const auto &found) { self->on_resolved(problem, found); });
    }

    void begin(const place_to_dial &place, base::duration limit) {
        result_.place = place;
        start_clock(limit);
        connect(place.endpoint);
    }

private:
    void start_clock(base::duration limit) {
        if (limit <= base::duration::zero()) return;
        limit_.expires_after(limit);
        limit_.async_wait([self = shared_from_this()](error_code ec) {
            if (!ec) self->finish(asio::error::timed_out, "connect timeout");
        });
    }

    void begin_unix(const std::string &host, int port) {
        std::string path = host + "/.s.PGSQL." + std::to_string(port);
        result_.place.text = "unix:" + path;
        if (host.starts_with('@')) path = '\0' + path.substr(1);
        if (path.size() >= sizeof(sockaddr_un::sun_path)) return finish(asio::error::name_too_long, "Unix socket path");
        connect(endpoint(asio::local::stream_protocol::endpoint(path)));
    }

    void on_resolved(error_code ec, const asio::ip::tcp::resolver::results_type &found) {
        if (!done_) return;
        if (ec || found.empty()) return finish(ec ? ec : asio::error::host_not_found, "server DNS lookup failed");
        auto it = found.begin();
        std::advance(it, static_cast<std::ptrdiff_t>(attempt_ % found.size()));
        connect_to(it->endpoint());
    }

    void connect_to(const asio::ip::tcp::endpoint &where) {
        result_.place.text = address_text(where);
        result_.place.tcp = true;
        connect(endpoint(where));
    }

    void connect(const endpoint &where) {
        result_.place.endpoint = where;
        error_code ec;
        socket_.open(where.protocol(), ec);
        if (ec) return finish(ec, "no socket");
        ::fcntl(socket_.native_handle(), F_SETFD, FD_CLOEXEC);
        socket_.async_connect(
            where, [self = shared_from_this()](error_code problem) { self->finish(problem, "connect failed"); });
    }

    void finish(error_code ec, std::string_view problem) {
        if (!done_) return;
        limit_.cancel();
        resolver_.cancel();
        if (!ec) socket_.native_non_blocking(true, ec);
        if (!ec) result_.fd = socket_.release(ec);
        if (ec) result_.problem = std::string(problem) + ": " + ec.message();
        error_code ignored;
        socket_.close(ignored);
        std::exchange(done_, nullptr)(std::move(result_));
    }

    stream_socket socket_;
    asio::ip::tcp::resolver resolver_;
    timer limit_;
    std::function<void(dialled)> done_;
    dialled result_;
    std::size_t attempt_ = 0;
};

}  // namespace

void dial(asio::io_context &control, const std::string &host, int port, std::size_t attempt, base::duration limit,
          std::function<void(dialled)> done) {
    asio::post(control, [&control, host, port, attempt, limit, done = std::move(done)]() mutable {
        std::make_shared<dialer>(control, std::move(done))->begin(host, port, attempt, limit);
    });
}

void dial(asio::io_context &control, const place_to_dial &place, base::duration limit,
          std::function<void(dialled)> done) {
    asio::post(control, [&control, place, limit, done = std::move(done)]() mutable {
        std::make_shared<dialer>(control, std::move(done))->begin(place, limit);
    });
}

}  // namespace pgsluice::net
