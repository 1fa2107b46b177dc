// The packets without a type byte, made by hand: what PostgreSQL takes and what it refuses.
#include <gtest/gtest.h>

#include "support/messages.hpp"
#include "wire/startup.hpp"

namespace pgsluice::wire {
namespace {

using namespace test;
using kind = startup_kind;

constexpr std::uint32_t version(std::uint32_t major, std::uint32_t minor) {
    return major << 16 | minor;
}
std::string code(std::uint32_t value) {
    return be32(value);
}
/// A packet whose length field says `length`, whatever is in it.
std::string claims(std::uint64_t length, std::string_view rest = "") {
    return be32(length) + std::string(rest);
}
const std::string v3 = code(version(3, 0));

TEST(wire_startup, sixty_packets) {
    const struct {
        std::string bytes;
        kind want;
        std::string_view what;
    } table[] = {
        // Good ones.
        {startup({{"user", "app"}}), kind::startup, "the least"},
        {startup({{"user", "app"}, {"database", "db"}}), kind::startup, "the usual"},
        {startup({}), kind::startup, "no parameter: no user is the login's business"},
        {startup({{"user", "a"}, {"user", "b"}}), kind::startup, "a key twice"},
        {startup({{"user", ""}}), kind::startup, "an empty value"},
        {startup({{"user", "app"}}, version(3, 1)), kind::startup, "3.1"},
        {startup({{"user", "app"}}, version(3, 2)), kind::startup, "3.2"},
        {startup({{"user", "app"}}, version(3, 9999)), kind::startup, "3.9999"},
        {startup({{"user", "app"}}, version(3, 65535)), kind::startup, "3.65535"},
        {startup({{"x", std::string(9900, 'y')}}), kind::startup, "long"},
        {packet(v3 + std::string(9991, 'a') + '\0'), kind::bad_layout, "10 000 bytes, one string"},
        {packet(v3 + z("u") + z(std::string(9988, 'a')) + '\0'), kind::startup, "10 000 bytes"},
        // Layout.
        {packet(v3), kind::bad_layout, "no terminator at all"},
        {packet(v3 + "user"), kind::bad_layout, "a name without end"},
        {packet(v3 + z("user")), kind::bad_layout, "a name without value"},
        {packet(v3 + z("user") + "app"), kind::bad_layout, "a value without end"},
        {packet(v3 + z("user") + z("app")), kind::bad_layout, "no terminator"},
        {packet(v3 + z("user") + z("app") + z("database")), kind::bad_layout, "an odd name"},
        {packet(v3 + z("user") + z("app") + z("database") + '\0'), kind::bad_layout,
         "an odd name, its value empty, no end"},
        {packet(v3 + z("user") + z("app") + '\0' + '\0'), kind::bad_layout, "two terminators"},
        {packet(v3 + z("user") + z("app") + '\0' + "x"), kind::bad_layout, "a byte behind"},
        {packet(v3 + '\0' + z("user") + z("app") + '\0'), kind::bad_layout, "an early terminator"},
        {packet(v3 + '\0' + '\0'), kind::bad_layout, "only terminators"},
        {packet(v3 + "x"), kind::bad_layout, "one letter"},
        // Versions.
        {startup({{"user", "app"}}, version(2, 0)), kind::protocol_2, "2.0"},
        {packet(code(version(2, 0)) + std::string(288, '\0')), kind::protocol_2, "2.0 in its own layout"},
        {startup({{"user", "app"}}, version(4, 0)), kind::bad_protocol, "4.0"},
        {startup({{"user", "app"}}, version(1, 0)), kind::bad_protocol, "1.0"},
        {startup({{"user", "app"}}, 0), kind::bad_protocol, "0.0"},
        {startup({{"user", "app"}}, version(1234, 5677)), kind::bad_protocol, "near the special codes"},
        {startup({{"user", "app"}}, version(1234, 5681)), kind::bad_protocol, "behind the special codes"},
        {startup({{"user", "app"}}, 0xffffffff), kind::bad_protocol, "65535.65535"},
        {packet(code(version(4, 0)) + "no terminator"), kind::bad_protocol, "4.0 before its layout"},
        // SSLRequest and GSSENCRequest.
        {ssl_request, kind::ssl_request, "SSLRequest"},
        {gssenc_request, kind::gssenc_request, "GSSENCRequest"},
        {packet(code(ssl_request_code) + "x"), kind::bad_length, "SSLRequest of 9"},
        {packet(code(ssl_request_code) + "xxxx"), kind::bad_length, "SSLRequest of 12"},
        {packet(code(gssenc_request_code) + "x"), kind::bad_length, "GSSENCRequest of 9"},
        {packet(code(gssenc_request_code) + std::string(8, '\0')), kind::bad_length, "GSSENCRequest of 16"},
        // CancelRequest.
        {cancel_request(1, "abcd"), kind::cancel_request, "a secret of 4"},
        {cancel_request(1, "abcde"), kind::cancel_request, "a secret of 5"},
        {cancel_request(1, std::string(32, 'x')), kind::cancel_request, "a secret of 32"},
        {cancel_request(1, std::string(256, 'x')), kind::cancel_request, "a secret of 256"},
        {cancel_request(0xffffffff, "\0\0\0\0"s), kind::cancel_request, "zeros"},
        {cancel_request(1, std::string(257, 'x')), kind::bad_cancel, "a secret of 257"},
        {cancel_request(1, "abc"), kind::bad_cancel, "a secret of 3"},
        {cancel_request(1, ""), kind::bad_cancel, "no secret"},
        {packet(code(cancel_request_code)), kind::bad_cancel, "no pid"},
        {packet(code(cancel_request_code) + "ab"), kind::bad_cancel, "half a pid"},
        // Lengths.
        {claims(0), kind::bad_length, "0"},
        {claims(1), kind::bad_length, "1"},
        {claims(2), kind::bad_length, "2"},
        {claims(3), kind::bad_length, "3"},
        {claims(4), kind::bad_length, "4"},
        {claims(5, v3), kind::bad_length, "5"},
        {claims(6, v3), kind::bad_length, "6"},
        {claims(7, v3), kind::bad_length, "7"},
        {claims(8, v3), kind::bad_layout, "8: the list needs its terminator"},
        {claims(8), kind::incomplete, "8, of which 4 are here"},
        {claims(10000), kind::incomplete, "10000"},
        {claims(10001), kind::bad_length, "10001"},
        {claims(0x10000), kind::bad_length, "65536"},
        {claims(0x7fffffff), kind::bad_length, "2^31-1"},
        {claims(0x80000000), kind::bad_length, "2^31"},
        {claims(0xffffffff), kind::bad_length, "-1"},
        {claims(0xfffffff8), kind::bad_length, "-8"},
        {"\x16\x03\x01\x02\x00\x01\x00\x01"s, kind::bad_length, "a TLS ClientHello"},
        {"GET / HTTP/1.1\r\n", kind::bad_length, "HTTP"},
        {"", kind::incomplete, "nothing"},
    };
    EXPECT_GE(std::size(table), 60U);
    for (const auto &it : table) {
        EXPECT_EQ(parse_startup(it.bytes).kind, it.want) << it.what;
        // A prefix is incomplete, or refused for what the whole is refused for.
        for (std::size_t size = 0; size < it.bytes.size(); ++size) {
            const auto part = parse_startup(std::string_view(it.bytes).substr(0, size));
            EXPECT_TRUE(part.kind == kind::incomplete ||
                        (part.kind == it.want && it.want == kind::bad_length && size >= 4))
                << it.what << " cut at " << size;
        }
        if (it.want == kind::incomplete) continue;
        // What follows changes nothing.
        const auto more = parse_startup(it.bytes + "more");
        EXPECT_EQ(more.kind, it.want) << it.what;
        if (it.want != kind::bad_length) {
            EXPECT_EQ(more.total_bytes, it.bytes.size()) << it.what;
        }
    }
}

TEST(wire_startup, reads_what_is_in_it) {
    const auto bytes =
        startup({{"user", "app"}, {"database", "db"}, {"user", "other"}, {"options", "-c a=b"}}, version(3, 2));
    const auto it = parse_startup(bytes);
    EXPECT_EQ(it.protocol, version(3, 2));
    EXPECT_EQ(it.total_bytes, bytes.size());
    const std::vector<std::pair<std::string_view, std::string_view>> want{
        {"user", "app"}, {"database", "db"}, {"user", "other"}, {"options", "-c a=b"}};
    EXPECT_EQ(it.parameters, want);
    const auto request = cancel_request(4711, "abcd");
    const auto cancel = parse_startup(request);
    EXPECT_EQ(cancel.cancel_pid, 4711U);
    EXPECT_EQ(cancel.cancel_secret, "abcd");
}

TEST(wire_startup, builds_what_was_written_by_hand) {
    std::string out;
    append_startup(out, protocol_3_0, {{"user", "app"}, {"database", "db"}});
    EXPECT_EQ(out, startup({{"user", "app"}, {"database", "db"}}));
    out.clear();
    append_cancel_request(out, 4711, "abcd");
    EXPECT_EQ(out, cancel_request(4711, "abcd"));
    out.clear();
    append_negotiate_protocol_version(out, protocol_3_0, {"_pq_.a", "_pq_.b"});
    EXPECT_EQ(out, message('v', be32(3U << 16) + be32(2) + z("_pq_.a") + z("_pq_.b")));
    out.clear();
    append_negotiate_protocol_version(out, protocol_3_0, {});
    EXPECT_EQ(out, message('v', be32(3U << 16) + be32(0)));
}

}  // namespace
}  // namespace pgsluice::wire
