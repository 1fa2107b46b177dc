// PostgreSQL messages for tests, built by hand (not with wire::writer, so that a fault of the writer shows), and a
// second framer of another make than wire::read_frame. Not a client, not a server. Any thread.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pgsluice::test {

using namespace std::string_literals;

inline std::string be16(unsigned value) {
    return {static_cast<char>(value >> 8 & 255), static_cast<char>(value & 255)};
}
inline std::string be32(std::uint64_t value) {
    return be16(static_cast<unsigned>(value >> 16 & 0xffff)) + be16(static_cast<unsigned>(value & 0xffff));
}
/// Bytes of a C string, with its end.
inline std::string z(std::string_view text) {
    return std::string(text) + '\0';
}
inline std::string message(char type, std::string_view body = {}) {
    return std::string(1, type) + be32(body.size() + 4) + std::string(body);
}
/// A header whose length says something else than the truth.
inline std::string header(char type, std::uint64_t length) {
    return std::string(1, type) + be32(length);
}
inline std::string packet(std::string_view body) {
    return be32(body.size() + 4) + std::string(body);
}

using pairs = std::vector<std::pair<std::string, std::string>>;

inline std::string startup(const pairs &parameters, std::uint32_t protocol = 3U << 16) {
    std::string body = be32(protocol);
    for (const auto &[name, value] : parameters) body += z(name) + z(value);
    return packet(body + '\0');
}
inline const std::string ssl_request = packet(be32(80877103));
inline const std::string gssenc_request = packet(be32(80877104));
inline std::string cancel_request(std::uint32_t pid, std::string_view secret) {
    return packet(be32(80877102) + be32(pid) + std::string(secret));
}

// What a frontend sends.
namespace fe {
inline std::string query(std::string_view sql) {
    return message('Q', z(sql));
}
inline std::string parse(std::string_view name, std::string_view sql) {
    return message('P', z(name) + z(sql) + be16(0));
}
inline std::string bind(std::string_view portal, std::string_view statement) {
    return message('B', z(portal) + z(statement) + be16(0) + be16(0) + be16(0));
}
inline std::string describe(char kind, std::string_view name) {
    return message('D', std::string(1, kind) + z(name));
}
inline std::string close(char kind, std::string_view name) {
    return message('C', std::string(1, kind) + z(name));
}
inline std::string execute(std::string_view portal) {
    return message('E', z(portal) + be32(0));
}
inline const std::string sync = message('S');
inline const std::string flush = message('H');
inline const std::string terminate = message('X');
inline const std::string function_call = message('F', be32(1) + be16(0) + be16(0) + be16(0));
inline std::string copy_data(std::string_view data) {
    return message('d', data);
}
inline const std::string copy_done = message('c');
inline std::string copy_fail(std::string_view why) {
    return message('f', z(why));
}
inline std::string password(std::string_view text) {
    return message('p', z(text));
}
inline std::string sasl_first(std::string_view mechanism, std::string_view data) {
    return message('p', z(mechanism) + be32(data.size()) + std::string(data));
}
inline std::string sasl(std::string_view data) {
    return message('p', data);
}
/// Parse, Bind, Describe, Execute of an unnamed statement.
inline std::string unnamed(std::string_view sql) {
    return parse("", sql) + bind("", "") + describe('P', "") + execute("");
}
}  // namespace fe

// What a backend sends.
namespace be {
/// A RowDescription of columns of type text.
inline std::string description(const std::vector<std::string> &columns) {
    std::string body = be16(static_cast<unsigned>(columns.size()));
    for (const auto &it : columns)
        body += z(it) + be32(0) + be16(0) + be32(25) + be16(0xffff) + be32(0xffffffff) + be16(0);
    return message('T', body);
}
/// A ParameterDescription of no parameters.
inline const std::string parameter_description = message('t', be16(0));
inline std::string auth(std::uint32_t code, std::string_view data = {}) {
    return message('R', be32(code) + std::string(data));
}
inline std::string parameter(std::string_view name, std::string_view value) {
    return message('S', z(name) + z(value));
}
inline std::string key(std::uint32_t pid, std::string_view secret) {
    return message('K', be32(pid) + std::string(secret));
}
inline std::string ready(char status) {
    return message('Z', std::string(1, status));
}
inline std::string complete(std::string_view tag) {
    return message('C', z(tag));
}
inline std::string row(std::string_view value) {
    return message('D', be16(1) + be32(value.size()) + std::string(value));
}
inline std::string columns(std::string_view name) {
    return message('T', be16(1) + z(name) + be32(0) + be16(0) + be32(25) + be16(0xffff) + be32(0xffffffff) + be16(0));
}
inline std::string error(std::string_view severity, std::string_view sqlstate, std::string_view text) {
    return message('E', "S"s + z(severity) + "V" + z(severity) + "C" + z(sqlstate) + "M" + z(text) + '\0');
}
inline std::string notice(std::string_view text) {
    return message('N', "SNOTICE\0VNOTICE\0C00000\0M"s + z(text) + '\0');
}
inline std::string notification(std::string_view channel) {
    return message('A', be32(7) + z(channel) + z(""));
}
inline std::string selected(std::string_view value) {
    return columns("c") + row(value) + complete("SELECT 1");
}
inline const std::string parse_complete = message('1');
inline const std::string bind_complete = message('2');
inline const std::string close_complete = message('3');
inline const std::string no_data = message('n');
inline const std::string copy_in = message('G', "\0\0\0"s);
inline const std::string copy_out = message('H', "\0\0\0"s);
}  // namespace be

/// One message of a stream.
struct cut {
    char type;
    std::string body;
    bool operator==(const cut &) const = default;
};

/// Cuts a whole stream of typed messages; throws on anything that is not one.
inline std::vector<cut> frames(std::string_view bytes) {
    std::vector<cut> all;
    auto at = bytes.begin();
    while (at != bytes.end()) {
        if (bytes.end() - at < 5) throw std::runtime_error("a header is cut off");
        const char type = *at++;
        std::int64_t length = 0;
        for (int i = 0; i < 4; ++i) length = length * 256 + static_cast<unsigned char>(*at++);
        if (length < 4 || bytes.end() - at < length - 4) throw std::runtime_error("a body is cut off");
        all.push_back({type, std::string(at, at + (length - 4))});
        at += length - 4;
    }
    return all;
}
/// The types of a stream's messages, as one word.
inline std::string types(std::string_view bytes) {
    std::string all;
    for (const auto &it : frames(bytes)) all += it.type;
    return all;
}
/// A field of an ErrorResponse's body; "" when it has none.
inline std::string field(std::string_view body, char code) {
    std::size_t at = 0;
    while (at < body.size() && body[at] != '\0') {
        const auto end = body.find('\0', at);
        if (end == std::string_view::npos) return {};
        if (body[at] == code) return std::string(body.substr(at + 1, end - at - 1));
        at = end + 1;
    }
    return {};
}

}  // namespace pgsluice::test
