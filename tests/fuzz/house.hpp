// Clients and servers joined by the smallest driver there can be: what net/ does, without sockets and without a ledger.
// Who gets which server, when bytes arrive and how they are cut, what dies and how late it is, the caller decides; the
// house checks after every event what must hold whatever anybody sends:
//   - both streams of every connection are well formed for a second framer, and what the pooler makes is whole;
//   - a client gets only bytes that its own server said since they were linked, a server only its own client's;
//   - a server is released, and linked, only if it is clean by the machine's proof and by an account of our own;
//   - a machine takes no more than it was given, comes to an end, and leaves no deadline behind that has passed;
//   - nobody is spoken to after the last word.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/fuzz.hpp"
#include "fuzz/model_server.hpp"
#include "fuzz/stream_check.hpp"
#include "support/rig.hpp"

namespace pgsluice::fuzz {

/// With boxes that keep what the pooler makes apart from what it passes on: the checks ask who said it.
struct told_apart : core::effects {
    told_apart() {
        to_client = core::outbox(0);
        to_server = core::outbox(0);
    }
};

class house {
public:
    struct server_end;
    struct client_end {
        std::unique_ptr<core::client_session> machine;
        std::string wire;       ///< sent by the application, not arrived yet
        std::string in;         ///< arrived, not taken by the machine yet
        std::string heard;      ///< what the application got, when it is kept
        std::string said;       ///< all that arrived, when something is forbidden
        std::string forbidden;  ///< what an honest server says of another's queries only
        stream_check out{stream_check::way::to_client};
        server_end *server = nullptr;
        bool gone = false, keep = false, full = false, unsent = false;
    };
    struct server_end {
        std::unique_ptr<core::server_session> machine;
        std::string wire;                   ///< said by the server, not arrived yet
        std::string in;                     ///< arrived, not taken yet
        std::string leaving;                ///< for the server; what the kernel has not taken stays here
        std::vector<std::uint32_t> during;  ///< for each byte of `in`: the link that held when it arrived, 0 for none
        std::unique_ptr<model_server> model;
        stream_check out{stream_check::way::to_server}, said{stream_check::way::from_server};
        client_end *client = nullptr;
        std::uint32_t link = 0;  ///< number of the link that holds, 0 for none
        bool lost = false, full = false, unsent = false;
        bool honest = true;      ///< says only what its model says
        bool canceling = false;  ///< a cancel connection is open
        base::time_point farewell_until{};
        bool free() const { return !lost && client == nullptr && machine->state() == core::server_state::idle; }
    };

    explicit house(test::world &around) : world_(around) {
        if (!world_.shared_pool) world_.build();
        route_ = world_.route();
    }

    bool auto_grant = true, hold_welcome = false;
    int grants = 0, releases = 0, losses = 0;

    // ---- who is there ----

    client_end &add_client(bool welcomed) {
        clients_.push_back(std::make_unique<client_end>());
        auto &it = *clients_.back();
        it.machine = std::make_unique<core::client_session>(base::client_id{next_id_++}, world_.env, world_.now);
        if (welcomed) {
            static const auto hello = test::startup({{"user", "app"}, {"database", "db"}});
            arrives(it, hello);
        }
        return it;
    }
    /// `ready`: logged in without a password. `model`: it answers by itself what the pooler sends, when asked to.
    server_end &add_server(bool ready, bool model, core::server_secret secret = {}) {
        servers_.push_back(std::make_unique<server_end>());
        auto &it = *servers_.back();
        it.machine = world_.new_server(std::move(secret));
        told_apart fx;
        it.machine->on_connected(fx);
        deliver(it, fx, {});
        if (model) it.model = std::make_unique<model_server>();
        if (ready) {
            static const auto hello = test::server_hello();
            arrives(it, hello);
        }
        return it;
    }
    std::vector<std::unique_ptr<client_end>> &clients() { return clients_; }
    std::vector<std::unique_ptr<server_end>> &servers() { return servers_; }

