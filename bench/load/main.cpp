// The load: many clients in one thread, which log in by libpq and then speak through their sockets themselves, so that
// little of the machine is theirs. Every answer is checked: its type, its place, and that its value is of this client's
// very request. The first wrong one ends the program with status 1.
//   bench_load --port N --user U --database D --clients N --scenario NAME [--size BYTES] [--databases N] [--password P]
//              [--idle N] [--slow PART --slow-us N] [--tls]
//   --databases: D0, D1 ... by turns   --idle: so many more clients that never ask
//   --slow: this part of the clients (0 to 1) asks for what takes --slow-us; their latencies are kept apart
// Prints "ready" when all have logged in, then obeys its input, a line each, with a line of JSON for each:
//   run SECONDS          closed loop: each client asks again as soon as it is answered
//   open SECONDS RATE    open loop: RATE transactions a second arrive at times of their own (exponential gaps, seed 1)
//                        and take the next free client; a latency counts from the arrival, so that waiting is not
//                        hidden
//   each N               each client makes one transaction, at most N of them at a time
//   report               latencies since the last report
#include <libpq-fe.h>
#include <poll.h>

#include <chrono>
#include <cinttypes>
#include <cmath>
#include <deque>
#include <iostream>
#include <memory>
#include <random>
#include <utility>

#include "../shared/channel.hpp"
#include "../shared/histogram.hpp"
#include "../shared/messages.hpp"
#include "../shared/sockets.hpp"
#include "script.hpp"

namespace {

using namespace pgsluice;
using namespace pgsluice::bench;
using clock_type = std::chrono::steady_clock;
using time_point = clock_type::time_point;

struct options {
    std::uint16_t port = 0;
    std::string user, password, database, scenario = "simple";
    std::size_t clients = 1, idle = 0, databases = 0, size = 100, slow_us = 20000;
    double slow = 0;
    bool tls = false;
};

class client;

struct world {
    options how;
    script usual, slow;
    poll_set<client> sockets;
    std::vector<std::unique_ptr<client>> clients;
    alignas(4096) std::array<char, 1 << 18> room;  ///< as what pgsluice receives into
    histogram latencies, slow_latencies;
    std::uint64_t transactions = 0, in_time = 0, bytes = 0;
    std::size_t busy = 0;
    bool again = false;  ///< closed loop, and its time is not over
    time_point end;
    std::deque<client *> free;        ///< open loop
    std::deque<time_point> arrivals;  ///< that found no client free
    bool open = false;
};

class client {
public:
    client(world &all, std::size_t number, bool slow)
        : all_(all), number_(static_cast<std::uint32_t>(number)), slow_(slow) {
        const auto &how = all_.how;
        auto database = how.database;
        if (how.databases > 0) database += std::to_string(number % how.databases);
        const auto port = std::to_string(how.port);
        const std::array names{"host",
                               "port",
                               "user",
                               "password",
                               "dbname",
                               "sslmode",
                               "gssencmode",
                               "connect_timeout",
                               static_cast<const char *>(nullptr)};
        const std::array values{"127.0.0.1",
                                port.c_str(),
                                how.user.c_str(),
                                how.password.c_str(),
                                database.c_str(),
                                how.tls ? "require" : "disable",
                                "disable",
                                "30",
                                static_cast<const char *>(nullptr)};
        login_ = PQconnectdbParams(names.data(), values.data(), 0);
        if (PQstatus(login_) != CONNECTION_OK) fail(std::string("login: ") + PQerrorMessage(login_));
        channel_ = channel(PQsocket(login_), static_cast<SSL *>(PQsslStruct(login_, "OpenSSL")));
        no_delay(channel_.fd());
        all_.sockets.add(channel_.fd(), EPOLLIN, this);
    }
    client(const client &) = delete;
    client &operator=(const client &) = delete;
    ~client() { PQfinish(login_); }

    /// since: from when its latency counts.
    void begin(time_point since) { go(slow_ ? all_.slow.steps : all_.usual.steps, since); }
    /// False: there is nothing to prepare.
    bool prepare() {
        if (all_.usual.preparation.empty() || slow_) return false;
        go(all_.usual.preparation, clock_type::now());
        return true;
    }

