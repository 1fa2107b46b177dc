// Builds messages at the end of a string. Lengths are filled in by finish(); a message over the protocol's 2^31-1
// bytes is a fault of the caller. Source: PostgreSQL manual, "Message Formats".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pgsluice::wire {

inline void store_u32(char *at, std::uint32_t value) {
    for (unsigned i = 0; i < 4; ++i) at[i] = static_cast<char>(value >> (24 - 8 * i));
}

class writer {
public:
    /// Starts a message of `type`; type 0 starts one without a type byte (startup, cancel, SSLRequest).
    writer(std::string &out, char type) : out_(out) {
        if (type != '\0') out_.push_back(type);
        start_ = out_.size();
        u32(0);
    }
    writer(const writer &) = delete;
    writer &operator=(const writer &) = delete;

    writer &u8(std::uint8_t value) {
        out_.push_back(static_cast<char>(value));
        return *this;
    }
    writer &u16(std::uint16_t value) {
        return u8(static_cast<std::uint8_t>(value >> 8)).u8(static_cast<std::uint8_t>(value));
    }
    writer &u32(std::uint32_t value) {
        out_.append(4, '\0');
        store_u32(out_.data() + out_.size() - 4, value);
        return *this;
    }
    writer &bytes(std::string_view value) {
        out_.append(value);
        return *this;
    }
    writer &cstring(std::string_view value) {
        out_.append(value);
        out_.push_back('\0');
        return *this;
    }
    /// `more_bytes`: of the message that follow from elsewhere.
    void finish(std::size_t more_bytes = 0) {
        store_u32(out_.data() + start_, static_cast<std::uint32_t>(out_.size() - start_ + more_bytes));
    }

private:
    std::string &out_;
    std::size_t start_;
};

}  // namespace pgsluice::wire
