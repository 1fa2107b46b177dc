// Latencies, counted by size: an error of at most 1 % at any size, and no memory that grows.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace pgsluice::bench {

class histogram {
public:
    /// nanoseconds: below 2^41, about 36 minutes; longer ones are counted as that.
    void add(std::uint64_t nanoseconds) {
        if (nanoseconds > most_) most_ = nanoseconds;
        ++count_;
        ++counts_[index_of(nanoseconds)];
    }
    std::uint64_t count() const { return count_; }
    std::uint64_t max() const { return most_; }

    /// The size that `part` (0 to 1) of all do not exceed, in nanoseconds.
    std::uint64_t quantile(double part) const {
        if (count_ == 0) return 0;
        const auto rank = static_cast<std::uint64_t>(part * static_cast<double>(count_ - 1));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i)
            if ((seen += counts_[i]) > rank) return std::min(upper_end(i), most_);
        return most_;
    }

private:
    static constexpr unsigned sub_bits = 7, top_bits = 41;
    static constexpr std::uint64_t subs = 1U << sub_bits;

    static std::size_t index_of(std::uint64_t value) {
        if (value < subs) return static_cast<std::size_t>(value);
        const auto shift = static_cast<unsigned>(std::bit_width(value)) - sub_bits - 1;
        if (shift > top_bits - sub_bits - 1) return (top_bits - sub_bits + 1) * subs - 1;
        return static_cast<std::size_t>((shift + 1) * subs + ((value >> shift) - subs));
    }
    static std::uint64_t upper_end(std::size_t index) {
        if (index < subs) return index;
        const auto shift = index / subs - 1;
        return ((index % subs + subs + 1) << shift) - 1;
    }

    std::array<std::uint64_t, (top_bits - sub_bits + 1) * subs> counts_{};
    std::uint64_t count_ = 0, most_ = 0;
};

}  // namespace pgsluice::bench
