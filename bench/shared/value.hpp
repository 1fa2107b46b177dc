// The values that travel through what is measured. Each begins with the tag of its request (whose it is and which), and
// goes on as a pattern that knows its place, so that a reply of somebody else, a lost byte and a swapped piece are all
// seen. The do-nothing server understands these texts, with the tag as the last word:
//   row BYTES TAG           one row, one column, a value of so many bytes
//   slow MICROSECONDS TAG   a row of 100 bytes, so much later
//   begin | commit          changes what ReadyForQuery says
//   copyout COUNT TAG       one CopyData with the tag and COUNT of copy_piece_bytes
//   copyin TAG              takes the same; its tag says how many bytes came
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

#include "wire/writer.hpp"

namespace pgsluice::bench {

inline constexpr std::size_t tag_bytes = 16;
inline constexpr std::size_t copy_piece_bytes = 8192;
inline constexpr std::size_t pattern_max_bytes = 16 << 20;

/// Sixteen hexadecimal digits: six of the client, ten of the request.
inline void write_tag(char *to, std::uint32_t client, std::uint64_t request) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::uint64_t number = (static_cast<std::uint64_t>(client) << 40) | (request & 0xffffffffffU);
    for (std::size_t i = tag_bytes; i > 0; --i, number >>= 4) to[i - 1] = digits[number & 15];
}

/// `count` bytes of the pattern, from `offset` on; count: up to pattern_max_bytes. A prime period, so that no buffer's
/// size fits it.
inline std::string_view pattern(std::size_t offset, std::size_t count) {
    constexpr std::size_t period = 61;
    static const std::string all = [] {
        std::string made(pattern_max_bytes + period, ' ');
        for (std::size_t i = 0; i < made.size(); ++i)
            made[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[i % period];
        return made;
    }();
    return std::string_view(all).substr(offset % period, count);
}

/// What `copyout` and `copyin` send behind the tag: `count` CopyData. Made once for each count, and kept.
inline std::string_view copy_block(std::size_t count) {
    static std::map<std::size_t, std::string> all;
    auto &made = all[count];
    if (made.empty())
        for (std::size_t i = 0; i < count; ++i)
            wire::writer(made, 'd').bytes(pattern(i * copy_piece_bytes, copy_piece_bytes)).finish();
    return made;
}

/// Compares a value that arrives in pieces with what it must be.
class value_check {
public:
    void start(std::string_view tag) {
        std::memcpy(tag_.data(), tag.data(), tag_bytes);
        at_ = 0;
    }
    std::size_t bytes() const { return at_; }

    bool take(std::string_view piece) {
        if (at_ < tag_bytes) {
            const auto count = std::min(tag_bytes - at_, piece.size());
            if (std::memcmp(piece.data(), tag_.data() + at_, count) != 0) return false;
            at_ += count;
            piece.remove_prefix(count);
        }
        constexpr std::size_t most = 61 * 1024;  // stays in the processor's caches
        while (!piece.empty()) {
            const auto count = std::min(most, piece.size());
            if (piece.substr(0, count) != pattern(at_ - tag_bytes, count)) return false;
            at_ += count;
            piece.remove_prefix(count);
        }
        return true;
    }

private:
    std::array<char, tag_bytes> tag_{};
    std::size_t at_ = 0;
};

}  // namespace pgsluice::bench
