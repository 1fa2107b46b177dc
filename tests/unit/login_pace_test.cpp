// How long refusals of wrong passwords are kept back: the count by itself, and a client that waits for its refusal.
#include "core/login_pace.hpp"

#include <gtest/gtest.h>

namespace pgsluice::core {
namespace {

using base::milliseconds;
using base::seconds;

const base::time_point start = base::time_point(seconds(1000));
constexpr base::duration longest = seconds(3);

TEST(login_pace, a_few_mistakes_cost_nothing_and_more_cost_more) {
    login_pace pace;
    for (std::uint32_t i = 0; i < login_pace::free_failures; ++i)
        EXPECT_EQ(pace.failed("a", longest, start), seconds(0));
    const milliseconds then[] = {milliseconds(100),  milliseconds(200),  milliseconds(400), milliseconds(800),
                                 milliseconds(1600), milliseconds(3000), milliseconds(3000)};
    for (const auto &wait : then) EXPECT_EQ(pace.failed("a", longest, start), wait);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(pace.failed("a", longest, start), longest);
    EXPECT_EQ(pace.failed("b", longest, start), seconds(0)) << "another one";
    EXPECT_EQ(pace.failed("a", seconds(0), start), seconds(0)) << "switched off";
    EXPECT_EQ(pace.failed("c", seconds(0), start), seconds(0));
    EXPECT_EQ(pace.size(), 2U) << "nor counted";
}

TEST(login_pace, forgets) {
    login_pace pace;
    for (int i = 0; i < 20; ++i) pace.failed("a", longest, start);
    EXPECT_EQ(pace.failed("a", longest, start + login_pace::memory - seconds(1)), longest);
    EXPECT_EQ(pace.failed("a", longest, start + 2 * login_pace::memory), seconds(0));
}

TEST(login_pace, has_a_bound) {
    login_pace pace;
    for (std::size_t i = 0; i < 3 * login_pace::entries_max; ++i) pace.failed(std::to_string(i), longest, start);
    EXPECT_LE(pace.size(), login_pace::entries_max);
}

}  // namespace
}  // namespace pgsluice::core
