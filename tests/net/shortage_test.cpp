// Short of what the kernel gives: watches of epoll, threads. Whoever can not be served is told, and all go on when it
// is over.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <future>

#include "net/config_reader.hpp"
#include "net/console_desk.hpp"
#include "net/dns_channel.hpp"
#include "net/faults.hpp"
#include "net/house.hpp"
#include "net/lobby.hpp"
#include "net/process.hpp"
#include "net/secret_lookup.hpp"
#include "net/thread_start.hpp"
#include "wire/startup.hpp"

namespace pgsluice::net {

namespace {

std::size_t open_descriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd"), end;
    return static_cast<std::size_t>(std::distance(begin(all), end));
}

bool signal_reaches_us(int number) {
    sigset_t held;
    ::pthread_sigmask(SIG_BLOCK, nullptr, &held);
    return sigismember(&held, number) == 0;
}

crypto_pool::asker asker_of(crypto_pool::side side) {
    return {side, "app"};
}

}  // namespace

// ---- watches ----

TEST(shortage, a_listener_listens_again) {
    house all;
    lobby where(all.all);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::listen(fd, 1), 0);
    listener it(fd, true, "here", "");
    auto &desk = all.all.lobby();
    auto now = desk.now();
    {
        const faults::no_watches shortage;
        EXPECT_NO_THROW(it.open(where));
        for (int i = 0; i < 3; ++i) EXPECT_NO_THROW(desk.wheel().advance(now += base::milliseconds(100)));
        EXPECT_FALSE(ready_set::has(it));
    }
    desk.wheel().advance(now += base::milliseconds(100));
    EXPECT_TRUE(ready_set::has(it));
    it.close();
}

TEST(shortage, a_client_that_can_not_be_watched_yet_is_heard_later) {
    house all;
    lobby where(all.all);
    auto &desk = all.all.lobby();
    desk.refresh();
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
    std::string request;
    wire::append_ssl_request(request);
    ASSERT_EQ(::send(ends[1], request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
    auto now = desk.now();
    const auto answer = [&] {
        desk.wheel().advance(now += base::milliseconds(100));
        desk.ready().wait(base::milliseconds(0), [] {});
        desk.departing().end_round();
        char first = '-';
        static_cast<void>(::recv(ends[1], &first, 1, 0));
        return first;
    };
    {
        const faults::no_watches shortage;
        EXPECT_NO_THROW(where.take_in(ends[0], false));
        for (int i = 0; i < 3; ++i) EXPECT_EQ(answer(), '-');
    }
    EXPECT_EQ(answer(), 'N');
    ::close(ends[1]);
}

TEST(shortage, the_port_is_left_whatever_becomes_of_those_who_wait_there) {
    house all;
    lobby where(all.all);
    auto &desk = all.all.lobby();
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::listen(fd, 1), 0);
    sockaddr_in address{};
    socklen_t length = sizeof address;
    ASSERT_EQ(::getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length), 0);
    std::vector<std::unique_ptr<listener>> listeners;
    listeners.push_back(std::make_unique<listener>(fd, true, "here", ""));
    where.open(std::move(listeners));
    const int caller = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::connect(caller, reinterpret_cast<const sockaddr *>(&address), length), 0);
    const auto work = asio::make_work_guard(all.control);
    bool left = false;
    where.close_tcp([&] {
        left = true;
        all.control.stop();
    });
    desk.start();
    const faults::no_watches shortage;
    all.control.run_for(base::seconds(10));
    EXPECT_TRUE(left);
    const int second = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_NE(::connect(second, reinterpret_cast<const sockaddr *>(&address), length), 0);
    ::close(second);
    ::close(caller);
}

TEST(shortage, auth_query_fails_and_keeps_no_descriptor) {
    house all;
    console_desk desk(all.all, {});  // whether there is a SUSPEND
    all.all.console = &desk;
    secret_lookups lookups(all.all);
    std::vector<core::secret_answer> answers;
    const auto before = open_descriptors();
    const faults::no_watches shortage;
    const auto ticket =
        lookups.find({"db", "asker", "select", "user"}, [&](const core::secret_answer &it) { answers.push_back(it); });
    EXPECT_NO_THROW(all.control.run());
    ASSERT_EQ(answers.size(), 1U);
    EXPECT_EQ(answers[0].what, core::secret_answer::kind::failed);
    EXPECT_EQ(answers[0].problem, "no socket for auth_query");
    EXPECT_EQ(open_descriptors(), before);
}

TEST(shortage, a_dns_socket_that_can_not_be_watched_is_one_that_does_not_answer) {
    const auto file = std::filesystem::temp_directory_path() / ("resolv.conf." + std::to_string(::getpid()));
    std::ofstream(file) << "nameserver 127.0.0.1\n";
    asio::io_context context;
    int status = -1;
    {
        dns_channel channel(context);
        channel.open(file);
        const faults::no_watches shortage;
        EXPECT_NO_THROW(channel.ask([&](ares_channel c_ares) {
            in_addr address{htonl(INADDR_LOOPBACK + 1)};
            ares_gethostbyaddr(
                c_ares, &address, sizeof address, AF_INET,
                [](void *argument, int code, int, hostent *) { *static_cast<int *>(argument) = code; }, &status);
        }));
        EXPECT_EQ(status, -1) << "it waits";
    }
    EXPECT_EQ(status, ARES_EDESTRUCTION);
    std::filesystem::remove(file);
}

// ---- a queue ----

