// Cuts a byte stream into messages: one type byte, a length that counts itself, a body.
// Source: PostgreSQL manual, "Frontend/Backend Protocol", Overview. Startup packets have no type: see startup.hpp.
#pragma once

#include <cstdint>
#include <string_view>

#include "wire/reader.hpp"

namespace pgsluice::wire {

inline constexpr std::size_t header_bytes = 5;

/// A message as far as it has arrived.
struct frame {
    char type = 0;
    std::uint32_t body_bytes = 0;  ///< declared; 0 to 2^31-5
    std::string_view body;         ///< what of the body is here

    bool whole() const { return body.size() == body_bytes; }
    std::size_t missing_bytes() const { return body_bytes - body.size(); }
    /// Bytes of header and body that are here.
    std::size_t here_bytes() const { return header_bytes + body.size(); }
};

enum class framing : std::uint8_t { ok, need_header, bad_length };

/// Reads the message at the start of `bytes`. Nothing is allocated, and no more is trusted than the header:
/// need_header = fewer than 5 bytes; bad_length = a length below 4 or above 2^31-1.
inline framing read_frame(std::string_view bytes, frame &out) {
    if (bytes.size() < header_bytes) return framing::need_header;
    const std::uint32_t length = load_u32(bytes.data() + 1);
    if (length < 4 || length > 0x7fffffffU) return framing::bad_length;
    out.type = bytes[0];
    out.body_bytes = length - 4;
    out.body = bytes.substr(header_bytes, out.body_bytes);
    return framing::ok;
}

}  // namespace pgsluice::wire
