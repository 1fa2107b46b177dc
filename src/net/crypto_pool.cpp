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

bool crypto_pool::run(worker &home, std::unique_ptr<tls_session> session, std::string from_peer,
                      std::function<void(handshake_step)> done) {
    {
        const std::lock_guard lock(mutex_);
        if (stopping_ || waiting_.size() >= waiting_max) return false;
        if (threads_.empty()) {
            // Signals are the control thread's.
            sigset_t all, before;
            sigfillset(&all);
            pthread_sigmask(SIG_BLOCK, &all, &before);
            for (std::uint32_t i = 0; i < wanted_; ++i) threads_.emplace_back([this] { loop(); });
            pthread_sigmask(SIG_SETMASK, &before, nullptr);
        }
        waiting_.push_back({&home, std::move(session), std::move(from_peer), std::move(done)});
    }
    more_.notify_one();
    return true;
}

void crypto_pool::loop() {
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), niceness);
    for (;;) {
        task next;
        {
            std::unique_lock lock(mutex_);
            more_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
            if (stopping_) return;
            next = std::move(waiting_.front());
            waiting_.pop_front();
        }
        handshake_step step;
        step.session = std::move(next.session);
        try {
            step.came_to = step.session->shake_hands(next.from_peer, step.to_peer, step.plain);
        } catch (const std::exception &problem) {
            log::error("internal error in a handshake: {}", problem.what());
        }
        next.home->post([done = std::move(next.done), step = std::move(step)]() mutable { done(std::move(step)); });
    }
}

void crypto_pool::stop() {
    std::vector<std::thread> ending;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        waiting_.clear();
        ending.swap(threads_);
    }
    more_.notify_all();
    for (auto &it : ending) it.join();
}

}  // namespace pgsluice::net
