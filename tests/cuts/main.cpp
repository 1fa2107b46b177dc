// Cuts recorded conversations of real drivers after every byte, from either side, and looks at what is left: within one
// second PostgreSQL has no session at work or in a transaction, the only slot of the pool serves the next client, and
// that one finds nothing of the one before. Started by tests/cuts/run, which brings the servers up.
//
// The client's side ends by half-close, close or RST after byte n of what it sends; the server's by close or RST after
// byte n of what it sends, between pgsluice and PostgreSQL. What the client gets until then must be the start of what
// it gets without a cut, and after it at most one error.
#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <memory>
#include <mutex>
#include <thread>

#include "cuts/recorded.hpp"
#include "cuts/severing.hpp"
#include "support/peer.hpp"

namespace pgsluice::cuts {

namespace {

using test::peer;
using namespace std::chrono_literals;

struct plan {
    test::endpoint direct, pooler;
    std::uint16_t server_port = 0;
    std::vector<std::uint16_t> severing_ports;  ///< one a job
    std::string folder;
    std::uint64_t seed = 1, count = 5000;
    bool all = false;
    bool statements = true;  ///< named ones work in transaction mode
    int slack = 1;           ///< times longer for everything: a sanitizer build
};

enum class side : std::uint8_t { client_half_close, client_close, client_reset, server_close, server_reset };
constexpr std::array<const char *, 5> side_names{"client half-closes", "client closes", "client resets",
                                                 "server closes", "server resets"};
constexpr std::array<const char *, 2> modes{"transaction", "session"};

bool by_server(side which) {
    return which >= side::server_close;
}

struct one_cut {
    std::size_t conversation, mode;
    side which;
    std::size_t after;  ///< bytes
};

struct failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Types of what came, without what may come at any time.
std::string types(const std::vector<test::cut> &messages) {
    std::string all;
    for (const auto &it : messages) {
        if (it.type != 'N' && it.type != 'S' && it.type != 'A') all += it.type;
    }
    return all;
}

/// One client at a time; its own database and its own man in the middle.
class surgeon {
public:
    surgeon(const plan &how, const std::vector<recorded> &all, int job)
        : plan_(how),
          all_(all),
          job_(std::to_string(job)),
          middle_(how.severing_ports[static_cast<std::size_t>(job)], how.server_port),
          watcher_(how.direct),
          whole_(all.size()) {
        watcher_.login({{"user", "postgres"}, {"database", "cut" + job_}});
    }

    /// Bytes that the server sends when nobody cuts. The first call plays it whole.
    std::size_t server_bytes(std::size_t conversation, std::size_t mode) {
        return whole(conversation, mode).server_bytes;
    }

    /// Throws failure.
    void operate(const one_cut &it) {
        const auto &talk = all_[it.conversation];
        const auto &expected = whole(it.conversation, it.mode).replies;
        const bool server = by_server(it.which);
        const auto database = (it.mode == 0 ? "t" : "s") + std::string(server ? "m" : "") + job_;
        peer client(plan_.pooler);
        client.login({{"user", "app"}, {"database", database}});
        if (server) {
            middle_.arm(it.after, it.which == side::server_reset ? cut_by::reset : cut_by::close);
            say(client, talk, talk.bytes());
            const bool cut = middle_.disarm();
            reached_ += cut ? 1 : 0;
            if (cut && !client.closed() && it.after < whole(it.conversation, it.mode).server_bytes) {
                if (client.pump([] { return false; }, 2s * plan_.slack) != peer::outcome::closed) {
                    throw failure("the server has gone, and its client is not told");
                }
            }
        } else {
            say(client, talk, it.after);
            ++reached_;
            if (it.which == side::client_half_close) {
                client.half_close();
                if (client.pump([] { return false; }, 2s * plan_.slack) != peer::outcome::closed) {
                    throw failure("a client that half-closed is kept");
                }
            } else if (it.which == side::client_reset) {
                client.reset();
            }
        }
        check_received(types(client.received()), expected);
        client.close();
        check_activity();
        check_next(database, talk, it.mode);
    }

    std::uint64_t reached() const { return reached_; }

    void vacuum() {
        watcher_.send(test::fe::query("vacuum cut"));
        watcher_.ready();
        watcher_.clear();
    }

private:
    struct whole_talk {
        std::string replies;
        std::size_t server_bytes = 0;
    };

