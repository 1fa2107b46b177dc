// When it is told whether a password is right: the count by itself. Clients that wait: client_authentication_test.
#include "core/login_pace.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace pgsluice::core {
namespace {

using base::milliseconds;
using base::seconds;

const base::time_point start = base::time_point(seconds(1000));
constexpr base::duration longest = seconds(3);

/// What one that is alone has to wait.
base::duration wait(login_pace &pace, bool right = false, base::time_point now = start, const char *who = "a") {
    const auto turn = pace.judged(who, right, longest, now);
    return turn ? std::chrono::duration_cast<base::duration>(*turn - now) : seconds(0);
}

TEST(login_pace, a_few_mistakes_cost_nothing_and_more_cost_more) {
    login_pace pace;
    for (std::uint32_t i = 0; i < login_pace::free_failures; ++i) EXPECT_EQ(wait(pace), seconds(0));
    const milliseconds then[] = {milliseconds(100),  milliseconds(200),  milliseconds(400), milliseconds(800),
                                 milliseconds(1600), milliseconds(3000), milliseconds(3000)};
    bool right = false;
    for (const auto &it : then) EXPECT_EQ(wait(pace, right = !right), it) << "a right one as long as a wrong one";
    for (int i = 0; i < 100; ++i) EXPECT_EQ(wait(pace), longest);
    EXPECT_EQ(wait(pace, false, start, "b"), seconds(0)) << "another one";
    EXPECT_FALSE(pace.judged("a", false, seconds(0), start)) << "switched off";
    EXPECT_FALSE(pace.judged("c", false, seconds(0), start));
    EXPECT_EQ(wait(pace, true, start, "d"), seconds(0));
    EXPECT_EQ(pace.size(), 2U) << "nor counted";
}

TEST(login_pace, many_at_once_are_told_one_after_the_other) {
    login_pace pace;
    for (int i = 0; i < 20; ++i) wait(pace);
    std::vector<login_pace::turn> turns;
    for (int i = 0; i < 50; ++i) turns.push_back(pace.judged("a", i % 7 == 0, longest, start + milliseconds(i)));
    for (int i = 0; i < 50; ++i)
        EXPECT_EQ(*turns.at(static_cast<std::size_t>(i)), start + longest + i * longest / login_pace::told_at_once)
            << i;
    EXPECT_EQ(wait(pace, false, start, "b"), seconds(0));
    // Who leaves without an answer holds up nobody: its turn is the next one's.
    turns[3].reset();
    turns[10].reset();
    EXPECT_EQ(*pace.judged("a", true, longest, start), start + longest + 3 * longest / login_pace::told_at_once);
    turns.clear();
    EXPECT_EQ(wait(pace, true), longest);
}

TEST(login_pace, what_is_right_begins_anew) {
    login_pace pace;
    for (int i = 0; i < 20; ++i) wait(pace);
    EXPECT_EQ(wait(pace, true), longest);
    EXPECT_EQ(wait(pace), longest) << "not before it was told";
    pace.let_in("a");
    for (std::uint32_t i = 0; i < login_pace::free_failures; ++i) EXPECT_EQ(wait(pace), seconds(0));
    EXPECT_EQ(wait(pace), login_pace::first_delay);
}

TEST(login_pace, forgets) {
    login_pace pace;
    for (int i = 0; i < 20; ++i) wait(pace);
    EXPECT_EQ(wait(pace, false, start + login_pace::memory - seconds(1)), longest);
    EXPECT_EQ(wait(pace, true, start + 2 * login_pace::memory), seconds(0));
    EXPECT_EQ(wait(pace, false, start + 2 * login_pace::memory), seconds(0));
}

TEST(login_pace, has_a_bound) {
    login_pace pace;
    for (std::size_t i = 0; i < 3 * login_pace::entries_max; ++i) pace.judged(std::to_string(i), false, longest, start);
    EXPECT_LE(pace.size(), login_pace::entries_max);
}

}  // namespace
}  // namespace pgsluice::core
