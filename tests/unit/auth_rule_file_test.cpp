// How pg_hba.conf and pg_ident.conf are divided into lines, fields and words, and how they include other files; and
// addresses. The words are those PostgreSQL 15 finds (pg_hba_file_rules).
#include <gtest/gtest.h>

#include "auth/ip_address.hpp"
#include "unit/auth_rules_support.hpp"

namespace pgsluice::auth {
namespace {

using namespace std::string_view_literals;
using test::files;
using test::reader_of;

/// Words of a field joined by ',', fields by '|', lines by '/'; a quoted word stands in <>.
std::string shape(const rule_file &file) {
    std::string all;
    for (const auto &line : file.lines) {
        if (!all.empty()) all += '/';
        for (std::size_t i = 0; i < line.fields.size(); ++i) {
            if (i > 0) all += '|';
            for (std::size_t j = 0; j < line.fields[i].size(); ++j) {
                const auto &word = line.fields[i][j];
                if (j > 0) all += ',';
                all += word.quoted ? "<" + word.text + ">" : word.text;
            }
        }
    }
    return all;
}

rule_file read(std::string_view text, files others = {}) {
    others["f"] = text;
    return read_rule_file("f", reader_of(others));
}

TEST(auth_rule_file, divides_lines) {
    const std::pair<std::string_view, std::string_view> table[] = {
        {"", ""},
        {"\n\n \t\r\n", ""},
        {"# all\n  # b", ""},
        {"a b\tc", "a|b|c"},
        {"  a  b  \r\n", "a|b"},
        {"a\r\nb\r\r\n", "a/b"},
        {"a b # c", "a|b"},
        {"a b#c d", "a|b"},
        {"a,b c", "a,b|c"},
        {"a, b c", "a,b|c"},
        {"a ,b c", "a|b|c"},  // the comma belongs to the field that begins
        {"a,,b c", "a,b|c"},
        {",a b", "a|b"},
        {"a,", "a"},
        {"a, # b\nc", "a/c"},
        {"\"a b\" c", "<a b>|c"},
        {"\"a,b\",c", "<a,b>,c"},
        {"\"a#b\" c", "<a#b>|c"},
        {"\"a\"\"b\"", "<a\"b>"},
        {"\"\"\"\"", "<\">"},
        {"\"\" a", "<>|a"},
        {"a\"b c\"d", "ab cd"},  // a quote inside of a word does not make it a quoted one
        {"\"a\"b", "<ab>"},
        {"a\\\nb c", "ab|c"},
        {"a \\\n b\\\r\n c\nd", "a|b|c/d"},
        {"# a\\\nb\nc", "c"},        // a comment goes on too
        {"\"a\\\nb\" c", "<ab>|c"},  // and what is in quotes
        {"a\\b \\c", "a\\b|\\c"},
        {"a\\\\\n\nb", "a\\/b"},  // the second backslash was brought to the end by a join
        {"a\\", "a"},
        {"\\\n\\\n a", "a"},
        {"include", "include"},
        {"\"include\" x", "<include>|x"},
        {"include x y", "include|x|y"},
        {"a @", "a|@"},
        {"a \"@b\"", "a|<@b>"},
        {"\xc3\xa9 \xff", "\xc3\xa9|\xff"},
    };
    for (const auto &[text, expected] : table) {
        const auto found = read(text);
        EXPECT_EQ(shape(found), expected) << text;
        EXPECT_EQ(test::text_of(found.problems), "") << text;
    }
}

TEST(auth_rule_file, a_bad_line_is_told_and_left_out) {
    const std::string_view unclosed = "a double quote is not closed on its line";
    const std::tuple<std::string_view, std::string_view, int, std::string_view> table[] = {
        {"a\n\"b c\nd", "a/d", 2, unclosed},
        {"\"\"\"", "", 1, unclosed},
        {"a \"b\\\nc\nd", "d", 1, unclosed},
        {"a\0b c\nd"sv, "d", 1, "NUL byte in the line"},
        {"a @x", "", 1, "\"x\": No such file or directory"},
        {"\n\\\n\\\na @x b", "", 2, "\"x\": No such file or directory"},
        {"a @f", "", 1, "\"f\" includes itself"},
        {"include f", "", 1, "\"f\" includes itself"},
        {"include x", "", 1, "\"x\": No such file or directory"},
        {"include_dir x", "", 1, "\"x\": No such file or directory"},
        {"include x/", "", 1, "\"x/\" is a folder, not a file"},  // whose names would be read as rules
        {"include_if_exists x/", "", 1, "\"x/\" is a folder, not a file"},
        {"a @x/", "", 1, "\"x/\" is a folder, not a file"},
    };
    for (const auto &[text, expected, line, problem] : table) {
        const auto found = read(text);
        EXPECT_EQ(shape(found), expected) << text;
        ASSERT_EQ(found.problems.size(), 1U) << text;
        EXPECT_EQ(found.problems[0].line, line) << text;
        EXPECT_EQ(found.problems[0].text, problem) << text;
    }
    EXPECT_EQ(read(std::string(10240, 'a')).problems.size(), 0U);
    EXPECT_EQ(read(std::string(10241, 'a')).problems.at(0).text, "a word is too long");
    const auto missing = read_rule_file("g", reader_of({}));
    EXPECT_EQ(test::text_of(missing.problems), "g:0: No such file or directory\n");
}

TEST(auth_rule_file, includes) {
    const auto at = [](const rule_line &line) { return line.file + ":" + std::to_string(line.line); };
    const files all{
        {"/e/hba", "first\ninclude sub/a\nlast @names x"},
        {"/e/sub/a", "\ninclude b\ninclude /e/c\nlocal @names"},
        {"/e/sub/b", "b"},
        {"/e/c", "c\n"},
        {"/e/names", "x, y\n# z\n\"all\" @more\n"},
        {"/e/more", "more"},
        {"/e/sub/names", "other"},
    };
    const auto found = read_rule_file("/e/hba", reader_of(all));
    EXPECT_EQ(test::text_of(found.problems), "");
    EXPECT_EQ(shape(found), "first/b/c/local|other/last|x,y,<all>,more|x");
    ASSERT_EQ(found.lines.size(), 5U);
    EXPECT_EQ(at(found.lines[1]), "/e/sub/b:1");
    EXPECT_EQ(at(found.lines[3]), "/e/sub/a:4");
    EXPECT_EQ(at(found.lines[4]), "/e/hba:3");

    EXPECT_EQ(shape(read("a\ninclude_if_exists x\nb")), "a/b");
    EXPECT_EQ(test::text_of(read("a\ninclude_if_exists x\nb").problems), "");
    EXPECT_EQ(shape(read("include_if_exists x", {{"x", "c"}})), "c");
    // What exists and has a bad line, or includes what does not exist, is as bad as ever.
    EXPECT_EQ(test::text_of(read("include_if_exists x", {{"x", "include y"}}).problems),
              "x:1: \"y\": No such file or directory\n");
    EXPECT_EQ(test::text_of(read("include x", {{"x", "\n\""}}).problems),
              "x:2: a double quote is not closed on its line\n");

    const files folder{{"d/2.conf", "two"},     {"d/1.conf", "one"}, {"d/.0.conf", "hidden"}, {"d/3.con", "no"},
                       {"d/10.conf", "eleven"}, {"d/B.conf", "B"},   {"d/a.conf", "a"}};
    EXPECT_EQ(shape(read("include_dir d", folder)), "one/eleven/two/B/a");
    EXPECT_EQ(shape(read("include_dir d/", folder)), "one/eleven/two/B/a");
    EXPECT_EQ(shape(read("x @d/1.conf,y", folder)), "x|one,y");
}

TEST(auth_rule_file, an_empty_list_is_a_list_of_nobody) {
    const auto found = read("a @x b", {{"x", "# nobody now\n"}});
    ASSERT_EQ(found.lines.size(), 1U);
    ASSERT_EQ(found.lines[0].fields.size(), 3U);
    EXPECT_TRUE(found.lines[0].fields[1].empty());
    // A list that can not be read whole spoils its line.
    EXPECT_EQ(test::text_of(read("a @x b", {{"x", "c\n\"d"}}).problems),
              "x:2: a double quote is not closed on its line\nf:1: \"x\" has a bad line\n");
}

TEST(auth_rule_file, bounds) {
    files chain;
    for (int i = 0; i < 12; ++i) chain["c" + std::to_string(i)] = "include c" + std::to_string(i + 1);
    chain["c12"] = "end";
    EXPECT_EQ(test::text_of(read_rule_file("c0", reader_of(chain)).problems),
              "c10:1: files are nested more than 10 deep\n");
    EXPECT_EQ(shape(read_rule_file("c2", reader_of(chain))), "end");
    files wide;
    for (int i = 0; i < 10; ++i) {
        const auto next = "include w" + std::to_string(i + 1) + "\n";
        wide["w" + std::to_string(i)] = next + next + next;
    }
    wide["w10"] = "x";
    const auto found = read_rule_file("w0", reader_of(wide));  // 3 to the 10th without a bound
    EXPECT_LT(found.lines.size(), 1000U);
    ASSERT_FALSE(found.problems.empty());
    EXPECT_EQ(found.problems[0].text, "more than 1000 files are included");
}

TEST(auth_ip_address, reads) {
    const std::pair<std::string_view, std::string_view> good[] = {
        {"0.0.0.0", "00000000"},
        {"255.255.255.255", "ffffffff"},
        {"127.0.0.1", "7f000001"},
        {"::", "00000000000000000000000000000000"},
        {"::1", "00000000000000000000000000000001"},
        {"1::", "00010000000000000000000000000000"},
        {"1:2:3:4:5:6:7:8", "00010002000300040005000600070008"},
        {"1::8", "00010000000000000000000000000008"},
        {"1:2:3:4:5:6:7::", "00010002000300040005000600070000"},
        {"::2:3:4:5:6:7:8", "00000002000300040005000600070008"},
        {"fe80::ABCD:ef01", "fe8000000000000000000000abcdef01"},
        {"::ffff:1.2.3.4", "00000000000000000000ffff01020304"},
        {"1:2:3:4:5:6:1.2.3.4", "00010002000300040005000601020304"},
        {"64:ff9b::1.2.3.4", "0064ff9b000000000000000001020304"},
    };
    for (const auto &[text, bytes] : good) {
        const auto found = parse_ip(text);
        ASSERT_TRUE(found) << text;
        std::string hex;
        for (int i = 0; i < found->bits() / 8; ++i)
            for (const int nibble :
                 {found->bytes[static_cast<std::size_t>(i)] >> 4, found->bytes[static_cast<std::size_t>(i)] & 15})
                hex += "0123456789abcdef"[nibble];
        EXPECT_EQ(hex, bytes) << text;
    }
    for (const auto *const text : {"",
                                   "1",
                                   "1.2.3",
                                   "1.2.3.4.5",
                                   "1.2.3.256",
                                   "1.2.3.1000",
                                   "01.2.3.4",
                                   "1.2.3.",
                                   ".1.2.3",
                                   "1.2.3.4 ",
                                   "a",
                                   "1.2.3.a",
                                   "0x7f.0.0.1",
                                   "-1.2.3.4",
                                   ":",
                                   ":::",
                                   "1:",
                                   ":1",
                                   "1:2",
                                   "1:2:3:4:5:6:7",
                                   "1:2:3:4:5:6:7:8:9",
                                   "1::2::3",
                                   "1:2:3:4:5:6:7:8::",
                                   "::1:2:3:4:5:6:7:8",
                                   "1:2:3:4::5:6:7:8",
                                   "12345::",
                                   "g::",
                                   "::1.2.3",
                                   "::1.2.3.4:5",
                                   "1:2:3:4:5:6:7:1.2.3.4",
                                   "::1%lo",
                                   "[::1]",
                                   "::1/128",
                                   "1:::2",
                                   "::01.2.3.4"})
        EXPECT_FALSE(parse_ip(text)) << text;
}

TEST(auth_ip_address, networks) {
    const auto in = [](std::string_view base, int bits, std::string_view text) {
        const auto address = *parse_ip(base);
        return ip_network{address, prefix_mask(address.family, bits)}.contains(*parse_ip(text));
    };
    EXPECT_TRUE(in("0.0.0.0", 0, "255.1.2.3"));
    EXPECT_TRUE(in("10.1.2.3", 8, "10.255.0.0"));  // the bits behind the prefix do not count
    EXPECT_FALSE(in("10.0.0.0", 8, "11.0.0.0"));
    EXPECT_TRUE(in("10.0.0.128", 25, "10.0.0.255"));
    EXPECT_FALSE(in("10.0.0.128", 25, "10.0.0.127"));
    EXPECT_FALSE(in("10.0.0.0", 32, "10.0.0.1"));
    EXPECT_FALSE(in("::", 0, "1.2.3.4"));
    EXPECT_FALSE(in("0.0.0.0", 0, "::"));
    EXPECT_TRUE(in("fe80::", 10, "febf::1"));
    EXPECT_FALSE(in("fe80::", 10, "fec0::1"));
    EXPECT_FALSE(in("::1", 128, "::2"));
    const ip_network odd{*parse_ip("10.0.7.1"), *parse_ip("255.0.255.0")};
    EXPECT_TRUE(odd.contains(*parse_ip("10.9.7.200")));
    EXPECT_FALSE(odd.contains(*parse_ip("10.9.8.200")));
    EXPECT_FALSE(odd.contains(ip_address{}));

    EXPECT_EQ(parse_ip("::ffff:1.2.3.4")->unmapped(), *parse_ip("1.2.3.4"));
    EXPECT_EQ(parse_ip("::1.2.3.4")->unmapped(), *parse_ip("::1.2.3.4"));
    EXPECT_EQ(parse_ip("1.2.3.4")->unmapped(), *parse_ip("1.2.3.4"));
    EXPECT_EQ(parse_ip("2001:db8::1")->share(), parse_ip("2001:db8::ffff:1")->share()) << "one network";
    EXPECT_NE(parse_ip("2001:db8::1")->share(), parse_ip("2001:db8:0:1::1")->share());
    EXPECT_EQ(parse_ip("::ffff:1.2.3.4")->share(), parse_ip("1.2.3.4")->share());
    EXPECT_NE(parse_ip("1.2.3.4")->share(), parse_ip("1.2.3.5")->share());
    for (int bits = 0; bits <= 128; ++bits) {
        int ones = 0;
        for (const auto byte : prefix_mask(ip_family::v6, bits).bytes) ones += __builtin_popcount(byte);
        EXPECT_EQ(ones, bits);
    }
}

}  // namespace
}  // namespace pgsluice::auth
