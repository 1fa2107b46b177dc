// The bleed oracle: many virtual clients with secrets of their own, through pgsluice and a network that misbehaves, and
// an audit of everything they were told. Started by tests/oracle/run, which starts PostgreSQL and pgsluice too.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <charconv>
#include <exception>
#include <iomanip>
#include <iostream>
#include <stdexcept>

#include "control.hpp"
#include "proxy.hpp"
#include "workload.hpp"

namespace oracle {
namespace {

constexpr std::string_view usage = R"(oracle --postgres PORT --pooler PORT --client-proxy PORT --server-proxy PORT
       --login USER:PASSWORD:DATABASE:transaction|session|statement:WEIGHT:SERVERS[:faulty|:timeouts] ...
       [--database-limit NAME:SERVERS] [--user-limit NAME:SERVERS] [--seed N] [--seconds N] [--clients N]
       [--patience SECONDS] [--largest BYTES] [--no-named] [--no-faults] [--no-places] [--lie WHAT]
Ports of 127.0.0.1; the proxies are this program's. PostgreSQL lets the user postgres in without a password.
)";

template <class Number>
Number number(std::string_view text) {
    Number value{};
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (ec != std::errc() || end != text.data() + text.size()) throw std::invalid_argument(std::string(text));
    return value;
}

std::vector<std::string> fields(const std::string &text) {
    std::vector<std::string> all{""};
    for (const char c : text) {
        if (c == ':') {
            all.emplace_back();
        } else {
            all.back() += c;
        }
    }
    return all;
}

login parse_login(const std::string &text) {
    const auto part = fields(text);
    if (part.size() < 6) throw std::invalid_argument(text);
    const auto mode = part[3] == "session"     ? pooling::session
                      : part[3] == "statement" ? pooling::statement
                                               : pooling::transaction;
    const std::string flag = part.size() > 6 ? part[6] : "";
    return {part[0],          part[1],           part[2], mode, number<unsigned>(part[4]), number<std::size_t>(part[5]),
            flag == "faulty", flag == "timeouts"};
}

lie parse_lie(std::string_view text) {
    constexpr std::array<std::string_view, 8> names{"none",     "bleed",  "lost",  "doubled",
                                                    "identity", "cancel", "reply", "swallow"};
    for (std::size_t i = 0; i < names.size(); ++i) {
        if (names[i] == text) return static_cast<lie>(i);
    }
    throw std::invalid_argument(std::string(text));
}

options parse(const std::vector<std::string> &arguments) {
    options opt;
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        const auto &name = arguments[i];
        if (name == "--no-named") {
            opt.named = false;
        } else if (name == "--no-faults") {
            opt.faults = false;
        } else if (name == "--no-places") {
            opt.places = false;
        } else {
            if (++i == arguments.size()) throw std::invalid_argument(name);
            const auto &value = arguments[i];
            const auto limit = [&](auto &limits) {
                const auto part = fields(value);
                limits[part.at(0)] = number<std::size_t>(part.at(1));
            };
            if (name == "--postgres")
                opt.postgres = number<std::uint16_t>(value);
            else if (name == "--pooler")
                opt.pooler = number<std::uint16_t>(value);
            else if (name == "--client-proxy")
                opt.client_proxy = number<std::uint16_t>(value);
            else if (name == "--server-proxy")
                opt.server_proxy = number<std::uint16_t>(value);
            else if (name == "--login")
                opt.logins.push_back(parse_login(value));
            else if (name == "--database-limit")
                limit(opt.database_limits);
            else if (name == "--user-limit")
                limit(opt.user_limits);
            else if (name == "--seed")
                opt.seed = number<std::uint64_t>(value);
            else if (name == "--seconds")
                opt.seconds = number<double>(value);
            else if (name == "--clients")
                opt.clients = number<std::size_t>(value);
            else if (name == "--patience")
                opt.patience = number<double>(value);
            else if (name == "--largest")
                opt.most = number<std::size_t>(value);
            else if (name == "--lie")
                opt.lying = parse_lie(value);
            else
                throw std::invalid_argument(name);
        }
    }
    if (opt.logins.empty() || opt.pooler == 0 || opt.postgres == 0) throw std::invalid_argument("too few arguments");
    return opt;
}

