// Reads configurations on a thread of its own, for the process that runs: making SCRAM verifiers of plain passwords
// takes a millisecond or more for each, and the control thread has connections to make meanwhile. Control thread.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <deque>
#include <functional>
#include <thread>

#include "config/load.hpp"

namespace pgsluice::net {

/// For config::load(): on as many threads as there are CPUs, this one among them; on fewer where no more are to be had.
void on_all_cores(std::size_t count, const std::function<void(std::size_t)> &one);

class config_reader {
public:
    using outcome = boost::system::result<config::loaded, config::error>;
    using work = std::function<outcome(const config::spreader &)>;

    explicit config_reader(boost::asio::io_context &control) : control_(control) {}
    ~config_reader() { stop(); }
    config_reader(const config_reader &) = delete;
    config_reader &operator=(const config_reader &) = delete;

    /// `begin` makes, from the settings of that moment, what is then run on the other thread; `done` has its outcome.
    /// One after the other, as they were asked for.
    void read(std::function<work()> begin, std::function<void(const outcome &)> done);
    /// Waits for the thread, which goes no further than it must; nothing is done any more.
    void stop();

private:
    struct task {
        std::function<work()> begin;
        std::function<void(const outcome &)> done;
    };
    void next();
    void finished(const outcome &);

    boost::asio::io_context &control_;
    std::deque<task> tasks_;  ///< the first is under way, or soon will be
    bool busy_ = false;       ///< with it, or with what the one before it has come to
    std::thread thread_;
    std::atomic<bool> stopping_ = false;
};

}  // namespace pgsluice::net
