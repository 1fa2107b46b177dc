// Keys of plain secrets that auth_query has found: whose they are, for how long, and which one goes.
#include "core/derived_keys.hpp"

#include <gtest/gtest.h>

namespace pgsluice::core {
namespace {

secret_question of(const std::string &user, const std::string &database = "db") {
    return {database, "asker", "select", user};
}

auth::scram_keys keys(unsigned char mark) {
    auth::scram_keys it;
    it.client_key.fill(mark);
    return it;
}

TEST(derived_keys, belong_to_one_secret_of_one_user_of_one_database) {
    derived_keys known;
    const base::secret text{std::string("one")}, other{std::string("two")};
    EXPECT_EQ(known.find(of("ann"), text), nullptr);
    known.keep(of("ann"), text, keys(1));
    ASSERT_NE(known.find(of("ann"), text), nullptr);
    EXPECT_EQ(known.find(of("ann"), text)->client_key[0], 1);
    EXPECT_EQ(known.find(of("ann"), other), nullptr) << "it was changed";
    EXPECT_EQ(known.find(of("bob"), text), nullptr);
    EXPECT_EQ(known.find(of("ann", "other"), text), nullptr);
    auto more = of("ann");
    more.scram_iterations = 5000;
    EXPECT_EQ(known.find(more, text), nullptr);
    known.keep(of("ann"), other, keys(2));
    EXPECT_EQ(known.find(of("ann"), text), nullptr);
    EXPECT_EQ(known.find(of("ann"), other)->client_key[0], 2);
    EXPECT_EQ(known.size(), 1U);
}

TEST(derived_keys, the_one_longest_unused_goes) {
    derived_keys known;
    const base::secret text{std::string("one")};
    const auto user = [](std::size_t i) { return of("user" + std::to_string(i)); };
    for (std::size_t i = 0; i < derived_keys::users_max; ++i) known.keep(user(i), text, keys(1));
    EXPECT_NE(known.find(user(0), text), nullptr);
    known.keep(user(derived_keys::users_max), text, keys(1));
    EXPECT_EQ(known.size(), derived_keys::users_max);
    EXPECT_EQ(known.find(user(1), text), nullptr);
    EXPECT_NE(known.find(user(0), text), nullptr) << "it was used since";
    EXPECT_NE(known.find(user(2), text), nullptr);
    EXPECT_NE(known.find(user(derived_keys::users_max), text), nullptr);
}

}  // namespace
}  // namespace pgsluice::core
