// Connecting by Unix socket, address or name, under one limit of time.
#include "net/dial.hpp"

#include <sys/un.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>

#include "net/log.hpp"
#include "net/resolver.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

namespace {

using endpoint = asio::generic::stream_protocol::endpoint;

/// While a name has another address to try, none is waited for longer than this.
constexpr base::seconds longest_try{2};

/// socket(2), connect(2): this machine is short of something, wherever it leads.
bool is_shortage(error_code ec) {
    return ec == asio::error::no_descriptors || ec == asio::error::no_memory || ec == asio::error::no_buffer_space ||
           ec == boost::system::errc::too_many_files_open_in_system;
}

std::string address_text(const asio::ip::tcp::endpoint &it) {
    const auto address = it.address().to_string();
    return (it.address().is_v6() ? "[" + address + "]" : address) + ":" + std::to_string(it.port());
}

class dialer : public std::enable_shared_from_this<dialer> {
public:
    dialer(shared &all, place_chosen chosen, std::function<void(dialled)> done)
        : all_(all),
          socket_(all.control),
          limit_(all.control),
          try_limit_(all.control),
          chosen_(std::move(chosen)),
          done_(std::move(done)) {}

    void begin(const std::string &host, int port, base::duration limit) {
        result_.place.host = host;
        port_ = static_cast<std::uint16_t>(port);
        start_clock(limit);
        if (host.starts_with('/') || host.starts_with('@')) return begin_unix(host, port);
        error_code ec;
        const auto address = asio::ip::make_address(host, ec);
        if (!ec) return connect_to({address, port_});
        result_.place.text = host + ":" + std::to_string(port);
        // Without a descriptor the name would seem to be unknown, and be remembered so.
        socket_.open(asio::ip::tcp::v4(), ec);
        if (is_shortage(ec)) return finish(ec, "no socket");
        socket_.close(ec);
        all_.dns->find(host, [self = shared_from_this()](const resolver::outcome &found) { self->on_resolved(found); });
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
            if (ec || !self->done_) return;  // it may be behind the outcome in the loop's queue
            if (!self->addresses_.empty())
                self->all_.dns->reached(self->result_.place.host, self->addresses_[self->at_], false);
            self->finish(asio::error::timed_out, "connect timeout",
                         self->connecting_ ? "" : "server DNS lookup takes too long");
        });
    }

    void begin_unix(const std::string &host, int port) {
        std::string path = host + "/.s.PGSQL." + std::to_string(port);
        result_.place.text = "unix:" + path;
        if (host.starts_with('@')) path = '\0' + path.substr(1);
        if (path.size() >= sizeof(sockaddr_un::sun_path)) return finish(asio::error::name_too_long, "Unix socket path");
        connect(endpoint(asio::local::stream_protocol::endpoint(path)));
    }

    // ---- by name ----

    void on_resolved(const resolver::outcome &found) {
        if (!done_) return;
        if (found.addresses.empty())
            return finish(asio::error::host_not_found, "server DNS lookup failed", found.problem);
        addresses_ = found.addresses;
        try_next();
    }

    void try_next() {
        error_code ec;
        const auto address = asio::ip::make_address(addresses_[at_], ec);
        if (ec) return on_tried(ec);
        result_.place.address = addresses_[at_];
        result_.place.endpoint = endpoint(asio::ip::tcp::endpoint(address, port_));
        if (chosen_) chosen_(result_.place);
        if (at_ + 1 < addresses_.size()) {
            try_limit_.expires_after(longest_try);
            try_limit_.async_wait([self = shared_from_this(), at = at_](error_code passed) {
                if (!passed && self->done_ && self->at_ == at) self->on_tried(asio::error::timed_out);
            });
        }
        connect_to({address, port_});
    }

    void on_tried(error_code ec) {
        if (!done_) return;
        try_limit_.cancel();
        all_.dns->reached(result_.place.host, addresses_[at_], !ec);
        if (!ec || at_ + 1 == addresses_.size()) return finish(ec, "connect failed");
        ++at_;
        error_code ignored;
        socket_.close(ignored);
        try_next();
    }

    // ---- the connection ----

    void connect_to(const asio::ip::tcp::endpoint &where) {
        result_.place.text = address_text(where);
        result_.place.tcp = true;
        connect(endpoint(where));
    }

    void connect(const endpoint &where) {
        connecting_ = true;
        result_.place.endpoint = where;
        error_code ec;
        socket_.open(where.protocol(), ec);
        if (ec) return addresses_.empty() || is_shortage(ec) ? finish(ec, "no socket") : on_tried(ec);
        ::fcntl(socket_.native_handle(), F_SETFD, FD_CLOEXEC);
        socket_.async_connect(where, [self = shared_from_this(), at = at_](error_code problem) {
            if (self->at_ != at) return;  // it was given up, and another address is being tried
            self->addresses_.empty() ? self->finish(problem, "connect failed") : self->on_tried(problem);
        });
    }

    void finish(error_code ec, std::string_view problem, const std::string &why = {}) {
        if (!done_) return;
        limit_.cancel();
        try_limit_.cancel();
        if (!ec) socket_.native_non_blocking(true, ec);
        if (!ec) result_.fd = socket_.release(ec);
        if (ec) {
            result_.problem = problem;
            result_.detail = why.empty() ? ec.message() : why;
        }
        result_.ours = is_shortage(ec);
        if (result_.ours) complain(ec);
        error_code ignored;
        socket_.close(ignored);
        std::exchange(done_, nullptr)(std::move(result_));
    }

    /// Once a second: clients wait, and it is tried again and again.
    void complain(error_code ec) {
        const auto now = std::chrono::steady_clock::now();
        if (now < all_.told_of_shortage + base::seconds(1)) return;
        all_.told_of_shortage = now;
        log::warning("cannot open a connection to {}: {}; who needs it waits", result_.place.text, ec.message());
    }

    shared &all_;
    stream_socket socket_;
    timer limit_, try_limit_;
    place_chosen chosen_;
    std::function<void(dialled)> done_;
    dialled result_;
    std::uint16_t port_ = 0;
    bool connecting_ = false;
    std::vector<std::string> addresses_;  ///< of the name, in the order of trying; none for anything else
    std::size_t at_ = 0;                  ///< the one that is tried
};

}  // namespace

void dial(shared &all, const std::string &host, int port, base::duration limit, place_chosen chosen,
          std::function<void(dialled)> done) {
    asio::post(all.control, [&all, host, port, limit, chosen = std::move(chosen), done = std::move(done)]() mutable {
        std::make_shared<dialer>(all, std::move(chosen), std::move(done))->begin(host, port, limit);
    });
}

void dial(shared &all, const place_to_dial &place, base::duration limit, std::function<void(dialled)> done) {
    asio::post(all.control, [&all, place, limit, done = std::move(done)]() mutable {
        std::make_shared<dialer>(all, nullptr, std::move(done))->begin(place, limit);
    });
}

}  // namespace pgsluice::net