    void on_events(std::uint32_t events) {
        if ((events & EPOLLOUT) != 0) flush();
        if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0) return;
        for (;;) {
            const auto count = channel_.receive(all_.room.data(), all_.room.size());
            if (count < 0) fail("the connection of client " + std::to_string(number_) + " ended");
            if (count == 0) return;
            cutter_.take(std::string_view(all_.room.data(), static_cast<std::size_t>(count)), *this);
            if (!channel_.tls()) return;  // level-triggered: the rest is told again
        }
    }

    void on_message(char type, std::string_view body) {
        if (type == 'S' || type == 'N') return;  // may come at any time; a notification nobody has asked for
        const auto &now = current();
        if (at_ >= now.answers.size() || type != now.answers[at_]) return wrong(type, body);
        switch (type) {
            case 'D':
                check_row(static_cast<std::uint32_t>(body.size()), 0, body);
                break;
            case 'd':
                check_copy(body, 1);
                return;
            case 'C':
                if (!now.tail.empty() && now.tail[0] == 'c' && !says_bytes(body)) return wrong(type, body);
                break;
            case 'Z':
                if (body.size() != 1 || body[0] != now.status) return wrong(type, body);
                break;
            default:
                break;
        }
        answered();
    }

    void on_part(char type, std::uint32_t total, std::uint32_t offset, std::string_view piece) {
        const auto &now = current();
        if (at_ >= now.answers.size() || type != now.answers[at_]) return wrong(type, piece);
        const bool ends = offset + piece.size() == total;
        if (type == 'd') return check_copy(piece, ends ? 1 : 0);
        if (type != 'D') return wrong(type, piece);
        check_row(total, offset, piece);
        if (ends) answered();
    }

private:
    const step &current() const { return (*steps_)[step_]; }

    void go(const std::vector<step> &steps, time_point since) {
        steps_ = &steps;
        step_ = 0;
        since_ = since;
        ++all_.busy;
        send();
    }

    void send() {
        const auto &now = current();
        if (now.new_request) {
            first_tag_ = next_tag_;
            next_tag_ += now.tags.size();
        }
        auto &out = out_.own();
        const auto start = out.size();
        out.append(now.request);
        for (std::size_t i = 0; i < now.tags.size(); ++i)
            write_tag(out.data() + start + now.tags[i], number_, first_tag_ + i);
        if (!now.block.empty()) {
            out_.refer(now.block);
            out_.own().append(now.tail);
        }
        at_ = rows_ = pieces_ = 0;
        expect_value();
        flush();
    }

    void flush() {
        const auto came = out_.flush(channel_);
        if (came == outbox::progress::lost) fail("a connection was lost");
        const bool blocked = came == outbox::progress::some;
        if (blocked == blocked_) return;
        blocked_ = blocked;
        all_.sockets.change(channel_.fd(), blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, this);
    }

    void expect_value() {
        std::array<char, tag_bytes> tag;
        write_tag(tag.data(), number_, first_tag_ + rows_);
        value_.start({tag.data(), tag.size()});
    }

    /// A row of one column.
    void check_row(std::uint32_t total, std::uint32_t offset, std::string_view piece) {
        const auto size = (slow_ ? all_.slow : all_.usual).value_bytes;
        if (offset == 0) {
            wire::reader in(piece);
            if (total != size + 6 || in.u16() != 1 || in.u32() != size) return wrong('D', piece);
            piece = in.rest();
        }
        if (!value_.take(piece)) return wrong('D', piece);
        if (value_.bytes() == size) {
            ++rows_;
            expect_value();
        }
    }

    /// COPY's data: the first message is the tag, `pieces` follow.
    void check_copy(std::string_view piece, std::size_t ended) {
        if (!value_.take(piece)) return wrong('d', piece);
        pieces_ += ended;
        if (ended != 0 && (pieces_ == 1 || pieces_ == current().pieces + 1)) {
            if (value_.bytes() != tag_bytes + (pieces_ - 1) * copy_piece_bytes) return wrong('d', piece);
            answered();
        }
    }

