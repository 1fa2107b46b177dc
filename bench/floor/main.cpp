// The floor: what sharing servers among clients, transaction by transaction, costs at the least. One thread, one epoll
// set, one recv and one send each way. It looks at nothing but where messages begin: a request is counted, a
// ReadyForQuery that says idle counts it off, and the server goes to the client that waits longest. Logs everybody in,
// knows no TLS, no parameters, no statements, no timeouts, no errors. Not a pooler: what is left out here is what a
// pooler is for.
//   bench_floor --port N --server-port N --pool N --user U --database D
// Prints "ready" once all of its servers have logged in; ends by signal.
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "../shared/sockets.hpp"
#include "wire/backend.hpp"
#include "wire/frame.hpp"
#include "wire/startup.hpp"

namespace {

using namespace pgsluice;
using namespace pgsluice::bench;

/// Hops from header to header.
class headers {
public:
    /// Calls on_header(type, first byte of the body) for each message that begins in `bytes`.
    template <class OnHeader>
    void walk(std::string_view bytes, OnHeader &&on_header) {
        while (!bytes.empty()) {
            if (skip_ >= bytes.size()) return void(skip_ -= bytes.size());
            bytes.remove_prefix(skip_);
            skip_ = 0;
            wire::frame message;
            if (!held_.empty()) {
                // A byte at a time past the header: a message without a body ends there.
                const auto wanted = held_.size() < wire::header_bytes ? wire::header_bytes - held_.size() : 1;
                const auto count = std::min(wanted, bytes.size());
                held_.append(bytes.substr(0, count));
                bytes.remove_prefix(count);
                if (wire::read_frame(held_, message) != wire::framing::ok || short_of_body(message)) continue;
                skip_ = message.missing_bytes();
                on_header(message.type, message.body.empty() ? '\0' : message.body[0]);
                held_.clear();
                continue;
            }
            if (wire::read_frame(bytes, message) != wire::framing::ok || short_of_body(message)) {
                held_ = bytes;
                return;
            }
            on_header(message.type, message.body.empty() ? '\0' : message.body[0]);
            skip_ = message.missing_bytes();
            bytes.remove_prefix(message.here_bytes());
        }
    }

private:
    static bool short_of_body(const wire::frame &message) { return message.body.empty() && message.body_bytes > 0; }
    std::string held_;
    std::size_t skip_ = 0;
};

struct side {
    int fd = -1;
    bool is_client = false, logged_in = false;
    bool reads = true, writes = false;  ///< what epoll watches
    side *peer = nullptr;
    headers in;
    std::string unsent;   ///< for this one
    std::string waiting;  ///< a client's bytes while it waits for a server
    int owed = 0;         ///< a client's: ReadyForQuery that are to come
};

class forwarder {
public:
    forwarder(std::uint16_t port, std::uint16_t server_port, std::size_t pool, std::string_view user,
              std::string_view database) {
        for (std::size_t i = 0; i < pool; ++i) log_in(server_port, user, database);
        listening_ = listen_on(port);
        sockets_.add(listening_, EPOLLIN, nullptr);
    }

    void round() {
        sockets_.wait(-1, [this](side *it, std::uint32_t events) {
            if (it == nullptr) return take_clients();
            if ((events & EPOLLOUT) != 0) send(*it, {});
            if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0 && it->reads) receive(*it);
        });
        gone_.clear();
    }

private:
    void log_in(std::uint16_t port, std::string_view user, std::string_view database) {
        auto it = std::make_unique<side>();
        it->fd = connect_to(port);
        std::string out;
        wire::append_startup(out, wire::protocol_3_0, {{"user", user}, {"database", database}});
        ::send(it->fd, out.data(), out.size(), MSG_NOSIGNAL);
        std::string in;
        constexpr std::string_view end("Z\0\0\0\5I", 6);
        while (!in.ends_with(end)) {
            const auto count = ::recv(it->fd, room_.data(), room_.size(), 0);
            if (count <= 0) fail("the server does not let it in");
            in.append(room_.data(), static_cast<std::size_t>(count));
        }
        welcome_ = in;
        watch(std::move(it));
    }

    void watch(std::unique_ptr<side> it) {
        auto *const raw = it.get();
        sockets_.add(raw->fd, EPOLLIN, raw);
        if (!raw->is_client) idle_.push_back(raw);
        sides_.emplace(raw, std::move(it));
    }

    void take_clients() {
        for (int fd = accept_from(listening_); fd >= 0; fd = accept_from(listening_)) {
            auto it = std::make_unique<side>();
            it->fd = fd;
            it->is_client = true;
            watch(std::move(it));
        }
    }

