// The conversation of auth_query by itself: what is asked, in which order, and every answer that is none. With a real
// PostgreSQL: tests/integration/test_auth_query.py.
#include "core/auth_query.hpp"

#include <gtest/gtest.h>

#include "support/messages.hpp"

namespace pgsluice::core {
namespace {

using namespace pgsluice::test;

const secret_question of_ann{"db", "asker", "select a, b from t where n = $1", "ann"};

std::string columns(unsigned count) {
    std::string body = be16(count);
    for (unsigned i = 0; i < count; ++i) body += z("c") + std::string(18, '\0');
    return message('T', body);
}
std::string field(std::string_view value) {
    return be32(static_cast<std::uint32_t>(value.size())) + std::string(value);
}
const std::string null_field = be32(0xffffffffU);
std::string row(const std::string &fields, unsigned count = 2) {
    return message('D', be16(count) + fields);
}
const std::string asked_well = be::parse_complete + be::bind_complete + columns(2);
const std::string over = be::complete("SELECT 1") + be::ready('I');

/// What comes of `answers` after the welcome.
secret_answer told(const std::string &answers) {
    auth_query it(of_ann);
    std::string out;
    it.on_bytes(be::ready('I'), out);
    EXPECT_EQ(it.on_bytes(answers.substr(0, 3), out), 0U);
    it.on_bytes(answers, out);
    if (!it.done()) it.on_end("the end");
    return it.answer();
}

TEST(auth_query, asks_with_the_name_as_a_parameter) {
    auth_query it(of_ann);
    std::string out;
    EXPECT_EQ(it.on_bytes(message('R', be32(0)), out), 9U);
    EXPECT_EQ(out, "");
    it.on_bytes(be::ready('I'), out);
    EXPECT_EQ(types(out), "PBDES");
    EXPECT_NE(out.find(be16(0) + be16(1) + field("ann")), std::string::npos);
    EXPECT_FALSE(it.done());
}

TEST(auth_query, finds) {
    const auto plain = told(asked_well + row(field("ann") + field("secret")) + over);
    ASSERT_EQ(plain.what, secret_answer::kind::found);
    EXPECT_TRUE(plain.credential->text.equals("secret"));
    const auto none = told(asked_well + row(field("ann") + null_field) + over);
    ASSERT_EQ(none.what, secret_answer::kind::found);
    EXPECT_TRUE(none.credential->text.empty());
    EXPECT_EQ(told(asked_well + over).what, secret_answer::kind::unknown);
}

TEST(auth_query, what_is_no_answer) {
    const std::pair<std::string, std::string_view> table[] = {
        {header('D', 1) + "x", "unexpected response from auth_query"},
        {header('D', 1'000'000) + "x", "unexpected response from auth_query"},
        {be::error("ERROR", "42601", "syntax error"), "error response from auth_query: syntax error"},
        {be::parse_complete + be::bind_complete + columns(1), "expected 2 columns from auth_query, not 1"},
        {be::parse_complete + be::bind_complete + columns(3), "expected 2 columns from auth_query, not 3"},
        {message('n', ""), "expected 2 columns from auth_query, not 0"},
        {asked_well + row(field("ann"), 1), "unexpected response from auth_query"},
        {asked_well + row(field("ann") + be32(99) + "x"), "unexpected response from auth_query"},
        {asked_well + row(field("ann") + field("s") + "x"), "unexpected response from auth_query"},
        {asked_well + row(null_field + field("s")), "auth_query response contained null user name"},
        {asked_well + row(field("bob") + field("s")), "auth_query gave another user than the one asked for"},
        {asked_well + row(field("ann") + field("s")) + row(field("ann") + field("s")),
         "auth_query gave more than one row"},
        {asked_well, "the end"},
    };
    for (const auto &[bytes, why] : table) {
        const auto answer = told(bytes);
        EXPECT_EQ(answer.what, secret_answer::kind::failed) << why;
        EXPECT_EQ(answer.problem, why);
        EXPECT_EQ(answer.credential, nullptr);
    }
    auth_query refused(of_ann);
    std::string out;
    refused.on_bytes(be::error("FATAL", "08006", "no server"), out);
    ASSERT_TRUE(refused.done());
    EXPECT_EQ(refused.answer().problem, "auth_query could not be asked: no server");
}

TEST(auth_query, whom_it_asks) {
    config::settings all;
    all.databases["db"].name = "db";
    EXPECT_FALSE(question_for(all, "db", "ann")) << "nobody asks";
    all.global.auth_user = "asker";
    ASSERT_TRUE(question_for(all, "db", "ann"));
    EXPECT_EQ(question_for(all, "db", "ann")->database, "db");
    EXPECT_FALSE(question_for(all, "nowhere", "ann")) << "there is no server to ask";
    all.global.auth_dbname = "db";
    EXPECT_TRUE(question_for(all, "nowhere", "ann")) << "an unknown database is not told from an unknown user";
    EXPECT_FALSE(question_for(all, "db", std::string(64, 'x')));
    all.databases["own"].auth_user = "other";
    all.databases["own"].auth_query = "q";
    all.databases["own"].auth_dbname = "own";
    const auto own = question_for(all, "own", "ann");
    ASSERT_TRUE(own);
    EXPECT_EQ(own->auth_user, "other");
    EXPECT_EQ(own->query, "q");
    EXPECT_EQ(own->database, "own");
    all.databases["none"].auth_user = "";
    EXPECT_FALSE(question_for(all, "none", "ann"));
}

}  // namespace
}  // namespace pgsluice::core
