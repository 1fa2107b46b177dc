// One session of a virtual client: logs in, runs scripts and compares every reply with the prediction, leaves in one of
// many ways. What it runs is workload's choice; the rules of what may come unpredicted (cancels, lost servers,
// timeouts) are here.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "connection.hpp"
#include "random.hpp"
#include "script.hpp"

namespace oracle {

enum class outcome : std::uint8_t {
    fine,
    disturbed,  ///< a cancel came in between; the session is outside of a transaction again
    over,       ///< the connection is no more
};

class session : public std::enable_shared_from_this<session> {
public:
    session(world &, std::size_t where, std::uint64_t seed_of);

    /// Through the fault proxy or straight to the pooler.
    awaitable<bool> start(bool by_proxy);
    /// Sends the script and reads all its replies.
    awaitable<outcome> run(script &);
    /// Ends in one of the ways in which clients do.
    awaitable<void> leave();

    const login &where() const { return world_.opt.logins[where_]; }
    const std::string &token() const { return world_.token(number_); }
    std::uint32_t number() const { return number_; }
    chance &random() { return random_; }
    world &shared() { return world_; }
    model &state() { return model_; }
    script make() { return {world_, model_, number_}; }
    bool alive() const { return alive_; }
    /// May ask for its own queries to be cancelled, at random moments.
    bool cancels() const { return cancels_; }
    /// The seq of a transaction that was acknowledged to this session, or 0.
    std::size_t acknowledged_work() const { return acknowledged_; }
    bool has_acknowledged() const { return has_acknowledged_; }

    /// A CancelRequest with this session's key. `told`: it counts as asked for.
    static awaitable<void> cancel(std::shared_ptr<session>, double after, bool told);

private:
    awaitable<bool> log_in();
    awaitable<outcome> unexpected(script &, std::size_t at, message);
    awaitable<outcome> resynchronise(script &, std::size_t at);
    awaitable<outcome> read_to_the_end(script &);
    outcome lost(const script &, std::size_t at);
    std::string context(const script &, std::size_t at) const;
    bool matches(const expected &, const message &);
    bool on_asynchronous(const message &, char awaited);
    void on_ready(const expected &);
    void wrong(const script &, std::size_t at, const message &);
    void end(bool by_us);
    double patience() const;
    /// The transactions whose commit is in the first `sent` bytes are in doubt from now on.
    void doubt(const script &, std::size_t sent);
    std::string who() const;

    world &world_;
    std::size_t where_;
    chance random_;
    std::uint32_t number_;
    std::shared_ptr<connection> link_;
    model model_;
    std::map<std::string, std::string, std::less<>> reported_;
    std::string errors_;  ///< that were not predicted, so far
    std::string transaction_pid_;
    std::uint32_t cancel_pid_ = 0;
    std::string cancel_secret_;
    std::size_t acknowledged_ = 0;
    bool has_acknowledged_ = false;
    bool alive_ = false, by_proxy_ = false, cancels_ = false;
    int cancels_open_ = 0;      ///< on their way, or of unknown fate
    bool cancel_seen_ = false;  ///< one was on its way since the query was sent
    bool unfinished_ = false;   ///< what was sent last is not answered by ReadyForQuery yet
    bool timed_out_by_pooler_ = false;
};

}  // namespace oracle