    // ---- what happens ----

    void arrives(client_end &it, std::string_view bytes) {
        if (it.gone) return;
        tell("client", &it, "says", bytes);
        it.in += bytes;
        if (!it.forbidden.empty()) it.said += bytes;
        pump(it);
    }
    void arrives(server_end &it, std::string_view bytes) {
        if (it.lost) return;
        tell("server", &it, "says", bytes);
        it.in += bytes;
        it.during.resize(it.in.size(), it.link);
        feed(it);
    }
    /// `most` bytes of what is on the wire.
    template <class End>
    void deliver_wire(End &it, std::size_t most) {
        const auto part = it.wire.substr(0, most);
        it.wire.erase(0, part.size());
        if (!part.empty()) arrives(it, part);
    }
    /// The model says everything it has to say, in pieces as the dice want; true when it said anything.
    bool answer(server_end &it, dice *cuts = nullptr, bool hit = false) {
        if (it.lost || !it.model) return false;
        bool any = false;
        while (!it.lost && it.model->step(std::exchange(hit, false))) {
            const auto text = it.model->take();
            any = any || !text.empty();
            it.wire += text;  // behind what is under way already
            while (!it.wire.empty() && !it.lost)
                deliver_wire(it, cuts == nullptr ? it.wire.size() : 1 + cuts->pick(it.wire.size()));
        }
        if (it.honest) require(!it.model->deceived(), "a server was asked for a statement that it does not have");
        if (!it.lost && it.model->dead()) ends(it);
        return any;
    }
    /// It goes without a word.
    void ends(client_end &it) { close(it, core::parting::vanished); }
    void ends(server_end &it) {
        if (it.lost) return;
        const auto state = it.machine->state();
        if (state == core::server_state::connecting || state == core::server_state::login)
            return bury(it,
                        it.machine->login_lost("server conn crashed?", "server closed the connection during login"));
        lose(it);
    }
    /// A waiting client is given a free server.
    void grant(server_end &it, client_end &client) {
        if (client.gone || !it.free() || client.machine->state() != core::client_state::waiting) return;
        feed(client, &it);
    }
    void grant_anybody() {
        for (auto &server : servers_) {
            for (auto &client : clients_) grant(*server, *client);
        }
    }
    void welcome(client_end &it) {
        if (it.gone || it.machine->state() != core::client_state::joining) return;
        told_apart fx;
        greet(it, fx);
        deliver(it, fx, {}, nullptr);
        pump(it);
    }
    void refuse(client_end &it, core::refusal why) {
        if (it.gone) return;
        told_apart fx;
        it.machine->on_refused(why, "argument", fx);
        deliver(it, fx, {}, nullptr);
        close(it, core::parting::ended);
    }
    /// A CancelRequest with this client's key.
    void cancel(client_end &it) {
        if (it.gone) return;
        tell("client", &it, "cancels");
        told_apart fx;
        std::size_t taken = 0;
        const std::string bytes = it.in;
        if (it.machine->on_cancel_unsent(bytes, taken, world_.now, fx)) {
            require(taken <= bytes.size(), "a cancel took more than there is");
            deliver(it, fx, {}, nullptr);
            it.in.erase(0, taken);
            return pump(it);
        }
        if (it.server == nullptr || it.server->lost) return;
        if (it.server->machine->on_cancel() == core::cancel_answer::begin) start_cancel(*it.server);
    }
    /// The cancel connection is over; one that was meant for what still runs has struck.
    void cancel_over(server_end &it, bool in_time) {
        if (!std::exchange(it.canceling, false) || it.lost) return;
        tell("server", &it, in_time ? "its cancel is over" : "its cancel is late");
        if (in_time && it.model && it.machine->cancel_wanted()) {
            it.canceling = true;
            answer(it, nullptr, true);
            it.canceling = false;
            if (it.lost) return;
        }
        told_apart fx;
        it.machine->on_cancel_over(in_time, fx);
        require(fx.to_client.empty(), "a cancel speaks to a client");
        deliver(it, fx, {});
        act(it, fx);
    }
    /// The kernel takes no more (true), or takes what was left (false).
    void set_full(client_end &it, bool full) {
        tell("socket", &it, full ? "is full" : "has room");
        it.full = full;
        if (full || !std::exchange(it.unsent, false) || it.gone) return;
        if (it.server != nullptr && !it.server->in.empty()) feed(*it.server);
        pump(it);
    }
    void set_full(server_end &it, bool full) {
        tell("socket", &it, full ? "is full" : "has room");
        it.full = full;
        if (full || !std::exchange(it.unsent, false) || it.lost) return;
        leave(it);
        told_apart fx;
        it.machine->on_sent(fx);
        require(fx.to_client.empty(), "sending speaks to a client");
        deliver(it, fx, {});
        act(it, fx);
        if (!it.lost && it.client != nullptr) pump(*it.client);
    }
    void check_query(server_end &it) {
        if (it.free()) run(it, core::errand::check, it.machine->settings().server_check_query);
    }
    void pass(base::duration time) {
        world_.now += time;
        for (std::size_t i = 0; i < clients_.size(); ++i) {
            auto &it = *clients_[i];
            if (it.gone || it.machine->deadline() > world_.now) continue;
            told_apart fx;
            it.machine->on_deadline(world_.now, fx);
            deliver(it, fx, {}, nullptr);
            if (fx.client == core::client_next::close) {
                close(it, core::parting::ended);
                continue;
            }
            require(it.machine->deadline() > world_.now, "a deadline that has passed stays due");
        }
        for (std::size_t i = 0; i < servers_.size(); ++i) insist(*servers_[i]);
    }
    /// A reload: clients get another route, servers learn of it when they are linked.
    void reload(config::pool_mode mode) {
        world_.pool.pool_mode = mode;
        world_.shared_pool = std::make_shared<config::pool_settings>(world_.pool);
        route_ = world_.route();
        for (auto &it : clients_) {
            if (!it->gone && it->machine->where()) it->machine->on_rerouted(route_);
        }
    }

