// Whole SCRAM logins: the known one, and those between our two ends with passwords, keys, wrong ones and mocks.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "auth_scram_exchange.hpp"

namespace pgsluice::auth {
namespace {

using namespace exchange;

TEST(auth_scram, known_exchange) {
    scram_server server = new_server();
    EXPECT_EQ(server.on_client_first(client_first), server_first);
    EXPECT_TRUE(is_zero(server.keys()));
    EXPECT_EQ(server.on_client_final(client_final), server_final);
    EXPECT_EQ(server.error(), scram_error::none);
    EXPECT_EQ(base64_encode(server.keys().client_key.reveal()), "pg/JI9Z+hkSpLRa5btpe9GVrDHJcSEN0viVTVXaZbos=");
    EXPECT_TRUE(server.keys().server_key.equals(pencil().server_key));

    scram_client client(base::secret("pencil"sv), client_raw);
    EXPECT_EQ(client.client_first(), client_first);
    EXPECT_EQ(client.on_server_first(server_first), client_final);
    EXPECT_TRUE(client.on_server_final(server_final));
    EXPECT_EQ(client.error(), scram_error::none);
    EXPECT_EQ(client.derived().iterations, 4096);
    EXPECT_EQ(client.derived().salt, pencil().salt);
    EXPECT_TRUE(client.keys().client_key.equals(server.keys().client_key));
}

/// One login; the error of the first end that refuses.
scram_error log_in(scram_client &client, scram_server &server) {
    const auto first = server.on_client_first(client.client_first());
    if (!first) return server.error();
    const auto final = client.on_server_first(*first);
    if (!final) return client.error();
    const auto signature = server.on_client_final(*final);
    if (!signature) return server.error();
    client.on_server_final(*signature);
    return client.error();
}

TEST(auth_scram, round_trips) {
    for (const std::string_view password : {""sv, "x"sv, "p\u00E4ss\u00ADw\u2168rd"sv, "\xff\xfe"sv, "a,b=c"sv}) {
        const scram_verifier verifier = make_scram_verifier(password, "any salt", 4096);
        scram_server server(verifier, server_raw, false);
        scram_client client(base::secret(password), client_raw);
        EXPECT_EQ(log_in(client, server), scram_error::none) << password;

        // What the first login taught the pooler opens the next server.
        scram_server next(verifier, "another nonce", false);
        scram_client through(server.keys(), client_raw);
        EXPECT_EQ(log_in(through, next), scram_error::none) << password;
        EXPECT_TRUE(next.keys().client_key.equals(server.keys().client_key));
    }
}

TEST(auth_scram, wrong_password_and_wrong_keys) {
    scram_server server = new_server();
    scram_client client(base::secret("pencil "sv), client_raw);
    EXPECT_EQ(log_in(client, server), scram_error::bad_proof);
    EXPECT_TRUE(is_zero(server.keys()));

    // Same password, other salt: the keys do not fit.
    scram_server salted(make_scram_verifier("pencil", "other salt", 4096), server_raw, false);
    scram_client through = new_client();
    EXPECT_EQ(log_in(through, salted), scram_error::bad_proof);
}

TEST(auth_scram, mock_fails_even_with_the_right_proof) {
    scram_server server = new_server(true);
    EXPECT_EQ(server.on_client_first(client_first), server_first);
    EXPECT_FALSE(server.on_client_final(client_final));
    EXPECT_EQ(server.error(), scram_error::bad_proof);
    EXPECT_TRUE(is_zero(server.keys()));

    scram_server unknown(mock_scram_verifier("key", "nobody", 4096), server_raw, true);
    scram_client client(base::secret("pencil"sv), client_raw);
    EXPECT_EQ(log_in(client, unknown), scram_error::bad_proof);
}

TEST(auth_scram, server_must_prove_itself) {
    // A server that knows StoredKey (say, from a stolen proof check) but not ServerKey.
    scram_verifier thief = pencil();
    thief.server_key = scram_key{};
    scram_server server(thief, server_raw, false);
    scram_client client = new_client();
    EXPECT_EQ(log_in(client, server), scram_error::bad_signature);
}

TEST(auth_scram, recorded_login_does_not_replay) {
    scram_server server(pencil(), "a nonce of its own", false);
    ASSERT_TRUE(server.on_client_first(client_first));
    EXPECT_FALSE(server.on_client_final(client_final));
    EXPECT_EQ(server.error(), scram_error::bad_nonce);
}

TEST(auth_scram, cached_keys_are_used_only_where_they_fit) {
    const auto with_cache = [](scram_derived cached) {
        scram_client client(base::secret("pencil"sv), client_raw, std::move(cached));
        return client.on_server_first(server_first);
    };
    EXPECT_EQ(with_cache({pencil().salt, 4096, pencil_keys()}), client_final);
    // Wrong keys under a fitting label show that the cache is what was used; under any other label they are not.
    EXPECT_NE(with_cache({pencil().salt, 4096, {}}), client_final);
    EXPECT_EQ(with_cache({pencil().salt, 4097, {}}), client_final);
    EXPECT_EQ(with_cache({pencil().salt + "x", 4096, {}}), client_final);
    EXPECT_EQ(with_cache({}), client_final);
}

TEST(auth_scram, every_error_has_its_words) {
    std::vector<std::string_view> seen;
    for (int value = 0; value <= static_cast<int>(scram_error::server_error); ++value) {
        const std::string_view words = to_string(static_cast<scram_error>(value));
        EXPECT_EQ(std::count(seen.begin(), seen.end(), words), 0) << words;
        EXPECT_EQ(words.find("unknown"), std::string_view::npos);
        seen.push_back(words);
    }
}

}  // namespace
}  // namespace pgsluice::auth