TEST(shortage, a_socket_whose_queue_is_full_is_anothers) {
    const auto directory = std::filesystem::temp_directory_path() / ("queue." + std::to_string(::getpid()));
    std::filesystem::create_directory(directory);
    config::global_settings settings;
    settings.listen_addr.clear();
    settings.unix_socket_dir = directory;
    settings.listen_backlog = 0;
    const auto ours = listener::open_all(settings);
    ASSERT_TRUE(ours.has_value()) << ours.error();
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = directory / (".s.PGSQL." + std::to_string(settings.listen_port));
    ASSERT_LT(path.copy(address.sun_path, sizeof address.sun_path - 1), sizeof address.sun_path - 1);
    const int caller = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int late = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::connect(caller, reinterpret_cast<const sockaddr *>(&address), sizeof address), 0);
    EXPECT_NE(::connect(late, reinterpret_cast<const sockaddr *>(&address), sizeof address), 0) << "it is full";
    const auto again = listener::open_all(settings);
    ASSERT_TRUE(again.has_error());
    EXPECT_NE(again.error().find("another process answers there"), std::string::npos) << again.error();
    EXPECT_TRUE(std::filesystem::exists(path)) << "it is not taken away";
    ::close(late);
    ::close(caller);
    std::filesystem::remove_all(directory);
}

// ---- threads ----

TEST(shortage, signals_reach_who_starts_a_thread_again) {
    ASSERT_TRUE(signal_reaches_us(SIGTERM));
    bool reaches = true;
    start_thread("one", [&] { reaches = signal_reaches_us(SIGTERM); }).join();
    EXPECT_FALSE(reaches);
    EXPECT_TRUE(signal_reaches_us(SIGTERM));
    const faults::threads_left none(0);
    EXPECT_THROW(start_thread("none", [] {}), std::system_error);
    EXPECT_TRUE(signal_reaches_us(SIGTERM));
}

TEST(shortage, all_that_is_to_be_read_is_read_without_another_thread) {
    const faults::threads_left none(0);
    std::atomic<int> done = 0;
    on_all_cores(100, [&](std::size_t) { ++done; });
    EXPECT_EQ(done, 100);
}

TEST(shortage, a_reload_without_a_thread_fails_and_the_next_one_works) {
    asio::io_context context;
    config_reader reader(context);
    std::vector<bool> worked;
    const auto begin = [] { return [](const config::spreader &) { return config_reader::outcome(config::loaded{}); }; };
    const auto done = [&](const config_reader::outcome &it) { worked.push_back(it.has_value()); };
    {
        const faults::threads_left none(0);
        reader.read(begin, done);
        run_loop(context);
    }
    // The thread of the next one posts from outside of the loop, which must not end before.
    const auto work = asio::make_work_guard(context);
    context.restart();
    reader.read(begin, [&](const config_reader::outcome &it) {
        done(it);
        context.stop();
    });
    run_loop(context);
    EXPECT_EQ(worked, (std::vector<bool>{false, true}));
}

TEST(shortage, what_a_reload_has_come_to_may_throw) {
    asio::io_context context;
    const auto work = asio::make_work_guard(context);
    config_reader reader(context);
    std::string told;
    int begun = 0;
    const auto begin = [&] {
        told += std::to_string(++begun);
        return [](const config::spreader &) { return config_reader::outcome(config::loaded{}); };
    };
    reader.read(begin, [&](const config_reader::outcome &) {
        reader.read(begin, [&](const config_reader::outcome &) {
            told += "c";
            context.stop();
        });
        told += "a";
        throw std::runtime_error("as ordered");
    });
    reader.read(begin, [&](const config_reader::outcome &) { told += "b"; });
    run_loop(context);
    EXPECT_EQ(told, "1a2b3c") << "each begins with what the one before it has come to";
}

TEST(shortage, one_thread_computes_what_more_would) {
    house all;
    all.home().start();
    const auto derive = [&](std::promise<void> &done) {
        return all.all.crypto.derive(all.home(), asker_of(crypto_pool::side::client),
                                     {base::secret(std::string("pw")), "salt", 1},
                                     [&](const auth::scram_keys &) { done.set_value(); });
    };
    std::promise<void> first, second;
    {
        const faults::threads_left none(0);
        EXPECT_FALSE(derive(first)) << "refused at once, instead of left to wait";
        EXPECT_TRUE(signal_reaches_us(SIGTERM));
    }
    const faults::threads_left one(1);
    EXPECT_TRUE(derive(second));
    second.get_future().wait();
    all.all.crypto.stop();
}

TEST(shortage, clients_that_fill_their_line_keep_no_server_from_logging_in) {
    house all;
    all.home().start();
    const auto derive = [&](crypto_pool::side side) {
        return all.all.crypto.derive(all.home(), asker_of(side),
                                     {base::secret(std::string("pw")), "salt", crypto_pool::dear_iterations},
                                     [](const auth::scram_keys &) {});
    };
    std::size_t taken = 0;
    while (taken < 2 * crypto_pool::derivations_max && derive(crypto_pool::side::client)) ++taken;
    EXPECT_LT(taken, 2 * crypto_pool::derivations_max);
    EXPECT_TRUE(derive(crypto_pool::side::server));
    all.all.crypto.stop();
}

TEST(shortage, a_password_that_nobody_can_check_is_refused_at_once) {
    password_checks checks;
    std::promise<void> checked;
    const auto deadline = std::chrono::steady_clock::now() + base::seconds(10);
    {
        const faults::threads_left none(0);
        EXPECT_FALSE(checks.ask({}, deadline, [](const auth::password_verdict &) { FAIL() << "it was refused"; }));
        EXPECT_TRUE(signal_reaches_us(SIGTERM));
    }
    EXPECT_TRUE(checks.ask({}, deadline, [&](const auth::password_verdict &) { checked.set_value(); }));
    checked.get_future().wait();
}

}  // namespace pgsluice::net