    // ---- what must be in the end ----

    /// Honest servers have no half-done work when nobody is linked to them.
    void check_rest() {
        for (auto &it : servers_) {
            if (it->free()) check_at_rest(*it);
        }
    }

private:
    // ---- sending ----

    static bool within(std::string_view part, std::string_view whole) {
        return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
    }

    /// `source`: the buffer of the client whose event this is; what lies in it is its own.
    void deliver(server_end &it, const core::effects &fx, std::string_view source) {
        if (it.lost || fx.to_server.empty()) return;
        for (std::size_t i = 0; i < fx.to_server.pieces(); ++i) {
            const auto piece = fx.to_server.piece(i);
            tell("server", &it, within(piece, source) ? "hears" : "hears from us", piece);
            within(piece, source) ? it.out.passed(piece) : it.out.made(piece);
            it.leaving += piece;
        }
        it.unsent = it.unsent || it.full;
        it.machine->set_unsent(it.unsent);
        if (!it.unsent) leave(it);
    }
    /// `source`: the buffer of the server whose event this is, `from` that server.
    void deliver(client_end &it, const core::effects &fx, std::string_view source, const server_end *from) {
        if (fx.to_client.empty()) return;
        require(!it.gone, "a client is spoken to after the last word");
        for (std::size_t i = 0; i < fx.to_client.pieces(); ++i) {
            const auto piece = fx.to_client.piece(i);
            if (it.keep) it.heard += piece;
            tell("client", &it, within(piece, source) ? "hears" : "hears from us", piece);
            if (!within(piece, source)) {
                it.out.made(piece);
                // What was held back while it was found out what a COPY had eaten says what its server says; a lying
                // one may have said something else since.
                if (it.out.last_type() == 'Z' && it.out.status() != 'I')
                    require(from != nullptr && (!from->honest || from->said.status() == it.out.status()),
                            "the pooler made up a transaction");
                continue;
            }
            require(from != nullptr && from->client == &it, "a client got bytes of a server that is not its own");
            const auto begin = static_cast<std::size_t>(piece.data() - source.data());
            for (std::size_t at = begin; at < begin + piece.size(); ++at)
                require(from->during[at] == from->link, "a client got a byte that came before its link");
            const auto notified = it.out.count('A');
            it.out.passed(piece);
            const bool may_listen = from->machine->settings().pool_mode == config::pool_mode::session;
            require(may_listen || it.out.count('A') == notified, "a client got a notification outside session mode");
            if (!it.forbidden.empty() && from->honest) check_own(it, piece);
        }
        it.unsent = it.unsent || it.full;
    }
    /// Rows tell whose query they answer.
    static void check_own(client_end &it, std::string_view fresh) {
        const auto before = it.heard.size() < it.forbidden.size() ? 0 : it.heard.size() - it.forbidden.size();
        it.heard += fresh;
        const bool found = it.heard.find(it.forbidden, before) != std::string::npos;
        require(!found || it.said.find(it.forbidden) != std::string::npos, "a client got another's row");
    }

