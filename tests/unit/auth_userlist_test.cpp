// auth_file: PgBouncer's grammar as a table, its limits, what is refused and on which line, and that no error text
// repeats a secret.
#include <gtest/gtest.h>

#include "auth/base64.hpp"
#include "auth/userlist.hpp"

namespace pgsluice::auth {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view rfc_verifier =
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

struct good_case {
    const char *what;
    std::string_view text;
    std::vector<std::pair<std::string_view, std::string_view>> users;
};

TEST(auth_userlist, reads) {
    const good_case table[] = {
        {"empty", "", {}},
        {"blank lines", "\n \t\n\r\n", {}},
        {"comments", ";\n  ; \"a\" \"b\"\n;\"x", {}},
        {"one", "\"a\" \"b\"\n", {{"a", "b"}}},
        {"no line end", "\"a\" \"b\"", {{"a", "b"}}},
        {"two, sorted by name", "\"z\" \"1\"\n\"a\" \"2\"\n", {{"a", "2"}, {"z", "1"}}},
        {"blanks around", " \t\"a\" \t \"b\"  \n", {{"a", "b"}}},
        {"no blank between is a quote", "\"a\"\"b\" \"c\"\n", {{"a\"b", "c"}}},
        {"carriage returns", "\"a\" \"b\"\r\n\"c\" \"d\"\r\n", {{"a", "b"}, {"c", "d"}}},
        {"the rest is ignored", "\"a\" \"b\" \"c\" ; d\n\"e\" \"f\"junk\n", {{"a", "b"}, {"e", "f"}}},
        {"quotes doubled", "\"a\"\"\" \"\"\"b\"\"\"\"\"\n", {{"a\"", "\"b\"\""}}},
        {"backslash is nothing special", "\"a\\\" \"\\b\"\n", {{"a\\", "\\b"}}},
        {"semicolon within", "\"a;\" \";b\"\n", {{"a;", ";b"}}},
        {"empty secret", "\"a\" \"\"\n", {{"a", ""}}},
        {"any bytes", "\"\xff\xc3\" \"\x01\x80\"\n", {{"\xff\xc3", "\x01\x80"}}},
        {"commas between", "\"a\" , \"b\"\n\"c\",\"d\"\n", {{"a", "b"}, {"c", "d"}}},
        {"a secret on the next line", "\"a\"\n\"b\"\n\"c\" \n\n \"d\" \r\n", {{"a", "b"}, {"c", "d"}}},
        {"an empty name is nobody's", "\"\" \"x\"\n\"a\" \"b\"\n", {{"a", "b"}}},
        {"names differ by case", "\"a\" \"1\"\n\"A\" \"2\"\n", {{"A", "2"}, {"a", "1"}}},
    };
    for (const auto &[what, text, users] : table) {
        const auto result = parse_userlist(text);
        ASSERT_TRUE(result.has_value()) << what << ": " << result.error().text;
        ASSERT_EQ(result->size(), users.size()) << what;
        auto expected = users.begin();
        for (const auto &[name, secret] : *result) {
            EXPECT_EQ(name, expected->first) << what;
            EXPECT_EQ(secret.text.reveal(), expected->second) << what;
            ++expected;
        }
    }
}

struct bad_case {
    std::string_view text;
    int line;
    std::string_view problem;
};

TEST(auth_userlist, refuses) {
    const bad_case table[] = {
        {"a", 1, "user name must begin with a double quote"},
        {"a \"hunter2\"", 1, "user name must begin with a double quote"},
        {"# \"a\" \"hunter2\"", 1, "user name must begin with a double quote"},
        {"\n\n'a' 'hunter2'\n", 3, "user name must begin with a double quote"},
        {"\"", 1, "user name has no closing double quote"},
        {"\"a", 1, "user name has no closing double quote"},
        {"\"a\"\"", 1, "user name has no closing double quote"},
        {"\"a\n\" \"hunter2\"", 1, "user name has no closing double quote"},
        {"\"a\0b\" \"hunter2\""sv, 1, "user name holds a NUL byte"},
        {"\"a\"", 1, "secret must begin with a double quote"},
        {"\"a\"\n\"b\" \"hunter2\"", 1, "secret must begin with a double quote"},
        {"\"a\"\n\"hunter2\" b", 1, "secret must begin with a double quote"},
        {"\"a\"\n;\n\"hunter2\"", 1, "secret must begin with a double quote"},
        {"\"a\" x \"hunter2\"", 1, "secret must begin with a double quote"},
        {"\"a\" hunter2", 1, "secret must begin with a double quote"},
        {"\"a\" ; \"hunter2\"", 1, "secret must begin with a double quote"},
        {"\"a\" \"hunter2", 1, "secret has no closing double quote"},
        {"\"a\" \"hunter2\"\"", 1, "secret has no closing double quote"},
        {"\"a\" \"hunter2\n\"", 1, "secret has no closing double quote"},
        {"\"a\" \"hunter2\0\""sv, 1, "secret holds a NUL byte"},
        {"\xef\xbb\xbf\"a\" \"hunter2\"", 1, "user name must begin with a double quote"},
    };
    for (const auto &[text, line, problem] : table) {
        const auto result = parse_userlist(text);
        ASSERT_TRUE(result.has_error()) << text;
        EXPECT_EQ(result.error().line, line) << text;
        EXPECT_EQ(result.error().text, problem) << text;
        EXPECT_EQ(result.error().text.find("hunter2"), std::string::npos);
    }
}

TEST(auth_userlist, limits) {
    const auto file = [](std::size_t user, std::size_t secret) {
        return "\"" + std::string(user, 'u') + "\" \"" + std::string(secret, 's') + "\"\n";
    };
    EXPECT_TRUE(parse_userlist(file(127, 65535)).has_value());
    EXPECT_EQ(parse_userlist(file(128, 1)).error().text, "user name is too long");
    EXPECT_EQ(parse_userlist(file(1, 65536)).error().text, "secret is too long");
    // Counted as bytes of the name, not of its spelling.
    std::string quotes;
    for (int i = 0; i < 127; ++i) quotes += "\"\"";
    EXPECT_TRUE(parse_userlist("\"" + quotes + "\" \"x\"").has_value());
}

TEST(auth_userlist, every_cut_is_read_or_refused) {
    const std::string text = ";c\n\"a\"\"b\" \"x\"\"y\"\n\n\"c\" \"" + std::string(rfc_verifier) + "\" rest\n";
    const std::size_t first_line = text.find("\n\n");
    for (std::size_t size = 0; size <= text.size(); ++size) {
        const auto result = parse_userlist(text.substr(0, size));
        if (result.has_error())
            EXPECT_EQ(result.error().line, size <= first_line ? 2 : 4) << size;
        else
            EXPECT_LE(result->size(), 2U);
    }
}

TEST(auth_userlist, many_users) {
    std::string text;
    for (int i = 0; i < 5000; ++i) text += "\"user" + std::to_string(i) + "\" \"p\"\n";
    EXPECT_EQ(parse_userlist(text)->size(), 5000U);
}

/// As in PgBouncer: scripts that add lines rely on it.
TEST(auth_userlist, of_a_user_named_again_the_last_line_counts) {
    const auto text = "\"a\" \"hunter2\"\n;\n\"b\" \"x\"\n\"a\" \"md5" + std::string(32, '0') + "\"\n\"a\" \"new\"\n";
    userlist users;
    const auto problems = read_userlist(text, users);
    ASSERT_EQ(problems.size(), 2U);
    EXPECT_TRUE(problems[0].harmless && problems[1].harmless);
    EXPECT_EQ(problems[0].line, 4);
    EXPECT_EQ(problems[0].text, "user was named before, on line 1");
    EXPECT_EQ(problems[1].text, "user was named before, on line 4");
    const auto read = parse_userlist(text);
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read->size(), 2U);
    EXPECT_EQ(read->at("a").text.reveal(), "new");
    EXPECT_EQ(read->at("a").form, secret_form::plain);
}