    const whole_talk &whole(std::size_t conversation, std::size_t mode) {
        auto &known = whole_[conversation][mode];
        if (known.server_bytes > 0) return known;
        const auto &talk = all_[conversation];
        const auto database = (mode == 0 ? "tm" : "sm") + job_;
        check_next(database, talk, mode);  // the server is there, and the table as it should be
        const auto before = middle_.passed();
        peer client(plan_.pooler);
        client.login({{"user", "app"}, {"database", database}});
        say(client, talk, talk.bytes());
        known.replies = types(client.received());
        if (known.replies != talk.replies()) {
            throw failure("without a cut:\nrecorded " + talk.replies() + "\nreplayed " + known.replies);
        }
        client.close();
        check_activity();
        known.server_bytes = middle_.passed() - before;
        return known;
    }

    /// Sends the first `limit` bytes, each turn after the replies to the one before.
    void say(peer &client, const recorded &talk, std::size_t limit) const {
        for (const auto &it : talk.turns) {
            const auto part = std::string_view(it.bytes).substr(0, limit);
            limit -= part.size();
            const auto before = client.received().size();
            const auto ready_before = client.readies();
            client.send(part);
            if (part.size() < it.bytes.size() || limit == 0) {
                client.pump([] { return true; });
                return;
            }
            const auto wanted =
                ready_before + static_cast<std::size_t>(std::count(it.replies.begin(), it.replies.end(), 'Z'));
            const auto answered = [&] {
                const auto got =
                    types({client.received().begin() + static_cast<std::ptrdiff_t>(before), client.received().end()});
                if (client.readies() < wanted) return false;
                return got.size() >= it.replies.size() || got.find('E') != std::string::npos;
            };
            const auto how = client.pump(answered, 5s * plan_.slack);
            if (how == peer::outcome::timeout) throw failure("no reply to a whole message");
            if (how == peer::outcome::closed) return;
        }
    }

    /// The start of what comes without a cut; then, at most, why it ended.
    static void check_received(std::string got, const std::string &expected) {
        if (expected.starts_with(got)) return;
        const bool error = got.ends_with('E');
        if (error) got.pop_back();
        if (!error || !expected.starts_with(got))
            throw failure("received " + got + "\nwhere        " + expected + " was to come");
    }

    void check_activity() {
        const std::string sql =
            "select string_agg(state || ' ' || query, '; ') filter (where state <> 'idle'), count(*) from "
            "pg_stat_activity "
            "where datname = current_database() and usename = 'app'";
        const auto give_up = peer::clock::now() + 1s * plan_.slack;
        while (true) {
            watcher_.send(test::fe::query(sql));
            watcher_.ready();
            const auto found = std::find_if(watcher_.received().begin(), watcher_.received().end(),
                                            [](const test::cut &it) { return it.type == 'D'; });
            if (found == watcher_.received().end()) throw failure("pg_stat_activity can not be read");
            const std::string row = found->body;
            watcher_.clear();
            const bool busy = row.substr(2, 4) != test::be32(0xffffffffU);
            // Four pools of one each.
            const bool crowded = row.back() > '4' || row[row.size() - 2] != '\1';
            if (!busy && !crowded) return;
            if (peer::clock::now() > give_up) throw failure("still in PostgreSQL after 1 s: " + row);
            std::this_thread::sleep_for(1ms);
        }
    }

    /// The next client has the pool's only slot at once, and finds a session as new.
    void check_next(const std::string &database, const recorded &talk, std::size_t mode) const {
        using test::fe::query;
        peer next(plan_.pooler);
        next.login({{"user", "app"}, {"database", database}});
        const bool named = !talk.statement.empty() && (mode == 1 || plan_.statements);
        next.send(test::fe::describe('S', "") + test::fe::sync +
                  (named ? test::fe::describe('S', talk.statement) + test::fe::sync : "") +
                  query("select current_setting('application_name') || '|' || current_setting('datestyle') || '|' || "
                        "current_setting('client_encoding') || '|' || (select count(*) from pg_cursors) || '|' || "
                        "(select count(*) from pg_locks where locktype = 'advisory') || '|' || "
                        "(select count(*) from pg_class where relpersistence = 't') || '|' || "
                        "coalesce(txid_current_if_assigned()::text, 'none')") +
                  query("delete from cut where a > 1000; "
                        "select count(lo_unlink(oid)) from pg_largeobject_metadata"));
        const auto how = next.ready(named ? 4 : 3, 1s * plan_.slack);
        if (how != peer::outcome::enough) throw failure("the next client has no answer within 1 s");
        std::string statements, row;
        for (const auto &it : next.received()) {
            if (it.type == 'E') statements += " " + test::field(it.body, 'C');
            if (it.type == 'D' && row.empty()) row = it.body.substr(6);
            if (it.type == 'Z' && it.body != "I") throw failure("the next client is in somebody's transaction");
        }
        if (statements != (named ? " 26000 26000" : " 26000")) {
            throw failure("the next client's look for statements brings:" + statements);
        }
        if (row != "|ISO, MDY|UTF8|0|0|0|none") throw failure("the next client finds: " + row);
        next.send(test::fe::terminate);
        next.pump([] { return true; });
    }