    static void leave(server_end &it) {
        if (it.model) it.model->hear(it.leaving);
        it.leaving.clear();
    }

    // ---- a client ----

    void pump(client_end &it) {
        if (!it.gone && !it.unsent && (it.server == nullptr || !it.server->unsent)) feed(it, nullptr);
    }
    void feed(client_end &it, server_end *granted) {
        told_apart fx;
        const std::string bytes = it.in;  // nothing may keep a view of it
        std::size_t used = 0, rounds = 0;
        bool go_on = granted == nullptr || link(it, *granted, fx);
        while (go_on) {
            fx.client = core::client_next::none;
            const auto rest = std::string_view(bytes).substr(used);
            const auto taken = it.machine->on_bytes(rest, world_.now, fx);
            require(taken <= rest.size(), "a client's machine took more than it was given");
            used += taken;
            go_on = step(it, fx);
            require(++rounds < bytes.size() + 64, "a client's machine goes round without end");
        }
        const auto next = fx.client;
        if (next == core::client_next::cancel) {
            require(fx.to_client.empty() && fx.to_server.empty(), "a cancel request is answered");
            return close(it, core::parting::ended);
        }
        if (it.server != nullptr) {
            deliver(*it.server, fx, bytes);
        } else {
            require(fx.to_server.empty(), "bytes for a server that is not there");
        }
        deliver(it, fx, {}, nullptr);
        it.in.erase(0, used);
        if (next == core::client_next::close)
            return close(it, fx.why == core::client_left ? core::parting::vanished : core::parting::ended);
        if (it.server != nullptr && !it.server->unsent && it.server->machine->releasable()) release(*it.server);
    }
    bool step(client_end &it, core::effects &fx) {
        switch (fx.client) {
            case core::client_next::resume:
                return true;
            case core::client_next::admit:
                fx.client = core::client_next::none;
                it.machine->on_admitted(fx);
                return fx.client == core::client_next::none || step(it, fx);
            case core::client_next::join:
                it.machine->on_joined(route_, world_.now);
                if (hold_welcome) return fx.client = core::client_next::none, false;
                greet(it, fx);
                return true;
            case core::client_next::want:
                fx.client = core::client_next::none;
                if (!auto_grant) return false;
                for (auto &server : servers_) {
                    if (server->free()) return link(it, *server, fx);
                }
                return false;
            default:
                return false;
        }
    }
    void greet(client_end &it, core::effects &fx) {
        // Of a world of its own, so that the first run draws the same random numbers as the others.
        static const auto greeting = [] {
            test::world other;
            other.build();
            return other.idle_server()->greeting();
        }();
        it.machine->on_welcome(*greeting, {42, "\1\2\3\4"}, world_.now, fx);
    }
    bool link(client_end &it, server_end &server, core::effects &fx) {
        check_at_rest(server);
        require(it.server == nullptr && server.client == nullptr, "linked twice");
        tell("client", &it, "is linked");
        tell("server", &server, "is linked");
        it.server = &server;
        server.client = &it;
        server.link = ++links_;
        ++grants;
        it.machine->on_granted(*server.machine, world_.now, fx);
        return fx.client == core::client_next::resume;
    }
    void close(client_end &it, core::parting how) {
        if (std::exchange(it.gone, true)) return;
        tell("client", &it, "is closed");
        it.wire.clear();
        auto *const server = std::exchange(it.server, nullptr);
        if (server == nullptr) return;
        unlink(*server);
        if (server->lost) return;
        told_apart fx;
        server->machine->farewell(how, "closed", fx);
        require(fx.to_client.empty(), "a client is spoken to after the last word");
        if (fx.server == core::server_next::lose) return lose(*server);
        server->farewell_until = world_.now + base::seconds(3);
        deliver(*server, fx, {});
        act(*server, fx);
    }

