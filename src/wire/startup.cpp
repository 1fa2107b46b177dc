// Packets without a type byte: reading with every check, and building.
#include "wire/startup.hpp"

#include "wire/reader.hpp"
#include "wire/writer.hpp"

namespace pgsluice::wire {

namespace {

constexpr std::uint32_t minimum_bytes = 8;  // length and code
constexpr std::size_t cancel_secret_max_bytes = 256;

startup_kind read_parameters(reader in, startup_packet &packet) {
    // PostgreSQL wants the list's terminator as the very last byte of the packet.
    for (;;) {
        const auto name = in.cstring();
        if (!in.ok()) return startup_kind::bad_layout;
        if (name.empty()) break;
        const auto value = in.cstring();
        if (!in.ok()) return startup_kind::bad_layout;
        packet.parameters.emplace_back(name, value);
    }
    return in.done() ? startup_kind::startup : startup_kind::bad_layout;
}

startup_kind read_body(reader in, startup_packet &packet) {
    const std::uint32_t code = in.u32();
    packet.protocol = code;
    switch (code) {
        case ssl_request_code:
            return in.done() ? startup_kind::ssl_request : startup_kind::bad_length;
        case gssenc_request_code:
            return in.done() ? startup_kind::gssenc_request : startup_kind::bad_length;
        case cancel_request_code:
            packet.cancel_pid = in.u32();
            packet.cancel_secret = in.rest();
            return in.ok() && packet.cancel_secret.size() >= 4 && packet.cancel_secret.size() <= cancel_secret_max_bytes
                       ? startup_kind::cancel_request
                       : startup_kind::bad_cancel;
        default:
            break;
    }
    const std::uint32_t major = code >> 16;
    if (major == 2) return startup_kind::protocol_2;
    if (major != 3) return startup_kind::bad_protocol;
    return read_parameters(in, packet);
}

}  // namespace

startup_packet parse_startup(std::string_view bytes) {
    startup_packet packet;
    if (bytes.size() < 4) return packet;
    const std::uint32_t length = load_u32(bytes.data());
    if (length < minimum_bytes || length > startup_max_bytes) {
        packet.kind = startup_kind::bad_length;
        return packet;
    }
    if (bytes.size() < length) return packet;
    packet.total_bytes = length;
    packet.kind = read_body(reader(bytes.substr(4, length - 4)), packet);
    return packet;
}

void append_startup(std::string &out, std::uint32_t protocol,
                    const std::vector<std::pair<std::string_view, std::string_view>> &parameters) {
    writer message(out, '\0');
    message.u32(protocol);
    for (const auto &[name, value] : parameters) message.cstring(name).cstring(value);
    message.u8(0).finish();
}

void append_ssl_request(std::string &out) {
    writer(out, '\0').u32(ssl_request_code).finish();
}

void append_cancel_request(std::string &out, std::uint32_t pid, std::string_view secret) {
    writer(out, '\0').u32(cancel_request_code).u32(pid).bytes(secret).finish();
}

void append_negotiate_protocol_version(std::string &out, std::uint32_t newest,
                                       const std::vector<std::string> &unknown) {
    writer message(out, 'v');
    message.u32(newest).u32(static_cast<std::uint32_t>(unknown.size()));
    for (const auto &name : unknown) message.cstring(name);
    message.finish();
}

}  // namespace pgsluice::wire
