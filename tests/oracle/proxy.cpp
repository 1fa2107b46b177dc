// The relay of bytes, its faults, and the lies of the self-test.
#include "proxy.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <utility>

#include "wire/startup.hpp"

namespace oracle {

namespace wire = pgsluice::wire;
using asio::ip::tcp;

namespace {
constexpr auto awaiting = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t pieces_most = 3000;  // of a connection; after that bytes go as they come
constexpr double delayed_most = 2;         // seconds, in all
}  // namespace

struct fault_proxy::relay {
    relay(world &shared, tcp::socket accepted) : client(std::move(accepted)), server(shared.io) {}

    tcp::socket client, server;
    std::shared_ptr<fault_plan> plan;
    std::size_t passed[2] = {0, 0};
    std::size_t pieces = 0;
    double delayed = 0;
    int ended = 0;
    bool black_hole = false;
    std::string user, database;  ///< of a server connection that counts
};

fault_proxy::fault_proxy(world &shared, std::uint16_t port, std::uint16_t target, bool server_side)
    : world_(shared),
      acceptor_(shared.io, tcp::endpoint(asio::ip::address_v4::loopback(), port)),
      target_(target),
      server_side_(server_side),
      random_(shared.opt.seed, server_side ? 0xfffffff1 : 0xfffffff2) {}

fault_plan fault_proxy::draw() {
    fault_plan plan;
    if (!world_.opt.faults || calm_) return plan;
    if (random_.happens(0.2)) plan.delay = 0.0002 * static_cast<double>(random_.size(40));
    if (random_.happens(0.3)) plan.piece = random_.size(2000);
    const double often = server_side_ ? 0.5 : 0.25;
    if (random_.happens(often)) {
        plan.how = std::array{ending::reset, ending::half_close, ending::black_hole}[random_.weighted({5, 3, 2})];
        plan.upstream = random_.happens(0.5);
        plan.at = random_.size(server_side_ ? 1 << 20 : 1 << 17);
        // Where an idle server's login ends is not what is looked for.
        if (server_side_) plan.at += 1000;
    }
    return plan;
}

bool fault_proxy::fired(std::uint16_t port) const {
    const auto found = plans_.find(port);
    return found != plans_.end() && found->second->fired;
}

bool fault_proxy::black_hole(std::uint16_t port) const {
    const auto found = plans_.find(port);
    return found != plans_.end() && found->second->how == ending::black_hole;
}

void fault_proxy::calm() {
    calm_ = true;
    for (const auto &weak : relays_) {
        const auto it = weak.lock();
        if (it && it->black_hole) kill(*it, true);
    }
}

void fault_proxy::kill(relay &it, bool by_reset) {
    over(it);
    error_code ignored;
    for (auto *const end : {&it.client, &it.server}) {
        if (by_reset) end->set_option(asio::socket_base::linger(true, 0), ignored);
        end->close(ignored);
    }
}

awaitable<void> fault_proxy::serve() {
    for (;;) {
        auto [ec, accepted] = co_await acceptor_.async_accept(awaiting);
        if (ec) co_return;
        error_code ignored;
        accepted.set_option(tcp::no_delay(true), ignored);
        const auto port = accepted.remote_endpoint(ignored).port();
        auto it = std::make_shared<relay>(world_, std::move(accepted));
        it->plan = std::make_shared<fault_plan>(draw());
        plans_[port] = it->plan;
        relays_.push_back(it);
        asio::co_spawn(world_.io, run(it), asio::detached);
    }
}

awaitable<void> fault_proxy::run(std::shared_ptr<relay> it) {
    const auto &plan = *it->plan;
    if (plan.delay > 0) ++world_.faults["delay"];
    if (plan.piece > 0) ++world_.faults["split"];
    const auto [ec] = co_await it->server.async_connect({asio::ip::address_v4::loopback(), target_}, awaiting);
    if (ec) {
        it->plan->fired = true;
        co_return;
    }
    error_code ignored;
    it->server.set_option(tcp::no_delay(true), ignored);
    asio::co_spawn(world_.io, pump(*this, it, true), asio::detached);
    asio::co_spawn(world_.io, pump(*this, it, false), asio::detached);
}

/// Server connections are counted while the pooler may think that it has them.
void fault_proxy::opened(relay &it, std::string_view startup) {
    const auto packet = wire::parse_startup(startup);
    if (packet.kind != wire::startup_kind::startup) return;
    for (const auto &[name, value] : packet.parameters) {
        if (name == "user") it.user = value;
        if (name == "database") it.database = value;
    }
    const auto count = [&](const std::string &what, std::size_t limit) {
        const auto now = ++open_[what];
        if (now > limit) {
            world_.fail(failure::over_limit,
                        what + ": " + std::to_string(now) + " servers at the proxy, limit " + std::to_string(limit));
        }
    };
    for (const auto &where : world_.opt.logins) {
        if (where.user == it.user && where.database == it.database) count(it.user + "@" + it.database, where.servers);
    }
    const auto limit = world_.opt.database_limits.find(it.database);
    if (limit != world_.opt.database_limits.end()) count(it.database, limit->second);
}

void fault_proxy::over(relay &it) {
    if (it.user.empty()) return;
    for (const auto &what : {it.user + "@" + it.database, it.database}) {
        const auto found = open_.find(what);
        if (found != open_.end()) --found->second;
    }
    it.user.clear();
}

awaitable<void> fault_proxy::pump(fault_proxy &self, std::shared_ptr<relay> it, bool upstream) {
    auto &from = upstream ? it->client : it->server;
    auto &to = upstream ? it->server : it->client;
    const auto &plan = *it->plan;
    auto &passed = it->passed[upstream ? 1 : 0];
    std::vector<char> buffer(16 * 1024);
    bool first = true;
    error_code ec;
    while (!ec) {
        std::size_t count = 0;
        std::tie(ec, count) = co_await from.async_read_some(asio::buffer(buffer), awaiting);
        if (ec || it->black_hole) {
            if (it->black_hole && !ec) continue;
            break;
        }
        std::string bytes(buffer.data(), count);
        if (first && upstream && self.server_side_) self.opened(*it, bytes);
        first = false;
        if (self.world_.opt.lying != lie::none && !self.server_side_) self.change(*it, bytes, upstream);
        bool end = plan.how != ending::none && plan.upstream == upstream && passed + count >= plan.at && !self.calm_;
        std::size_t take = end ? plan.at - std::min(plan.at, passed) : bytes.size();
        for (std::size_t at = 0; at < take && !ec;) {
            const bool cut = plan.piece > 0 && it->pieces < pieces_most;
            const auto piece = std::min(take - at, cut ? plan.piece : take);
            if (cut) ++it->pieces;
            if (plan.delay > 0 && it->delayed < delayed_most && !self.calm_) {
                it->delayed += plan.delay;
                co_await pause(plan.delay);
            }
            std::size_t sent = 0;
            std::tie(ec, sent) = co_await asio::async_write(to, asio::buffer(bytes.data() + at, piece), awaiting);
            at += piece;
        }
        passed += take;
        if (!end || ec) continue;
        it->plan->fired = true;
        error_code ignored;
        switch (plan.how) {
            case ending::reset:
                ++self.world_.faults["reset"];
                self.kill(*it, true);
                co_return;
            case ending::half_close:
                ++self.world_.faults["half-close"];
                if (!upstream) self.over(*it);
                to.shutdown(tcp::socket::shutdown_send, ignored);
                // The other direction goes on; what still comes this way is read and dropped.
                it->black_hole = false;
                while (!ec) std::tie(ec, count) = co_await from.async_read_some(asio::buffer(buffer), awaiting);
                break;
            case ending::black_hole:
                ++self.world_.faults["black hole"];
                it->black_hole = true;
                break;
            case ending::none:
                break;
        }
    }
    // One end has closed, in whatever way: the other end learns of it, from a black hole later.
    if (it->black_hole) {
        co_await pause(0.5);
        self.kill(*it, true);
        co_return;
    }
    if (ec != asio::error::eof) {
        self.kill(*it, true);
        co_return;
    }
    if (!upstream) self.over(*it);
    error_code ignored;
    to.shutdown(tcp::socket::shutdown_send, ignored);
    if (++it->ended == 2) self.kill(*it, false);
}

/// The lies, byte by byte, each of the length of the truth. Only the text of one piece is looked at.
void fault_proxy::change(const relay &, std::string &bytes, bool upstream) {
    const auto put = [&](std::string_view from, std::string_view to) {
        const auto at = bytes.find(from);
        if (at == std::string::npos || !random_.happens(0.02)) return;
        bytes.replace(at, from.size(), to);
        ++world_.faults["lies"];
    };
    switch (world_.opt.lying) {
        case lie::bleed: {
            // Some other session's token in place of half of this one's.
            if (upstream || world_.tokens.size() < 2 || !random_.happens(0.02)) break;
            const auto found = world_.tokens.foreign(bytes, token_index::nobody);
            if (!found) break;
            const auto &own = world_.tokens[*found];
            const auto &other = world_.tokens[(*found + 1) % static_cast<std::uint32_t>(world_.tokens.size())];
            const auto at = bytes.rfind(own);
            if (at == std::string::npos) break;
            bytes.replace(at + 3, 20, other, 3, 20);
            ++world_.faults["lies"];
            break;
        }
        case lie::lost:
            if (upstream) put("insert into commits", "insert into discard");
            break;
        case lie::doubled:
            if (upstream) put("insert into commits", "insert into doubles");
            break;
        case lie::identity:
            if (!upstream) put("Europe/Berlin", "Europe/Zurich");
            break;
        case lie::reply:
            if (!upstream) put("INSERT 0 1", "INSERT 0 2");
            break;
        case lie::swallow:
            if (!upstream) put("INSERT 0 1", "");
            break;
        case lie::cancel:
        case lie::none:
            break;
    }
}

}  // namespace oracle
