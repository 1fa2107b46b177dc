// SCRAM verifiers and formulas: the vector of RFC 7677 section 3, PostgreSQL's stored form, mock verifiers.
#include <gtest/gtest.h>

#include "auth/base64.hpp"
#include "auth/scram.hpp"
#include "auth/scram_math.hpp"

namespace pgsluice::auth {
namespace {

using namespace std::string_view_literals;

const std::string stored_key = "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=";
const std::string server_key = "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
const std::string salt = "W22ZaJ0SNY7soEsUEjb6gQ==";
const std::string whole = "SCRAM-SHA-256$4096:" + salt + "$" + stored_key + ":" + server_key;

TEST(auth_scram_math, rfc_7677_vector) {
    const std::string auth_message =
        "n=user,r=rOprNGfwEbeRWgbNEkqO,"
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const scram_keys keys = derive_scram_keys("pencil", *base64_decode(salt), 4096);
    const scram_key stored = stored_key_of(keys.client_key);
    const scram_key proof = xor_client_signature(keys.client_key, stored, auth_message);
    EXPECT_EQ(base64_encode(proof.reveal()), "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    EXPECT_TRUE(xor_client_signature(proof, stored, auth_message).equals(keys.client_key));
    EXPECT_EQ(base64_encode(hmac_sha256(keys.server_key.reveal(), auth_message).reveal()),
              "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

/// RFC 4231 sections 4.3 and 4.7: a key shorter than a block of the hash, and one that is longer.
TEST(auth_scram_math, rfc_4231_vectors) {
    EXPECT_EQ(base64_encode(hmac_sha256("Jefe", "what do ya want for nothing?").reveal()),
              "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
    EXPECT_EQ(
        base64_encode(
            hmac_sha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First").reveal()),
        "YOQxWR7gtn8Niiaqy/W3f44LxiE3KMUUBUYEDw7jf1Q=");
}

TEST(auth_scram_verifier, made_and_parsed_agree) {
    const auto parsed = parse_scram_verifier(whole);
    ASSERT_TRUE(parsed);
    const scram_verifier made = make_scram_verifier("pencil", *base64_decode(salt), 4096);
    EXPECT_EQ(parsed->iterations, 4096);
    EXPECT_EQ(parsed->salt, made.salt);
    EXPECT_TRUE(parsed->stored_key.equals(made.stored_key));
    EXPECT_TRUE(parsed->server_key.equals(made.server_key));
    EXPECT_EQ(base64_encode(made.stored_key.reveal()), stored_key);
    EXPECT_EQ(base64_encode(made.server_key.reveal()), server_key);
}

TEST(auth_scram_verifier, takes_any_count_and_salt_a_server_may_have) {
    EXPECT_EQ(parse_scram_verifier("SCRAM-SHA-256$1:AA==$" + stored_key + ":" + server_key)->iterations, 1);
    EXPECT_EQ(parse_scram_verifier("SCRAM-SHA-256$2147483647:AA==$" + stored_key + ":" + server_key)->iterations,
              2147483647);
    const std::string big(30000, 's');
    EXPECT_EQ(
        parse_scram_verifier("SCRAM-SHA-256$4096:" + base64_encode(big) + "$" + stored_key + ":" + server_key)->salt,
        big);
}

TEST(auth_scram_verifier, every_cut_is_refused) {
    for (std::size_t size = 0; size < whole.size(); ++size) {
        EXPECT_FALSE(parse_scram_verifier(whole.substr(0, size))) << size;
        EXPECT_FALSE(parse_scram_verifier(whole.substr(size + 1))) << size;
    }
}

TEST(auth_scram_verifier, refuses) {
    const std::string keys = stored_key + ":" + server_key;
    for (const std::string &text : {
             std::string("pencil"),
             "scram-sha-256$4096:" + salt + "$" + keys,
             "SCRAM-SHA-1$4096:" + salt + "$" + keys,
             "SCRAM-SHA-256-PLUS$4096:" + salt + "$" + keys,
             " " + whole,
             whole + " ",
             whole + "\n",
             whole + ":",
             whole + "$",
             whole + std::string(1, '\0'),
             "SCRAM-SHA-256$:" + salt + "$" + keys,
             "SCRAM-SHA-256$0:" + salt + "$" + keys,
             "SCRAM-SHA-256$-1:" + salt + "$" + keys,
             "SCRAM-SHA-256$+4096:" + salt + "$" + keys,
             "SCRAM-SHA-256$ 4096:" + salt + "$" + keys,
             "SCRAM-SHA-256$4096x:" + salt + "$" + keys,
             "SCRAM-SHA-256$2147483648:" + salt + "$" + keys,
             "SCRAM-SHA-256$99999999999999999999:" + salt + "$" + keys,
             "SCRAM-SHA-256$4096:$" + keys,
             "SCRAM-SHA-256$4096:W22$" + keys,
             "SCRAM-SHA-256$4096:" + salt + ":" + keys,
             "SCRAM-SHA-256$4096:" + salt + "$$" + keys,
             "SCRAM-SHA-256$4096:" + salt + "$" + stored_key + "$" + server_key,
             "SCRAM-SHA-256$4096:" + salt + "$:" + server_key,
             "SCRAM-SHA-256$4096:" + salt + "$AAAA:" + server_key,
             "SCRAM-SHA-256$4096:" + salt + "$" + base64_encode(std::string(33, 'k')) + ":" + server_key,
             "SCRAM-SHA-256$4096:" + salt + "$" + base64_encode(std::string(31, 'k')) + ":" + server_key,
         })
        EXPECT_FALSE(parse_scram_verifier(text)) << text;
}

TEST(auth_scram_verifier, mock_is_stable_and_tells_users_and_processes_apart) {
    const scram_verifier one = mock_scram_verifier("process key", "alice", 4096);
    EXPECT_EQ(one.iterations, 4096);
    EXPECT_EQ(one.salt.size(), scram_salt_bytes);
    const scram_verifier again = mock_scram_verifier("process key", "alice", 4096);
    EXPECT_EQ(one.salt, again.salt);
    EXPECT_TRUE(one.stored_key.equals(again.stored_key));
    for (const auto &other : {mock_scram_verifier("process key", "alicf", 4096),
                              mock_scram_verifier("process kez", "alice", 4096), mock_scram_verifier("", "", 4096)}) {
        EXPECT_NE(one.salt, other.salt);
        EXPECT_FALSE(one.stored_key.equals(other.stored_key));
    }
    EXPECT_FALSE(one.stored_key.equals(one.server_key));
    EXPECT_NE(one.stored_key.reveal().substr(0, scram_salt_bytes), one.salt);
}

TEST(auth_scram_verifier, prepares_the_password) {
    const scram_verifier prepared = make_scram_verifier("I\u00ADX", "salt", 1);
    EXPECT_TRUE(prepared.stored_key.equals(make_scram_verifier("\u2168", "salt", 1).stored_key));
    EXPECT_TRUE(prepared.stored_key.equals(make_scram_verifier("IX", "salt", 1).stored_key));
    // Not UTF-8: bytes as they are.
    EXPECT_FALSE(make_scram_verifier("caf\xe9", "salt", 1)
                     .stored_key.equals(make_scram_verifier("caf\u00e9", "salt", 1).stored_key));
}

TEST(auth_scram_verifier, odd_passwords_have_verifiers) {
    for (const std::string &password : {std::string(), std::string(65535, 'x'), std::string("a\0b", 3)})
        EXPECT_EQ(make_scram_verifier(password, "salt", 1).iterations, 1);
}

}  // namespace
}  // namespace pgsluice::auth
