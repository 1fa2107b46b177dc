// What a socket is given: the order of the pieces, which of them are one, and what is copied.
#include "core/outbox.hpp"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace pgsluice::core {
namespace {

constexpr auto greet = [](std::string &out) { out += "made "; };

std::vector<std::string_view> pieces_of(const outbox &box) {
    std::vector<std::string_view> all;
    for (std::size_t i = 0; i < box.pieces(); ++i) all.push_back(box.piece(i));
    return all;
}

TEST(outbox, neighbours_in_a_buffer_are_one_piece) {
    const std::string buffer = "first second";
    outbox box;
    box.view(std::string_view(buffer).substr(0, 6));
    box.view(std::string_view(buffer).substr(6));
    ASSERT_EQ(box.pieces(), 1U);
    EXPECT_EQ(box.piece(0).data(), buffer.data());
    EXPECT_EQ(box.piece(0), buffer);
}

TEST(outbox, a_small_piece_behind_made_bytes_is_copied_to_them) {
    std::string small(512, 's');
    const std::string large(513, 'l');
    outbox box;
    box.make(greet);
    box.view(small);
    box.make(greet);
    box.view(large);
    box.view(small);  // behind a piece that is not ours: not copied
    const std::string all = "made " + small + "made " + large + small;
    EXPECT_EQ(box.text(), all);
    EXPECT_EQ(box.size_bytes(), all.size());
    ASSERT_EQ(box.pieces(), 3U);
    EXPECT_EQ(box.piece(1).data(), large.data());
    EXPECT_EQ(box.piece(2).data(), small.data());
    small.assign(512, 'x');
    EXPECT_EQ(box.piece(0), "made " + std::string(512, 's') + "made ");
}

TEST(outbox, with_nothing_to_copy_each_source_is_a_piece) {
    const std::string buffer = "passed on";
    outbox box(0);
    box.make(greet);
    box.view(buffer);
    box.make(greet);
    EXPECT_EQ(pieces_of(box), (std::vector<std::string_view>{"made ", buffer, "made "}));
    EXPECT_EQ(box.piece(1).data(), buffer.data());
}

TEST(outbox, cleared_it_is_as_new) {
    outbox box;
    box.make(greet);
    box.view("passed on");
    box.clear();
    EXPECT_TRUE(box.empty());
    EXPECT_EQ(box.size_bytes(), 0U);
    box.make([](std::string &) {});
    box.view({});
    EXPECT_TRUE(box.empty());
}

TEST(outbox, keeps_what_ordinary_use_takes_and_gives_back_the_rest) {
    outbox box(0);
    box.make([](std::string &out) { out.append(30'000, 'x'); });
    const auto ordinary = box.kept_bytes();
    box.clear();
    EXPECT_EQ(box.kept_bytes(), ordinary);
    box.make([](std::string &out) { out.append(16 << 20, 'x'); });
    box.clear();
    EXPECT_LE(box.kept_bytes(), 2 * base::kept_bytes);
    const std::string buffer = "passed on";
    for (int i = 0; i < 10'000; ++i) box.view(buffer);
    EXPECT_EQ(box.pieces(), 10'000U);
    box.clear();
    EXPECT_LE(box.kept_bytes(), 2 * base::kept_bytes);
}

}  // namespace
}  // namespace pgsluice::core
