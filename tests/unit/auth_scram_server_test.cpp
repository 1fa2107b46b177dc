// SCRAM server against hostile clients: attribute by attribute, cut by cut, byte by byte, out of turn.
#include <gtest/gtest.h>

#include "auth_scram_exchange.hpp"

namespace pgsluice::auth {
namespace {

using namespace exchange;

struct hostile_case {
    std::string_view message;
    scram_error error;
};

TEST(auth_scram_server, takes_what_drivers_send) {
    const auto long_nonce = std::string(3000, '~');
    for (const std::string &message :
         {"n,,n=,r=x"s, "y,,n=,r=x"s, "n,,n=user,r=x"s, "n,,n=*,r=x"s, "n,,n=a=2Cb=3Dc,r=x"s, "n,,n=a=b,r=x"s,
          "n,,n=\xc3\xa4,r=!#$%&'()*+-./:;<=>?@[]^_`{|}~"s, "n,,n=,r=x,X=later,z=1"s, "n,,n=,r=" + long_nonce})
        EXPECT_TRUE(new_server().on_client_first(message)) << message;
}

TEST(auth_scram_server, refuses_client_first) {
    using enum scram_error;
    const hostile_case table[] = {
        {"", malformed},
        {"n", malformed},
        {"n,", malformed},
        {"n,,", malformed},
        {"n,,n=,", malformed},
        {"p=tls-server-end-point,,n=,r=x", channel_binding},
        {"p,,n=,r=x", channel_binding},
        {"x,,n=,r=x", malformed},
        {"N,,n=,r=x", malformed},
        {" n,,n=,r=x", malformed},
        {"n=,,n=,r=x", malformed},
        {"n,a=other,n=,r=x", malformed},
        {"y,a=,n=,r=x", malformed},
        {"n,,,n=,r=x", malformed},
        {"n,n=,r=x", malformed},
        {"n=,r=x", malformed},
        {"n,,m=ext,n=,r=x", malformed},
        {"n,,n=,m=ext,r=x", malformed},
        {"n,,n=,r=x,m=ext", malformed},
        {"n,,r=x,n=", malformed},
        {"n,,r=x", malformed},
        {"n,,n=", malformed},
        {"n,,n=user", malformed},
        {"n,,n=,n=,r=x", malformed},
        {"n,,n=,r=x,r=x", malformed},
        {"n,,n=,r=x,n=", malformed},
        {"n,,N=,r=x", malformed},
        {"n,,n=,R=x", malformed},
        {"n,,n,r=x", malformed},
        {"n,,n=,r", malformed},
        {"n,,n=,r=", malformed},
        {"n,,n=,r=,", malformed},
        {"n,,n=,r=x,", malformed},
        {"n,,n=,r=x,,", malformed},
        {"n,,n=,,r=x", malformed},
        {"n,,n=, r=x", malformed},
        {"n,,n=,r=x y", malformed},
        {"n,,n=,r=x\x7f", malformed},
        {"n,,n=,r=x\t", malformed},
        {"n,,n=,r=x\n", malformed},
        {"n,,n=,r=\xc3\xa4", malformed},
        {"n,,n=,r=x\0"sv, malformed},
        {"n,,n=\0,r=x"sv, malformed},
        {"n,,n=,r=x,X", malformed},
        {"n,,n=,r=x,X=", malformed},
        {"n,,n=,r=x,1=2", malformed},
        {"n,,n=,r=x,XY=2", malformed},
        {"n,,n=,r=x,X=1\0"sv, malformed},
    };
    for (const auto &[message, error] : table) {
        scram_server server = new_server();
        EXPECT_FALSE(server.on_client_first(message)) << message;
        EXPECT_EQ(server.error(), error) << message;
        // No second try, not even with the right message.
        EXPECT_FALSE(server.on_client_first(client_first)) << message;
        EXPECT_FALSE(server.on_client_final(client_final)) << message;
    }
}

TEST(auth_scram_server, refuses_client_final) {
    using enum scram_error;
    const std::string r = ",r=" + both_nonces;
    const std::string p = ",p=" + proof;
    const std::pair<std::string, scram_error> table[] = {
        {"", malformed},
        {"c=biws", malformed},
        {"c=biws" + p, malformed},
        {r.substr(1) + p, malformed},
        {without_proof, malformed},
        {without_proof + ",", malformed},
        {without_proof + ",p=", malformed},
        {without_proof + ",p", malformed},
        {without_proof + p + ",", malformed},
        {without_proof + p + p, malformed},
        {without_proof + p + ",X=1", malformed},
        {without_proof + p + " ", malformed},
        {without_proof + p + "\n", malformed},
        {without_proof + p + std::string(1, '\0'), malformed},
        {without_proof + r + p, malformed},
        {"c=biws,c=biws" + r + p, malformed},
        {"c=biws" + r + ",c=biws" + p, malformed},
        {"m=x," + client_final, malformed},
        {"c=biws,m=x" + r + p, malformed},
        {without_proof + ",m=x" + p, malformed},
        {without_proof + ",e=x" + p, malformed},
        {r.substr(1) + ",c=biws" + p, malformed},
        {"p=" + proof + ",c=biws" + r, malformed},
        {"n,,c=biws" + r + p, malformed},
        {without_proof + ",," + p.substr(1), malformed},
        {without_proof + ",p=" + proof.substr(0, 43), malformed},
        {without_proof + ",p=" + proof.substr(1), malformed},
        {without_proof + ",p=" + proof.substr(0, 40), malformed},
        {without_proof + ",p=" + base64_encode(std::string(33, 'x')), malformed},
        {without_proof + ",p=" + base64_encode(std::string(31, 'x')), malformed},
        {without_proof + ",p=*" + proof.substr(1), malformed},
        {"c=" + r + p, channel_binding},
        {"c=eSws" + r + p, channel_binding},
        {"c=biw" + r + p, channel_binding},
        {"c=biws=" + r + p, channel_binding},
        {"c=n,," + r + p, malformed},
        {"c=cD10bHMtc2VydmVyLWVuZC1wb2ludCws" + r + p, channel_binding},
        {"c=biws,r=" + p, bad_nonce},
        {"c=biws,r=" + client_nonce + p, bad_nonce},
        {"c=biws" + r + "x" + p, bad_nonce},
        {"c=biws" + r.substr(0, r.size() - 1) + p, bad_nonce},
        {without_proof + ",p=" + base64_encode(std::string(32, '\0')), bad_proof},
        {without_proof + ",X=1" + p, bad_proof},  // well-formed, but not what was signed
    };
    for (const auto &[message, error] : table) {
        scram_server server = new_server();
        ASSERT_TRUE(server.on_client_first(client_first));
        EXPECT_FALSE(server.on_client_final(message)) << message;
        EXPECT_EQ(server.error(), error) << message;
        EXPECT_TRUE(is_zero(server.keys()));
        EXPECT_FALSE(server.on_client_final(client_final)) << message;
    }
}

TEST(auth_scram_server, keys_may_come_last) {
    const auto new_one = [](bool mock) {
        return scram_server({pencil().iterations, pencil().salt, {}, {}}, server_raw, mock);
    };
    auto server = new_one(false);
    EXPECT_FALSE(server.is_proof_of(pencil_keys())) << "there is none";
    EXPECT_EQ(server.on_client_first(client_first), server_first);
    ASSERT_TRUE(server.take_client_final(client_final));
    EXPECT_FALSE(server.is_proof_of({}));
    EXPECT_TRUE(server.is_proof_of(pencil_keys()));
    EXPECT_EQ(server.server_final(pencil_keys()), server_final);
    EXPECT_TRUE(server.keys().client_key.equals(pencil_keys().client_key));
    EXPECT_FALSE(server.server_final(pencil_keys())) << "once";

    for (const bool mock : {false, true}) {
        auto other = new_one(mock);
        ASSERT_TRUE(other.on_client_first(client_first));
        ASSERT_TRUE(other.take_client_final(client_final));
        EXPECT_EQ(other.is_proof_of(pencil_keys()), !mock);
        EXPECT_FALSE(other.server_final(mock ? pencil_keys() : derive_scram_keys("other", pencil().salt, 4096)));
        EXPECT_EQ(other.error(), scram_error::bad_proof);
        EXPECT_TRUE(is_zero(other.keys()));
    }
    auto failed = new_one(false);
    ASSERT_TRUE(failed.on_client_first(client_first));
    const auto signed_text = client_first.substr(3) + "," + server_first + "," + without_proof;
    const auto guessed = xor_client_signature({}, stored_key_of({}), signed_text);
    ASSERT_TRUE(failed.take_client_final(without_proof + ",p=" + base64_encode(guessed.reveal())));
    EXPECT_FALSE(failed.server_final({})) << "keys that could not be derived let nobody in";

    auto early = new_one(false);
    EXPECT_FALSE(early.server_final(pencil_keys()));
    EXPECT_EQ(early.error(), scram_error::malformed);
    EXPECT_FALSE(early.on_client_first(client_first));
}

TEST(auth_scram_server, binds_the_header_the_client_sent) {
    scram_server server = new_server();
    ASSERT_TRUE(server.on_client_first("y" + client_first.substr(1)));
    const std::string text = "c=eSws,r=" + both_nonces;
    const std::string signed_text = client_first.substr(3) + "," + server_first + "," + text;
    const scram_key right = xor_client_signature(pencil_keys().client_key, pencil().stored_key, signed_text);
    EXPECT_TRUE(server.on_client_final(text + ",p=" + base64_encode(right.reveal())));
}

TEST(auth_scram_server, optional_extensions_are_signed_and_ignored) {
    scram_server server = new_server();
    ASSERT_TRUE(server.on_client_first(client_first + ",X=1"));
    const std::string text = without_proof + ",Y=2,z=3";
    const std::string signed_text = client_first.substr(3) + ",X=1," + server_first + "," + text;
    const scram_key right = xor_client_signature(pencil_keys().client_key, pencil().stored_key, signed_text);
    EXPECT_TRUE(server.on_client_final(text + ",p=" + base64_encode(right.reveal())));
}

TEST(auth_scram_server, refuses_every_cut) {
    for (std::size_t size = 0; size < client_first.size(); ++size) {
        // A shorter nonce is a nonce; all else is refused.
        const bool whole = size > "n,,n=,r="sv.size();
        EXPECT_EQ(new_server().on_client_first(client_first.substr(0, size)).has_value(), whole) << size;
        if (size > 0) {
            EXPECT_FALSE(new_server().on_client_first(client_first.substr(size)));
        }
    }
    for (std::size_t size = 0; size < client_final.size(); ++size) {
        scram_server head = new_server();
        scram_server tail = new_server();
        ASSERT_TRUE(head.on_client_first(client_first));
        ASSERT_TRUE(tail.on_client_first(client_first));
        EXPECT_FALSE(head.on_client_final(client_final.substr(0, size))) << size;
        EXPECT_FALSE(tail.on_client_final(client_final.substr(size + 1))) << size;
    }
}

TEST(auth_scram_server, refuses_every_changed_byte) {
    for (std::size_t at = 0; at < client_final.size(); ++at) {
        scram_server server = new_server();
        ASSERT_TRUE(server.on_client_first(client_first));
        std::string changed = client_final;
        changed[at] = changed[at] == 'A' ? 'B' : 'A';
        EXPECT_FALSE(server.on_client_final(changed)) << at;
    }
}

TEST(auth_scram_server, refuses_long_messages) {
    const std::string head = "n,,n=,r=";
    EXPECT_TRUE(new_server().on_client_first(head + std::string(scram_message_max_bytes - head.size(), 'x')));
    EXPECT_FALSE(new_server().on_client_first(head + std::string(scram_message_max_bytes - head.size() + 1, 'x')));
    EXPECT_FALSE(new_server().on_client_first(head + std::string(1 << 20, 'x')));
    scram_server server = new_server();
    ASSERT_TRUE(server.on_client_first(client_first));
    EXPECT_FALSE(server.on_client_final(without_proof + ",X=" + std::string(5000, 'x') + ",p=" + proof));
    EXPECT_EQ(server.error(), scram_error::malformed);
}

TEST(auth_scram_server, refuses_messages_out_of_turn) {
    scram_server early = new_server();
    EXPECT_FALSE(early.on_client_final(client_final));
    EXPECT_EQ(early.error(), scram_error::malformed);

    scram_server twice = new_server();
    ASSERT_TRUE(twice.on_client_first(client_first));
    EXPECT_FALSE(twice.on_client_first(client_first));
    EXPECT_FALSE(twice.on_client_final(client_final));

    scram_server after = new_server();
    ASSERT_TRUE(after.on_client_first(client_first));
    ASSERT_TRUE(after.on_client_final(client_final));
    EXPECT_FALSE(after.on_client_final(client_final));
    EXPECT_EQ(after.error(), scram_error::malformed);
}

}  // namespace
}  // namespace pgsluice::auth
