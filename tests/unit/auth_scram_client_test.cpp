// SCRAM client against hostile servers: attribute by attribute, cut by cut, byte by byte, out of turn.
#include <gtest/gtest.h>

#include "auth_scram_exchange.hpp"

namespace pgsluice::auth {
namespace {

using namespace exchange;

TEST(auth_scram_client, refuses_server_first) {
    using enum scram_error;
    const std::string r = "r=" + both_nonces;
    const std::string s = ",s=W22ZaJ0SNY7soEsUEjb6gQ==";
    const std::string i = ",i=4096";
    const std::pair<std::string, scram_error> table[] = {
        {"", malformed},
        {r, malformed},
        {r + s, malformed},
        {r + i, malformed},
        {(s + i).substr(1), malformed},
        {s.substr(1) + "," + r + i, malformed},
        {r + i + s, malformed},
        {r + "," + r + s + i, malformed},
        {r + s + s + i, malformed},
        {r + s + i + i, malformed},
        {"m=x," + r + s + i, malformed},
        {r + ",m=x" + s + i, malformed},
        {r + s + i + ",m=x", malformed},
        {r + s + i + ",", malformed},
        {r + s + i + "\n", malformed},
        {r + s + i + std::string(1, '\0'), malformed},
        {"e=no-resources", malformed},
        {r + ",s=" + i, malformed},
        {r + ",s=W22" + i, malformed},
        {r + ",s=W22Z aJ0" + i, malformed},
        {r + ",s====" + i, malformed},
        {"r=" + s + i, malformed},
        {r + " " + s + i, malformed},
        {r + "\x80" + s + i, malformed},
        {"r=" + client_nonce + s + i, bad_nonce},
        {"r=" + both_nonces.substr(1) + s + i, bad_nonce},
        {"r=x" + s + i, bad_nonce},
        {"r=B" + both_nonces.substr(1) + s + i, bad_nonce},
        {r + s + ",i=", malformed},
        {r + s + ",i=0", malformed},
        {r + s + ",i=-4096", malformed},
        {r + s + ",i=+4096", malformed},
        {r + s + ",i=04096", malformed},
        {r + s + ",i= 4096", malformed},
        {r + s + ",i=4096 ", malformed},
        {r + s + ",i=4e3", malformed},
        {r + s + ",i=0x1000", malformed},
        {r + s + ",i=1", iterations},
        {r + s + ",i=4095", iterations},
        {r + s + ",i=1000001", iterations},
        {r + s + ",i=2147483647", iterations},
        {r + s + ",i=2147483648", iterations},
        {r + s + ",i=4294971392", iterations},
        {r + s + ",i=18446744073709555712", iterations},
        {r + s + ",i=" + std::string(3000, '9'), iterations},
        {r + std::string(5000, 'x') + s + i, malformed},
        {r + std::string(1 << 20, 'x') + s + i, malformed},
        {r + ",s=" + base64_encode(std::string(4096, 's')) + i, malformed},
    };
    for (const auto &[message, error] : table) {
        scram_client client = new_client();
        EXPECT_FALSE(client.on_server_first(message)) << message;
        EXPECT_EQ(client.error(), error) << message;
        EXPECT_FALSE(client.on_server_first(server_first)) << message;
        EXPECT_FALSE(client.on_server_final(server_final)) << message;
    }
}

TEST(auth_scram_client, takes_extensions_and_long_nonces_and_salts) {
    EXPECT_EQ(new_client().on_server_first(server_first)->size(), client_final.size());
    EXPECT_TRUE(new_client().on_server_first(server_first + ",X=1"));
    EXPECT_TRUE(new_client().on_server_first("r=" + both_nonces + std::string(3900, '~') + ",s=AAAA,i=4096"));
    EXPECT_TRUE(new_client().on_server_first("r=" + both_nonces + ",s=" + base64_encode(std::string(2900, 's')) +
                                             ",i=1000000"));
}

TEST(auth_scram_client, refuses_server_final) {
    using enum scram_error;
    const std::pair<std::string, scram_error> table[] = {
        {"", malformed},
        {"v", malformed},
        {"v=", malformed},
        {"e=", malformed},
        {"V=" + server_final.substr(2), malformed},
        {server_final + ",", malformed},
        {server_final + "\n", malformed},
        {server_final + std::string(1, '\0'), malformed},
        {server_final + "," + server_final, malformed},
        {server_final + ",m=x", malformed},
        {server_final + ",e=other-error", malformed},
        {"m=x," + server_final, malformed},
        {" " + server_final, malformed},
        {"v=" + base64_encode(std::string(31, 'x')), malformed},
        {"v=" + base64_encode(std::string(33, 'x')), malformed},
        {"v=" + base64_encode(std::string(32, '\0')), bad_signature},
        {"v=" + proof, bad_signature},
        {"e=invalid-proof", server_error},
        {"e=other-error,X=1", server_error},
        {"e=invalid-proof," + server_final, malformed},
        {server_final + ",X=" + std::string(5000, 'x'), malformed},
    };
    for (const auto &[message, error] : table) {
        scram_client client = new_client();
        ASSERT_EQ(client.on_server_first(server_first), client_final);
        EXPECT_FALSE(client.on_server_final(message)) << message;
        EXPECT_EQ(client.error(), error) << message;
        EXPECT_FALSE(client.on_server_final(server_final)) << message;
    }
    scram_client client = new_client();
    ASSERT_TRUE(client.on_server_first(server_first));
    EXPECT_TRUE(client.on_server_final(server_final + ",X=1"));
}

TEST(auth_scram_client, refuses_every_cut_and_changed_byte) {
    for (std::size_t at = 0; at < server_first.size(); ++at) {
        EXPECT_FALSE(new_client().on_server_first(server_first.substr(0, at))) << at;
        EXPECT_FALSE(new_client().on_server_first(server_first.substr(at + 1))) << at;
    }
    for (std::size_t at = 0; at < server_final.size(); ++at) {
        std::string changed = server_final;
        changed[at] = changed[at] == 'A' ? 'B' : 'A';
        for (const std::string &message : {server_final.substr(0, at), server_final.substr(at + 1), changed}) {
            scram_client client = new_client();
            ASSERT_TRUE(client.on_server_first(server_first));
            EXPECT_FALSE(client.on_server_final(message)) << message;
        }
    }
}

TEST(auth_scram_client, refuses_messages_out_of_turn) {
    scram_client early = new_client();
    EXPECT_FALSE(early.on_server_final(server_final));
    EXPECT_EQ(early.error(), scram_error::malformed);

    scram_client twice = new_client();
    ASSERT_TRUE(twice.on_server_first(server_first));
    EXPECT_FALSE(twice.on_server_first(server_first));
    EXPECT_FALSE(twice.on_server_final(server_final));

    scram_client after = new_client();
    ASSERT_TRUE(after.on_server_first(server_first));
    ASSERT_TRUE(after.on_server_final(server_final));
    EXPECT_FALSE(after.on_server_final(server_final));
}

}  // namespace
}  // namespace pgsluice::auth
