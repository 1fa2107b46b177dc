// What a user that is not there is taken for: one of the kinds that there are, as often as each is among them, always
// the same of one name.
#include <gtest/gtest.h>

#include <string>

#include "auth/secret_mix.hpp"

namespace pgsluice::auth {
namespace {

const secret_look none_yet{false, 4096}, hashed{false, 0}, usual{true, 4096}, dear{true, 10000};

secret_mix mix_of(std::initializer_list<std::pair<secret_look, int>> all) {
    secret_mix mix;
    for (const auto &[look, count] : all)
        for (int i = 0; i < count; ++i) mix.add(look);
    return mix;
}

/// How many of a thousand names are taken for `look`.
int taken_for(const secret_mix &mix, const secret_look &look) {
    int count = 0;
    for (int i = 0; i < 1000; ++i) count += mix.shown_to("key", "n" + std::to_string(i), none_yet) == look ? 1 : 0;
    return count;
}

TEST(auth_secret_mix, looks) {
    EXPECT_EQ(look_of(parse_secret("password")), hashed);
    EXPECT_EQ(look_of(parse_secret("md5d41d8cd98f00b204e9800998ecf8427e")), hashed);
    credential plain = parse_secret("password");
    plain.verifier = make_scram_verifier("password", "0123456789abcdef", 2);
    EXPECT_EQ(look_of(plain), (secret_look{false, 2}));
    plain.form = secret_form::scram;
    EXPECT_EQ(look_of(plain), (secret_look{true, 2}));
}

TEST(auth_secret_mix, one_kind_is_everybodys) {
    EXPECT_EQ(taken_for({}, none_yet), 1000);
    EXPECT_EQ(taken_for(mix_of({{dear, 1}}), dear), 1000);
    EXPECT_EQ(taken_for(mix_of({{hashed, 3}}), none_yet), 1000) << "they have no verifiers, and one is shown";
    EXPECT_FALSE(mix_of({{hashed, 3}}).has_verifiers());
    EXPECT_TRUE(mix_of({{hashed, 3}, {dear, 1}}).has_verifiers());
}

TEST(auth_secret_mix, where_all_are_alike_no_name_is_looked_at) {
    secret_mix mix;
    EXPECT_TRUE(mix.alike());
    EXPECT_EQ(mix.of_all(none_yet), none_yet);
    for (const auto &look : {secret_look{true, 5000}, secret_look{false, 0}}) {
        secret_mix one;
        one.add(look);
        one.add(look);
        EXPECT_TRUE(one.alike());
        EXPECT_EQ(one.of_all(none_yet), one.shown_to("key", "anybody", none_yet)) << "what it would be shown";
    }
    mix.add({true, 5000});
    mix.add({true, 6000});
    EXPECT_FALSE(mix.alike());
}

TEST(auth_secret_mix, each_as_often_as_it_is_there) {
    const auto mix = mix_of({{usual, 30}, {dear, 10}});
    EXPECT_NEAR(taken_for(mix, dear), 250, 60);
    EXPECT_EQ(taken_for(mix, usual) + taken_for(mix, dear), 1000);
    const auto with_hashes = mix_of({{hashed, 50}, {usual, 20}, {dear, 30}});
    EXPECT_NEAR(taken_for(with_hashes, {false, 10000}), 500, 70) << "with the iterations that most verifiers have";
}

TEST(auth_secret_mix, of_one_name_always_the_same_and_nobody_elses_guess) {
    const auto mix = mix_of({{usual, 1}, {dear, 1}});
    bool differs = false;
    for (int i = 0; i < 100; ++i) {
        const auto name = "n" + std::to_string(i);
        EXPECT_EQ(mix.shown_to("key", name, none_yet), mix.shown_to("key", name, none_yet));
        differs = differs || mix.shown_to("key", name, none_yet) != mix.shown_to("another key", name, none_yet);
    }
    EXPECT_TRUE(differs);
}

TEST(auth_secret_mix, what_is_removed_is_shown_no_more) {
    auto mix = mix_of({{usual, 1}, {dear, 1}});
    mix.remove(usual);
    EXPECT_EQ(taken_for(mix, dear), 1000);
    mix.remove(usual);
    mix.remove(dear);
    EXPECT_TRUE(mix.empty());
}

}  // namespace
}  // namespace pgsluice::auth
