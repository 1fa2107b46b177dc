// Random pipelines to PostgreSQL itself and through pgsluice: the same bytes must bring the same replies.
// Several clients work at once, more than the pool has servers, so that nearly every transaction finds another server.
// Started by tests/differential/run, which brings both up; prints every difference with what makes it come again.
#include <algorithm>
#include <atomic>
#include <charconv>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "differential/conversation.hpp"
#include "differential/pipeline.hpp"
#include "support/peer.hpp"

namespace pgsluice::differential {

namespace {

struct plan {
    test::endpoint direct;
    std::vector<test::endpoint> poolers;
    std::uint64_t seed = 1;
    std::uint64_t first = 0, count = 20000;
    int jobs = 8;
    unsigned give_up = 10;  ///< stop after so many differences
    options what;
};

std::uint64_t mixed(std::uint64_t seed, std::uint64_t index) {
    std::uint64_t z = seed * 0x9e3779b97f4a7c15U + index;
    z = (z ^ (z >> 33)) * 0xff51afd7ed558ccdU;
    z = (z ^ (z >> 33)) * 0xc4ceb9fe1a85ec53U;
    return z ^ (z >> 33);
}

/// One client at a time, its own table, and the connection to PostgreSQL that plays every pipeline first.
class player {
public:
    player(const plan &how, int slot) : plan_(how), slot_(slot) {}

    /// Empty: no difference. Else both transcripts, and where they part.
    std::string difference(const pipeline &parts, const test::endpoint &pooler, std::uint64_t luck) {
        const auto end = ending(parts, slot_);
        reset();
        const auto wanted = play_first(*direct_, parts, end);
        for (const auto &kind : wanted.kinds) ++census_[kind];
        if (!wanted.trouble.empty()) return "PostgreSQL itself:\n" + listing(wanted, wanted.lines.size());
        reset();
        test::peer client(pooler);
        client.login(who_);
        if (luck % 10 == 0) client.set_piece(1 + luck / 10 % 40);
        const auto found = play_again(client, parts, end, wanted);
        leave(client, luck / 1000);
        if (found.lines == wanted.lines) return {};
        std::size_t same = 0;
        while (same < found.lines.size() && same < wanted.lines.size() && found.lines[same] == wanted.lines[same])
            ++same;
        if (excused(found, same)) {
            ++excused_;
            return {};
        }
        return "PostgreSQL:\n" + listing(wanted, same) + "pgsluice:\n" + listing(found, same);
    }

    /// Pipelines of which the rest was not compared.
    std::uint64_t times_excused() const { return excused_; }

    /// How often each kind of reply came from PostgreSQL.
    const std::map<std::string, std::uint64_t> &census() const { return census_; }

    /// Leaves out what the difference does not need.
    pipeline minimised(pipeline parts, const test::endpoint &pooler, std::uint64_t luck) {
        int tries = 300;
        for (std::size_t length = parts.size() / 2; length > 0; length /= 2) {
            for (std::size_t at = 0; at + length <= parts.size() && tries > 0;) {
                pipeline fewer(parts.begin(), parts.begin() + static_cast<std::ptrdiff_t>(at));
                fewer.insert(fewer.end(), parts.begin() + static_cast<std::ptrdiff_t>(at + length), parts.end());
                --tries;
                if (difference(fewer, pooler, luck).empty()) {
                    at += length;
                } else {
                    parts = std::move(fewer);
                }
            }
        }
        return parts;
    }

private:
    /// In a transaction that is aborted, a statement that the linked server lacks can not be prepared there:
    /// PostgreSQL, which has it, may describe it, or find more wrong with a Bind or Parse than that.
    static bool excused(const transcript &found, std::size_t same) {
        if (same >= found.lines.size() || found.lines[same].find("C=25P02") == std::string::npos) return false;
        const auto from = std::make_reverse_iterator(found.lines.begin() + static_cast<std::ptrdiff_t>(same));
        const auto ready = std::find_if(from, found.lines.rend(), [](const std::string &it) { return it[0] == 'Z'; });
        return ready != found.lines.rend() && *ready == "Z E";
    }
    static std::string listing(const transcript &it, std::size_t same) {
        std::string out;
        for (std::size_t i = 0; i < it.lines.size(); ++i) {
            out += (i == same ? "  > " : "    ") + it.lines[i].substr(0, 300) + "\n";
        }
        return out;
    }

    /// PostgreSQL as after a login, the table and the large object as at the start.
    void reset() {
        if (!direct_ || direct_->closed()) {
            direct_ = std::make_unique<test::peer>(plan_.direct);
            direct_->login(who_);
        }
        using test::fe::query;
        direct_->send(query("rollback") + query("discard all") +
                      query("select differential.reset(" + std::to_string(slot_) + ")"));
        direct_->clear();
        if (direct_->ready(3) != test::peer::outcome::enough) throw std::runtime_error("PostgreSQL could not be reset");
        for (const auto &message : direct_->received()) {
            if (message.type == 'E') throw std::runtime_error("reset: " + test::field(message.body, 'M'));
        }
    }

