// One thread and what it owns: an event loop, its clients and servers, their timers, and scratch memory.
// All but two counts is touched by this thread only; others reach it by post(). It carries out the ledger's orders.
// One worker more than serve is the lobby: there clients are until they ask for something (net/lobby.hpp).
#pragma once

#include <array>
#include <atomic>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/client_login.hpp"
#include "core/console_rows.hpp"
#include "core/console_session.hpp"
#include "core/login_lines.hpp"
#include "core/orders.hpp"
#include "core/statements.hpp"
#include "net/departures.hpp"
#include "net/mailbox.hpp"
#include "net/peer.hpp"
#include "net/random.hpp"
#include "net/ready_set.hpp"
#include "net/shared.hpp"
#include "net/timer_wheel.hpp"

namespace pgsluice::net {

class cancel_connection;
struct connection_cursor;
class client;
class server;
struct moving_server;
struct dialled;

/// Of a CancelRequest: called when it goes out, if it does, and when it has had its effect or has none, with what the
/// log says of it. On the worker of the client that is meant.
struct cancel_watch {
    std::function<void()> sent;
    std::function<void(std::string_view why)> over;
};

class worker {
public:
    /// One read takes at most this much; relayed bytes are sent straight from here.
    static constexpr std::size_t scratch_bytes = 64 * 1024;

    /// Of the lobby the index is that behind those who serve.
    enum class role : std::uint8_t { serves, lobby };

    worker(base::worker_index index, role, shared &, core::environment, tls_contexts);
    ~worker();

    // ---- any thread ----

    void start();
    /// Ends the loop; join() waits for the thread.
    void stop() {
        post([this] { stopping_ = true; });
    }
    void join() {
        if (thread_.joinable()) thread_.join();
    }
    template <class Task>
    void post(Task &&task) {
        mailbox_.put(std::forward<Task>(task));
    }
    void order(core::order);
    /// One end of a connection of the pooler's own, for auth_query: it is `user` without being asked to prove it.
    void adopt_own(int fd, const std::string &database, const std::string &user);
    /// Clients that have not come to rest since SUSPEND was ordered.
    std::size_t restless() const { return restless_.load(std::memory_order_relaxed); }
    void expect_rest() { restless_.store(not_counted, std::memory_order_relaxed); }
    /// A client is here, or in the lobby and will come here if it asks for something.
    void count_client() { load_.fetch_add(1, std::memory_order_relaxed); }
    std::size_t load() const { return load_.load(std::memory_order_relaxed); }
    /// Before it has begun: whether the kernel has io_uring for it.
    bool has_ring() const { return departures_.has_ring(); }

    // ---- this worker's thread ----

    ready_set &ready() { return ready_; }
    base::worker_index index() const { return index_; }
    bool is_lobby() const { return role_ == role::lobby; }
    shared &all() { return shared_; }
    const core::environment &env() const { return env_; }
    const config::global_settings &global() const { return env_.settings->global; }
    const tls_contexts &tls() const { return tls_; }
    timer_wheel &wheel() { return wheel_; }
    departures &departing() { return departures_; }
    /// Whose lines in the log are left out.
    core::login_lines &refused() { return refused_; }
    char *scratch() { return scratch_->bytes.data(); }
    /// The time of this wake-up; refresh() reads the clock, once for each.
    base::time_point now() const { return now_; }
    void refresh() { now_ = std::chrono::steady_clock::now(); }

