// Which lines of refused logins are left out of the log, and how they are counted.
#include "core/login_lines.hpp"

#include <gtest/gtest.h>

namespace pgsluice::core {
namespace {

using base::milliseconds;
using base::seconds;

constexpr auto most = login_lines::most_a_second;
const base::time_point start = base::time_point(seconds(1000));

TEST(login_lines, the_first_of_a_second_are_told) {
    login_lines lines;
    for (std::uint32_t i = 0; i < most; ++i) EXPECT_TRUE(lines.tells("password authentication failed", start));
    EXPECT_FALSE(lines.are_too_many());
    EXPECT_TRUE(lines.left_out(start + seconds(5)).empty()) << "nothing was";
    for (int i = 0; i < 7; ++i) EXPECT_FALSE(lines.tells("password authentication failed", start + milliseconds(900)));
    EXPECT_TRUE(lines.are_too_many());
    EXPECT_TRUE(lines.left_out(start + milliseconds(999)).empty()) << "its second is not over";
    EXPECT_FALSE(lines.tells("password authentication failed", start + milliseconds(1020))) << "nor told of";
    EXPECT_EQ(lines.left_out(start + milliseconds(1050)), (login_lines::counts{{"password authentication failed", 8}}));
    EXPECT_TRUE(lines.left_out(start + seconds(2)).empty()) << "once";
    EXPECT_FALSE(lines.are_too_many());
    EXPECT_TRUE(lines.tells("password authentication failed", start + milliseconds(1060)));
}

TEST(login_lines, each_kind_has_its_own_limit) {
    login_lines lines;
    for (std::uint32_t i = 0; i < 2 * most; ++i) lines.tells("no such database: name" + std::to_string(i), start);
    EXPECT_TRUE(lines.tells("password authentication failed", start));
    EXPECT_FALSE(lines.tells("no such database: (", start));
    for (std::uint32_t i = 0; i < most; ++i)
        EXPECT_TRUE(lines.tells("login rejected (hba:" + std::to_string(i), start));
    EXPECT_EQ(lines.left_out(start + seconds(1)), (login_lines::counts{{"no such database", most + 1}}));
}

TEST(login_lines, kinds_that_are_made_up_have_a_bound) {
    login_lines lines;
    std::size_t told = 0;
    for (int i = 0; i < 10'000; ++i) told += lines.tells("reason " + std::to_string(i), start) ? 1 : 0;
    EXPECT_EQ(told, login_lines::kinds_max + most);
    const auto left_out = lines.left_out(start + seconds(1));
    EXPECT_EQ(left_out, (login_lines::counts{{"other reasons", 10'000 - login_lines::kinds_max - most}}));
}

}  // namespace
}  // namespace pgsluice::core