    void receive(side &from) {
        const auto count = ::recv(from.fd, room_.data(), room_.size(), MSG_DONTWAIT);
        if (count < 0 && errno == EAGAIN) return;
        if (count <= 0) return gone(from);
        const std::string_view bytes(room_.data(), static_cast<std::size_t>(count));
        if (!from.is_client) return on_reply(from, bytes);
        if (!from.logged_in) return on_startup(from, bytes);
        from.in.walk(bytes, [&](char type, char) { from.owed += type == 'Q' || type == 'S' ? 1 : 0; });
        if (from.peer != nullptr) return send(*from.peer, bytes);
        if (bytes[0] == 'X') return;  // its end follows
        if (idle_.empty() || !from.waiting.empty()) {
            if (from.waiting.empty()) queue_.push_back(&from);
            from.waiting.append(bytes);
            return;
        }
        join(from, *idle_.back());
        idle_.pop_back();
        send(*from.peer, bytes);
    }

    static void join(side &client, side &server) {
        client.peer = &server;
        server.peer = &client;
    }

    void on_startup(side &client, std::string_view bytes) {
        const auto packet = wire::parse_startup(bytes);
        if (packet.kind == wire::startup_kind::startup) {
            client.logged_in = true;
            send(client, welcome_);
        } else if (packet.kind == wire::startup_kind::cancel_request) {
            gone(client);
        } else {
            send(client, "N");
        }
    }

    void on_reply(side &server, std::string_view bytes) {
        auto *const client = server.peer;
        if (client == nullptr) fail("a server speaks that was not asked");
        bool idle = false;
        server.in.walk(bytes, [&](char type, char status) {
            if (type != 'Z') return;
            --client->owed;
            idle = status == 'I';
        });
        send(*client, bytes);
        if (!idle || client->owed != 0 || !server.unsent.empty()) return;
        client->peer = server.peer = nullptr;
        set(server, true, false);
        if (queue_.empty()) return idle_.push_back(&server);
        auto &next = *queue_.front();
        queue_.pop_front();
        join(next, server);
        send(server, next.waiting);
        next.waiting.clear();
    }

    /// What is unsent, then `bytes`; while something is left, the other side is not read.
    void send(side &to, std::string_view bytes) {
        if (!to.unsent.empty()) {
            to.unsent.append(bytes);
            const auto count = ::send(to.fd, to.unsent.data(), to.unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (count > 0) to.unsent.erase(0, static_cast<std::size_t>(count));
        } else {
            const auto count = ::send(to.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            const auto sent = count > 0 ? static_cast<std::size_t>(count) : 0;
            if (sent < bytes.size()) to.unsent = bytes.substr(sent);
        }
        const bool full = !to.unsent.empty();
        set(to, to.reads, full);
        if (to.peer != nullptr) set(*to.peer, !full, to.peer->writes);
    }

    void set(side &it, bool reads, bool writes) {
        if (it.reads == reads && it.writes == writes) return;
        it.reads = reads;
        it.writes = writes;
        sockets_.change(it.fd, (reads ? EPOLLIN : 0U) | (writes ? EPOLLOUT : 0U), &it);
    }

    void gone(side &it) {
        if (!it.is_client || it.peer != nullptr || !it.waiting.empty()) fail("a connection ended in mid-work");
        sockets_.remove(it.fd);
        ::close(it.fd);
        const auto found = sides_.find(&it);
        gone_.push_back(std::move(found->second));
        sides_.erase(found);
    }

    poll_set<side> sockets_;
    int listening_ = -1;
    std::string welcome_;
    std::vector<side *> idle_;
    std::deque<side *> queue_;
    std::unordered_map<side *, std::unique_ptr<side>> sides_;
    std::vector<std::unique_ptr<side>> gone_;  ///< until the round is over
    /// Begins with a page, as pgsluice's: else what the kernel copies there would cost more, and this were no floor.
    alignas(4096) std::array<char, 1 << 16> room_;
};

}  // namespace

int main(int count, char **values) {
    program = "bench_floor";
    std::uint16_t port = 0, server_port = 0;
    std::size_t pool = 20;
    std::string user, database;
    for (arguments in(count, values); in.next();) {
        if (in.is("--port")) {
            port = in.number<std::uint16_t>();
        } else if (in.is("--server-port")) {
            server_port = in.number<std::uint16_t>();
        } else if (in.is("--pool")) {
            pool = in.number<std::size_t>();
        } else if (in.is("--user")) {
            user = in.text();
        } else if (in.is("--database")) {
            database = in.text();
        } else {
            in.unknown();
        }
    }
    take_all_descriptors();
    forwarder all(port, server_port, pool, user, database);
    std::puts("ready");
    std::fflush(stdout);
    for (;;) all.round();
}