    /// A client may go in any state: what it leaves open must not reach the next one.
    void leave(test::peer &client, std::uint64_t luck) const {
        if (client.closed()) return;
        const std::string open = test::fe::query("begin; delete from differential.t" + std::to_string(slot_));
        switch (luck % 8) {
            case 0:
                return client.close();
            case 1:
                client.send(open);
                client.ready();
                return client.reset();
            case 2:
                client.send(open + test::message('P', test::z("left") + test::z("select 1") + test::be16(0)));
                client.pump([] { return true; });
                return client.close();
            default:
                client.send(test::fe::terminate);
                client.pump([] { return true; });
                return client.close();
        }
    }

    const plan &plan_;
    int slot_;
    test::pairs who_{{"user", "app"}, {"database", "app"}};
    std::unique_ptr<test::peer> direct_;
    std::map<std::string, std::uint64_t> census_;
    std::uint64_t excused_ = 0;
};

class run {
public:
    explicit run(const plan &how) : plan_(how), next_(how.first) {}

    int all() {
        std::vector<std::thread> threads;
        for (int slot = 0; slot < plan_.jobs; ++slot) threads.emplace_back([this, slot] { work(slot); });
        for (auto &thread : threads) thread.join();
        std::cout << "PostgreSQL answered:";
        for (const auto &[kind, count] : census_) std::cout << " " << kind << "=" << count;
        std::cout << "\ndifferential: " << done_ << " pipelines, " << messages_ << " messages, seed " << plan_.seed
                  << ", " << differences_ << " differences; " << excused_
                  << " compared only up to an aborted transaction\n";
        const bool few_excused = excused_ * 500 <= plan_.count;
        return differences_ == 0 && done_ == plan_.count && few_excused ? 0 : 1;
    }

private:
    void work(int slot) {
        try {
            player both(plan_, slot);
            while (differences_ < plan_.give_up) {
                const auto index = next_++;
                if (index >= plan_.first + plan_.count) break;
                one(both, index, slot);
                ++done_;
            }
            const std::lock_guard hold(print_);
            for (const auto &[kind, count] : both.census()) census_[kind] += count;
            excused_ += both.times_excused();
        } catch (const std::exception &failure) {
            const std::lock_guard hold(print_);
            std::cout << "client " << slot << ": " << failure.what() << "\n";
            ++differences_;
        }
    }

    void one(player &both, std::uint64_t index, int slot) {
        const auto luck = mixed(plan_.seed, index);
        const auto parts = generate(luck, plan_.what, slot);
        const auto &pooler = plan_.poolers[index % plan_.poolers.size()];
        messages_ += parts.size();
        std::string difference;
        try {
            difference = both.difference(parts, pooler, luck);
        } catch (const std::exception &failure) {
            const std::lock_guard hold(print_);
            std::cout << "\npipeline " << index << " of seed " << plan_.seed << ": " << failure.what() << "\n";
            show(parts);
            throw;
        }
        if (difference.empty()) return;
        ++differences_;
        const auto fewer = both.minimised(parts, pooler, luck);
        const auto again = both.difference(fewer, pooler, luck);
        const std::lock_guard hold(print_);
        std::cout << "\n==== pipeline " << index << " of seed " << plan_.seed << " differs (pooler "
                  << index % plan_.poolers.size() << "); again: tests/differential/run --seed " << plan_.seed
                  << " --first " << index << " --count 1\n";
        show(again.empty() ? parts : fewer);
        std::cout << (again.empty() ? difference : again) << std::flush;
    }

    void show(const pipeline &parts) {
        std::cout << "sent:\n";
        for (const auto &part : parts) std::cout << "    " << part.text << "\n";
    }

    const plan &plan_;
    std::atomic<std::uint64_t> next_, done_{0}, messages_{0};
    std::atomic<unsigned> differences_{0};
    std::mutex print_;  ///< and what follows
    std::map<std::string, std::uint64_t> census_;
    std::uint64_t excused_ = 0;
};

std::uint64_t number(const std::string &text) {
    std::uint64_t value = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failed != std::errc{} || *end != '\0') throw std::runtime_error("no number: " + text);
    return value;
}

plan arguments(int argc, char **argv) {
    plan how;
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        const auto value = [&]() -> std::string {
            if (i + 1 >= argc) throw std::runtime_error(option + " wants a value");
            return argv[++i];
        };
        if (option == "--direct") {
            how.direct = test::parse_endpoint(value());
        } else if (option == "--pooler") {
            how.poolers.push_back(test::parse_endpoint(value()));
        } else if (option == "--seed") {
            how.seed = number(value());
        } else if (option == "--first") {
            how.first = number(value());
        } else if (option == "--count") {
            how.count = number(value());
        } else if (option == "--jobs") {
            how.jobs = static_cast<int>(number(value()));
        } else if (option == "--give-up") {
            how.give_up = static_cast<unsigned>(number(value()));
        } else if (option == "--no-statements") {
            how.what.statements = false;
        } else if (option == "--five-parameters") {
            how.what.all_parameters = false;
        } else {
            throw std::runtime_error("unknown option " + option);
        }
    }
    if (how.poolers.empty()) throw std::runtime_error("no --pooler");
    return how;
}

}  // namespace

}  // namespace pgsluice::differential

int main(int argc, char **argv) {
    try {
        const auto how = pgsluice::differential::arguments(argc, argv);
        return pgsluice::differential::run(how).all();
    } catch (const std::exception &failure) {
        std::cerr << "differential: " << failure.what() << "\n";
        return 2;
    }
}