    // ---- a server ----

    static void unlink(server_end &it) {
        it.client = nullptr;
        it.link = 0;
    }
    void feed(server_end &it) {
        if (it.lost || (it.client != nullptr && it.client->unsent)) return;
        told_apart fx;
        const std::string bytes = it.in;
        auto *const linked = it.client;
        const bool counts = it.machine->state() != core::server_state::login;
        const auto used = it.machine->on_bytes(bytes, fx);
        require(used <= bytes.size(), "a server's machine took more than it was given");
        if (counts) it.said.passed(std::string_view(bytes).substr(0, used));
        static_cast<void>(it.machine->take_news());
        if (linked != nullptr) linked->machine->on_progress(world_.now, fx);
        deliver(it, fx, {});
        if (linked != nullptr) {
            deliver(*linked, fx, bytes, &it);
        } else {
            require(fx.to_client.empty(), "bytes for a client that is not there");
        }
        it.in.erase(0, used);
        it.during.erase(it.during.begin(), it.during.begin() + static_cast<std::ptrdiff_t>(used));
        act(it, fx);
    }
    void act(server_end &it, core::effects &fx) {
        const auto next = fx.client;
        switch (fx.server) {
            case core::server_next::none:
            case core::server_next::secure:
                break;
            case core::server_next::derive: {
                core::effects more;
                it.machine->on_derived(auth::do_work(it.machine->work()), more);
                deliver(it, more, {});
                return act(it, more);
            }
            case core::server_next::logged_in:
                it.out.forget_counts();
                return free_again(it);
            case core::server_next::login_failed:
                return bury(it, it.machine->error());
            case core::server_next::cancel:
                start_cancel(it);
                break;
            case core::server_next::errand_done:
            case core::server_next::release:
                return release(it);
            case core::server_next::lose:
                if (next == core::client_next::close && it.client != nullptr) {
                    auto *const client = it.client;
                    unlink(it);
                    lose(it);
                    client->server = nullptr;
                    return close(*client, core::parting::ended);
                }
                return lose(it);
        }
        if (it.client == nullptr) return;
        if (next == core::client_next::resume) pump(*it.client);
        if (next == core::client_next::close) close(*it.client, core::parting::ended);
    }
    void start_cancel(server_end &it) {
        if (!it.machine->begin_cancel()) return;
        require(!std::exchange(it.canceling, true), "two cancels at once for one server");
        tell("server", &it, "is canceled");
    }
    /// What a client left behind takes long.
    void insist(server_end &it) {
        if (it.lost || !it.machine->abandoned()) return;
        if (world_.now >= it.farewell_until) return lose(it);
        told_apart fx;
        it.machine->on_farewell_slow(fx);
        require(fx.to_client.empty(), "a farewell speaks to a client");
        deliver(it, fx, {});
        act(it, fx);
    }
    void release(server_end &it) {
        tell("server", &it, "is released");
        require(it.machine->clean(), "a server that is not clean is released");
        check_at_rest(it);
        ++releases;
        auto *const former = it.client;
        if (former != nullptr) {
            it.machine->unlink();
            unlink(it);
            former->server = nullptr;
            former->machine->on_released(world_.now);
            if (it.machine->settings().server_reset_query_always) {
                run(it, core::errand::reset, it.machine->settings().server_reset_query);
                return pump(*former);
            }
        }
        it.machine->same_identity() ? free_again(it) : lose(it);
        if (former != nullptr) pump(*former);
    }
    void free_again(server_end &it) {
        if (!auto_grant) return;
        for (auto &client : clients_) grant(it, *client);
    }
    void run(server_end &it, core::errand what, const std::string &sql) {
        told_apart fx;
        tell("server", &it, "runs", sql);
        it.machine->run(what, sql, fx);
        require(fx.to_client.empty(), "an errand speaks to a client");
        deliver(it, fx, {});
    }
    void lose(server_end &it) {
        if (std::exchange(it.lost, true)) return;
        tell("server", &it, "is lost");
        ++losses;
        // A Terminate is sent when the machine says that it may be.
        if (!it.machine->upload_open()) require(it.out.at_boundary(), "goodbye would be read as part of a message");
        auto *const client = std::exchange(it.client, nullptr);
        const bool told = it.machine->relaying_message() || it.machine->said_last_words();
        it.machine->close();
        if (client == nullptr) return;
        client->server = nullptr;
        if (client->gone) return;
        told_apart fx;
        client->machine->on_server_lost(told, fx);
        require(fx.to_server.empty(), "bytes for a server that is lost");
        deliver(*client, fx, {}, nullptr);
        require(fx.client == core::client_next::close, "a client outlives its server");
        close(*client, core::parting::ended);
    }
    /// The login failed: nobody was linked yet, but those who wait for their welcome may be told why.
    void bury(server_end &it, const core::login_error error) {
        it.lost = true;
        it.machine->close();
        for (auto &client : clients_) {
            if (client->gone || client->machine->state() != core::client_state::joining) continue;
            told_apart fx;
            client->machine->on_server_refused(error, fx);
            deliver(*client, fx, {}, nullptr);
            close(*client, core::parting::ended);
        }
    }

