// What goes wrong takes nothing else with it: hooks of a wheel, events of a round, handlers of the control thread.
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

#include "net/process.hpp"
#include "net/ready_set.hpp"
#include "net/timer_wheel.hpp"

namespace pgsluice::net {

namespace {

struct hook final : timer_hook {
    void on_timer(base::time_point) override {
        ++fired;
        if (fails) throw std::runtime_error("as ordered");
    }
    int fired = 0;
    bool fails = false;
};

struct event final : watched {
    event() : fd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)) {}
    ~event() { ::close(fd); }
    void on_ready(std::uint32_t) override {
        ++seen;
        if (fails) throw std::runtime_error("as ordered");
    }
    int fd, seen = 0;
    bool fails = false;
};

}  // namespace

TEST(timer_wheel, a_hook_that_throws_costs_no_other_its_deadline) {
    const base::time_point start{std::chrono::hours(1)};
    timer_wheel wheel(start);
    std::array<hook, 4> hooks;
    for (std::size_t i = 0; i < 3; ++i) wheel.arm(hooks[i], start + base::milliseconds(60));  // of one slot
    wheel.arm(hooks[3], start + base::milliseconds(160));
    hooks[0].fails = hooks[1].fails = true;
    EXPECT_THROW(wheel.advance(start + base::milliseconds(400)), std::runtime_error);
    for (const auto &it : hooks) EXPECT_EQ(it.fired, 1);
    EXPECT_NO_THROW(wheel.advance(start + base::milliseconds(500)));
    for (const auto &it : hooks) EXPECT_EQ(it.fired, 1) << "and once only";
}

TEST(timer_wheel, one_of_a_later_turn_stays_behind_one_that_throws) {
    const base::time_point start{std::chrono::hours(1)};
    timer_wheel wheel(start);
    hook now, later;
    now.fails = true;
    wheel.arm(now, start + base::milliseconds(60));
    wheel.arm(later, start + base::milliseconds(60) + timer_wheel::tick * 1024);
    EXPECT_THROW(wheel.advance(start + base::milliseconds(200)), std::runtime_error);
    EXPECT_EQ(later.fired, 0);
    wheel.advance(start + timer_wheel::tick * 1030);
    EXPECT_EQ(later.fired, 1);
}

TEST(ready_set, an_event_that_throws_costs_no_other_its_turn) {
    ready_set all;
    std::array<event, 3> events;
    for (auto &it : events) all.add(it, it.fd, EPOLLIN);
    events[0].fails = events[1].fails = true;
    int woken = 0;
    EXPECT_THROW(all.wait(base::milliseconds(0), [&] { ++woken; }), std::runtime_error);
    EXPECT_EQ(woken, 1);
    for (auto &it : events) {
        EXPECT_EQ(it.seen, 1);
        all.remove(it);
    }
}

TEST(control_thread, a_handler_that_throws_is_not_the_end) {
    asio::io_context context;
    int done = 0;
    asio::post(context, [] { throw std::runtime_error("as ordered"); });
    asio::post(context, [&] { ++done; });
    asio::post(context, [] { throw std::runtime_error("as ordered, again"); });
    asio::post(context, [&] { ++done; });
    run_loop(context);
    EXPECT_EQ(done, 2);
}

TEST(control_thread, it_ends_when_it_is_stopped) {
    asio::io_context context;
    timer never(context);
    never.expires_after(std::chrono::hours(1));
    never.async_wait([](error_code) {});
    asio::post(context, [&] {
        context.stop();
        throw std::runtime_error("as ordered");
    });
    run_loop(context);
    EXPECT_TRUE(context.stopped());
}

}  // namespace pgsluice::net
