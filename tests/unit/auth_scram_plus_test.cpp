// SCRAM-SHA-256-PLUS, and what either end says of channel binding when it is not used: every combination of the two
// ends, and what somebody between them could change. Source: RFC 5802 section 6, RFC 5929 (tls-server-end-point).
#include <gtest/gtest.h>

#include "auth_scram_exchange.hpp"

namespace pgsluice::auth {
namespace {

using namespace exchange;
using binding = scram_channel::binding;

const std::string end_point = "hash of the certificate, with a \0 in it"s;

struct outcome {
    scram_error client = scram_error::none, server = scram_error::none;
    bool in = false;
    bool operator==(const outcome &) const = default;
};

/// One login; `offered`: what the server's TLS shows. The client takes PLUS when it binds.
outcome login(const scram_channel &channel, const std::string &offered, bool mock = false) {
    scram_server server(pencil(), server_raw, mock, offered);
    scram_client client(pencil_keys(), client_raw, channel);
    const auto first = server.on_client_first(client.client_first(), channel.how == binding::bound);
    if (!first) return {client.error(), server.error()};
    const auto final = client.on_server_first(*first);
    if (!final) return {client.error(), server.error()};
    const auto proof = server.on_client_final(*final);
    return {client.error(), server.error(), proof && client.on_server_final(*proof)};
}

TEST(auth_scram_plus, every_pair_of_ends) {
    using enum scram_error;
    const struct {
        scram_channel client;
        std::string server;
        outcome want;
    } table[] = {
        {{binding::none, {}}, "", {none, none, true}},
        {{binding::none, {}}, end_point, {none, none, true}},
        {{binding::not_offered, {}}, "", {none, none, true}},
        // It was offered, the client could, and says it was not: somebody took it out of the list.
        {{binding::not_offered, {}}, end_point, {none, channel_binding}},
        {{binding::bound, end_point}, end_point, {none, none, true}},
        {{binding::bound, end_point}, "", {none, channel_binding}},
        // Two TLS connections with somebody between them.
        {{binding::bound, "another certificate"}, end_point, {none, channel_binding}},
        {{binding::bound, ""}, end_point, {none, channel_binding}},
        {{binding::bound, end_point + "x"}, end_point, {none, channel_binding}},
    };
    for (const auto &it : table) EXPECT_EQ(login(it.client, it.server), it.want) << int(it.client.how) << it.server;
    EXPECT_EQ(login({binding::bound, end_point}, end_point, true), (outcome{none, bad_proof}));
}

TEST(auth_scram_plus, what_the_client_says_first) {
    const auto first = [](binding how) { return scram_client(pencil_keys(), client_raw, {how, "x"}).client_first(); };
    EXPECT_EQ(first(binding::none), "n,,n=,r=" + client_nonce);
    EXPECT_EQ(first(binding::not_offered), "y,,n=,r=" + client_nonce);
    EXPECT_EQ(first(binding::bound), "p=tls-server-end-point,,n=,r=" + client_nonce);
}

TEST(auth_scram_plus, the_header_must_fit_the_mechanism) {
    using enum scram_error;
    const struct {
        std::string_view header;
        bool plus;
        scram_error want;
    } table[] = {
        {"p=tls-server-end-point,,", true, none},
        {"p=tls-server-end-point,,", false, channel_binding},
        {"n,,", true, channel_binding},
        {"y,,", true, channel_binding},
        {"n,,", false, none},
        {"y,,", false, channel_binding},
        {"p=tls-unique,,", true, channel_binding},
        {"p=tls-exporter,,", true, channel_binding},
        {"p=TLS-SERVER-END-POINT,,", true, channel_binding},
        {"p=tls-server-end-point,a=x,", true, channel_binding},
        {"p=,,", true, channel_binding},
        {"p,,", true, channel_binding},
        {"", true, channel_binding},
    };
    for (const auto &[header, plus, want] : table) {
        scram_server server(pencil(), server_raw, false, end_point);
        const auto answer = server.on_client_first(std::string(header) + "n=,r=" + client_nonce, plus);
        EXPECT_EQ(server.error(), want) << header << plus;
        EXPECT_EQ(answer.has_value(), want == none) << header << plus;
    }
}

TEST(auth_scram_plus, the_binding_is_what_is_proved) {
    // c= changed on the way: every other header, with and without the data, and nothing.
    for (const std::string &other : {"n,,"s, "y,,"s, "p=tls-server-end-point,,"s, "p=tls-server-end-point,,x"s, ""s}) {
        scram_server server(pencil(), server_raw, false, end_point);
        scram_client client(pencil_keys(), client_raw, {binding::bound, end_point});
        auto final = *client.on_server_first(*server.on_client_first(client.client_first(), true));
        const auto right = "c=" + base64_encode("p=tls-server-end-point,," + end_point);
        ASSERT_TRUE(final.starts_with(right + ","));
        final.replace(0, right.size(), "c=" + base64_encode(other));
        EXPECT_FALSE(server.on_client_final(final)) << other;
        EXPECT_EQ(server.error(), scram_error::channel_binding) << other;
    }
}

}  // namespace
}  // namespace pgsluice::auth
