// The worker's loop, its tables of connections, and the orders it carries out.
#include "net/worker.hpp"

#include "net/cancel_connection.hpp"
#include "net/client.hpp"
#include "net/log.hpp"
#include "net/secret_lookup.hpp"
#include "net/server.hpp"
#include "net/thread_rank.hpp"
#include "net/thread_start.hpp"

namespace pgsluice::net {

namespace {

thread_local const worker *of_this_thread = nullptr;

void carry_out_for(client &whose, core::order &it) {
    switch (it.what) {
        case core::order::kind::welcome:
            return whose.welcome(*it.greeting);
        case core::order::kind::refuse:
            return whose.refuse(it.refused, it.argument);
        case core::order::kind::refuse_by_server:
            return whose.refuse_by_server(*it.error);
        case core::order::kind::reroute:
            return whose.reroute();
        case core::order::kind::forward_cancel:
            return whose.hand_to_peer(*it.forward_to);
        case core::order::kind::drop:
            return whose.drop(it.why);
        default:
            return;
    }
}

}  // namespace

worker::worker(base::worker_index index, role what, shared &all, core::environment env, tls_contexts tls)
    : index_(index),
      role_(what),
      shared_(all),
      env_(std::move(env)),
      tls_(std::move(tls)),
      now_(std::chrono::steady_clock::now()),
      wheel_(now_),
      scratch_(std::make_unique<scratch_pages>()),
      departures_(global().io_uring) {
    env_.random = &random_;
    env_.host = &facts_;
    env_.statements = &statements_;
    env_.starts = &all.starts;
    env_.pace = &pace_;
    env_.derived = &derived_;
    env_.traffic = &traffic_;
}

worker::~worker() = default;

void worker::start() {
    ready_.add(mailbox_, mailbox_.fd(), EPOLLIN);
    thread_ = start_thread(is_lobby() ? "lobby" : "worker " + std::to_string(index_), [this] { loop(); });
}

/// One event that goes wrong is logged; the others, and the other connections of this worker, go on.
template <class Step>
void worker::go_on_after(Step step) {
    try {
        step();
    } catch (const std::exception &problem) {
        log::error("internal error on worker {}: {}", index_, problem.what());
    }
}

void worker::loop() {
    of_this_thread = this;
    if (is_lobby()) stand_behind_queries();
    auto next_tick = now_ + timer_wheel::tick;
    bool moving = false;
    while (!stopping_) {
        moving = !moving_clients_.empty();
        const auto left = std::chrono::ceil<base::milliseconds>(next_tick - now_);
        go_on_after([&] { ready_.wait(moving ? base::milliseconds::zero() : left, [this] { refresh(); }); });
        if (now_ >= next_tick) {
            next_tick = now_ + timer_wheel::tick;
            go_on_after([this] { wheel_.advance(now_); });
            go_on_after([this] {
                if (restless() > 0) count_restless();
                tell_of_left_out(now_);
            });
        }
        go_on_after([this] { departures_.end_round(); });
        // Those of two rounds go together: to wake up their home costs more than to hand one over.
        if (moving) go_on_after([this] { move_clients(); });
        buried_clients_.clear();
        buried_servers_.clear();
        buried_cancels_.clear();
    }
    tell_of_left_out(base::time_point::max());
    cancels_.clear();
    clients_.clear();
    servers_.clear();
}

void worker::tell_of_left_out(base::time_point now) {
    std::string kinds;
    for (const auto &[why, count] : refused_.left_out(now))
        kinds += (kinds.empty() ? "" : ", ") + std::to_string(count) + " of \"" + why + "\"";
    if (!kinds.empty()) log::warning("clients that did not log in, left out of the log within one second: {}", kinds);
}

void worker::adopt_own(int fd, const std::string &database, const std::string &user) {
    count_client();
    post([this, socket = std::make_shared<stream>(fd), database, user] {
        const boost::intrusive_ptr it(new client(*this, index_, std::move(*socket), false));
        add(it);
        it->start_as(database, user);
    });
}

void worker::add(boost::intrusive_ptr<client> it) {
    clients_.emplace(it->id(), std::move(it));
}
void worker::add(boost::intrusive_ptr<server> it) {
    servers_.emplace(it->id(), std::move(it));
}

void worker::remove(const client &it) {
    const auto found = clients_.find(it.id());
    if (found == clients_.end()) return;
    shared_.workers[it.home()]->load_.fetch_sub(1, std::memory_order_relaxed);
    buried_clients_.push_back(std::move(found->second));
    clients_.erase(found);
}

void worker::let_move(const client &it) {
    moving_clients_.push_back(it.id());
}

/// Nothing of their round is left that knows them: each goes as it is, and its home's thread is the next to touch it.
void worker::move_clients() {
    std::vector<worker *> to_wake;
    each_its_turn each;
    for (const auto id : moving_clients_) {
        each.run([&] {
            const auto found = clients_.find(id);
            if (found == clients_.end() || !found->second->leave_lobby()) return;
            auto it = std::move(found->second);
            clients_.erase(found);
            auto &home = *shared_.workers[it->home()];
            const bool first = home.mailbox_.leave([&home, it = std::move(it)] {
                home.add(it);
                it->arrive(home);
            });
            if (first) to_wake.push_back(&home);
        });
    }
    moving_clients_.clear();
    for (auto *const it : to_wake) it->mailbox_.wake();
    each.tell();
}

void worker::remove(const server &it) {
    const auto found = servers_.find(it.id());
    if (found == servers_.end()) return;
    buried_servers_.push_back(std::move(found->second));
    servers_.erase(found);
}

void worker::keep(std::shared_ptr<cancel_connection> it) {
    const auto *const key = it.get();
    cancels_.emplace(key, std::move(it));
}

void worker::remove(const cancel_connection &it) {
    const auto found = cancels_.find(&it);
    if (found == cancels_.end()) return;
    buried_cancels_.push_back(std::move(found->second));
    cancels_.erase(found);
}

void worker::receive(moving_server it) {
    const auto for_client = it.for_client;
    const boost::intrusive_ptr arrived(new server(*this, std::move(it)));
    add(arrived);
    arrived->settle(for_client);
}

void worker::dialled_to(base::server_id id, dialled result) {
    const auto found = servers_.find(id);
    if (found != servers_.end()) return found->second->on_dialled(std::move(result));
    stream nobody(result.fd);
}

boost::intrusive_ptr<client> worker::client_here(base::client_id id) const {
    const auto found = clients_.find(id);
    return found == clients_.end() ? nullptr : found->second;
}

void worker::secret_for(base::client_id id, const core::secret_answer &answer) {
    if (const auto it = client_here(id)) it->on_secret(answer);
}

void worker::checked(base::client_id id, const auth::password_verdict &verdict) {
    if (const auto it = client_here(id)) it->on_checked(verdict);
}

void worker::on_handshake(base::client_id id, handshake_step step) {
    if (const auto it = client_here(id)) it->on_handshake(std::move(step));
}

void worker::on_handshake(base::server_id id, handshake_step step) {
    const auto found = servers_.find(id);
    if (found == servers_.end()) return;
    const boost::intrusive_ptr keep(found->second);
    keep->on_handshake(std::move(step));
}

void worker::on_derived(base::client_id id, const auth::scram_keys &keys) {
    if (const auto it = client_here(id)) it->on_derived(keys);
}

void worker::on_derived(base::server_id id, const auth::scram_keys &keys) {
    const auto found = servers_.find(id);
    if (found == servers_.end()) return;
    const boost::intrusive_ptr keep(found->second);
    keep->on_derived(keys);
}

void worker::use_settings(std::shared_ptr<const config::settings> settings, tls_contexts tls) {
    env_.settings = std::move(settings);
    tls_ = std::move(tls);
}

void worker::named(base::client_id id, const std::optional<std::string> &name) {
    if (const auto it = client_here(id)) it->named(name);
}

void worker::suspend(bool on) {
    suspended_ = on;
    std::vector<boost::intrusive_ptr<client>> all;  // some may close themselves
    for (const auto &[id, it] : clients_) all.push_back(it);
    for (const auto &it : all) on ? it->suspend() : it->go_on();
    count_restless();
}

void worker::count_restless() {
    departures_.send();  // what the kernel does not take of it is not at rest
    std::size_t count = 0;
    if (suspended_)
        for (const auto &[id, it] : clients_) count += it->at_rest() ? 0 : 1;
    restless_.store(count, std::memory_order_relaxed);
}

void worker::drop_restless() {
    std::vector<boost::intrusive_ptr<client>> late;
    for (const auto &[id, it] : clients_)
        if (suspended_ && !it->at_rest()) late.push_back(it);
    for (const auto &it : late) it->refuse(core::refusal::suspend_timeout, {});
}

void worker::console_rows(base::client_id id, const core::console_rows &rows, std::shared_ptr<connection_cursor> next) {
    if (const auto it = client_here(id)) it->on_console_rows(rows, std::move(next));
}

void worker::console_done(base::client_id id, const core::console_outcome &outcome) {
    if (const auto it = client_here(id)) it->on_console_done(outcome);
}

/// Calls `use` with the client, or null if it has gone, on the thread that it belongs to. It is asked for at its home,
/// may be in the lobby, and may have come home meanwhile: a mailbox keeps the order.
template <class Use>
void worker::with_client(base::client_id id, Use use) {
    if (const auto it = client_here(id)) return use(it.get());
    if (is_lobby()) return use(static_cast<client *>(nullptr));
    auto &lobby = shared_.lobby();
    lobby.post([this, &lobby, id, use = std::move(use)]() mutable {
        if (lobby.clients_.contains(id)) return lobby.with_client(id, std::move(use));
        post([this, id, use = std::move(use)]() mutable { use(client_here(id).get()); });
    });
}

void worker::cancel(base::client_id id, const cancel_watch &watch) {
    with_client(id, [watch](client *it) { it == nullptr ? watch.over(core::cancel_failed) : it->cancel(watch); });
}

// ---- orders ----

void worker::order(core::order it) {
    // What ends or changes a client never happens below a call of that very client: always from the loop.
    const bool of_server = it.what == core::order::kind::open || it.what == core::order::kind::close ||
                           it.what == core::order::kind::check || it.what == core::order::kind::move;
    if (of_server && of_this_thread == this) return carry_out(it);
    post([this, it = std::move(it)]() mutable { carry_out(it); });
}

void worker::carry_out(core::order &it) {
    if (it.what == core::order::kind::open) {
        const boost::intrusive_ptr fresh(new server(*this, it));
        add(fresh);
        if (it.client)
            with_client(it.client, [](client *whose) {
                if (whose != nullptr) log::warning("{} taking connection from reserve_pool", whose->name());
            });
        // An order to close it may have come ahead of this one, and have found nobody.
        const bool closed =
            shared_.with_ledger([&](core::ledger &ledger, core::orders &) { return ledger.close_needed(fresh->id()); });
        return closed ? fresh->drop("close_needed") : fresh->connect();
    }
    if (it.what == core::order::kind::find_secret) return find_secret(it);
    if (!it.server) {
        const auto id = it.client;
        return with_client(id, [it = std::move(it)](client *whose) mutable {
            if (whose != nullptr) carry_out_for(*whose, it);
        });
    }
    const auto found = servers_.find(it.server);
    if (found == servers_.end()) return;
    const boost::intrusive_ptr keep(found->second);
    switch (it.what) {
        case core::order::kind::close:
            return keep->drop(it.why);
        case core::order::kind::check:
            return keep->check();
        case core::order::kind::end_session:
            return keep->end_session(it.refused);
        case core::order::kind::move:
            return keep->move_to(it.to, it.client);
        default:
            return;
    }
}

/// Not for a client: for a pool whose server wants another secret than it has, or one at all.
void worker::find_secret(const core::order &it) {
    log::info("auth_query is asked for user \"{}\" in database \"{}\": {}", it.question->user, it.question->database,
              it.why);
    shared_.lookups->find(*it.question, [&all = shared_, pool = it.pool](const core::secret_answer &answer) {
        all.with_ledger([&](core::ledger &ledger, core::orders &orders) {
            ledger.found_anew(pool, answer, std::chrono::steady_clock::now(), orders);
        });
    });
}

}  // namespace pgsluice::net
