// A storm of CancelRequests while more clients work than the pool has servers. Nobody but who asked may see 57014, and
// not in the query after; every row must be the client's own; logins go on; at the end every slot of the pool is there.
// Started by tests/cancels/run, which brings the servers up.
//
// marksmen    cancel their own query, some number of times, wait until all those connections are closed, and go on with
//             work that must not be hit any more; in transactions, pipelines, by simple and extended queries
// targets     are shot at all the time, from other threads, by cancels that nobody waits for, some followed by rubbish
// bystanders  never ask
// newcomers   log in again and again, and time it
#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <iostream>
#include <memory>
#include <mutex>
#include <thread>

#include "support/peer.hpp"

namespace pgsluice::cancels {

namespace {

using test::peer;
using namespace std::chrono_literals;
using test::fe::query;

struct plan {
    test::endpoint direct, pooler;
    std::uint64_t count = 10000, seed = 1;
    int pool = 4;
    int slack = 1;
};

struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// SplitMix64 (public domain, Sebastiano Vigna).
class dice {
public:
    explicit dice(std::uint64_t seed) : state_(seed) {}
    std::uint64_t below(std::uint64_t bound) {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return (z ^ (z >> 31)) % bound;
    }

private:
    std::uint64_t state_;
};

/// A client that checks that what it gets is its own.
class client {
public:
    client(const plan &how, std::string name) : how_(how), name_(std::move(name)), wire_(how.pooler) {
        wire_.login({{"user", "app"}, {"database", "app"}});
    }

    void send(std::string_view bytes) { wire_.send(bytes); }
    /// A query that takes `seconds` and returns our own token.
    std::string slow(std::string_view seconds) {
        token_ = name_ + "-" + std::to_string(++turn_);
        return "select pg_sleep(" + std::string(seconds) + ")::text || '" + token_ + "'";
    }

    /// Reads to `count` ReadyForQuery; returns how many errors 57014 came. Anything else out of order is a failure.
    std::size_t answers(std::size_t count, bool may_be_hit) {
        if (wire_.ready(count, 20s * how_.slack) != peer::outcome::enough) throw failure(name_ + ": no answer");
        std::size_t hits = 0;
        for (const auto &it : wire_.received()) {
            if (it.type == 'E') {
                const auto state = test::field(it.body, 'C');
                if (state == "57014") ++hits;
                const bool fine = may_be_hit && (state == "57014" || state == "25P02");
                if (!fine) throw failure(name_ + " got " + state + " " + test::field(it.body, 'M'));
            } else if (it.type == 'D' && it.body.substr(6).find(name_ + "-") != 0) {
                throw failure(name_ + " got a row that is not its own: " + it.body.substr(6));
            }
        }
        status_ = wire_.received().back().body;
        wire_.clear();
        return hits;
    }
    const std::string &status() const { return status_; }
    std::string key() const { return test::cancel_request(wire_.pid(), wire_.secret()); }
    const peer &wire() const { return wire_; }
    /// Sends what was queued.
    void flush() {
        wire_.pump([] { return true; });
    }

private:
    const plan &how_;
    std::string name_, token_, status_;
    peer wire_;
    std::uint64_t turn_ = 0;
};

class storm {
public:
    explicit storm(const plan &how) : how_(how) {}

