// The queue and its threads.
#include "net/crypto_pool.hpp"

#include <spdlog/fmt/fmt.h>

#include <system_error>

#include "net/log.hpp"
#include "net/thread_rank.hpp"
#include "net/thread_start.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

/// Where a task waits.
struct crypto_pool::place {
    crypto_pool::line &in;
    std::string whose;
};

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

crypto_pool::ticket crypto_pool::run(worker &home, const asker &who, std::unique_ptr<tls_session> session,
                                     std::string from_peer, std::function<void(handshake_step)> done) {
    return put(home, who.of == side::server ? of_servers_ : handshakes_, who.name,
               std::make_unique<handshake_task>(std::move(session), std::move(from_peer), std::move(done)),
               waiting_max);
}

crypto_pool::ticket crypto_pool::derive(worker &home, const asker &who, auth::scram_work work,
                                        std::function<void(const auth::scram_keys &)> done) {
    const bool of_server = who.of == side::server;
    auto &where = work.iterations >= dear_iterations ? (of_server ? dear_of_servers_ : dear_)
                  : of_server                        ? of_servers_
                                                     : derivations_;
    return put(home, where, who.name, std::make_unique<derivation>(std::move(work), std::move(done)), derivations_max);
}

crypto_pool::ticket crypto_pool::put(worker &home, line &where, const std::string &whose, std::unique_ptr<task> it,
                                     std::size_t most) {
    auto mine = std::make_shared<const place>(place{where, whose});
    it->home = &home;
    it->mine = mine;
    {
        const std::lock_guard lock(mutex_);
        if (stopping_) return nullptr;
        if (threads_.size() <= wanted_) add_threads();
        if (where.size() >= most) complain("too many wait for it");
        if (threads_.empty() || where.size() >= most) return nullptr;
        where.push(whose, std::move(it));
    }
    more_.notify_one();
    return mine;
}

/// Where fewer are to be had, those must do, and the next task asks for more.
void crypto_pool::add_threads() {
    threads_.reserve(wanted_ + 1);
    try {
        while (threads_.size() <= wanted_) threads_.push_back(start_thread("crypto", [this] { loop(); }));
    } catch (const std::system_error &problem) {
        complain(fmt::format("{} of {} threads run, no more are to be had: {}", threads_.size(), wanted_ + 1,
                             problem.what()));
    }
}

/// Once a second.
void crypto_pool::complain(std::string_view why) {
    const auto now = std::chrono::steady_clock::now();
    if (now < complained_at_ + base::seconds(1)) return;
    complained_at_ = now;
    log::warning("short of threads for TLS handshakes and passwords: {}", why);
}

void crypto_pool::forget(ticket &held) {
    const auto it = std::exchange(held, nullptr);
    if (!it) return;
    const std::lock_guard lock(mutex_);
    it->in.remove(it->whose, [&](const auto &waiting) { return waiting->mine == it; });
}

/// Null: nothing waits that may be computed now.
crypto_pool::line *crypto_pool::next_line() {
    if (!of_servers_.empty()) return &of_servers_;
    if (!handshakes_.empty() && !derivations_.empty()) derivations_next_ = !derivations_next_;
    const bool derives = handshakes_.empty() || (!derivations_.empty() && derivations_next_);
    if (auto &one = derives ? derivations_ : handshakes_; !one.empty()) return &one;
    if (computing_dear_ >= dear_at_once()) return nullptr;
    return !dear_of_servers_.empty() ? &dear_of_servers_ : !dear_.empty() ? &dear_ : nullptr;
}

void crypto_pool::loop() {
    stand_behind_queries();
    for (;;) {
        std::unique_ptr<task> next;
        bool dear = false;
        {
            std::unique_lock lock(mutex_);
            line *from = nullptr;
            more_.wait(lock, [&] { return stopping_ || (from = next_line()) != nullptr; });
            if (stopping_) return;
            next = from->pop();
            dear = from == &dear_ || from == &dear_of_servers_;
            if (dear) ++computing_dear_;
        }
        try {
            next->compute();
        } catch (const std::exception &problem) {
            // A handshake counts as failed then; keys are of zeros, which fit nobody.
            log::error("internal error in a login: {}", problem.what());
        }
        if (dear) {
            // Whoever may take the next one of these is awake: it is us.
            const std::lock_guard lock(mutex_);
            --computing_dear_;
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
        for (auto *it : {&of_servers_, &handshakes_, &derivations_, &dear_of_servers_, &dear_}) it->clear();
        ending.swap(threads_);
    }
    more_.notify_all();
    for (auto &it : ending) it.join();
}

}  // namespace pgsluice::net