    bool says_bytes(std::string_view body) const {
        return body.substr(0, body.size() - 1) == "COPY " + std::to_string(tag_bytes + all_.usual.bytes);
    }

    void answered() {
        if (++at_ < current().answers.size()) return;
        if (++step_ < steps_->size()) return send();
        --all_.busy;
        if (steps_ == &all_.usual.preparation) return;
        done();
    }

    void done() {
        const auto now = clock_type::now();
        const auto took = static_cast<std::uint64_t>(std::chrono::nanoseconds(now - since_).count());
        const auto &mine = slow_ ? all_.slow : all_.usual;
        (slow_ ? all_.slow_latencies : all_.latencies).add(took);
        all_.transactions += mine.transactions;
        all_.bytes += mine.bytes;
        if (now <= all_.end) all_.in_time += mine.transactions;
        if (all_.again && now < all_.end) return begin(now);
        if (!all_.open) return;
        if (all_.arrivals.empty()) return all_.free.push_back(this);
        const auto arrived = all_.arrivals.front();
        all_.arrivals.pop_front();
        begin(arrived);
    }

    [[noreturn]] void wrong(char type, std::string_view body) const {
        std::string shown;
        for (const char it : body.substr(0, 200)) shown += it >= ' ' && it <= '~' ? it : '.';
        const auto &now = steps_ != nullptr ? current().answers : all_.how.scenario;
        fail("client " + std::to_string(number_) + ", request " + std::to_string(first_tag_ + rows_) +
             ": a wrong answer of type '" + type + "' (place " + std::to_string(at_) + " of \"" + now +
             "\"): " + shown);
    }

    world &all_;
    std::uint32_t number_;
    bool slow_, blocked_ = false;
    PGconn *login_ = nullptr;
    channel channel_;
    message_cutter cutter_;
    outbox out_;
    const std::vector<step> *steps_ = nullptr;
    std::size_t step_ = 0, at_ = 0, rows_ = 0, pieces_ = 0;
    std::uint64_t first_tag_ = 0, next_tag_ = 0;
    value_check value_;
    time_point since_;
};

void wait(world &all, long nanoseconds) {
    all.sockets.wait(nanoseconds, [](client *it, std::uint32_t events) { it->on_events(events); });
}

/// Until every question is answered.
void finish(world &all) {
    constexpr auto patience = std::chrono::seconds(60);
    auto until = clock_type::now() + patience;
    for (auto before = all.busy; all.busy > 0;) {
        wait(all, 100'000'000);
        if (std::exchange(before, all.busy) != all.busy) until = clock_type::now() + patience;
        if (clock_type::now() > until) fail(std::to_string(all.busy) + " clients got no answer for 60 s");
    }
}

time_point after(time_point from, double seconds) {
    return from + std::chrono::duration_cast<clock_type::duration>(std::chrono::duration<double>(seconds));
}

void say(world &all, double seconds, double late = 0) {
    std::printf("{\"transactions\": %" PRIu64 ", \"per_second\": %.1f, \"bytes\": %" PRIu64
                ", \"seconds\": %.4f, \"late\": %.4f}\n",
                all.transactions, seconds > 0 ? static_cast<double>(all.in_time) / seconds : 0, all.bytes, seconds,
                late);
    std::fflush(stdout);
    all.transactions = all.in_time = all.bytes = 0;
}

void run_closed(world &all, double seconds) {
    const auto start = clock_type::now();
    all.end = after(start, seconds);
    all.again = true;
    for (const auto &it : all.clients) it->begin(clock_type::now());
    while (clock_type::now() < all.end) wait(all, 10'000'000);
    all.again = false;
    finish(all);
    say(all, seconds);
}

/// late: the longest that an arrival with a free client was served behind its schedule, for want of CPU here; seconds.
void run_open(world &all, double seconds, double rate) {
    static std::mt19937_64 random(1);
    std::exponential_distribution<double> gap(rate);
    auto next = clock_type::now();
    all.end = after(next, seconds);
    all.open = true;
    for (const auto &it : all.clients) all.free.push_back(it.get());
    double late = 0;
    for (;;) {
        const auto now = clock_type::now();
        for (; next <= now && next < all.end; next = after(next, gap(random))) {
            if (all.free.empty()) {
                all.arrivals.push_back(next);
                continue;
            }
            late = std::max(late, std::chrono::duration<double>(clock_type::now() - next).count());
            auto *const it = all.free.front();
            all.free.pop_front();
            it->begin(next);
        }
        if (now >= all.end) break;
        wait(all, std::max<long>(std::chrono::nanoseconds(std::min(next, all.end) - clock_type::now()).count(), 0));
    }
    finish(all);
    all.open = false;
    all.free.clear();
    say(all, seconds, late);
}

