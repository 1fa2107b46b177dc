// The queue and its threads. See password_checks.hpp.
#include "net/password_checks.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "net/log.hpp"
#include "net/password_helper.hpp"
#include "net/thread_start.hpp"

namespace pgsluice::net {

namespace {

constexpr const char *helper_name = "pgsluice-check-password";
/// A helper without work is let go after this.
constexpr base::seconds idle_max{10};

std::string find_helper() {
    std::error_code problem;
    const auto folder = std::filesystem::read_symlink("/proc/self/exe", problem).parent_path();
    for (const auto &place : {folder / helper_name, folder.parent_path() / "libexec" / "pgsluice" / helper_name})
        if (::access(place.c_str(), X_OK) == 0) return place.string();
    return {};
}

}  // namespace

const std::string &password_checks::helper() {
    static const std::string path = find_helper();
    return path;
}

password_checks::ticket password_checks::ask(auth::password_check check, base::time_point deadline, answer done) {
    auto wanted = std::make_shared<std::atomic<bool>>(true);
    {
        const std::lock_guard lock(mutex_);
        if (stopping_ || waiting_.size() >= waiting_max) return nullptr;
        const auto latest = std::chrono::steady_clock::now() + time_max;
        check.limit = operation_max;
        // The login tells its own end of time. Only then the helper is ended.
        const auto until = deadline < latest ? deadline + base::seconds(1) : latest;
        if (waiting_.size() >= idle_ && threads_.size() < threads_max) add_thread();
        if (threads_.empty()) return nullptr;
        waiting_.push_back({std::move(check), until, std::move(done), wanted});
    }
    more_.notify_one();
    return wanted;
}

/// Where none is to be had, those there are must do.
void password_checks::add_thread() {
    threads_.reserve(threads_max);
    try {
        threads_.push_back(start_thread("password checks", [this] { loop(); }));
    } catch (const std::system_error &problem) {
        log::warning("no thread for PAM or LDAP: {}; {} run", problem.what(), threads_.size());
    }
}

void password_checks::forget(const ticket &it) {
    it->store(false);
    const std::lock_guard lock(mutex_);
    std::erase_if(waiting_, [&](const task &one) { return one.wanted == it; });
}

/// Waits for the next task. False: there is none, and the helper is to be let go, or the end has come.
bool password_checks::next(task &into, bool has_helper) {
    std::unique_lock lock(mutex_);
    const auto awaited = [this] { return stopping_ || !waiting_.empty(); };
    ++idle_;
    if (has_helper)
        more_.wait_for(lock, idle_max, awaited);
    else
        more_.wait(lock, awaited);
    --idle_;
    if (stopping_ || waiting_.empty()) return false;
    into = std::move(waiting_.front());
    waiting_.pop_front();
    return true;
}

void password_checks::loop() {
    password_helper helper;
    while (!stopping_) {
        task it;
        if (!next(it, helper.runs())) {
            helper.end();
            continue;
        }
        auth::password_verdict verdict;
        try {
            verdict = helper.ask(it.check, it.deadline, [&] { return stopping_ || !*it.wanted; });
        } catch (const std::exception &problem) {
            helper.end();
            log::error("internal error while a password was checked: {}", problem.what());
        }
        if (*it.wanted && !stopping_) it.done(std::move(verdict));
    }
}

void password_checks::stop() {
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