TEST(auth_secret, forms) {
    EXPECT_EQ(parse_secret("").form, secret_form::plain);
    EXPECT_EQ(parse_secret("hunter2").form, secret_form::plain);
    EXPECT_EQ(parse_secret("md5d41d8cd98f00b204e9800998ecf8427e").form, secret_form::md5);
    EXPECT_FALSE(parse_secret("md5d41d8cd98f00b204e9800998ecf8427e").verifier);
    EXPECT_EQ(parse_secret("md5D41D8CD98F00B204E9800998ECF8427E").form, secret_form::plain);
    EXPECT_EQ(parse_secret("md5").form, secret_form::plain);

    const credential scram = parse_secret(rfc_verifier);
    EXPECT_EQ(scram.form, secret_form::scram);
    EXPECT_EQ(scram.text.reveal(), rfc_verifier);
    ASSERT_TRUE(scram.verifier);
    EXPECT_EQ(scram.verifier->iterations, 4096);
    EXPECT_EQ(scram.verifier->salt, base64_decode("W22ZaJ0SNY7soEsUEjb6gQ=="));

    const credential broken = parse_secret("SCRAM-SHA-256$4096:nonsense");
    EXPECT_EQ(broken.form, secret_form::plain);
    EXPECT_FALSE(broken.verifier);
    EXPECT_EQ(broken.text.reveal(), "SCRAM-SHA-256$4096:nonsense");
}

}  // namespace
}  // namespace pgsluice::auth
