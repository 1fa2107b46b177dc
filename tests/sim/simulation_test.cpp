// A million steps (unoptimised: a quarter) of the simulated world over many seeds, with every invariant looked at after
// each. More with PGSLUICE_SIM_STEPS=n; one seed again with PGSLUICE_SIM_SEED=n. A failure prints its seed.
#include <gtest/gtest.h>

#include <cstdlib>

#include "sim/world.hpp"

namespace pgsluice::sim {
namespace {

constexpr std::uint64_t steps_a_seed = 20'000;
#ifdef __OPTIMIZE__
constexpr std::uint64_t usual_steps = 1'000'000;
#else
constexpr std::uint64_t usual_steps = 250'000;  // the same time
#endif

std::uint64_t from_environment(const char *name, std::uint64_t usual) {
    const char *const text = std::getenv(name);
    return text != nullptr ? std::strtoull(text, nullptr, 10) : usual;
}

TEST(simulation, holds_at_every_step) {
    const auto total = from_environment("PGSLUICE_SIM_STEPS", usual_steps);
    const bool one = std::getenv("PGSLUICE_SIM_SEED") != nullptr;
    auto seed = from_environment("PGSLUICE_SIM_SEED", 1);
    std::uint64_t done = 0;
    long answered = 0, grants = 0, moves = 0, checks = 0, cancels = 0, refusals = 0, farewells = 0, kept = 0, own = 0;
    long commands = 0;
    for (; done < total && (!one || done == 0); ++seed) {
        simulation world(seed);
        const auto fault = world.run(steps_a_seed);
        ASSERT_EQ(fault, "") << "PGSLUICE_SIM_SEED=" << seed << " after " << world.steps_done() << " steps\n"
                             << world.describe();
        done += world.steps_done();
        answered += world.answered();
        grants += world.pool().grants;
        moves += world.pool().moves;
        checks += world.pool().checks;
        cancels += world.pool().cancels_sent;
        refusals += world.pool().refusals;
        farewells += world.pool().farewells;
        kept += world.pool().kept;
        own += world.pool().own_servers;
        commands += world.commands();
    }
    RecordProperty("steps", std::to_string(done));
    std::printf(
        "%llu steps, %ld answers, %ld grants, %ld moves, %ld checks, %ld cancels, %ld refusals, %ld farewells, %ld "
        "kept, %ld of replication, %ld commands of admins\n",
        static_cast<unsigned long long>(done), answered, grants, moves, checks, cancels, refusals, farewells, kept, own,
        commands);
    if (one) return;
    // A world in which nothing happens would hold as well.
    EXPECT_GT(answered, static_cast<long>(done / 200));
    EXPECT_GT(moves, static_cast<long>(done / 10'000));
    EXPECT_GT(cancels, static_cast<long>(done / 100'000));
    EXPECT_GT(kept, static_cast<long>(done / 100'000));
    EXPECT_GT(own, static_cast<long>(done / 100'000));
    EXPECT_GT(commands, static_cast<long>(done / 10'000));
}

}  // namespace
}  // namespace pgsluice::sim
