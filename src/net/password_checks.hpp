// Asks PAM or LDAP about passwords: a bounded queue, and threads that each have one helper program (src/helper) to ask.
// A helper that hangs is ended with its question's time, one that crashes takes nothing with it, and neither its
// libraries nor their threads and descriptors are ever pgsluice's. Threads and helpers come with the work: at most
// threads_max of each; a helper without work is let go. One for PAM and one for LDAP, so that neither holds up the
// other. ask() and forget() may be called by any thread, stop() by the control thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "auth/password_check.hpp"
#include "base/time.hpp"

namespace pgsluice::net {

class password_checks {
public:
    static constexpr std::size_t threads_max = 16;
    static constexpr std::size_t waiting_max = 1000;
    /// No question takes longer, whatever time its login has.
    static constexpr base::seconds time_max{60};
    /// Of one operation of LDAP.
    static constexpr base::seconds operation_max{10};

    /// Held by who asked. Once false, the answer is nobody's.
    using ticket = std::shared_ptr<std::atomic<bool>>;
    using answer = std::function<void(auth::password_verdict)>;

    password_checks() = default;
    ~password_checks() { stop(); }
    password_checks(const password_checks &) = delete;
    password_checks &operator=(const password_checks &) = delete;

    /// `done` is called on one of the threads, unless the ticket was given back before. Null: too many wait, or
    /// there is no thread to be had.
    ticket ask(auth::password_check, base::time_point deadline, answer done);
    /// What was asked is of no interest any more: it leaves the queue, or its helper is ended.
    void forget(const ticket &);
    /// Forgets everything, ends the helpers and the threads.
    void stop();

    /// The helper of this installation, found beside the program or in ../libexec/pgsluice; "" when there is none.
    static const std::string &helper();

private:
    struct task {
        auth::password_check check;
        base::time_point deadline;
        answer done;
        ticket wanted;
    };
    void add_thread();
    void loop();
    bool next(task &into, bool has_helper);

    std::mutex mutex_;
    std::condition_variable more_;
    std::deque<task> waiting_;
    std::vector<std::thread> threads_;
    std::size_t idle_ = 0;
    std::atomic<bool> stopping_{false};
};

}  // namespace pgsluice::net
