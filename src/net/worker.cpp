// The worker's loop, its tables of connections, and the orders it carries out.
#include "net/worker.hpp"

#include "net/cancel_connection.hpp"
#include "net/client.hpp"
#include "net/log.hpp"
#include "net/secret_lookup.hpp"
#include "net/server.hpp"

namespace pgsluice::net {

worker::worker(base::worker_index index, shared &all, core::environment env, tls_contexts tls)
    : index_(index),
      shared_(all),
      env_(std::move(env)),
      tls_(std::move(tls)),
      now_(std::chrono::steady_clock::now()),
      wheel_(now_),
      scratch_(std::make_unique<char[]>(scratch_bytes)) {
    env_.random = &random_;
    env_.host = &facts_;
    env_.statements = &statements_;
    env_.starts = &starts_;
    env_.pace = &pace_;
    env_.traffic = &traffic_;
}

worker::~worker() = default;

void worker::start() {
    ready_.add(mailbox_, mailbox_.fd(), EPOLLIN);
    thread_ = std::thread([this] { loop(); });
}

void worker::loop() {
    auto next_tick = now_ + timer_wheel::tick;
    while (!stopping_) {
        try {
            const auto left = std::chrono::ceil<base::milliseconds>(next_tick - std::chrono::steady_clock::now());
            ready_.wait(left, [this] { refresh(); });
            if (now_ >= next_tick) {
                wheel_.advance(now_);
                next_tick = now_ + timer_wheel::tick;
            }
        } catch (const std::exception &problem) {
            // One event went wrong; the other connections of this worker go on.
            log::error("internal error on worker {}: {}", index_, problem.what());
        }
        buried_clients_.clear();
        buried_servers_.clear();
        buried_cancels_.clear();
    }
    cancels_.clear();
    clients_.clear();
    servers_.clear();
}

void worker::adopt(int fd, bool tcp) {
    load_.fetch_add(1, std::memory_order_relaxed);
    post([this, socket = std::make_shared<stream>(fd), tcp] {
        const boost::intrusive_ptr it(new client(*this, std::move(*socket), tcp));
        add(it);
        it->start();
    });
}

void worker::adopt_own(int fd, const std::string &database, const std::string &user) {
    load_.fetch_add(1, std::memory_order_relaxed);
    post([this, socket = std::make_shared<stream>(fd), database, user] {
        const boost::intrusive_ptr it(new client(*this, std::move(*socket), false));
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
    load_.fetch_sub(1, std::memory_order_relaxed);
    buried_clients_.push_back(std::move(found->second));
    clients_.erase(found);
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

void worker::secret_for(base::client_id id, const core::secret_answer &answer) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) return;
    const boost::intrusive_ptr keep(found->second);
    keep->on_secret(answer);
}

void worker::checked(base::client_id id, const auth::password_verdict &verdict) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) return;
    const boost::intrusive_ptr keep(found->second);
    keep->on_checked(verdict);
}

void worker::on_handshake(base::client_id id, handshake_step step) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) return;
    const boost::intrusive_ptr keep(found->second);
    keep->on_handshake(std::move(step));
}

void worker::on_handshake(base::server_id id, handshake_step step) {
    const auto found = servers_.find(id);
    if (found == servers_.end()) return;
    const boost::intrusive_ptr keep(found->second);
    keep->on_handshake(std::move(step));
}

void worker::on_derived(base::client_id id, const auth::scram_keys &keys) {
    const auto found = clients_.find(id);
    if (found == clients_.end()) return;
    const boost::intrusive_ptr keep(found->second);
    keep->on_derived(keys);
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
    const auto it = clients_.find(id);
    if (it == clients_.end()) return;
    const boost::intrusive_ptr keep(it->second);
    keep->named(name);
}

void worker::suspend(bool on) {
    suspended_ = on;
    for (const auto &[id, it] : clients_) it->suspend_or_go_on();
}

void worker::console_rows(base::client_id id, const core::console_rows &rows, std::shared_ptr<connection_cursor> next) {
    const auto it = clients_.find(id);
    if (it == clients_.end()) return;
    const boost::intrusive_ptr keep(it->second);
    keep->on_console_rows(rows, std::move(next));
}

void worker::console_done(base::client_id id, const core::console_outcome &outcome) {
    const auto it = clients_.find(id);
    if (it == clients_.end()) return;
    const boost::intrusive_ptr keep(it->second);
    keep->on_console_done(outcome);
}

void worker::cancel(base::client_id id, std::function<void()> done) {
    const auto it = clients_.find(id);
    if (it == clients_.end()) return done();
    const boost::intrusive_ptr keep(it->second);
    keep->cancel(std::move(done));
}

// ---- orders ----

void worker::order(core::order it) {
    // What ends or changes a client never happens below a call of that very client: always from the loop.
    const bool of_server = it.what == core::order::kind::open || it.what == core::order::kind::close ||
                           it.what == core::order::kind::check || it.what == core::order::kind::move;
    if (of_server && std::this_thread::get_id() == thread_.get_id()) return carry_out(it);
    post([this, it = std::move(it)]() mutable { carry_out(it); });
}

void worker::carry_out(core::order &it) {
    if (it.what == core::order::kind::open) {
        const boost::intrusive_ptr fresh(new server(*this, it));
        add(fresh);
        return fresh->connect();
    }
    if (it.what == core::order::kind::find_secret) return find_secret(it);
    if (!it.server) return carry_out_for_client(it);
    const auto found = servers_.find(it.server);
    if (found == servers_.end()) return;
    const boost::intrusive_ptr keep(found->second);
    switch (it.what) {
        case core::order::kind::close:
            return keep->drop(it.why);
        case core::order::kind::check:
            return keep->check();
        case core::order::kind::move:
            return keep->move_to(it.to, it.client);
        default:
            return;
    }
}

/// Not for a client: for a pool whose server has refused what was found.
void worker::find_secret(const core::order &it) {
    log::info("auth_query is asked again for user \"{}\" in database \"{}\": a server has refused what it found",
              it.question->user, it.question->database);
    shared_.lookups->find(*it.question, [&all = shared_, pool = it.pool](const core::secret_answer &answer) {
        all.with_ledger([&](core::ledger &ledger, core::orders &orders) {
            ledger.found_anew(pool, answer, std::chrono::steady_clock::now(), orders);
        });
    });
}

void worker::carry_out_for_client(core::order &it) {
    const auto found = clients_.find(it.client);
    if (found == clients_.end()) return;
    const boost::intrusive_ptr keep(found->second);
    switch (it.what) {
        case core::order::kind::welcome:
            return keep->welcome(*it.greeting);
        case core::order::kind::refuse:
            return keep->refuse(it.refused, it.argument);
        case core::order::kind::refuse_by_server:
            return keep->refuse_by_server(*it.error);
        case core::order::kind::reroute:
            return keep->reroute(std::move(it.new_route));
        case core::order::kind::drop:
            return keep->drop("cancel request");
        default:
            return;
    }
}

}  // namespace pgsluice::net
