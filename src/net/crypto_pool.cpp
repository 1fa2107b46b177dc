// The queue and its threads.
#include "net/crypto_pool.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "net/log.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

namespace {

/// Where a handshake and a query want the same CPU, the query goes first (setpriority(2), of this thread alone on
/// Linux).
constexpr int niceness = 5;

}  // namespace

struct crypto_pool::handshake_task final : task {
    handshake_task(std::unique_ptr<tls_session> it, std::string bytes, std::function<void(handshake_step)> call)
        : from_peer(std::move(bytes)), done(std::move(call)) {
        step.session = std::move(it);
    }
    void compute() override { step.came_to = step.session->shake_hands(from_peer, step.to_peer, step.plain); }
    void tell() override { done(std::move(step)); }
    std::string from_peer;
    std::function<void(handshake_step)> done;
    handshake_step step;
};

struct crypto_pool::derivation final : task {
    derivation(auth::scram_work it, std::function<void(const auth::scram_keys &)> call)
        : work(std::move(it)), done(std::move(call)) {}
    void compute() override { keys = auth::do_work(work); }
    void tell() override { done(keys); }
    auth::scram_work work;
    auth::scram_keys keys;
    std::function<void(const auth::scram_keys &)> done;
};

bool crypto_pool::run(worker &home, whose side, std::unique_ptr<tls_session> session, std::string from_peer,
                      std::function<void(handshake_step)> done) {
    return put(home, side, std::make_unique<handshake_task>(std::move(session), std::move(from_peer), std::move(done)),
               waiting_max);
}

bool crypto_pool::derive(worker &home, whose side, auth::scram_work work,
                         std::function<void(const auth::scram_keys &)> done) {
    return put(home, side, std::make_unique<derivation>(std::move(work), std::move(done)), derivations_max);
}

bool crypto_pool::put(worker &home, whose side, std::unique_ptr<task> it, std::size_t most) {
    {
        const std::lock_guard lock(mutex_);
        auto &line = side == whose::server ? of_servers_ : of_clients_;
        if (stopping_ || line.size() >= most) return false;
        if (threads_.empty()) {
            // Signals are the control thread's.
            sigset_t all, before;
            sigfillset(&all);
            pthread_sigmask(SIG_BLOCK, &all, &before);
            for (std::uint32_t i = 0; i < wanted_; ++i) threads_.emplace_back([this] { loop(); });
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
        }
        it->home = &home;
        line.push_back(std::move(it));
    }
    more_.notify_one();
    return true;
}

void crypto_pool::loop() {
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), niceness);
    for (;;) {
        std::unique_ptr<task> next;
        {
            std::unique_lock lock(mutex_);
            more_.wait(lock, [this] { return stopping_ || !of_clients_.empty() || !of_servers_.empty(); });
            if (stopping_) return;
            auto &line = of_servers_.empty() ? of_clients_ : of_servers_;
            next = std::move(line.front());
            line.pop_front();
        }
        try {
            next->compute();
        } catch (const std::exception &problem) {
            // A handshake counts as failed then; keys are of zeros, which fit nobody.
            log::error("internal error in a login: {}", problem.what());
        }
        auto &home = *next->home;
        home.post([next = std::move(next)]() mutable { next->tell(); });
    }
}

void crypto_pool::stop() {
    std::vector<std::thread> ending;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        of_clients_.clear();
        of_servers_.clear();
        ending.swap(threads_);
    }
    more_.notify_all();
    for (auto &it : ending) it.join();
}

}  // namespace pgsluice::net