    /// Connections leave by remove(); their objects live on until the round of events is over.
    void add(boost::intrusive_ptr<client>);
    void remove(const client &);
    /// The client moves from the lobby to its home when this round of events, or the next one, is over.
    void let_move(const client &);
    void add(boost::intrusive_ptr<server>);
    void remove(const server &);
    void keep(std::shared_ptr<cancel_connection>);
    void remove(const cancel_connection &);
    void receive(moving_server);
    /// The connection that one of our servers waits for, made or failed; nobody's if that server has gone.
    void dialled_to(base::server_id, dialled);
    /// The outcome of a step of a client's or server's handshake; nobody's if it has gone.
    void on_handshake(base::client_id, handshake_step);
    void on_handshake(base::server_id, handshake_step);
    /// The keys that one of our clients or servers waits for; nobody's if it has gone.
    void on_derived(base::client_id, const auth::scram_keys &);
    void on_derived(base::server_id, const auth::scram_keys &);
    /// What auth_query has found for one of our clients; nobody's if that client has gone.
    void secret_for(base::client_id, const core::secret_answer &);
    /// What PAM or LDAP says of the password of one of our clients; nobody's if that client has gone.
    void checked(base::client_id, const auth::password_verdict &);
    /// SUSPEND: nothing is read from clients, but for admins.
    void suspend(bool on);
    bool suspended() const { return suspended_; }
    /// suspend_timeout: those of our clients that have not come to rest go.
    void drop_restless();
    void use_settings(std::shared_ptr<const config::settings>, tls_contexts);
    /// What an admin's command has come to, or a part of it; nobody's if that client has gone.
    void console_rows(base::client_id, const core::console_rows &rows, std::shared_ptr<connection_cursor> next);
    void console_done(base::client_id, const core::console_outcome &);
    /// The next slice of a table of connections: those of this worker.
    core::console_rows list(connection_cursor &);
    /// How one of our clients calls itself, and what it does; "" if it has gone.
    struct description {
        std::string user, application, state;
    };
    description describe(base::client_id) const;
    const core::traffic_book &counted() const { return traffic_; }
    /// The host name that one of our clients waits for; nobody's if it has gone.
    void named(base::client_id, const std::optional<std::string> &name);
    /// A CancelRequest for one of our clients.
    void cancel(base::client_id, const cancel_watch &);
    /// Effects for one event, reused: events nest when a released server is granted on. Cleared when they are given
    /// back, so that a large one leaves no memory behind.
    class effects_lease {
    public:
        explicit effects_lease(worker &owner) : owner_(owner) {
            if (owner_.leases_ == owner_.effects_.size()) owner_.effects_.push_back(std::make_unique<core::effects>());
            it_ = owner_.effects_[owner_.leases_++].get();
        }
        ~effects_lease() {
            it_->clear();
            --owner_.leases_;
        }
        effects_lease(const effects_lease &) = delete;
        effects_lease &operator=(const effects_lease &) = delete;
        core::effects &operator*() { return *it_; }
        core::effects *operator->() { return it_; }

    private:
        worker &owner_;
        core::effects *it_;
    };

private:
    void carry_out(core::order &);
    /// Null if it is not, or has gone. Kept alive by the caller, whatever it does to it.
    boost::intrusive_ptr<client> client_here(base::client_id) const;
    template <class Use>
    void with_client(base::client_id, Use);
    void move_clients();
    void find_secret(const core::order &);
    void loop();
    template <class Step>
    void go_on_after(Step);

    base::worker_index index_;
    role role_;
    shared &shared_;
    core::environment env_;
    tls_contexts tls_;
    openssl_random random_;
    system_facts facts_;
    core::statement_store statements_{index_};
    core::login_pace pace_;
    core::derived_keys derived_;
    core::login_lines refused_;
    core::traffic_book traffic_;
    ready_set ready_;
    mailbox mailbox_;
    bool stopping_ = false, suspended_ = false;
    base::time_point now_;
    timer_wheel wheel_;
    /// Begins with a page: what the kernel copies to a place within a cache line costs more.
    struct alignas(4096) scratch_pages {
        std::array<char, scratch_bytes> bytes;
    };
    std::unique_ptr<scratch_pages> scratch_;
    departures departures_;
    std::vector<std::unique_ptr<core::effects>> effects_;
    std::size_t leases_ = 0;  ///< the first so many of them are in use
    std::unordered_map<base::client_id, boost::intrusive_ptr<client>> clients_;
    std::unordered_map<base::server_id, boost::intrusive_ptr<server>> servers_;
    std::unordered_map<const cancel_connection *, std::shared_ptr<cancel_connection>> cancels_;
    std::vector<std::shared_ptr<cancel_connection>> buried_cancels_;
    std::vector<boost::intrusive_ptr<client>> buried_clients_;
    std::vector<base::client_id> moving_clients_;
    std::vector<boost::intrusive_ptr<server>> buried_servers_;
    static constexpr auto not_counted = static_cast<std::size_t>(-1);
    void count_restless();
    void tell_of_left_out(base::time_point now);
    std::atomic<std::size_t> load_{0}, restless_{0};
    std::thread thread_;
};

template <class Use>
auto shared::with_ledger(Use &&use) {
    core::orders out;
    const auto hand_out = [&] {
        for (auto &it : out) {
            auto &to = *workers[it.worker];
            to.order(std::move(it));
        }
    };
    if constexpr (std::is_void_v<decltype(use(ledger, out))>) {
        {
            const std::lock_guard lock(mutex);
            use(ledger, out);
        }
        hand_out();
    } else {
        auto result = [&] {
            const std::lock_guard lock(mutex);
            return use(ledger, out);
        }();
        hand_out();
        return result;
    }
}

}  // namespace pgsluice::net
