// Readers, frames and the messages that we build: one table of (bytes, struct), run as encode, as decode, on every
// prefix, byte by byte and with bytes behind. Also the framing of lengths that can not be.
#include <gtest/gtest.h>

#include <limits>

#include "support/messages.hpp"
#include "wire/backend.hpp"
#include "wire/error_response.hpp"
#include "wire/frame.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"

namespace pgsluice::wire {
namespace {

using namespace test;

// ---- reader ----

TEST(wire_reader, numbers_are_big_endian) {
    const auto bytes = "\x01\xff\x00\x80\x00\x00\x00\xff\xff\xff\xfe\x01"s;
    reader in(bytes);
    EXPECT_EQ(in.u8(), 1);
    EXPECT_EQ(in.u16(), 0xff00);
    EXPECT_EQ(in.u32(), 0x80000000U);
    EXPECT_EQ(in.i32(), -2);
    EXPECT_EQ(in.byte(), 1);
    EXPECT_TRUE(in.done());
}

TEST(wire_reader, a_step_past_the_end_fails_and_stays_failed) {
    const auto fails = [](auto &&step, std::size_t needs) {
        for (std::size_t have = 0; have < needs; ++have) {
            reader in(std::string_view("\x7f\x7f\x7f\x7f", have));
            step(in);
            EXPECT_FALSE(in.ok()) << have;
            EXPECT_FALSE(in.done());
            EXPECT_EQ(in.bytes(0), "");
            EXPECT_EQ(in.cstring(), "");
            EXPECT_EQ(in.u8(), 0);
            EXPECT_FALSE(in.ok());
        }
    };
    fails([](reader &in) { EXPECT_EQ(in.u8(), 0); }, 1);
    fails([](reader &in) { EXPECT_EQ(in.byte(), '\0'); }, 1);
    fails([](reader &in) { EXPECT_EQ(in.u16(), 0); }, 2);
    fails([](reader &in) { EXPECT_EQ(in.u32(), 0U); }, 4);
    fails([](reader &in) { EXPECT_EQ(in.i32(), 0); }, 4);
    fails([](reader &in) { EXPECT_EQ(in.cstring(), ""); }, 5);
}

/// CVE-2026-6664: a length and an offset whose sum wraps.
TEST(wire_reader, no_count_wraps) {
    constexpr auto most = std::numeric_limits<std::size_t>::max();
    for (const std::size_t count :
         {std::size_t{5}, std::size_t{6}, std::size_t{1} << 31, (std::size_t{1} << 31) - 1, std::size_t{0xffffffff},
          std::size_t{0x100000000}, most, most - 1, most - 2, most / 2}) {
        reader in("abcdef");
        EXPECT_EQ(in.byte(), 'a');
        EXPECT_EQ(in.bytes(count).size(), count == 5 ? 5U : 0U) << count;
        EXPECT_EQ(in.ok(), count == 5);
    }
}

TEST(wire_reader, strings_end_at_their_zero) {
    const auto bytes = "one\0\0two\0rest"s;
    reader in(bytes);
    EXPECT_EQ(in.cstring(), "one");
    EXPECT_EQ(in.cstring(), "");
    EXPECT_EQ(in.cstring(), "two");
    EXPECT_EQ(in.rest(), "rest");
    EXPECT_FALSE(in.done());
    EXPECT_EQ(in.cstring(), "");
    EXPECT_FALSE(in.ok());
}

// ---- frame ----

TEST(wire_frame, lengths_that_can_not_be) {
    for (int type = 0; type < 256; ++type) {
        for (const std::uint64_t length :
             {0ULL, 1ULL, 2ULL, 3ULL, 0x80000000ULL, 0x80000004ULL, 0xffffffffULL, 0xfffffffcULL}) {
            frame it;
            EXPECT_EQ(read_frame(header(static_cast<char>(type), length) + "xxxx", it), framing::bad_length) << length;
        }
    }
}

TEST(wire_frame, trusts_the_header_and_no_more) {
    frame it;
    EXPECT_EQ(read_frame(header('D', 0x7fffffff), it), framing::ok);
    EXPECT_EQ(it.body_bytes, 0x7ffffffbU);
    EXPECT_EQ(it.body, "");
    EXPECT_FALSE(it.whole());
    EXPECT_EQ(it.missing_bytes(), 0x7ffffffbU);
    EXPECT_EQ(it.here_bytes(), 5U);
}

TEST(wire_frame, every_prefix_and_what_is_behind) {
    const auto whole = message('Q', "select 1\0"s);
    for (std::size_t size = 0; size <= whole.size(); ++size) {
        frame it;
        const auto got = read_frame(std::string_view(whole).substr(0, size), it);
        EXPECT_EQ(got, size < 5 ? framing::need_header : framing::ok);
        if (size < 5) continue;
        EXPECT_EQ(it.type, 'Q');
        EXPECT_EQ(it.body_bytes, 9U);
        EXPECT_EQ(it.body.size(), size - 5);
        EXPECT_EQ(it.whole(), size == whole.size());
    }
    frame it;
    const auto more = whole + message('X');
    EXPECT_EQ(read_frame(more, it), framing::ok);
    EXPECT_EQ(it.body, "select 1\0"s);
    EXPECT_EQ(it.here_bytes(), whole.size());
    EXPECT_EQ(it.missing_bytes(), 0U);
}

// ---- what we build ----

TEST(wire_writer, builds_what_was_written_by_hand) {
    const auto made = [](auto &&build) {
        std::string out = "before";
        build(out);
        EXPECT_EQ(out.substr(0, 6), "before");
        return out.substr(6);
    };
    const struct {
        std::string got, want;
    } table[] = {
        {made([](auto &out) { frontend::append_query(out, "select 1"); }), fe::query("select 1")},
        {made([](auto &out) { frontend::append_query(out, ""); }), message('Q', "\0"s)},
        {made([](auto &out) { frontend::append_terminate(out); }), fe::terminate},
        {made([](auto &out) { frontend::append_password(out, "pw"); }), fe::password("pw")},
        {made([](auto &out) { frontend::append_sasl_initial_response(out, "SCRAM-SHA-256", "n,,n=,r=x"); }),
         fe::sasl_first("SCRAM-SHA-256", "n,,n=,r=x")},
        {made([](auto &out) { frontend::append_sasl_response(out, "c=biws"); }), fe::sasl("c=biws")},
        {made([](auto &out) { backend::append_authentication(out, backend::authentication_code::ok); }), be::auth(0)},
        {made([](auto &out) { backend::append_authentication(out, backend::authentication_code::md5, "salt"); }),
         be::auth(5, "salt")},
        {made([](auto &out) { backend::append_authentication(out, backend::authentication_code::sasl, "x"); }),
         be::auth(10, "x")},
        {made([](auto &out) { backend::append_authentication(out, backend::authentication_code::sasl_continue, "x"); }),
         be::auth(11, "x")},
        {made([](auto &out) { backend::append_authentication(out, backend::authentication_code::sasl_final, "x"); }),
         be::auth(12, "x")},
        {made([](auto &out) { backend::append_parameter_status(out, "TimeZone", "UTC"); }),
         be::parameter("TimeZone", "UTC")},
        {made([](auto &out) { backend::append_backend_key_data(out, 7, "abcd"); }), be::key(7, "abcd")},
        {made([](auto &out) { backend::append_ready_for_query(out, 'T'); }), be::ready('T')},
        {made([](auto &out) { writer(out, 'y').u8(1).u16(0x203).u32(0x04050607).bytes("x").cstring("z").finish(); }),
         message('y', "\1\2\3\4\5\6\7xz\0"s)},
    };
    for (const auto &it : table) EXPECT_EQ(it.got, it.want);
}

// ---- errors and notices ----

bool same_fields(const error_fields &a, const error_fields &b) {
    return a.severity == b.severity && a.sqlstate == b.sqlstate && a.message == b.message && a.detail == b.detail &&
           a.hint == b.hint;
}

TEST(wire_errors, one_table_both_ways) {
    const struct {
        error_fields fields;
        std::string body;
    } table[] = {
        {{"FATAL", "08P01", "oops", "", ""}, "SFATAL\0VFATAL\0C08P01\0Moops\0\0"s},
        {{"ERROR", "42601", "syntax error", "a detail", "a hint"},
         "SERROR\0VERROR\0C42601\0Msyntax error\0Da detail\0Ha hint\0\0"s},
        {{"NOTICE", "00000", "", "", ""}, "SNOTICE\0VNOTICE\0C00000\0\0"s},
        {{}, "\0"s},
    };
    for (const auto &it : table) {
        std::string out;
        append_error_response(out, it.fields);
        EXPECT_EQ(out, message('E', it.body));
        out.clear();
        append_notice_response(out, it.fields);
        EXPECT_EQ(out, message('N', it.body));
        const auto read = parse_error_fields(it.body);
        ASSERT_TRUE(read);
        EXPECT_TRUE(same_fields(*read, it.fields));
        for (std::size_t size = 0; size < it.body.size(); ++size)
            EXPECT_FALSE(parse_error_fields(std::string_view(it.body).substr(0, size))) << size;
        EXPECT_FALSE(parse_error_fields(it.body + "x")) << "bytes behind the end";
        EXPECT_FALSE(parse_error_fields(it.body + '\0'));
    }
}

TEST(wire_errors, severity_is_the_one_that_is_not_translated) {
    const auto body = "SFEHLER\0VERROR\0C42601\0Mx\0Ffile.c\0L12\0Zunknown\0\0"s;
    const auto read = parse_error_fields(body);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->severity, "ERROR");
    const auto old = "SFEHLER\0\0"s;
    EXPECT_EQ(parse_error_fields(old)->severity, "FEHLER") << "before PostgreSQL 9.6 there is no V";
}

TEST(wire_errors, a_zero_in_a_text_does_not_end_the_message) {
    std::string out;
    append_error_response(out, {"FATAL", "08P01", std::string_view("a\0b", 3), "", ""});
    EXPECT_EQ(out, be::error("FATAL", "08P01", "a"));
}

}  // namespace
}  // namespace pgsluice::wire
