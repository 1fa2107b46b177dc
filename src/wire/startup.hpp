// The packets without a type byte that open a connection: StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.
// Checked as PostgreSQL checks them (manual, "Message Formats"; length limit 10 000 bytes as in the server).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pgsluice::wire {

inline constexpr std::uint32_t startup_max_bytes = 10000;
inline constexpr std::uint32_t protocol_3_0 = 3U << 16;
/// PostgreSQL 18: cancel keys of up to 256 bytes; nothing else is new. There is no 3.1.
inline constexpr std::uint32_t protocol_3_2 = protocol_3_0 | 2;
inline constexpr std::uint32_t cancel_request_code = 80877102;
inline constexpr std::uint32_t ssl_request_code = 80877103;
inline constexpr std::uint32_t gssenc_request_code = 80877104;

enum class startup_kind : std::uint8_t {
    incomplete,  ///< more bytes are needed
    ssl_request,
    gssenc_request,
    cancel_request,
    startup,
    bad_length,    ///< below 8 or above startup_max_bytes
    bad_protocol,  ///< a major version that does not exist
    protocol_2,    ///< the old protocol
    bad_layout,    ///< no terminator as last byte, or a string without its end
    bad_cancel,    ///< a cancel request without a usable key
};

struct startup_packet {
    startup_kind kind = startup_kind::incomplete;
    std::uint32_t total_bytes = 0;  ///< of the packet, once known
    std::uint32_t protocol = 0;     ///< major << 16 | minor
    /// In the order sent; views into the bytes given.
    std::vector<std::pair<std::string_view, std::string_view>> parameters;
    std::uint32_t cancel_pid = 0;
    std::string_view cancel_secret;  ///< 4 to 256 bytes
};

/// Reads the packet at the start of `bytes`.
startup_packet parse_startup(std::string_view bytes);

void append_startup(std::string &out, std::uint32_t protocol,
                    const std::vector<std::pair<std::string_view, std::string_view>> &parameters);
void append_ssl_request(std::string &out);
void append_cancel_request(std::string &out, std::uint32_t pid, std::string_view secret);
/// `newest` is the version we do speak; `unknown` the _pq_ options we do not.
void append_negotiate_protocol_version(std::string &out, std::uint32_t newest, const std::vector<std::string> &unknown);

}  // namespace pgsluice::wire
