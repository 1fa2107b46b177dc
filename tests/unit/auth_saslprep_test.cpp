// SASLprep: the examples of RFC 4013 section 3, one case for each rule, and PostgreSQL's falling back to raw bytes.
#include <gtest/gtest.h>

#include <iterator>
#include <string>

#include "auth/saslprep.hpp"
#include "auth/saslprep_tables.hpp"

namespace pgsluice::auth {
namespace {

using namespace std::string_view_literals;

struct prep_case {
    const char *what;
    std::string_view in;
    std::string_view out;
};

TEST(auth_saslprep, prepares) {
    const prep_case table[] = {
        {"RFC 4013: soft hyphen goes", "I\u00ADX", "IX"},
        {"RFC 4013: no change", "user", "user"},
        {"RFC 4013: case stays", "USER", "USER"},
        {"RFC 4013: NFKC of the ordinal", "\u00AA", "a"},
        {"RFC 4013: NFKC of the numeral", "\u2168", "IX"},
        {"empty", "", ""},
        {"spaces become one kind", "a\u00A0b\u3000c", "a b c"},
        {"U+200B is a space before it is nothing", "a\u200Bb", "a b"},
        {"variation selector and word joiner go", "a\uFE0F\u2060b", "ab"},
        {"composed", "e\u0301", "\u00E9"},
        {"already composed", "\u00E9", "\u00E9"},
        {"marks are ordered", "q\u0307\u0323", "q\u0323\u0307"},
        {"ligature, full width", "\uFB01\uFF21", "fiA"},
        {"Hangul composes", "\u1112\u1161\u11AB", "\uD55C"},
        {"one character becomes eighteen", "\uFDFA",
         "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647 \u0639\u0644\u064A\u0647 \u0648\u0633\u0644\u0645"},
        {"right to left throughout", "\u05D0\u05D1", "\u05D0\u05D1"},
        {"digits within right to left", "\u0627\u0031\u0628", "\u0627\u0031\u0628"},
        {"beyond the first plane", "\U0001D400", "A"},
    };
    for (const auto &[what, in, out] : table) EXPECT_EQ(saslprep(in).reveal(), out) << what;
}

TEST(auth_saslprep, leaves_alone_what_it_can_not_prepare) {
    // Each has something that preparing would change (a soft hyphen, a ligature), so that "unchanged" is a statement.
    const prep_case table[] = {
        {"RFC 4013: prohibited control; ASCII passes in PostgreSQL", "\x07", {}},
        {"RFC 4013: bidi, ends left to right", "\u00AD\u0627\u0031", {}},
        {"bidi, begins left to right", "\u00AD\u0031\u0627", {}},
        {"bidi, mixed", "\u00AD\u0627a\u0628", {}},
        {"control character", "\uFB01\x07", {}},
        {"DEL", "\uFB01\x7f", {}},
        {"NUL", "\uFB01\0"sv, {}},
        {"C1 control", "\uFB01\u0085", {}},
        {"private use", "\uFB01\uE000", {}},
        {"non-character", "\uFB01\uFFFE", {}},
        {"not for plain text", "\uFB01\uFFFD", {}},
        {"ideographic description", "\uFB01\u2FF0", {}},
        {"display property", "\uFB01\u200E", {}},
        {"tag", "\uFB01\U000E0041", {}},
        {"prohibited though NFKC would remove it", "\uFB01\u0340", {}},
        {"unassigned in Unicode 3.2", "\uFB01\U0001F600", {}},
        {"nothing left", "\u00AD", {}},
        {"not UTF-8: stray byte", "\uFB01\xff", {}},
        {"not UTF-8: cut", "\uFB01\xc3", {}},
        {"not UTF-8: overlong", "\uFB01\xc0\xaf", {}},
        {"not UTF-8: surrogate", "\uFB01\xed\xa0\x80", {}},
        {"not UTF-8: beyond Unicode", "\uFB01\xf4\x90\x80\x80", {}},
        {"Latin-1", "caf\xe9", {}},
    };
    for (const auto &[what, in, unused] : table) EXPECT_EQ(saslprep(in).reveal(), in) << what;
}

TEST(auth_saslprep, long_passwords) {
    std::string marks = "a";
    for (int i = 0; i < 30000; ++i) marks += i % 2 ? "\u0323" : "\u0307";
    EXPECT_NE(saslprep(marks).reveal(), marks);
    const std::string spaces(65535, ' ');
    EXPECT_EQ(saslprep(spaces).reveal(), spaces);
}

template <std::size_t N>
void expect_sorted(const saslprep_tables::range (&table)[N]) {
    for (const auto &it : table) EXPECT_LE(it.first, it.last);
    for (std::size_t i = 1; i < N; ++i) EXPECT_LT(table[i - 1].last, table[i].first);
}

TEST(auth_saslprep, tables_are_sorted_and_whole) {
    using namespace saslprep_tables;
    expect_sorted(non_ascii_space);
    expect_sorted(mapped_to_nothing);
    expect_sorted(prohibited);
    expect_sorted(unassigned);
    expect_sorted(bidi_r_or_al);
    expect_sorted(bidi_l);
    // The number of entries in RFC 3454 appendix A.1, D.1 and D.2.
    EXPECT_EQ(std::size(unassigned), 396U);
    EXPECT_EQ(std::size(bidi_r_or_al), 34U);
    EXPECT_EQ(std::size(bidi_l), 360U);
}

}  // namespace
}  // namespace pgsluice::auth