    const plan &plan_;
    const std::vector<recorded> &all_;
    std::string job_;
    severing middle_;
    peer watcher_;
    std::vector<std::array<whole_talk, 2>> whole_;
    std::uint64_t reached_ = 0;
};

/// Every place, or `count` of them at even distances, shifted by the seed.
std::vector<one_cut> places(const plan &how, const std::vector<recorded> &all, surgeon &first) {
    std::vector<one_cut> out;
    for (std::size_t i = 0; i < all.size(); ++i) {
        for (std::size_t mode = 0; mode < modes.size(); ++mode) {
            if (mode == 0 && !how.statements && !all[i].statement.empty()) continue;
            for (std::size_t which = 0; which < side_names.size(); ++which) {
                const auto to = static_cast<side>(which);
                const auto bytes = by_server(to) ? first.server_bytes(i, mode) : all[i].bytes();
                for (std::size_t n = 1; n <= bytes; ++n) out.push_back({i, mode, to, n});
            }
        }
    }
    if (how.all || how.count >= out.size()) return out;
    std::vector<one_cut> chosen;
    for (std::size_t n = 0; n < how.count; ++n) {
        chosen.push_back(out[(n * out.size() / how.count + how.seed * 7919) % out.size()]);
    }
    return chosen;
}

int run(const plan &how) {
    std::vector<recorded> all;
    std::vector<std::string> paths;
    for (const auto &entry : std::filesystem::directory_iterator(how.folder)) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    for (const auto &path : paths) all.push_back(load(path));

    std::vector<std::unique_ptr<surgeon>> surgeons;
    for (std::size_t job = 0; job < how.severing_ports.size(); ++job) {
        surgeons.push_back(std::make_unique<surgeon>(how, all, static_cast<int>(job)));
    }
    const auto cuts = places(how, all, *surgeons[0]);
    std::atomic<std::size_t> next{0}, failures{0};
    std::mutex print;
    std::vector<std::thread> threads;
    for (auto &it : surgeons) {
        threads.emplace_back([&, who = it.get()] {
            for (std::size_t at = next++; at < cuts.size() && failures < 20; at = next++) {
                const auto &cut = cuts[at];
                try {
                    who->operate(cut);
                    if (at % 256 == 0) who->vacuum();
                } catch (const std::exception &why) {
                    ++failures;
                    const std::lock_guard hold(print);
                    std::cout << "\n"
                              << all[cut.conversation].name << ", pool_mode " << modes[cut.mode] << ", "
                              << side_names[static_cast<std::size_t>(cut.which)] << " after byte " << cut.after << ":\n"
                              << why.what() << "\n";
                }
            }
        });
    }
    for (auto &thread : threads) thread.join();
    std::uint64_t reached = 0;
    for (const auto &it : surgeons) reached += it->reached();
    std::cout << "cuts: " << std::min(next.load(), cuts.size()) << " of " << all.size() << " conversations, " << reached
              << " took place, seed " << how.seed << ", " << failures << " failures\n";
    // Nearly all: only those in a server's last bytes may come too late.
    return failures == 0 && reached * 100 >= cuts.size() * 95 ? 0 : 1;
}

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
            how.pooler = test::parse_endpoint(value());
        } else if (option == "--server") {
            how.server_port = static_cast<std::uint16_t>(number(value()));
        } else if (option == "--severing") {
            how.severing_ports.push_back(static_cast<std::uint16_t>(number(value())));
        } else if (option == "--recorded") {
            how.folder = value();
        } else if (option == "--seed") {
            how.seed = number(value());
        } else if (option == "--count") {
            how.count = number(value());
        } else if (option == "--long") {
            how.all = true;
        } else if (option == "--slack") {
            how.slack = static_cast<int>(number(value()));
        } else if (option == "--no-statements") {
            how.statements = false;
        } else {
            throw std::runtime_error("unknown option " + option);
        }
    }
    return how;
}

}  // namespace

}  // namespace pgsluice::cuts

int main(int argc, char **argv) {
    try {
        return pgsluice::cuts::run(pgsluice::cuts::arguments(argc, argv));
    } catch (const std::exception &failure) {
        std::cerr << "cuts: " << failure.what() << "\n";
        return 2;
    }
}