    /// Our own account of a server that nobody uses: from the bytes alone, without the machine's.
    void check_at_rest(server_end &it) {
        require(!it.canceling, "a cancel may still strike a free server");
        require(it.out.at_boundary(), "half a message of a client's is with a free server");
        require(!it.unsent, "a free server has not been sent everything");
        if (!it.said.at_boundary() || (it.said.messages() > 0 && it.said.count('Z') > 0 && it.said.status() != 'I'))
            fail("a free server is in a transaction, or in the middle of a message");
        const auto asked = it.out.count('Q') + it.out.count('S') + it.out.count('F');
        const auto answered = it.said.count('Z');
        require(answered <= asked, "a server answered more than it was asked, and is free");
        // An error lets it skip, and a COPY lets it eat, what would be answered otherwise.
        if (it.said.count('E') == 0 && it.said.count('G') == 0)
            require(answered == asked, "a free server owes an answer");
        if (it.model && it.honest)
            require(it.model->at_rest() && it.wire.empty() && it.in.empty(), "a free server is not at rest");
    }

    test::world &world_;
    core::shared_route route_;
    std::vector<std::unique_ptr<client_end>> clients_;
    std::vector<std::unique_ptr<server_end>> servers_;
    std::uint64_t next_id_ = 7;
    std::uint32_t links_ = 0;
};

}  // namespace pgsluice::fuzz
