// The conversation of auth_query by itself: what is asked, in which order, and every answer that is none. With a real
// PostgreSQL: tests/integration/test_auth_query.py.
#include "core/auth_query.hpp"

#include <gtest/gtest.h>

#include "core/seen_secrets.hpp"
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
const std::string path_set =
    be::parse_complete + be::bind_complete + row(field("pg_catalog, public, pg_temp"), 1) + be::complete("SELECT 1");
const std::string asked_well = path_set + be::parse_complete + be::bind_complete + columns(2);
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

/// What comes of a conversation that begins with these bytes.
secret_answer asked_anew(const secret_question &what, const std::string &bytes) {
    auth_query it(what);
    std::string out;
    it.on_bytes(bytes, out);
    return it.done() ? it.answer() : secret_answer{};
}

TEST(auth_query, asks_with_the_name_as_a_parameter) {
    auth_query it(of_ann);
    std::string out;
    EXPECT_EQ(it.on_bytes(message('R', be32(0)), out), 9U);
    EXPECT_EQ(out, "");
    it.on_bytes(be::ready('I'), out);
    EXPECT_EQ(types(out), "PBEPBDES");
    EXPECT_NE(out.find(be16(0) + be16(1) + field("ann")), std::string::npos);
    EXPECT_LT(out.find("pg_catalog.set_config('search_path', 'pg_catalog, public, pg_temp', true)"),
              out.find(of_ann.query));
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
        {path_set + be::parse_complete + be::bind_complete + columns(1), "expected 2 columns from auth_query, not 1"},
        {path_set + be::parse_complete + be::bind_complete + columns(3), "expected 2 columns from auth_query, not 3"},
        {path_set + message('n', ""), "expected 2 columns from auth_query, not 0"},
        {asked_well + row(field("ann"), 1), "unexpected response from auth_query"},
        {asked_well + row(field("ann") + be32(99) + "x"), "unexpected response from auth_query"},
        {asked_well + row(field("ann") + field("s") + "x"), "unexpected response from auth_query"},
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

TEST(auth_query, nobody_is_there_is_said_in_several_ways) {
    const auto null = told(asked_well + row(null_field + null_field) + over);
    EXPECT_EQ(null.what, secret_answer::kind::unknown);
    EXPECT_EQ(null.problem, "auth_query response contained null user name");
    const auto no_text = told(path_set + be::error("ERROR", "22021", "invalid byte sequence"));
    EXPECT_EQ(no_text.what, secret_answer::kind::unknown);
    const auto no_database = be::error("FATAL", "3D000", "database \"x\" does not exist");
    EXPECT_EQ(asked_anew(of_ann, no_database).what, secret_answer::kind::failed)
        << "it is configured, and is not there";
    auto guessed = of_ann;
    guessed.guessed = true;
    EXPECT_EQ(asked_anew(guessed, no_database).what, secret_answer::kind::unknown);
    EXPECT_EQ(asked_anew(guessed, be::error("FATAL", "08006", "down")).what, secret_answer::kind::failed);
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
    EXPECT_FALSE(question_for(all, "db", "ann")->guessed);
    all.wildcard.emplace();
    EXPECT_FALSE(question_for(all, "nowhere", "ann")->guessed) << "auth_dbname is asked";
    all.global.auth_dbname.clear();
    EXPECT_FALSE(question_for(all, "db", "ann")->guessed);
    EXPECT_TRUE(question_for(all, "nowhere", "ann")->guessed);
    EXPECT_FALSE(question_for(all, "pgbouncer", "ann")) << "the console is no database that could be asked";
    EXPECT_EQ(why_not_asked(all, "pgbouncer", "ann"), "auth_query could not be asked: the console needs auth_dbname");
}

TEST(auth_query, why_nobody_is_asked) {
    config::settings all;
    all.databases["db"].name = "db";
    EXPECT_EQ(why_not_asked(all, "nowhere", "ann"), "") << "it is not used";
    all.global.auth_user = "asker";
    EXPECT_EQ(why_not_asked(all, "db", "ann"), "");
    EXPECT_EQ(why_not_asked(all, "nowhere", "ann"), "auth_query could not be asked: [databases] has no \"nowhere\"");
    all.global.auth_dbname = "misspelt";
    EXPECT_EQ(why_not_asked(all, "db", "ann"), "auth_query could not be asked: [databases] has no \"misspelt\"");
    all.wildcard.emplace();
    EXPECT_EQ(why_not_asked(all, "db", "ann"), "");
}

TEST(seen_secrets, each_database_its_own_and_each_user_once) {
    const auth::secret_look none_yet{false, 1};
    auto stored = auth::parse_secret("secret");
    stored.verifier = auth::make_scram_verifier("secret", "0123456789abcdef", 2);
    stored.form = auth::secret_form::scram;
    seen_secrets seen;
    EXPECT_EQ(seen.of("db"), nullptr);
    seen.note(of_ann, auth::parse_secret(""));
    EXPECT_EQ(seen.of("db"), nullptr) << "an empty one lets nobody in";
    seen.note(of_ann, stored);
    const auto before = seen.of("db");
    ASSERT_TRUE(before);
    EXPECT_EQ(before->shown_to("k", "nobody", none_yet), (auth::secret_look{true, 2}));
    seen.note(of_ann, stored);
    EXPECT_EQ(seen.of("db"), before);
    auto as_it_is = of_ann;
    as_it_is.scram_iterations = 3;
    seen.note(as_it_is, auth::parse_secret("secret"));
    EXPECT_EQ(seen.of("db")->shown_to("k", "nobody", none_yet), (auth::secret_look{false, 3})) << "what she had counts "
                                                                                                  "no more";
    EXPECT_EQ(before->shown_to("k", "nobody", none_yet), (auth::secret_look{true, 2})) << "a value";
    EXPECT_EQ(seen.of("other"), nullptr);
    for (std::size_t i = 0; i <= seen_secrets::users_max; ++i) {
        auto what = of_ann;
        what.user += std::to_string(i);
        seen.note(what, auth::parse_secret("md5d41d8cd98f00b204e9800998ecf8427e"));
    }
    EXPECT_FALSE(seen.of("db")->has_verifiers()) << "bounded: it began anew";
}

}  // namespace
}  // namespace pgsluice::core
