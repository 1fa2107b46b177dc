// TLS as the two machines see it, without any: what a client may ask for and when, what is asked of a server and what
// its answer means under each sslmode, what is tried again the other way, and which SASL mechanism follows.
#include <gtest/gtest.h>

#include "auth/scram.hpp"
#include "support/rig.hpp"

namespace pgsluice::core {
namespace {

using namespace test;
using config::sslmode;

constexpr std::array modes{sslmode::disable, sslmode::allow,     sslmode::prefer,
                           sslmode::require, sslmode::verify_ca, sslmode::verify_full};

std::string refused(refusal why, std::string_view argument = {}) {
    std::string out;
    append_refusal(out, why, argument);
    return out;
}

// ---- clients ----

struct front {
    world around;
    std::unique_ptr<client_session> it;
    std::string out;
    client_next last = client_next::none;
    std::size_t used = 0;

    explicit front(sslmode mode, bool tcp = true) {
        around.settings.global.client_tls_sslmode = mode;
        around.build();
        it = std::make_unique<client_session>(base::client_id{7}, around.env, around.now);
        it->on_channel({.may_encrypt = tcp});
    }
    front &secure(std::string end_point = "") {
        channel made;
        made.encrypted = true;
        made.end_point = std::move(end_point);
        it->on_channel(made);
        return *this;
    }
    front &say(std::string_view bytes) {
        effects fx;
        used = it->on_bytes(bytes, around.now, fx);
        out += fx.to_client.text();
        last = fx.client;
        return *this;
    }
    std::string take() { return std::exchange(out, {}); }
};

TEST(client_encryption, ssl_request_under_every_mode) {
    for (const auto mode : modes) {
        for (const bool tcp : {true, false}) {
            front it(mode, tcp);
            const bool offered = tcp && mode != sslmode::disable;
            it.say(ssl_request);
            EXPECT_EQ(it.take(), offered ? "S" : "N") << to_string(mode);
            EXPECT_EQ(it.last, offered ? client_next::secure : client_next::none);
            EXPECT_EQ(it.used, ssl_request.size());
        }
    }
}

TEST(client_encryption, without_it) {
    for (const auto mode : modes) {
        const bool must = mode >= sslmode::require;
        front it(mode);
        it.say(startup({{"user", "u"}}));
        EXPECT_EQ(it.last, must ? client_next::close : client_next::admit) << to_string(mode);
        EXPECT_EQ(it.take(), must ? refused(refusal::ssl_required) : "");
        front local(mode, false);
        EXPECT_EQ(local.say(startup({{"user", "u"}})).last, client_next::admit) << "Unix sockets need none";
        front cancel(mode);
        EXPECT_EQ(cancel.say(cancel_request(1, "abcd")).last, client_next::cancel) << "as PostgreSQL";
    }
}

TEST(client_encryption, nothing_in_the_clear_before_the_handshake) {
    for (const std::string &more : {"x"s, startup({{"user", "u"}}), ssl_request, "\x16\x03\x01"s}) {
        front it(sslmode::require);
        it.say(ssl_request + more);
        EXPECT_EQ(it.last, client_next::close);
        EXPECT_EQ(it.take(), refused(refusal::data_after_ssl_request));
    }
}

TEST(client_encryption, direct) {
    const auto hello = "\x16\x03\x01\x02\x00\x01\x00\x01"s;
    for (const auto mode : modes) {
        for (const bool tcp : {true, false}) {
            front it(mode, tcp);
            it.say(hello);
            const bool offered = tcp && mode != sslmode::disable;
            EXPECT_EQ(it.last, offered ? client_next::secure : client_next::close) << to_string(mode);
            EXPECT_EQ(it.take(), offered ? "" : refused(refusal::bad_startup_length, "1603010200010001"));
            if (offered) {
                EXPECT_EQ(it.used, 0U) << "they are the handshake's";
            }
        }
    }
    front after(sslmode::prefer);
    after.say(gssenc_request).say(hello);
    EXPECT_EQ(after.last, client_next::close) << "TLS first, or by SSLRequest";
    front byte(sslmode::prefer);
    EXPECT_EQ(byte.say("\x16").last, client_next::secure) << "one byte is enough to tell";
}

TEST(client_encryption, once) {
    front it(sslmode::require);
    it.say(ssl_request);
    it.secure().take();
    EXPECT_EQ(it.say(ssl_request).last, client_next::close);
    EXPECT_EQ(it.take(), refused(refusal::ssl_inside_ssl));
    front gss(sslmode::require);
    gss.say(ssl_request);
    gss.secure().take();
    EXPECT_EQ(gss.say(gssenc_request).last, client_next::close);
    EXPECT_EQ(gss.take(), refused(refusal::startup_again));
    front direct(sslmode::require);
    direct.secure();
    EXPECT_EQ(direct.say("\x16\x03\x01\x02\x00\x01\x00\x01"s).last, client_next::close) << "TLS inside TLS";
    front good(sslmode::require);
    good.say(gssenc_request).say(ssl_request);
    EXPECT_EQ(good.take(), "NS");
    EXPECT_EQ(good.secure().say(startup({{"user", "u"}})).last, client_next::admit);
    front cancel(sslmode::require);
    EXPECT_EQ(cancel.secure().say(cancel_request(1, "abcd")).last, client_next::cancel);
}

TEST(client_encryption, channel_binding_is_offered_where_there_is_some) {
    const auto offer = [](const std::string &end_point, bool encrypted) {
        front it(sslmode::prefer);
        auto global = it.around.settings;
        global.global.auth_type = config::auth_type::scram_sha_256;
        it.around.env.settings = std::make_shared<config::settings>(global);
        if (encrypted) it.secure(end_point);
        it.say(startup({{"user", "u"}}));
        effects fx;
        it.it->on_admitted(fx);
        return fx.to_client.text();
    };
    EXPECT_EQ(offer("", false), be::auth(10, z("SCRAM-SHA-256") + '\0'));
    EXPECT_EQ(offer("", true), be::auth(10, z("SCRAM-SHA-256") + '\0')) << "a certificate that names no hash";
    EXPECT_EQ(offer("hash", true), be::auth(10, z("SCRAM-SHA-256-PLUS") + z("SCRAM-SHA-256") + '\0'));
}

// ---- servers ----

struct back {
    world around;
    std::unique_ptr<server_session> it;
    std::string out;
    server_next last = server_next::none;
    std::string why;

