// The pooler without sockets and threads: what src/net does around the machines of src/core, over simulated wires, with
// several workers that talk by messages. A message arrives later, in order for each pair of workers. The driver mirrors
// net/client.cpp and net/server.cpp; where they decide nothing, this decides nothing.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/client_session.hpp"
#include "core/ledger.hpp"
#include "core/server_session.hpp"
#include "sim/backend.hpp"
#include "sim/player.hpp"
#include "sim/wire.hpp"

namespace pgsluice::sim {

class pooler;
class server_driver;

/// The far end of a server connection; it travels with the connection.
struct server_end {
    wire link;
    std::unique_ptr<backend> peer;
};

/// Sends what there is room for and keeps the rest.
class sender {
public:
    explicit sender(wire &link) : wire_(&link) {}
    void send(const core::outbox &box);
    bool flush();  ///< true: everything is sent
    std::size_t unsent_bytes() const { return unsent_.size(); }

private:
    wire *wire_;
    std::string unsent_;
};

class client_driver {
public:
    client_driver(pooler &, base::worker_index, int number, std::string user, std::string database, player::habits);

    void read(std::size_t most);
    void sendable();
    void on_time();

    void pump();
    void take(server_driver &);
    void let_go();
    void server_lost(bool told);
    void end_with_server();
    bool deliver(const core::effects &);
    void welcome(const core::welcome &);
    void refuse(core::refusal, std::string_view argument);
    void refuse_by_server(const core::login_error &);
    void reroute() {
        if (!gone_) session_.on_rerouted(seat_->route);
    }
    void cancel(std::function<void()> done);
    void close(core::parting how = core::parting::ended);

    bool blocked() const { return out_.unsent_bytes() > 0; }
    bool gone() const { return gone_; }
    core::client_session &session() { return session_; }
    const core::client_seat *seat() const { return seat_; }
    server_driver *server() { return server_; }
    base::worker_index worker() const { return worker_; }

    wire link;
    player app;

private:
    void feed(server_driver *granted);
    bool joined(server_driver &, core::effects &);
    bool step(core::effects &);
    bool admit(core::effects &);
    bool join(core::effects &);
    bool want(core::effects &);
    void greet(const core::welcome &, core::effects &);

    pooler &pooler_;
    base::worker_index worker_;
    sender out_;
    core::client_seat *seat_;
    core::client_session session_;
    server_driver *server_ = nullptr;
    std::string in_;
    bool gone_ = false;
};

class server_driver {
public:
    server_driver(pooler &, const core::order &);
    /// Takes over what has moved.
    server_driver(server_driver &&from, base::worker_index);

    void connected();
    void connect_failed(const core::login_error &);
    void settle(base::client_id for_client);
    void read(std::size_t most);
    void sendable();
    void on_time();

    void link_to(client_driver &it) { client_ = &it; }
    void client_gone(core::parting, std::string_view why);
    bool deliver(const core::effects &);
    void go_on() { feed(); }  ///< the linked client takes bytes again
    void check();
    void move_to(base::worker_index, base::client_id for_client);
    void cancel(std::function<void()> done);
    /// The cancel connection has come to its end.
    void cancel_over(bool in_time);
    void start_cancel();
    void answer_cancels();
    void lose();
    void release();

    bool blocked() const { return out_.unsent_bytes() > 0; }
    bool connecting() const { return !connected_; }
    bool gone() const { return closed_; }
    core::server_session &session() { return *session_; }
    base::server_id id() const { return id_; }
    base::worker_index worker() const { return worker_; }

    std::shared_ptr<server_end> end;

private:
    void feed();
    void act(core::effects &);
    void hand_on(const core::handing_on &);
    void run(core::errand, const std::string &sql);
    void login_failed(const core::login_error &);
    void finish();

    pooler &pooler_;
    base::worker_index worker_;
    core::server_seat *seat_;
    base::server_id id_;
    std::unique_ptr<core::server_session> session_;
    sender out_;
    client_driver *client_ = nullptr;
    base::time_point deadline_ = base::never;
    base::time_point insist_at_ = base::never;
    std::vector<std::pair<std::uint64_t, std::function<void()>>> cancels_;
    std::string in_;
    bool connected_ = false, draining_ = false, closed_ = false;
};

class pooler final : public core::random_source {
public:
    pooler(std::shared_ptr<const config::settings>, std::uint32_t workers, dice &);

    std::string bytes(std::size_t count) override;

    // ---- the world acts ----

    client_driver &connect(int number, const std::string &user, const std::string &database, player::habits);
    /// Delivers one message between workers; false when there is none.
    bool deliver_message();
    void tick();
    void reload(std::shared_ptr<const config::settings>);
    void cancel_by_key(std::uint32_t pid, const std::string &secret);
    /// A cancel on its way to a backend arrives, or is lost.
    bool deliver_cancel();
    /// Runs `act` as an event of `worker`.
    template <class Act>
    void on(base::worker_index worker, Act &&act) {
        here_ = worker;
        act();
        clean_up();
    }

    template <class Use>
    auto with_ledger(Use &&use) {
        core::orders out;
        touched = true;
        if constexpr (std::is_void_v<decltype(use(ledger, out))>) {
            use(ledger, out);
            note_waiters();
            hand_out(out);
        } else {
            auto result = use(ledger, out);
            note_waiters();
            hand_out(out);
            return result;
        }
    }
    void post(base::worker_index to, std::function<void()>);
    /// A waiter was put in the queue; who is overtaken too often is a fault.
    void note_want(const core::client_seat &);

    core::ledger ledger;
    core::statement_store statements;
    core::known_starts starts;
    core::environment env;
    dice &luck;
    base::time_point now{std::chrono::hours(1000)};
    base::worker_index workers;
    std::unordered_map<base::client_id, std::unique_ptr<client_driver>> clients;
    std::unordered_map<base::server_id, std::unique_ptr<server_driver>> servers;
    std::vector<server_driver *> dialing;  ///< to be connected, or not, by the world
    std::string fault;                     ///< the first thing that went wrong
    bool touched = false;                  ///< the ledger was called since the last look
    bool changed = true;                   ///< clients or servers came, went or moved
    int moves = 0, grants = 0, checks = 0, cancels_sent = 0, refusals = 0, farewells = 0, kept = 0, own_servers = 0;
    void forget(client_driver &);
    void bury(server_driver &);
    std::unique_ptr<server_driver> lift(server_driver &);
    void start_cancel(std::shared_ptr<server_end>, base::server_id, std::function<bool()> still);

private:
    void hand_out(core::orders &);
    void order(core::order);
    void carry_out(core::order &);
    void carry_out_for_client(core::order &);
    void note_waiters();
    void clean_up();

    base::worker_index here_ = 0;
    std::vector<std::deque<std::function<void()>>> queues_;  ///< from * workers + to
    std::vector<std::unique_ptr<client_driver>> dead_clients_;
    std::vector<std::unique_ptr<server_driver>> dead_servers_;
    struct canceling {
        std::shared_ptr<server_end> at;
        base::server_id server;
        std::function<bool()> still;
        bool sent = false, strikes = false, given_up = false;
    };
    void end_cancel(base::server_id, bool in_time);
    std::vector<canceling> cancels_;
    struct waiter {
        base::client_id id;
        const void *pool;
        std::uint64_t ticket;
        std::uint64_t overtaken;
    };
    std::vector<waiter> waiters_;
};

}  // namespace pgsluice::sim