    int run() {
        for (int i = 0; i < 2; ++i) targets_.push_back(std::make_unique<client>(how_, "target" + std::to_string(i)));
        const auto began = peer::clock::now();
        std::vector<std::thread> threads;
        const auto start = [&](auto work, int number) {
            threads.emplace_back([this, work, number] {
                try {
                    (this->*work)(number);
                } catch (const std::exception &why) {
                    fail(why.what());
                }
            });
        };
        for (int i = 0; i < 5; ++i) start(&storm::marksman, i);
        for (int i = 0; i < 2; ++i) start(&storm::target, i);
        for (int i = 0; i < 2; ++i) start(&storm::shooter, i);
        for (int i = 0; i < 5; ++i) start(&storm::bystander, i);
        start(&storm::newcomer, 0);
        for (auto &thread : threads) thread.join();
        targets_.clear();
        const std::chrono::duration<double> took = peer::clock::now() - began;
        check("the pool after the storm", &storm::whole_pool);
        check("a full pool and its queue, all canceled", &storm::cancel_all);
        check("the pool at the end", &storm::whole_pool);
        std::sort(logins_.begin(), logins_.end());
        const auto at = [&](std::size_t percent) {
            return logins_.empty() ? 0 : logins_[(logins_.size() - 1) * percent / 100];
        };
        std::cout << "cancels: " << aimed_ << " by those who were hit, " << sent_ - aimed_ << " from aside, in "
                  << took.count() << " s, " << hits_ << " queries hit, " << quiet_ << " left alone as they must; "
                  << logins_.size() << " logins meanwhile, median " << at(50) << " ms, 99 % within " << at(99)
                  << " ms, the slowest " << at(100) << " ms; seed " << how_.seed << ", " << failures_ << " failures\n";
        if (aimed_ < how_.count || hits_ == 0 || quiet_ == 0) fail("not what was planned");
        if (logins_.size() < 20 || at(100) > 1000 * how_.slack) fail("logins were starved");
        return failures_ == 0 ? 0 : 1;
    }

private:
    void fail(const std::string &why) {
        const std::lock_guard hold(guard_);
        std::cout << "FAILED: " << why << "\n" << std::flush;
        ++failures_;
    }
    template <typename Step>
    void check(const char *what, Step step) {
        try {
            (this->*step)();
        } catch (const std::exception &why) {
            fail(std::string(what) + ": " + why.what());
        }
    }
    bool over() const { return aimed_ >= how_.count || failures_ > 0; }

    void marksman(int number) {
        dice luck(how_.seed * 1000 + static_cast<std::uint64_t>(number));
        client who(how_, "marksman" + std::to_string(number));
        static constexpr std::array<std::string_view, 4> lengths{"0", "0.001", "0.004", "0.02"};
        while (!over()) {
            const auto sql = who.slow(lengths[luck.below(lengths.size())]);
            const auto shape = luck.below(4);
            std::size_t replies = 1;
            if (shape == 0) {
                who.send(query(sql));
            } else if (shape == 1) {
                who.send(test::fe::unnamed(sql) + test::fe::sync);
            } else if (shape == 2) {
                who.send(query("begin") + query(sql));
                replies = 2;
            } else {
                who.send(query(sql) + test::fe::unnamed(sql) + test::fe::sync + query(sql));
                replies = 3;
            }
            who.flush();
            const auto shots = luck.below(5);
            std::vector<std::unique_ptr<peer>> lines;
            for (std::uint64_t i = 0; i < shots; ++i) lines.push_back(shoot(who.key(), luck.below(8)));
            aimed_ += shots;
            hits_ += who.answers(replies, shots > 0);
            for (auto &line : lines) {
                if (line->pump([] { return false; }, 5s * how_.slack) != peer::outcome::closed) {
                    throw failure("a cancel's connection is not closed");
                }
            }
            // All of them have ended: what follows must be left alone.
            if (shape == 2) {
                who.send(query("rollback"));
                who.answers(1, false);
            }
            who.send(query(who.slow("0.001")));
            who.answers(1, false);
            ++quiet_;
        }
    }

    void target(int number) {
        auto &who = *targets_[static_cast<std::size_t>(number)];
        while (!over()) {
            who.send(query(who.slow("0.002")));
            hits_ += who.answers(1, true);
        }
    }

    void shooter(int number) {
        dice luck(how_.seed * 2000 + static_cast<std::uint64_t>(number));
        const auto key = targets_[static_cast<std::size_t>(number)]->key();
        while (!over()) {
            const auto line = shoot(key, luck.below(8));
            if (luck.below(2) == 0) line->pump([] { return false; }, 5s * how_.slack);
        }
    }

    void bystander(int number) {
        dice luck(how_.seed * 3000 + static_cast<std::uint64_t>(number));
        client who(how_, "bystander" + std::to_string(number));
        while (!over()) {
            const auto sql = who.slow(luck.below(2) == 0 ? "0" : "0.003");
            const bool in_transaction = luck.below(3) == 0;
            if (in_transaction) who.send(query("begin"));
            who.send(luck.below(2) == 0 ? query(sql) : test::fe::unnamed(sql) + test::fe::sync);
            if (in_transaction) who.send(query("commit"));
            who.answers(in_transaction ? 3 : 1, false);
        }
    }