    explicit back(sslmode mode, bool tcp = true, config::tls_negotiation how = {}, server_secret secret = {}) {
        around.pool.server_tls.mode = mode;
        around.pool.server_tls.negotiation = how;
        around.build();
        it = around.new_server(std::move(secret));
        connect(tcp);
    }
    back &connect(bool tcp = true) {
        effects fx;
        it->on_connected(fx, tcp);
        return note(fx);
    }
    back &hear(std::string_view bytes) {
        effects fx;
        used = it->on_bytes(bytes, fx);
        return note(fx);
    }
    back &secured(std::string end_point = "") {
        effects fx;
        channel made;
        made.encrypted = true;
        made.end_point = std::move(end_point);
        it->on_secured(made, fx);
        return note(fx);
    }
    back &handshake_failed() {
        effects fx;
        it->on_handshake_failed("no", fx);
        return note(fx);
    }
    bool again() { return it->try_other_way(it->error(), "nonce"); }
    back &note(const effects &fx) {
        out += fx.to_server.text();
        last = fx.server;
        why = it->error().message;
        return *this;
    }
    std::string take() { return std::exchange(out, {}); }
    std::size_t used = 0;
};

const std::string hello = startup({{"user", "app"}, {"database", "db"}});
std::string fatal(std::string_view sqlstate) {
    return message('E', z("SFATAL") + "C" + z(sqlstate) + z("Mno") + '\0');
}

TEST(server_encryption, what_goes_out_first) {
    for (const auto mode : modes) {
        EXPECT_EQ(back(mode).take(), mode >= sslmode::prefer ? ssl_request : hello) << to_string(mode);
        EXPECT_EQ(back(mode, false).take(), hello) << "a Unix socket, " << to_string(mode);
        if (mode < sslmode::require) continue;
        back direct(mode, true, config::tls_negotiation::direct);
        EXPECT_EQ(direct.take(), "");
        EXPECT_EQ(direct.last, server_next::secure);
        EXPECT_EQ(direct.secured().take(), hello);
    }
}

TEST(server_encryption, the_answer) {
    for (const auto mode : {sslmode::prefer, sslmode::require, sslmode::verify_ca, sslmode::verify_full}) {
        back yes(mode);
        yes.take();
        EXPECT_EQ(yes.hear("S").last, server_next::secure);
        EXPECT_EQ(yes.used, 1U);
        EXPECT_EQ(yes.take(), "");
        EXPECT_EQ(yes.secured().take(), hello);
        EXPECT_EQ(yes.hear(server_hello()).last, server_next::logged_in);

        back no(mode);
        no.take();
        no.hear("N");
        const bool goes_on = mode == sslmode::prefer;
        EXPECT_EQ(no.take(), goes_on ? hello : "") << to_string(mode);
        EXPECT_EQ(no.last, goes_on ? server_next::none : server_next::login_failed);
        EXPECT_EQ(no.why, goes_on ? "" : "server refused SSL");
        EXPECT_FALSE(no.again());
        if (goes_on) {
            EXPECT_EQ(no.hear(server_hello()).last, server_next::logged_in);
        }

        for (const std::string &bytes : {"S"s + server_hello(), "Sx"s, "N"s + server_hello(), "N\0"s, "SS"s}) {
            back more(mode);
            more.take();
            EXPECT_EQ(more.hear(bytes).last, server_next::login_failed);
            EXPECT_EQ(more.why, "received unencrypted data after SSL response");
            EXPECT_EQ(more.take(), "") << "nothing is said to whoever that was";
            EXPECT_FALSE(more.again());
        }
        for (const std::string &bytes : {"G"s, "R"s, "\x15"s, "s"s, "\0"s, server_hello()}) {
            back other(mode);
            EXPECT_EQ(other.hear(bytes).last, server_next::login_failed);
            EXPECT_EQ(other.why, "bad sslreq answer");
            EXPECT_FALSE(other.again());
        }
        for (const std::string &bytes : {"E"s, fatal("53300"), "ESFATAL"s}) {
            back error(mode);
            EXPECT_EQ(error.hear(bytes).last, server_next::login_failed);
            EXPECT_EQ(error.why, "bad sslreq answer");
            EXPECT_EQ(error.again(), mode == sslmode::prefer) << "as libpq";
        }
    }
}

TEST(server_encryption, bytes_that_nobody_asked_for) {
    back direct(sslmode::require, true, config::tls_negotiation::direct);
    EXPECT_EQ(direct.hear("S").last, server_next::login_failed);
    EXPECT_EQ(direct.why, "unknown pkt from server");
}

TEST(server_encryption, the_other_way) {
    // The second connection is the last one, whatever comes.
    back prefer(sslmode::prefer);
    EXPECT_TRUE(prefer.hear("S").handshake_failed().again());
    prefer.take();
    EXPECT_EQ(prefer.connect().take(), hello);
    EXPECT_EQ(prefer.hear(fatal("28000")).last, server_next::login_failed);
    EXPECT_FALSE(prefer.again());

    back refused(sslmode::prefer);
    refused.hear("S").secured().hear(fatal("28000"));
    EXPECT_TRUE(refused.again());
    refused.take();
    EXPECT_EQ(refused.connect().take(), hello);
    EXPECT_EQ(refused.hear(server_hello()).last, server_next::logged_in);

    back allow(sslmode::allow);
    EXPECT_EQ(allow.take(), hello);
    allow.hear(fatal("28000"));
    EXPECT_TRUE(allow.again());
    EXPECT_EQ(allow.connect().take(), ssl_request);
    EXPECT_EQ(allow.hear("N").take(), hello);
    EXPECT_EQ(allow.hear(fatal("28000")).last, server_next::login_failed);
    EXPECT_FALSE(allow.again());

    for (const auto mode : modes) {
        back busy(mode);
        if (mode >= sslmode::prefer) busy.hear("S").secured();
        EXPECT_EQ(busy.hear(fatal("53300")).last, server_next::login_failed);
        EXPECT_FALSE(busy.again()) << "it has nothing to do with TLS";
        back strict(mode, false);
        strict.hear(fatal("28000"));
        EXPECT_FALSE(strict.again()) << "a Unix socket";
        if (mode < sslmode::require && mode != sslmode::disable) continue;
        back must(mode);
        if (mode != sslmode::disable) {
            EXPECT_FALSE(must.hear("S").handshake_failed().again()) << to_string(mode);
            back login(mode);
            EXPECT_FALSE(login.hear("S").secured().hear(fatal("28000")).again()) << to_string(mode);
        } else {
            EXPECT_FALSE(must.hear(fatal("28000")).again());
        }
    }
}

// ---- the server's SASL mechanisms ----

TEST(server_encryption, which_mechanism_and_which_header) {
    const auto offered = [](bool plus, bool plain = true) {
        return be::auth(10, (plus ? z("SCRAM-SHA-256-PLUS") : "") + (plain ? z("SCRAM-SHA-256") : "") + '\0');
    };
    server_secret secret;
    secret.user = "app";
    secret.credential = auth::parse_secret("secret");
    const struct {
        bool tls;
        std::string end_point;
        bool plus, plain;
        std::string_view mechanism, header;
    } table[] = {
        {false, "", false, true, "SCRAM-SHA-256", "n,,"},
        {true, "hash", false, true, "SCRAM-SHA-256", "y,,"},
        {true, "hash", true, true, "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"},
        {true, "hash", true, false, "SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,"},
        {true, "", true, true, "SCRAM-SHA-256", "n,,"},  // the certificate names no hash: we can not
        {true, "", true, false, "", ""},
        {false, "", true, true, "", ""},  // libpq refuses it too
    };
    for (const auto &row : table) {
        back it(row.tls ? sslmode::require : sslmode::disable, true, {}, secret);
        if (row.tls) it.hear("S").secured(row.end_point);
        it.take();
        it.hear(offered(row.plus, row.plain));
        if (row.mechanism.empty()) {
            EXPECT_EQ(it.last, server_next::login_failed);
            continue;
        }
        const auto said = it.take();
        const auto body = said.substr(5);
        EXPECT_EQ(body.substr(0, body.find('\0')), row.mechanism);
        EXPECT_EQ(body.substr(body.find('\0') + 5, row.header.size()), row.header);
    }
}

}  // namespace
}  // namespace pgsluice::core
