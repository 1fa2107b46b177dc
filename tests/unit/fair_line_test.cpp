// A line in which everybody has an equal share.
#include "core/fair_line.hpp"

#include <gtest/gtest.h>

#include <memory>

namespace pgsluice::core {
namespace {

std::string all_of(fair_line<char> &line) {
    std::string order;
    while (!line.empty()) order += line.pop();
    return order;
}

TEST(fair_line, takes_one_of_each_in_turn) {
    fair_line<char> line;
    for (const char it : {'a', 'b', 'c', 'd'}) line.push("many", it);
    line.push("one", '1');
    line.push("two", 'x');
    line.push("two", 'y');
    EXPECT_EQ(line.size(), 7U);
    EXPECT_EQ(line.pop(), 'a');
    line.push("late", '!');
    EXPECT_EQ(all_of(line), "1xb!ycd");
    line.push("many", 'e');
    EXPECT_EQ(all_of(line), "e");
}

TEST(fair_line, lets_go_of_one) {
    fair_line<char> line;
    for (const char it : {'a', 'b', 'c'}) line.push("x", it);
    line.push("y", '1');
    const auto is = [](char wanted) { return [wanted](char it) { return it == wanted; }; };
    EXPECT_TRUE(line.remove("x", is('b')));
    EXPECT_FALSE(line.remove("x", is('b')));
    EXPECT_FALSE(line.remove("y", is('a')));
    EXPECT_FALSE(line.remove("z", is('a')));
    EXPECT_TRUE(line.remove("y", is('1')));
    EXPECT_EQ(line.size(), 2U);
    line.push("y", '2');
    EXPECT_EQ(all_of(line), "a2c");
    line.push("x", 'd');
    line.clear();
    EXPECT_TRUE(line.empty());
    line.push("x", 'e');
    EXPECT_EQ(all_of(line), "e");
}

TEST(fair_line, holds_what_can_only_be_moved) {
    fair_line<std::unique_ptr<int>> line;
    line.push("x", std::make_unique<int>(7));
    EXPECT_EQ(*line.pop(), 7);
}

}  // namespace
}  // namespace pgsluice::core
