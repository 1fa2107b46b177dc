// The only code that takes numbers and strings out of received bytes. Every step is checked against what remains, a
// failed step makes all later ones fail, and nothing is copied: views live as long as the bytes given.
// Numbers are big-endian (PostgreSQL manual, "Message Data Types").
#pragma once

#include <cstdint>
#include <string_view>

#include "base/seeded_bug.hpp"

namespace pgsluice::wire {

constexpr std::uint32_t load_u32(const char *at) {
    const auto byte = [at](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(at[i])); };
    return byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
}

class reader {
public:
    explicit reader(std::string_view bytes) : rest_(bytes) {}

    /// False once any step went past the end or found no terminator; the value of that step is then 0 or empty.
    bool ok() const { return ok_; }
    /// True when everything was read and nothing failed.
    bool done() const { return ok_ && rest_.empty(); }
    std::string_view rest() const { return rest_; }

    std::uint8_t u8() { return static_cast<std::uint8_t>(byte()); }
    char byte() {
        const auto taken = bytes(1);
        return taken.empty() ? '\0' : taken[0];
    }
    std::uint16_t u16() {
        const auto taken = bytes(2);
        if (taken.empty()) return 0;
        const auto byte_at = [taken](std::size_t i) {
            return static_cast<unsigned>(static_cast<unsigned char>(taken[i]));
        };
        return static_cast<std::uint16_t>(byte_at(0) << 8 | byte_at(1));
    }
    std::uint32_t u32() {
        const auto taken = bytes(4);
        return taken.empty() ? 0 : load_u32(taken.data());
    }
    std::int32_t i32() { return static_cast<std::int32_t>(u32()); }
    /// `count` bytes, or nothing when fewer remain.
    std::string_view bytes(std::size_t count) {
        // The right form: a sum with a number from outside could wrap.
        const bool fits = base::seeded(base::bug::bounds_by_addition)
                              ? static_cast<std::uint32_t>(count) + 16U <= rest_.size() + 16U
                              : count <= rest_.size();
        if (!ok_ || !fits) {
            ok_ = false;
            return {};
        }
        const auto taken = rest_.substr(0, count);
        rest_.remove_prefix(count);
        return taken;
    }
    /// A zero-terminated string, without its terminator.
    std::string_view cstring() {
        const auto end = ok_ ? rest_.find('\0') : std::string_view::npos;
        if (end == std::string_view::npos) {
            ok_ = false;
            return {};
        }
        const auto taken = rest_.substr(0, end);
        rest_.remove_prefix(end + 1);
        return taken;
    }

private:
    std::string_view rest_;
    bool ok_ = true;
};

}  // namespace pgsluice::wire
