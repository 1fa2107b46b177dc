// pg_ident.conf: good lines, bad ones with their reasons, and who may be whom. How lines are divided is in
// auth_rule_file_test.cpp.
#include <gtest/gtest.h>

#include "auth/ident_map.hpp"
#include "unit/auth_rules_support.hpp"

namespace pgsluice::auth {
namespace {

ident_file read(std::string_view text, test::files others = {}) {
    others["f"] = text;
    return read_ident("f", test::reader_of(others));
}

TEST(auth_ident_map, bad_lines) {
    const std::pair<std::string_view, std::string_view> table[] = {
        {"m", "a line is a map, a system user and a database user"},
        {"m s", "a line is a map, a system user and a database user"},
        {"m,n s u", "a field is one name, not a list"},
        {"m s,t u", "a field is one name, not a list"},
        {"m s u,v", "a field is one name, not a list"},
        {"m @e u", "a field is one name, not a list"},
        {"\"\" s u", "the map has no name"},
        {"m s +g", "+g: who is a member of what is known to PostgreSQL alone; name the users"},
        {"m /( u", "/(: regular expression: it is not well formed"},
        {"m s /", "/: regular expression: it is empty"},
        {"m /^a$ \\1", "\\1 needs a group, as in /^(.*)@example\\.com$"},
        {"m /^(?:a)$ x\\1", "\\1 needs a group, as in /^(.*)@example\\.com$"},
        {"m \"s u", "a double quote is not closed on its line"},
    };
    for (const auto &[text, problem] : table) {
        const auto found = read(text, {{"e", ""}});
        EXPECT_TRUE(found.maps.all().empty()) << text;
        ASSERT_EQ(found.problems.size(), 1U) << text;
        EXPECT_EQ(found.problems[0].text, problem) << text;
        EXPECT_EQ(found.problems[0].line, 1) << text;
    }
}

TEST(auth_ident_map, who_may_be_whom) {
    const auto may = [](std::string_view text, std::string_view system, std::string_view user) {
        const auto found = read(text);
        EXPECT_EQ(test::text_of(found.problems), "") << text;
        return found.maps.allows("m", system, user);
    };
    EXPECT_TRUE(may("m s u", "s", "u"));
    EXPECT_FALSE(may("m s u", "s", "s"));
    EXPECT_FALSE(may("m s u", "S", "u"));
    EXPECT_FALSE(may("m s u", "s", "U"));
    EXPECT_FALSE(may("M s u", "s", "u"));
    EXPECT_FALSE(may("", "u", "u"));
    EXPECT_TRUE(may("m s u\nn s v\nm s v", "s", "v"));
    EXPECT_TRUE(may("m s u v w,x", "s", "u"));  // what stands behind is not looked at, as in PostgreSQL
    EXPECT_FALSE(may("m s u v", "s", "v"));
    EXPECT_TRUE(may("m s all", "s", "anybody"));
    EXPECT_FALSE(may("m s all", "t", "anybody"));
    EXPECT_FALSE(may("m s \"all\"", "s", "anybody"));
    EXPECT_TRUE(may("m s \"all\"", "s", "all"));
    EXPECT_TRUE(may("m s \"+g\"", "s", "+g"));
    EXPECT_TRUE(may("m all u", "all", "u"));
    EXPECT_FALSE(may("m all u", "s", "u"));  // no keyword there
    EXPECT_TRUE(may("m \"a b\" \"c d\"", "a b", "c d"));
    EXPECT_TRUE(may("m \"CN=x, O=y\" u", "CN=x, O=y", "u"));

    const auto *const mail = "m /^(.*)@x\\.org$ \\1\nm /^(.*)@guests\\.org$ guest";
    EXPECT_TRUE(may(mail, "ann@x.org", "ann"));
    EXPECT_FALSE(may(mail, "ann@x.org", "bob"));
    EXPECT_FALSE(may(mail, "ann@xyorg", "ann"));
    EXPECT_FALSE(may(mail, "ann@x.org\n", "ann"));
    EXPECT_FALSE(may(mail, "@x.org", ""));
    EXPECT_TRUE(may(mail, "ann@guests.org", "guest"));
    EXPECT_FALSE(may(mail, "ann@guests.org", "ann"));
    EXPECT_TRUE(may("m /^(.*)@x$ db_\\1_u", "ann@x", "db_ann_u"));
    EXPECT_TRUE(may("m /^(.*)@x$ \\1\\1", "ann@x", "ann\\1"));  // the first one alone, as in PostgreSQL
    EXPECT_FALSE(may("m /^(.*)@x$ \\1", "all@x", "ann"));       // no keyword any more
    EXPECT_TRUE(may("m /^(.*)@x$ \\1", "all@x", "all"));
    EXPECT_FALSE(may("m /^(a)?b$ x\\1", "b", "x"));  // the group took no part
    EXPECT_TRUE(may("m /^(a)?b$ x\\1", "ab", "xa"));
    EXPECT_TRUE(may("m s \\1", "s", "\\1"));  // without an expression it means itself
    EXPECT_TRUE(may("m /oo u", "root", "u"));
    EXPECT_TRUE(may("m s /^app_", "s", "app_1"));
    EXPECT_FALSE(may("m s /^app_", "s", "other"));
    EXPECT_TRUE(may("m /^s /^app_", "s1", "app_1"));
    EXPECT_TRUE(may("m /^s all", "s1", "any"));
}

TEST(auth_ident_map, without_a_map_names_are_equal) {
    const ident_maps none;
    EXPECT_TRUE(none.allows("", "u", "u"));
    EXPECT_FALSE(none.allows("", "u", "v"));
    EXPECT_FALSE(none.allows("", "", ""));
    EXPECT_FALSE(none.allows("m", "u", "u"));
    EXPECT_FALSE(none.has("m"));
    EXPECT_TRUE(read("m a b").maps.has("m"));
}

TEST(auth_ident_map, a_bad_line_lets_fewer_in) {
    const auto found = read("m a b\nm c\ninclude g\nm e f", {{"g", "m g h\n\nbad"}});
    EXPECT_EQ(found.maps.all().size(), 3U);
    EXPECT_EQ(found.maps.all()[1].file, "g");
    EXPECT_EQ(test::text_of(found.problems),
              "f:2: a line is a map, a system user and a database user\n"
              "g:3: a line is a map, a system user and a database user\n");
}

}  // namespace
}  // namespace pgsluice::auth