    void newcomer(int) {
        while (!over()) {
            const auto began = peer::clock::now();
            peer wire(how_.pooler);
            wire.login({{"user", "app"}, {"database", "app"}});
            logins_.push_back(
                std::chrono::duration_cast<std::chrono::milliseconds>(peer::clock::now() - began).count());
            wire.send(test::fe::terminate);
            wire.pump([] { return true; });
            std::this_thread::sleep_for(2ms);
        }
    }

    /// The request goes out at once; drivers have been seen to send Terminate after it, others send rubbish.
    std::unique_ptr<peer> shoot(const std::string &key, std::uint64_t kind) {
        auto line = std::make_unique<peer>(how_.pooler);
        line->send(key + (kind == 0 ? test::fe::terminate : kind == 1 ? std::string(300, 'z') : ""));
        line->pump([] { return true; });
        if (kind == 2) line->half_close();
        ++sent_;
        return line;
    }

    /// As many transactions at once as the pool has servers, and not one server more.
    void whole_pool() {
        std::vector<std::unique_ptr<client>> all;
        for (int i = 0; i < how_.pool; ++i) {
            all.push_back(std::make_unique<client>(how_, "holder" + std::to_string(i)));
            all.back()->send(query("begin"));
            all.back()->answers(1, false);
        }
        peer watcher(how_.direct);
        watcher.login({{"user", "postgres"}, {"database", "app"}});
        watcher.send(
            query("select count(*) || '/' || count(*) filter (where state = 'idle in transaction') from "
                  "pg_stat_activity where usename = 'app'"));
        watcher.ready();
        const auto found = std::find_if(watcher.received().begin(), watcher.received().end(),
                                        [](const test::cut &it) { return it.type == 'D'; });
        const auto number = std::to_string(how_.pool);
        if (found == watcher.received().end() || found->body.substr(6) != number + "/" + number) {
            throw failure("servers / in transaction: " +
                          (found == watcher.received().end() ? "?" : found->body.substr(6)));
        }
        for (auto &it : all) {
            it->send(query("commit"));
            it->answers(1, false);
        }
    }

    /// Queries that would take a minute in every server, more waiting; all are canceled: all answered within a second.
    void cancel_all() {
        std::vector<std::unique_ptr<client>> all;
        for (int i = 0; i < 5 * how_.pool; ++i) {
            all.push_back(std::make_unique<client>(how_, "sleeper" + std::to_string(i)));
            all.back()->send(query(all.back()->slow("60")));
            all.back()->flush();
        }
        std::this_thread::sleep_for(200ms * how_.slack);
        const auto began = peer::clock::now();
        std::vector<std::unique_ptr<peer>> lines;
        for (auto &it : all) lines.push_back(shoot(it->key(), 7));
        for (auto &it : all) {
            if (it->answers(1, true) != 1) throw failure("a canceled query has come to its end");
        }
        const auto took = peer::clock::now() - began;
        if (took > 1s * how_.slack) {
            throw failure("took " + std::to_string(std::chrono::duration<double>(took).count()) + " s");
        }
    }

    const plan &how_;
    std::vector<std::unique_ptr<client>> targets_;
    std::vector<std::int64_t> logins_;  ///< milliseconds; of the newcomer alone
    std::atomic<std::uint64_t> sent_{0}, aimed_{0}, hits_{0}, quiet_{0};
    std::atomic<unsigned> failures_{0};
    std::mutex guard_;
};

std::uint64_t number(const std::string &text) {
    std::uint64_t value = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failed != std::errc{} || *end != '\0') throw std::runtime_error("no number: " + text);
    return value;
}

plan arguments(int argc, char **argv) {
    plan how;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string option = argv[i], value = argv[i + 1];
        if (option == "--direct") {
            how.direct = test::parse_endpoint(value);
        } else if (option == "--pooler") {
            how.pooler = test::parse_endpoint(value);
        } else if (option == "--count") {
            how.count = number(value);
        } else if (option == "--seed") {
            how.seed = number(value);
        } else if (option == "--pool") {
            how.pool = static_cast<int>(number(value));
        } else if (option == "--slack") {
            how.slack = static_cast<int>(number(value));
        } else {
            throw std::runtime_error("unknown option " + option);
        }
    }
    return how;
}

}  // namespace

}  // namespace pgsluice::cancels

int main(int argc, char **argv) {
    try {
        const auto how = pgsluice::cancels::arguments(argc, argv);
        return pgsluice::cancels::storm(how).run();
    } catch (const std::exception &failure) {
        std::cerr << "cancels: " << failure.what() << "\n";
        return 2;
    }
}
