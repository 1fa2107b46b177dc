// The two grammars: the INI file and the option=value string of its entries.
#include <gtest/gtest.h>

#include "config/connection_string.hpp"
#include "config/ini.hpp"
#include "unit/config_support.hpp"

namespace pgsluice::config {
namespace {

/// "section/key=value;" for each entry, or the fault.
std::string shown(const std::map<std::string, std::string> &files) {
    const file_reader reader = test::memory_files{files};
    const auto document = parse_ini("p.ini", reader);
    if (document.has_error()) return to_string(document.error());
    std::string all;
    for (const auto &entry : document->entries) all += entry.section + "/" + entry.key + "=" + entry.value + ";";
    return all;
}
std::string shown(const std::string &text) {
    return shown(std::map<std::string, std::string>{{"p.ini", text}});
}

TEST(config_ini, grammar) {
    const std::vector<std::pair<std::string, std::string>> table{
        {"", ""},
        {"\n \t\n", ""},
        {"; comment\n# comment\n  ; indented\n\t# too\n", ""},
        {"[s]", ""},
        {"[s]\na=b", "s/a=b;"},
        {"[s]\na = b\n", "s/a=b;"},
        {"[s]\na= b\n", "s/a=b;"},
        {"[s]\na =b\n", "s/a=b;"},
        {"  [s]\n  a = b  \n", "s/a=b;"},
        {"[s]\r\na = b\r\n", "s/a=b;"},
        {"[s]\na =\n", "s/a=;"},
        {"[s]\na=\n", "s/a=;"},
        {"[s]\na = b ; no comment # here\n", "s/a=b ; no comment # here;"},
        {"[s]\na = x=y z='w'\n", "s/a=x=y z='w';"},
        {"[s]\nA_z.0-9* = b\n", "s/A_z.0-9*=b;"},
        {"[s]\n* = b\n", "s/*=b;"},
        {"[s]\n'we ird' = b\n", "s/we ird=b;"},
        {"[s]\n'it''s'=b\n", "s/it's=b;"},
        {"[s]\n'=' = b\n", "s/==b;"},
        {"[s]\na=1\na=2\n", "s/a=1;s/a=2;"},
        {"[s]\na=1\n[t]\nb=2\n[s]\nc=3\n", "s/a=1;t/b=2;s/c=3;"},
        {"[s] ; comment\na=1\n", "s/a=1;"},
        {"[s] a = b c = d\n", "s/a=b c = d;"},
        {"[s][t]\na=1", "t/a=1;"},
        // Faults, each with its line.
        {"[s]\nno equals\n", "p.ini:2: syntax error: expected name = value"},
        {"[s]\n= b\n", "p.ini:2: syntax error: expected name = value"},
        {"[s]\na b = c\n", "p.ini:2: syntax error: expected name = value"},
        {"[s]\n\"a\" = c\n", "p.ini:2: syntax error: expected name = value"},
        {"[s]\n'' = c\n", "p.ini:2: syntax error: expected name = value"},
        {"[s]\n\n'a = c\n", "p.ini:3: syntax error: a quoted name needs its closing quote"},
        {"[s\na = b\n", "p.ini:1: syntax error: a section needs its closing ]"},
        {"a = b\n", "p.ini:1: \"a\" stands before the first section"},
        {std::string("[s]\na = b\0c\n", 12), "p.ini:2: NUL byte in the line"},
        {"[s]\n%inc x\n", "p.ini:2: syntax error: the only directive is %include file"},
        {"[s]\n%includex\n", "p.ini:2: syntax error: the only directive is %include file"},
        {"[s]\n%include\n", "p.ini:2: %include needs a file name"},
        {"[s]\n%include x\n", "p.ini:2: \"x\": No such file or directory"},
    };
    for (const auto &[text, expected] : table) EXPECT_EQ(shown(text), expected) << text;
}

TEST(config_ini, lines_have_no_longest_length) {
    const std::string value(1'000'000, 'x');
    EXPECT_EQ(shown("[s]\na = " + value + "\n"), "s/a=" + value + ";");
}

TEST(config_ini, missing_file) {
    EXPECT_EQ(shown(std::map<std::string, std::string>{}), "p.ini: No such file or directory");
}

TEST(config_ini, include_keeps_the_section_both_ways) {
    EXPECT_EQ(shown({{"p.ini", "[s]\na=1\n%include  dir/b.ini \nd=4\n"}, {"dir/b.ini", "b=2\n[t]\nc=3"}}),
              "s/a=1;s/b=2;t/c=3;t/d=4;");
}

TEST(config_ini, include_twice_is_no_loop) {
    EXPECT_EQ(shown({{"p.ini", "[s]\n%include b\n%include b\n"}, {"b", "a=1"}}), "s/a=1;s/a=1;");
}

TEST(config_ini, include_names_the_included_file) {
    EXPECT_EQ(shown({{"p.ini", "[s]\n%include b\n"}, {"b", "\n\nbad"}}), "b:3: syntax error: expected name = value");
}

TEST(config_ini, include_loops_are_refused) {
    EXPECT_EQ(shown("[s]\n%include p.ini\n"), "p.ini:2: \"p.ini\" includes itself");
    EXPECT_EQ(shown({{"p.ini", "%include b"}, {"b", "\n%include c"}, {"c", "%include b"}}),
              "c:1: \"b\" includes itself");
}

TEST(config_ini, include_depth) {
    std::map<std::string, std::string> files{{"p.ini", "[s]\n%include 1"}};
    for (int i = 1; i < include_depth_max; ++i) files[std::to_string(i)] = "%include " + std::to_string(i + 1);
    files["10"] = "a=deep";
    EXPECT_EQ(shown(files), "s/a=deep;");
    files["10"] = "%include 11";
    files["11"] = "a=deeper";
    EXPECT_EQ(shown(files), "10:1: %include is nested more than 10 deep");
}

TEST(config_connection_string, grammar) {
    const std::vector<std::pair<std::string, std::string>> table{
        {"", ""},
        {"  ", ""},
        {"a=b", "a=b;"},
        {"a=b c=d", "a=b;c=d;"},
        {"  a = b \t c= d ", "a=b;c=d;"},
        {"a='b c'", "a=b c;"},
        {"a='it''s'", "a=it's;"},
        {"a='' b=1", "a=;b=1;"},
        {"a=''''", "a=';"},
        {"a=b'c", "a=b'c;"},
        {"a=b=c", "a=b=c;"},
        {"a=\\' b=1", "a=\\';b=1;"},
        {"a", "syntax error: expected key=value at position 1"},
        {"a=b c", "syntax error: expected key=value at position 5"},
        {"a=b c d=e", "syntax error: expected key=value at position 5"},
        {"=b", "syntax error: expected key=value at position 1"},
        {"a=", "syntax error: empty value at position 3"},
        {"a=b c=  ", "syntax error: empty value at position 9"},
        {"a='b", "syntax error: a quoted value has no closing quote at position 3"},
        {"a='b''", "syntax error: a quoted value has no closing quote at position 3"},
        {"a='b'c=d", "syntax error: expected a space after the quoted value at position 6"},
    };
    for (const auto &[text, expected] : table) {
        const auto options = parse_connection_string(text);
        std::string result;
        if (options.has_error())
            result = options.error();
        else
            for (const auto &option : *options) result += option.key + "=" + option.value + ";";
        EXPECT_EQ(result, expected) << text;
    }
}

}  // namespace
}  // namespace pgsluice::config
