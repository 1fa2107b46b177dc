// The thread that reads, and those that help it.
#include "net/config_reader.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <future>
#include <system_error>
#include <utility>
#include <vector>

#include "net/thread_rank.hpp"
#include "net/thread_start.hpp"

namespace pgsluice::net {

void on_all_cores(std::size_t count, const std::function<void(std::size_t)> &one) {
    std::atomic<std::size_t> next = 0;
    const auto work = [&] {
        for (auto i = next++; i < count; i = next++) one(i);
    };
    std::vector<std::future<void>> helpers;
    const std::size_t cores = std::max(1U, std::thread::hardware_concurrency());
    try {
        for (std::size_t i = 1; i < std::min(cores, count); ++i)
            helpers.push_back(std::async(std::launch::async, work));
    } catch (const std::system_error &) {
        // No more threads are to be had: it takes longer with those there are.
    }
    work();
    for (auto &it : helpers) it.get();
}

void config_reader::read(std::function<work()> begin, std::function<void(const outcome &)> done) {
    tasks_.push_back({std::move(begin), std::move(done)});
    if (!std::exchange(busy_, true)) next();
}

void config_reader::next() {
    busy_ = !tasks_.empty();
    if (!busy_) return;
    const auto failed = [](const std::exception &problem) {
        return config::error{"the configuration", 0, std::string("internal error: ") + problem.what()};
    };
    const auto tell = [this](outcome came) {
        boost::asio::post(control_, [this, came = std::move(came)] { finished(came); });
    };
    try {
        thread_ = start_thread("config", [this, failed, tell, it = tasks_.front().begin()] {
            stand_behind_queries();
            const auto spread = [this](std::size_t count, const std::function<void(std::size_t)> &one) {
                on_all_cores(count, [&](std::size_t i) {
                    if (!stopping_) one(i);
                });
            };
            try {
                tell(it(spread));
            } catch (const std::exception &problem) {
                tell(failed(problem));
            }
        });
    } catch (const std::exception &problem) {
        tell(failed(problem));  // no thread is to be had
    }
}

void config_reader::finished(const outcome &came) {
    if (thread_.joinable()) thread_.join();
    const auto done = std::move(tasks_.front().done);
    tasks_.pop_front();
    // The next one begins with what `done` makes of this one, and whatever becomes of `done`.
    boost::asio::post(control_, [this] { next(); });
    done(came);
}

void config_reader::stop() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
}

}  // namespace pgsluice::net