/// Spawned coroutines must not fail in silence.
void rethrow(std::exception_ptr problem) {
    if (problem) std::rethrow_exception(problem);
}

awaitable<void> play(world &shared) {
    co_await prepare(shared);
    shared.end =
        steady::now() + std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(shared.opt.seconds));
    std::size_t running = 0;
    const auto begin = [&](awaitable<void> work) {
        ++running;
        asio::co_spawn(shared.io, std::move(work), [&running](std::exception_ptr problem) {
            --running;
            rethrow(problem);
        });
    };
    unsigned weights = 0;
    for (const auto &where : shared.opt.logins) weights += where.weight;
    std::size_t started = 0;
    unsigned weight = 0;
    for (std::size_t i = 0; i < shared.opt.logins.size(); ++i) {
        weight += shared.opt.logins[i].weight;
        for (; started < shared.opt.clients * weight / weights; ++started) begin(virtual_client(shared, i, started));
    }
    begin(watch_servers(shared));
    while (running > 0) co_await pause(0.05);
    shared.calm = true;
    shared.client_side->calm();
    shared.server_side->calm();
    co_await pause(0.5);
    co_await check_quiet(shared);
    if (shared.opt.places) co_await check_places(shared);
    co_await check_quiet(shared);
    co_await check_tables(shared);
    check_ends(shared);
    shared.io.stop();
}

void report(const world &shared) {
    const auto &count = shared.count;
    const auto line = [](std::string_view what, std::uint64_t value) {
        std::cout << "  " << std::left << std::setw(44) << what << value << '\n';
    };
    std::cout << "seed " << shared.opt.seed << ", " << shared.opt.clients << " clients, " << shared.opt.seconds
              << " s\n";
    line("sessions", count.sessions);
    line("logins that faults ended", count.logins_failed);
    line("round trips", count.statements);
    line("transactions verified", shared.works.size());
    line("  commits acknowledged", count.commits);
    line("  rolled back", count.rollbacks);
    line("  in doubt at the end", count.in_doubt);
    line("identities compared", count.identities);
    line("messages received", count.messages);
    line("bytes scanned", count.bytes);
    line("largest message (bytes)", count.largest);
    for (const auto &[kind, number] : shared.faults) line("fault: " + kind, number);
    line("fault: backend killed", count.kills);
    line("fault: client left, by Terminate", count.left_terminate);
    line("fault: client left, by close", count.left_close);
    line("fault: client left, by RST", count.left_reset);
    line("  of these inside a message", count.left_in_message);
    line("  of these before the replies", count.left_in_work);
    line("cancel requests", count.cancels);
    line("  that hit", count.cancelled);
    line("connections that ended with their server", count.ended_by_server);
    line("connections given up after silence", count.gave_up);
    line("timeouts of the pooler", count.timeouts);
    line("samples of pg_stat_activity", count.samples);
    for (std::size_t i = 0; i < shared.failures.size(); ++i) {
        line("FAILURES: " + std::string(to_string(static_cast<failure>(i))), shared.failures[i]);
    }
    std::cout << (shared.failed() ? "FAILED\n" : "passed\n") << std::flush;
}

int run(const std::vector<std::string> &arguments) {
    world shared(parse(arguments));
    fault_proxy client_side(shared, shared.opt.client_proxy, shared.opt.pooler, false);
    fault_proxy server_side(shared, shared.opt.server_proxy, shared.opt.postgres, true);
    shared.client_side = &client_side;
    shared.server_side = &server_side;
    asio::co_spawn(shared.io, client_side.serve(), rethrow);
    asio::co_spawn(shared.io, server_side.serve(), rethrow);
    asio::co_spawn(shared.io, watch_deadlines(shared), rethrow);
    asio::co_spawn(shared.io, play(shared), rethrow);
    shared.io.run();
    report(shared);
    return shared.failed() ? 1 : 0;
}

}  // namespace
}  // namespace oracle

int main(int argc, char **argv) {
    try {
        return oracle::run({argv + 1, argv + argc});
    } catch (const std::invalid_argument &problem) {
        std::cerr << "bad argument: " << problem.what() << '\n' << oracle::usage;
    } catch (const std::exception &problem) {
        std::cerr << "oracle: " << problem.what() << '\n';
    }
    return 2;
}
