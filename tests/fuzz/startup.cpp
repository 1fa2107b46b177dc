// Fuzz target: the packets without a type byte, and libpq's "options". What is read is written again and must be equal;
// a prefix of a packet is never another packet.
#include "wire/startup.hpp"

#include "core/startup_values.hpp"
#include "fuzz/fuzz.hpp"

using namespace pgsluice;

namespace {

bool inside(std::string_view part, std::string_view whole) {
    return part.empty() || (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void write_again(const wire::startup_packet &packet, std::string_view bytes) {
    std::string again;
    if (packet.kind == wire::startup_kind::startup) {
        wire::append_startup(again, packet.protocol, packet.parameters);
    } else if (packet.kind == wire::startup_kind::cancel_request) {
        wire::append_cancel_request(again, packet.cancel_pid, packet.cancel_secret);
    } else {
        return;
    }
    fuzz::require(again == bytes.substr(0, packet.total_bytes), "a packet written again differs");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const fuzz::memory_watch watch(size);
    const std::string_view bytes(reinterpret_cast<const char *>(data), size);
    const auto packet = wire::parse_startup(bytes);
    fuzz::require(packet.total_bytes <= size && packet.total_bytes <= wire::startup_max_bytes, "longer than what came");
    for (const auto &[name, value] : packet.parameters) {
        fuzz::require(inside(name, bytes) && inside(value, bytes) && !name.empty(), "a parameter from elsewhere");
        if (name != "options") continue;
        if (const auto options = core::parse_options(value)) {
            for (const auto &[option, text] : *options)
                fuzz::require(!option.empty() && option.size() + text.size() < value.size(),
                              "an option out of nothing");
        }
    }
    fuzz::require(inside(packet.cancel_secret, bytes), "a cancel key from elsewhere");
    write_again(packet, bytes);
    const std::size_t limit = packet.total_bytes != 0 ? packet.total_bytes : size;
    for (std::size_t cut = 0; cut<limit; cut += limit> 64 ? limit / 16 : 1) {
        const auto kind = wire::parse_startup(bytes.substr(0, cut)).kind;
        const bool same = kind == packet.kind && packet.total_bytes == 0;  // a length that can not be, or more to come
        fuzz::require(kind == wire::startup_kind::incomplete || same, "part of a packet is taken for another");
    }
    static_cast<void>(core::parse_options(bytes));
    return 0;
}
