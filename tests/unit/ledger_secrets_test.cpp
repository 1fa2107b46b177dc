// The ledger and secrets that auth_query found: what becomes of one that a server refuses.
#include <gtest/gtest.h>

#include "auth/userlist.hpp"
#include "core/auth_query.hpp"
#include "core/ledger.hpp"
#include "unit/ledger_account.hpp"

namespace pgsluice::core {
namespace {

const login_error refused_secret{"28P01", "password authentication failed", true};

struct found_users : account {
    found_users() {
        settings->global.auth_user = "asker";
        settings->global.server_login_retry = seconds(15);
        open_book();
    }
    static std::shared_ptr<auth::credential> secret(std::string_view text) {
        return std::make_shared<auth::credential>(auth::parse_secret(text));
    }
    ledger::joined come(std::string_view text, const std::optional<auth::scram_keys> &keys = {}) {
        auto result = it->join(*connect(), "db", "u", secret(text), keys, now, out);
        checked();
        return result;
    }
    void answer(const secret_answer &found) {
        const auto asked = take(order::kind::find_secret);
        ASSERT_EQ(asked.size(), 1U);
        EXPECT_EQ(asked[0].question->user, "u");
        EXPECT_EQ(asked[0].question->auth_user, "asker");
        it->found_anew(asked[0].pool, found, now, out);
        checked();
    }
    std::string secret_of_next() {
        const auto all = take(order::kind::open);
        if (all.size() != 1) return std::to_string(all.size()) + " servers";
        names[all[0].server] = last = static_cast<server_seat *>(all[0].seat);
        return std::string(all[0].connect->secret.credential.text.reveal()) +
               (all[0].connect->secret.keys ? " with keys" : "");
    }
    server_seat *last = nullptr;
};

TEST(ledger_secrets, what_a_server_refuses_is_asked_for_once_more) {
    found_users a;
    a.come("old");
    EXPECT_EQ(a.secret_of_next(), "old");
    a.fail(a.last, refused_secret);
    EXPECT_EQ(a.come("old").why, refusal::none) << "who comes meanwhile waits too";
    EXPECT_TRUE(a.opens().empty());
    EXPECT_TRUE(a.take(order::kind::refuse_by_server).empty());
    a.answer({secret_answer::kind::found, found_users::secret("new")});
    EXPECT_EQ(a.secret_of_next(), "new");
    a.opened(a.last);
    EXPECT_EQ(a.take(order::kind::welcome).size(), 2U);
}

TEST(ledger_secrets, the_same_again_or_none_is_the_servers_refusal) {
    const secret_answer answers[] = {{secret_answer::kind::found, found_users::secret("old")},
                                     {secret_answer::kind::found, found_users::secret("")},
                                     {secret_answer::kind::unknown},
                                     {secret_answer::kind::failed, nullptr, "no answer"}};
    for (const auto &answer : answers) {
        found_users a;
        a.come("old");
        EXPECT_EQ(a.secret_of_next(), "old");
        a.fail(a.last, refused_secret);
        a.answer(answer);
        const auto told = a.take(order::kind::refuse_by_server);
        ASSERT_EQ(told.size(), 1U);
        EXPECT_EQ(told[0].error->sqlstate, "28P01");
        EXPECT_TRUE(a.opens().empty());
        EXPECT_EQ(a.come("old").why,
                  answer.credential && answer.credential->text.empty() ? refusal::none : refusal::server_login_failing);
    }
}

TEST(ledger_secrets, a_secret_is_asked_about_once_and_other_refusals_not_at_all) {
    found_users a;
    for (int i = 0; i < 3; ++i) {
        a.come("old");
        EXPECT_EQ(a.secret_of_next(), "old");
        a.fail(a.last, refused_secret);
        if (i == 0) a.answer({secret_answer::kind::found, found_users::secret("old")});
        EXPECT_TRUE(a.take(order::kind::find_secret).empty());
        EXPECT_EQ(a.take(order::kind::refuse_by_server).size(), 1U);
        a.pass(seconds(15));
    }
    a.come("old");
    a.secret_of_next();
    a.fail(a.last, refused_by_server);
    EXPECT_TRUE(a.take(order::kind::find_secret).empty());
}

TEST(ledger_secrets, a_new_verifier_waits_for_a_client_with_its_keys) {
    const std::string key = std::string(43, 'A') + "=";
    const auto verifier = [&](const char *salt) {
        return std::string("SCRAM-SHA-256$4096:") + salt + "$" + key + ":" + key;
    };
    const auth::scram_keys keys{};
    found_users a;
    a.come(verifier("AAAA"), keys);
    EXPECT_EQ(a.secret_of_next(), verifier("AAAA") + " with keys");
    a.fail(a.last, refused_secret);
    a.answer({secret_answer::kind::found, found_users::secret(verifier("BBBB"))});
    EXPECT_EQ(a.take(order::kind::refuse_by_server).size(), 1U);
    EXPECT_TRUE(a.opens().empty());
    EXPECT_EQ(a.come(verifier("BBBB"), keys).why, refusal::none) << "at once, not after server_login_retry";
    EXPECT_EQ(a.secret_of_next(), verifier("BBBB") + " with keys");
}

TEST(ledger_secrets, one_that_was_refused_after_another_was_found_is_not_asked_about) {
    found_users a;
    a.come("old");
    EXPECT_EQ(a.secret_of_next(), "old");
    auto *const first = a.last;
    a.come("new");
    EXPECT_TRUE(a.opens().empty());
    a.fail(first, refused_secret);
    EXPECT_TRUE(a.take(order::kind::find_secret).empty());
    EXPECT_EQ(a.secret_of_next(), "new");
}

/// An entry with user= and no password, of a user that auth_file lacks: auth_query is asked when a server wants one.
TEST(ledger_secrets, the_password_of_a_forced_user_is_looked_up) {
    const login_error wanted{"28P01", "server login failed: wrong password type", false, false, "none"};
    found_users a;
    a.settings->databases["db"].user = "u";
    a.open_book();
    const auto come = [&] { return a.join(a.connect(), "db", "bob").why; };
    const auto try_it = [&](std::string_view with, const login_error &error) {
        EXPECT_EQ(a.secret_of_next(), with);
        a.fail(a.last, error);
    };
    come();
    try_it("", unreachable);
    EXPECT_TRUE(a.take(order::kind::find_secret).empty()) << "no server has asked for one";
    a.pass(seconds(15));
    a.tick();
    // A look-up that fails is the server's refusal, and is tried again with the next attempt.
    for (const auto &none : {secret_answer{secret_answer::kind::failed}, secret_answer{secret_answer::kind::unknown}}) {
        try_it("", wanted);
        a.answer(none);
        EXPECT_EQ(a.take(order::kind::refuse_by_server).size(), 1U);
        EXPECT_TRUE(a.opens().empty()) << "not sooner than server_login_retry";
        a.pass(seconds(15));
        come();
    }
    try_it("", wanted);
    EXPECT_EQ(come(), refusal::none) << "who comes meanwhile waits too";
    a.answer({secret_answer::kind::found, found_users::secret("one")});
    EXPECT_EQ(a.secret_of_next(), "one");
    a.opened(a.last);
    EXPECT_EQ(a.take(order::kind::welcome).size(), 2U);
    // It has been changed: no client's login tells.
    for (auto *const client : {a.connect(), a.connect()}) {
        a.join(client, "db", "bob");
        a.want(client);
    }
    for (int i = 0; i < 2; ++i) {
        try_it("one", refused_secret);
        a.answer({secret_answer::kind::found, found_users::secret(i == 0 ? "one" : "two")});
        a.pass(seconds(15));
        a.tick();
    }
    EXPECT_EQ(a.secret_of_next(), "two");
}

}  // namespace
}  // namespace pgsluice::core