void run_each(world &all, std::size_t at_once) {
    all.end = time_point::max();
    for (const auto &it : all.clients) {
        while (all.busy >= at_once) wait(all, 100'000'000);
        it->begin(clock_type::now());
    }
    finish(all);
    say(all, 0);
}

void report(world &all) {
    const auto print = [](const char *prefix, const histogram &of) {
        const auto us = [&](double part) { return static_cast<double>(of.quantile(part)) / 1000; };
        std::printf("\"%scount\": %" PRIu64
                    ", \"%sp50_us\": %.1f, \"%sp99_us\": %.1f, \"%sp999_us\": %.1f, \"%smax_us\": %.1f",
                    prefix, of.count(), prefix, us(0.5), prefix, us(0.99), prefix, us(0.999), prefix,
                    static_cast<double>(of.max()) / 1000);
    };
    std::printf("{");
    print("", all.latencies);
    std::printf(", ");
    print("slow_", all.slow_latencies);
    std::puts("}");
    std::fflush(stdout);
    all.latencies = {};
    all.slow_latencies = {};
}

options read(arguments in) {
    options how;
    while (in.next()) {
        if (in.is("--port")) {
            how.port = in.number<std::uint16_t>();
        } else if (in.is("--user")) {
            how.user = in.text();
        } else if (in.is("--password")) {
            how.password = in.text();
        } else if (in.is("--database")) {
            how.database = in.text();
        } else if (in.is("--databases")) {
            how.databases = in.number<std::size_t>();
        } else if (in.is("--clients")) {
            how.clients = in.number<std::size_t>();
        } else if (in.is("--idle")) {
            how.idle = in.number<std::size_t>();
        } else if (in.is("--scenario")) {
            how.scenario = in.text();
        } else if (in.is("--size")) {
            how.size = in.number<std::size_t>();
        } else if (in.is("--slow")) {
            how.slow = in.number<double>();
        } else if (in.is("--slow-us")) {
            how.slow_us = in.number<std::size_t>();
        } else if (in.is("--tls")) {
            how.tls = true;
        } else {
            in.unknown();
        }
    }
    return how;
}

}  // namespace

int main(int count, char **values) {
    program = "bench_load";
    auto all = std::make_unique<world>();
    all->how = read(arguments(count, values));
    take_all_descriptors();
    all->usual = make_script(all->how.scenario, all->how.size);
    all->slow = make_script("slow", all->how.slow_us);
    std::vector<std::unique_ptr<client>> idle;
    for (std::size_t i = 0; i < all->how.clients + all->how.idle; ++i) {
        const bool is_idle = i >= all->how.clients;
        const bool slow =
            std::floor(static_cast<double>(i + 1) * all->how.slow) > std::floor(static_cast<double>(i) * all->how.slow);
        (is_idle ? idle : all->clients).push_back(std::make_unique<client>(*all, i, !is_idle && slow));
        if (!is_idle) all->clients.back()->prepare();
        if (i % 64 == 0) wait(*all, 0);
    }
    finish(*all);
    std::puts("ready");
    std::fflush(stdout);
    for (std::string word; std::cin >> word;) {
        double seconds = 0, rate = 0;
        std::size_t at_once = 0;
        if (word == "run" && std::cin >> seconds) {
            run_closed(*all, seconds);
        } else if (word == "open" && std::cin >> seconds >> rate) {
            run_open(*all, seconds, rate);
        } else if (word == "each" && std::cin >> at_once) {
            run_each(*all, at_once);
        } else if (word == "report") {
            report(*all);
        } else {
            fail("what is \"" + word + "\"?");
        }
    }
    return 0;
}
