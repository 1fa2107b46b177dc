// What leaves at the end of a round: everything, once, in order, each to its own socket; by the ring and without one.
#include "net/departures.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "net/faults.hpp"
#include "net/stream.hpp"

namespace pgsluice::net {
namespace {

struct connection final : departing {
    explicit connection(departures &all) : by(all) {
        std::array<int, 2> ends{};
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
        out = stream(ends[0]);
        out.departs_with(*this);
        peer = ends[1];
    }
    ~connection() { hang_up(); }

    sent say(std::string_view text) {
        core::outbox box;
        box.view(text);
        return out.send(box);
    }
    std::string heard() const {
        std::string all;
        std::array<char, 4096> room{};
        for (;;) {
            const auto count = ::recv(peer, room.data(), room.size(), 0);
            if (count <= 0) return all;
            all.append(room.data(), static_cast<std::size_t>(count));
        }
    }
    void hang_up() {
        if (peer >= 0) ::close(std::exchange(peer, -1));
    }
    departures &departs_by() override { return by; }
    void on_departed(sent how) override {
        told.push_back(how);
        if (then) then();
    }

    departures &by;
    stream out;
    int peer = -1;
    std::vector<sent> told;
    std::function<void()> then;
};

struct departure : ::testing::TestWithParam<bool> {
    departures all{GetParam()};
    std::vector<std::unique_ptr<connection>> people;

    connection &someone() { return *people.emplace_back(std::make_unique<connection>(all)); }
    void crowd(std::size_t count) {
        while (people.size() < count) someone();
    }
};

/// More than a socket of this kind takes, in pieces that leave later.
std::string fill(connection &it) {
    const std::string piece(departures::piece_max_bytes, 'x');
    std::string all;
    while (it.out.unsent_bytes() == 0) {
        EXPECT_EQ(it.say(piece), sent::all);
        all += piece;
        it.by.send();
    }
    return all;
}

}  // namespace

TEST_P(departure, nothing_leaves_before_the_round_is_over) {
    crowd(3);
    for (auto &it : people) EXPECT_EQ(it->say("hello"), sent::all);
    for (auto &it : people) EXPECT_EQ(it->heard(), "");
    all.end_round();
    for (auto &it : people) EXPECT_EQ(it->heard(), "hello");
    all.end_round();
    for (auto &it : people) EXPECT_EQ(it->heard(), "") << "once";
}

TEST_P(departure, each_has_its_own_however_many_they_are) {
    crowd(3 * departures::together_max + 5);
    for (int round = 0; round < 3; ++round) {
        for (std::size_t i = 0; i < people.size(); ++i) people[i]->say("for " + std::to_string(i) + ";");
        all.end_round();
        for (std::size_t i = 0; i < people.size(); ++i) {
            EXPECT_EQ(people[i]->heard(), "for " + std::to_string(i) + ";");
            EXPECT_TRUE(people[i]->told.empty());
        }
    }
}

TEST_P(departure, large_pieces_fill_the_room_and_small_ones_follow) {
    crowd(40);
    const std::string large(departures::piece_max_bytes, 'l');
    for (auto &it : people) EXPECT_EQ(it->say(large), sent::all);
    for (auto &it : people) EXPECT_EQ(it->say("small"), sent::all);
    all.end_round();
    for (auto &it : people) EXPECT_EQ(it->heard(), large + "small");
}

TEST_P(departure, what_is_too_large_to_wait_goes_behind_what_does) {
    auto &it = someone();
    someone().say("another");
    it.say("first ");
    const std::string large(departures::piece_max_bytes + 1, 'l');
    it.say(large);
    it.say(" last");
    all.end_round();
    EXPECT_EQ(it.heard(), "first " + large + " last");
}

TEST_P(departure, what_the_kernel_does_not_take_is_kept_and_its_owner_is_told_once) {
    auto &slow = someone();
    crowd(4);
    const auto before = fill(slow);
    ASSERT_GT(slow.out.unsent_bytes(), 0U);
    for (auto &it : people) {
        if (it.get() != &slow) it->say("on time");
    }
    EXPECT_EQ(slow.say("late"), sent::some);
    EXPECT_TRUE(slow.told.empty()) << "from the loop";
    all.end_round();
    EXPECT_EQ(slow.told, std::vector{sent::some});
    for (auto &it : people) {
        if (it.get() == &slow) continue;
        EXPECT_EQ(it->heard(), "on time");
    }
    std::string heard;
    for (int i = 0; slow.out.unsent_bytes() > 0 && i < 1000; ++i) {
        heard += slow.heard();
        slow.out.flush();
    }
    EXPECT_EQ(heard + slow.heard(), before + "late");
}

TEST_P(departure, whoever_has_hung_up_is_told_of_and_nobody_else) {
    crowd(5);
    people[2]->hang_up();
    for (auto &it : people) EXPECT_EQ(it->say("hello"), sent::all);
    all.end_round();
    for (std::size_t i = 0; i < people.size(); ++i) {
        EXPECT_EQ(people[i]->told, i == 2 ? std::vector{sent::failed} : std::vector<sent>{});
        EXPECT_EQ(people[i]->peer < 0 ? "" : people[i]->heard(), i == 2 ? "" : "hello");
    }
}

TEST_P(departure, nothing_follows_what_was_lost) {
    auto &gone = someone();
    gone.hang_up();
    EXPECT_EQ(gone.say("lost"), sent::all);
    EXPECT_EQ(gone.say("behind it"), sent::failed);
    EXPECT_TRUE(gone.out.broken());
    stream moved(std::move(gone.out));
    EXPECT_TRUE(moved.broken());
    EXPECT_EQ(moved.flush(), sent::failed);
    all.end_round();
    EXPECT_EQ(gone.told, std::vector{sent::failed});
}

TEST_P(departure, who_closes_has_said_it) {
    crowd(3);
    for (auto &it : people) it->say("last words");
    people[0]->out.close();
    people[1]->out.finish_sending();
    people[2]->out.drop_unsent();
    for (auto &it : people) EXPECT_EQ(it->heard(), "last words");
    all.end_round();
    for (auto &it : people) EXPECT_TRUE(it->told.empty());
}

TEST_P(departure, a_stream_that_moves_leaves_nothing_and_nobody_behind) {
    auto &old = someone();
    old.say("before, ");
    stream now(std::move(old.out));
    EXPECT_EQ(old.heard(), "before, ");
    core::outbox box;
    box.view("after");
    EXPECT_EQ(now.send(box), sent::all) << "nobody's: at once";
    EXPECT_EQ(old.heard(), "after");
    all.end_round();
    EXPECT_EQ(old.heard(), "");
}

TEST_P(departure, what_an_owner_says_when_it_is_told_leaves_in_the_same_round) {
    auto &gone = someone(), &other = someone();
    gone.hang_up();
    gone.then = [&] { other.say("it has gone"); };
    gone.say("hello");
    all.end_round();
    EXPECT_EQ(other.heard(), "it has gone");
}

TEST_P(departure, a_ring_that_is_refused_is_done_without) {
    crowd(3);
    {
        const faults::ring_refused refusal;
        for (auto &it : people) it->say("hello");
        all.end_round();
    }
    EXPECT_FALSE(all.has_ring());
    for (auto &it : people) {
        EXPECT_EQ(it->heard(), "hello");
        it->say("again");
    }
    all.end_round();
    for (auto &it : people) EXPECT_EQ(it->heard(), "again");
}

INSTANTIATE_TEST_SUITE_P(by, departure, ::testing::Bool(),
                         [](const auto &it) { return it.param ? "ring" : "one_by_one"; });

}  // namespace pgsluice::net
