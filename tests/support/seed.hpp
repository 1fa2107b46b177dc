// Where a random test starts: a fixed seed, or the one in the environment; every failure must print it.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace pgsluice::test {

/// PGSLUICE_TEST_SEED, else `usual`.
inline std::uint64_t seed(std::uint64_t usual) {
    const char *const chosen = std::getenv("PGSLUICE_TEST_SEED");
    return chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : usual;
}

}  // namespace pgsluice::test
