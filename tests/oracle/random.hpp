// Seeded chance: every decision of a run follows from --seed and from whose it is. (The order in which sockets become
// ready does not: a run with the same seed tries the same things, not the same interleaving.)
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <string>

namespace oracle {

class chance {
public:
    chance(std::uint64_t seed, std::uint64_t whose) {
        std::seed_seq mixed{seed, seed >> 32, whose, whose >> 32};
        engine_.seed(mixed);
    }

    /// 0 to n-1; n > 0.
    std::uint64_t below(std::uint64_t n) { return std::uniform_int_distribution<std::uint64_t>(0, n - 1)(engine_); }
    std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
    bool happens(double probability) { return std::uniform_real_distribution<>(0, 1)(engine_) < probability; }
    /// 1 to most, each order of magnitude equally often.
    std::size_t size(std::size_t most) {
        std::uniform_real_distribution<> power(0, std::log(static_cast<double>(most) + 1));
        return std::min(most, static_cast<std::size_t>(std::exp(power(engine_))));
    }
    /// Which of these weights is drawn: 0, 1, ...
    std::size_t weighted(std::initializer_list<unsigned> weights) {
        unsigned all = 0;
        for (const auto weight : weights) all += weight;
        auto drawn = below(all);
        std::size_t which = 0;
        for (const auto weight : weights) {
            if (drawn < weight) return which;
            drawn -= weight;
            ++which;
        }
        return 0;
    }
    std::string hex(std::size_t digits) {
        std::string out;
        while (out.size() < digits) out += "0123456789abcdef"[below(16)];
        return out;
    }
    std::string bytes(std::size_t count) {
        std::string out;
        while (out.size() < count) out += static_cast<char>(below(256));
        return out;
    }

private:
    std::mt19937_64 engine_;
};

}  // namespace oracle
