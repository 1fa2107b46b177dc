// server_session on its own: its login by every method, hostile servers included, the pooler's errands, idle servers,
// the proof that one may go back, and every message type in every state.
#include "core/server_session.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "auth/md5.hpp"
#include "auth/scram.hpp"
#include "support/rig.hpp"

namespace pgsluice::core {
namespace {

using namespace test;

/// One server without a client.
struct lone {
    world around;
    std::unique_ptr<server_session> it;
    std::string in, out;
    server_next last = server_next::none;
    std::string why;

    explicit lone(server_secret secret = {}, std::string connect_query = "") {
        around.pool.connect_query = std::move(connect_query);
        around.build();
        it = around.new_server(std::move(secret));
        effects fx;
        it->on_connected(fx);
        out = fx.to_server.text();
    }
    lone &hear(std::string_view bytes) {
        in += bytes;
        effects fx;
        const auto used = it->on_bytes(in, fx);
        out += fx.to_server.text();
        EXPECT_EQ(fx.to_client.text(), "") << "nobody is linked";
        in.erase(0, used);
        if (fx.server == server_next::derive) {
            const auto keys = auth::do_work(it->work());
            fx.clear();
            it->on_derived(keys, fx);
            out += fx.to_server.text();
        }
        if (fx.server != server_next::none) last = fx.server;
        if (!fx.why.empty()) why = fx.why;
        return *this;
    }
    lone &hear_bytewise(std::string_view bytes) {
        for (const char c : bytes) hear(std::string_view(&c, 1));
        return *this;
    }
    lone &run(errand what, std::string_view sql) {
        effects fx;
        it->run(what, sql, fx);
        out += fx.to_server.text();
        return *this;
    }
    std::string take() { return std::exchange(out, {}); }
    bool in_pool() const { return last == server_next::logged_in && it->state() == server_state::idle; }
};

server_secret with(std::string_view text) {
    server_secret it;
    it.user = "app";
    it.credential = auth::parse_secret(text);
    return it;
}

// ---- login ----

TEST(server_login, without_a_password) {
    lone it;
    EXPECT_EQ(it.take(), startup({{"user", "app"}, {"database", "db"}}));
    for (const bool bytewise : {false, true}) {
        lone server;
        bytewise ? server.hear_bytewise(server_hello()) : server.hear(server_hello());
        EXPECT_TRUE(server.in_pool());
        EXPECT_TRUE(server.it->clean());
        ASSERT_TRUE(server.it->greeting());
        const auto &greeting = *server.it->greeting();
        pairs told;
        for (const auto one : *greeting.parameters) {
            told.emplace_back(one.name, one.value);
            EXPECT_TRUE(one.reported && one.confirmed);
        }
        EXPECT_EQ(told, usual_parameters());
        ASSERT_TRUE(server.it->key());
        EXPECT_EQ(server.it->key()->pid, 4711U);
        EXPECT_EQ(server.it->key()->secret, "\1\2\3\4");
    }
}

TEST(server_login, a_server_without_a_key) {
    lone it;
    it.hear(be::auth(0) + be::ready('I'));
    EXPECT_TRUE(it.in_pool());
    EXPECT_FALSE(it.it->key());
}

TEST(server_login, protocol_3_2_and_what_a_server_makes_of_it) {
    constexpr std::uint32_t newest = 3U << 16 | 2;
    const auto answer = [](std::uint32_t version, std::size_t options = 0) {
        return message('v', be32(version) + be32(options) + (options > 0 ? z("_pq_.x") : ""));
    };
    const struct {
        std::string_view what;
        std::string bytes;
        bool logs_in;
        bool refused = false;  ///< another attempt, in 3.0, may do better
    } table[] = {
        {"a server that speaks it", server_hello(), true},
        {"PostgreSQL 11 to 17", answer(3U << 16) + server_hello(), true},
        {"the minor version alone", answer(0) + server_hello(), true},
        {"it twice", answer(3U << 16) + answer(3U << 16) + server_hello(), true},
        {"something newer", answer(newest + 1), false, true},
        {"another major version", answer(2U << 16 | 5), false, true},
        {"an option we did not name", answer(3U << 16, 1), false, true},
        {"half of it", message('v', be32(3U << 16)), false, true},
        {"too late", be::auth(0) + answer(3U << 16), false},
        {"PostgreSQL 9.2", be::error("FATAL", "0A000", "unsupported frontend protocol 3.2"), false, true},
        {"a proxy", be::error("FATAL", "08P01", "unsupported protocol"), false, true},
        {"another reason", be::error("FATAL", "57P03", "starting up"), false},
        {"another reason", be::error("FATAL", "53300", "too many"), false},
        {"another reason, later", be::auth(0) + be::error("FATAL", "0A000", "x"), false},
    };
    for (const auto &line : table) {
        for (const bool newer : {true, false}) {
            world around;
            around.build();
            auto it = around.new_server();
            effects fx;
            if (newer) it->speak(newest);
            it->on_connected(fx);
            EXPECT_EQ(fx.to_server.text(),
                      startup({{"user", "app"}, {"database", "db"}}, newer ? newest : std::uint32_t{3U << 16}));
            EXPECT_EQ(it->login_lost("x").protocol_refused, newer);
            fx.clear();
            it->on_bytes(line.bytes, fx);
            EXPECT_EQ(fx.server, line.logs_in ? server_next::logged_in : server_next::login_failed) << line.what;
            EXPECT_EQ(it->error().protocol_refused, newer && line.refused) << line.what;
        }
    }
}

TEST(server_login, keys_of_every_length) {
    for (const std::size_t size : {4U, 8U, 32U, 256U}) {
        lone it;
        const std::string secret(size, 'k');
        it.hear(be::auth(0) + be::key(7, secret) + be::ready('I'));
        ASSERT_TRUE(it.it->key());
        EXPECT_EQ(it.it->key()->secret, secret);
    }
}

TEST(server_login, startup_parameters_of_the_database) {
    world around;
    around.pool.startup_parameters = {{"client_encoding", "LATIN1"}};
    around.build();
    auto it = around.new_server();
    effects fx;
    it->on_connected(fx);
    EXPECT_EQ(fx.to_server.text(), startup({{"user", "app"}, {"database", "db"}, {"client_encoding", "LATIN1"}}));
}

TEST(server_login, cleartext_and_md5) {
    lone plain(with("secret"));
    plain.take();
    EXPECT_EQ(plain.hear(be::auth(3)).take(), fe::password("secret"));
    EXPECT_TRUE(plain.hear(server_hello()).in_pool());
    for (const auto &stored : {"secret"s, auth::md5_secret("secret", "app")}) {
        lone it(with(stored));
        it.take();
        EXPECT_EQ(it.hear(be::auth(5, "salt")).take(),
                  fe::password(auth::md5_response(auth::md5_secret("secret", "app"), "salt")));
        EXPECT_TRUE(it.hear(server_hello()).in_pool());
    }
}

/// The server's end of SCRAM, by src/auth.
struct scram_peer {
    auth::scram_server scram;
    explicit scram_peer(std::string_view password)
        : scram(auth::make_scram_verifier(password, "0123456789abcdef", 4096), "server's nonce", false) {}
    std::string offer() { return be::auth(10, "SCRAM-SHA-256\0\0"s); }
    std::string first(const std::string &answer) {
        const auto body = frames(answer).at(0).body;
        return be::auth(11, scram.on_client_first(body.substr(body.find('\0') + 5)).value_or("e=other-error"));
    }
    std::string last(const std::string &answer) {
        const auto proof = scram.on_client_final(frames(answer).at(0).body);
        return proof ? be::auth(12, *proof) : be::error("FATAL", "28P01", "password authentication failed");
    }
};

TEST(server_login, scram_by_password_then_by_what_was_derived) {
    lone it(with("secret"));
    it.take();
    scram_peer peer("secret");
    it.hear(peer.offer());
    it.hear(peer.first(it.take()));
    it.hear(peer.last(it.take()));
    EXPECT_TRUE(it.hear(server_hello()).in_pool());
    ASSERT_TRUE(it.it->derived());
    auto again = with("secret");
    again.derived = it.it->derived();
    lone next(again);
    next.take();
    scram_peer same("secret");
    next.hear(same.offer());
    next.hear(same.first(next.take()));
    next.hear(same.last(next.take()));
    EXPECT_TRUE(next.hear(server_hello()).in_pool());
}

TEST(server_login, scram_by_a_clients_keys) {
    auto secret = with("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$abc:def");
    secret.credential.form = auth::secret_form::scram;
    auth::scram_client real(base::secret("secret"s), "nonce");
    scram_peer peer("secret");
    static_cast<void>(real.on_server_first(*peer.scram.on_client_first(real.client_first())));
    secret.keys = real.keys();
    lone it(secret);
    it.take();
    scram_peer other("secret");
    it.hear(other.offer());
    it.hear(other.first(it.take()));
    it.hear(other.last(it.take()));
    EXPECT_TRUE(it.hear(server_hello()).in_pool());
    EXPECT_FALSE(it.it->derived()) << "keys that are not ours are not kept";
}

TEST(server_login, a_wrong_password_is_the_servers_own_error) {
    lone it(with("wrong"));
    it.take();
    scram_peer peer("secret");
    it.hear(peer.offer());
    it.hear(peer.first(it.take()));
    it.hear(peer.last(it.take()));
    EXPECT_EQ(it.last, server_next::login_failed);
    EXPECT_EQ(it.it->error().sqlstate, "28P01");
    EXPECT_TRUE(it.it->error().from_server);
}

TEST(server_login, failures) {
    const struct {
        std::string_view what;
        std::string stored, bytes;
        std::string_view sqlstate;
        bool from_server;
    } table[] = {
        {"refused", "", be::error("FATAL", "3D000", "no such database"), "3D000", true},
        {"starting up", "", be::error("FATAL", "57P03", "starting up"), "57P03", true},
        {"a broken error", "", message('E', "nonsense"), "08P01", false},
        {"an error without a code", "", message('E', "SFATAL\0Mx\0\0"s), "08006", true},
        {"password wanted, none there", "", be::auth(3), "28P01", false},
        {"md5 wanted, none there", "", be::auth(5, "salt"), "28P01", false},
        {"cleartext wanted, md5 stored", auth::md5_secret("x", "app"), be::auth(3), "28P01", false},
        {"SCRAM wanted, md5 stored", auth::md5_secret("x", "app"), be::auth(10, "SCRAM-SHA-256\0\0"s), "28P01", false},
        {"no mechanism of ours", "x", be::auth(10, "SCRAM-SHA-1\0\0"s), "28P01", false},
        {"a list without end", "x", be::auth(10, "SCRAM-SHA-256\0"s), "28P01", false},
        {"bytes behind the list", "x", be::auth(10, "SCRAM-SHA-256\0\0x"s), "28P01", false},
        {"SCRAM twice", "x", be::auth(10, "SCRAM-SHA-256\0\0"s) + be::auth(10, "SCRAM-SHA-256\0\0"s), "08P01", false},
        {"md5 twice", "x", be::auth(5, "salt") + be::auth(5, "tlas"), "08P01", false},
        {"cleartext twice", "x", be::auth(3) + be::auth(3), "08P01", false},
        {"cleartext behind md5", "x", be::auth(5, "salt") + be::auth(3), "08P01", false},
        {"cleartext behind SCRAM", "x", be::auth(10, "SCRAM-SHA-256\0\0"s) + be::auth(3), "08P01", false},
        {"SCRAM behind cleartext", "x", be::auth(3) + be::auth(10, "SCRAM-SHA-256\0\0"s), "08P01", false},
        {"continue before start", "x", be::auth(11, "r=x"), "28P01", false},
        {"final before start", "x", be::auth(12, "v=x"), "28P01", false},
        {"ok in the middle of SCRAM", "x", be::auth(10, "SCRAM-SHA-256\0\0"s) + be::auth(0), "28P01", false},
        {"a hostile first message", "x", be::auth(10, "SCRAM-SHA-256\0\0"s) + be::auth(11, "r=other,s=AAAA,i=4096"),
         "28P01", false},
        {"a first message of 5000 bytes", "x",
         be::auth(10, "SCRAM-SHA-256\0\0"s) + be::auth(11, std::string(5000, 'x')), "28P01", false},
        {"a short salt", "x", be::auth(5, "sal"), "08P01", false},
        {"a long salt", "x", be::auth(5, "saltx"), "08P01", false},
        {"a method that is not ours", "x", be::auth(7), "08P01", false},
        {"no code", "x", message('R', "abc"), "08P01", false},
        {"ok twice", "x", be::auth(0) + be::auth(0), "08P01", false},
        {"ready before ok", "x", be::ready('I'), "08P01", false},
        {"ready in a transaction", "x", be::auth(0) + be::ready('T'), "08P01", false},
        {"a ready of two bytes", "x", be::auth(0) + message('Z', "II"), "08P01", false},
        {"a broken parameter", "x", be::auth(0) + message('S', "name\0value"s), "08P01", false},
        {"a key of nothing", "x", be::auth(0) + message('K', be32(1)), "08P01", false},
        {"a key of 257", "x", be::auth(0) + message('K', be32(1) + std::string(257, 'k')), "08P01", false},
        {"a length that can not be", "x", header('R', 3), "08P01", false},
        {"a negative length", "x", header('E', 0xffffffff), "08P01", false},
        {"a huge length", "x", header('E', 0x7fffffff), "08P01", false},
        {"a row", "x", be::auth(0) + be::row("x"), "08P01", false},
    };
    for (const auto &line : table) {
        for (const bool bytewise : {false, true}) {
            lone it(with(line.stored));
            bytewise ? it.hear_bytewise(line.bytes) : it.hear(line.bytes);
            EXPECT_EQ(it.last, server_next::login_failed) << line.what;
            EXPECT_EQ(it.it->error().sqlstate, line.sqlstate) << line.what << ": " << it.it->error().message;
            EXPECT_EQ(it.it->error().from_server, line.from_server) << line.what;
            EXPECT_FALSE(it.it->error().message.empty()) << line.what;
            EXPECT_EQ(it.it->state(), server_state::closing);
            EXPECT_FALSE(it.it->clean());
        }
    }
}

TEST(server_parameters, reported_ones_are_bounded_in_number_and_size) {
    const auto hello = [](int count, std::size_t value_bytes) {
        auto told = be::auth(0);
        for (int i = 0; i < count; ++i) told += be::parameter("p" + std::to_string(i), std::string(value_bytes, 'v'));
        return told + be::ready('I');
    };
    EXPECT_TRUE(lone().hear(hello(200, 1)).in_pool());
    EXPECT_TRUE(lone().hear(hello(7, 9300)).in_pool());
    for (const auto &too_much : {hello(201, 1), hello(8, 9300), hello(9000, 1)}) {
        lone it;
        it.hear(too_much);
        EXPECT_EQ(it.last, server_next::login_failed);
        EXPECT_EQ(it.it->error().message, "broken ParameterStatus packet");
    }
    lone it;
    it.hear(hello(200, 1)).hear(be::parameter("P7", "other"));
    EXPECT_EQ(it.last, server_next::logged_in) << "one that is known already";
    EXPECT_EQ(it.it->parameters()->value("p7"), "other");
    it.hear(be::parameter("more", ""));
    EXPECT_EQ(it.last, server_next::lose);
}

TEST(server_login, what_is_stored_does_not_serve_and_the_detail_says_so) {
    const struct {
        std::string stored, bytes, detail;
    } table[] = {
        {"", be::auth(3), "has none"},
        {auth::md5_secret("x", "app"), be::auth(10, "SCRAM-SHA-256\0\0"s), "Only the md5 hash"},
        {"SCRAM-SHA-256$4096:AAAA$" + std::string(43, 'A') + "=:" + std::string(43, 'A') + "=", be::auth(5, "salt"),
         "Only a SCRAM secret"},
    };
    for (const auto &line : table) {
        lone it(with(line.stored));
        it.hear(line.bytes);
        EXPECT_EQ(it.it->error().message, "server login failed: wrong password type");
        EXPECT_NE(it.it->error().detail.find(line.detail), std::string::npos) << it.it->error().detail;
        EXPECT_TRUE(it.it->error().final());
    }
}

TEST(server_login, a_server_that_speaks_first) {
    world around;
    around.build();
    auto it = around.new_server();
    effects fx;
    it->on_bytes(be::auth(0), fx);
    EXPECT_EQ(fx.server, server_next::login_failed);
    fx.clear();
    EXPECT_EQ(it->on_bytes("anything", fx), 8U) << "what comes after the end is dropped";
    EXPECT_EQ(fx.server, server_next::none);
}

/// For `closing because:`. The server's own words are not a reason of ours.
TEST(server_login, what_fails_has_pgbouncers_reason) {
    const struct {
        std::string bytes, reason, text;
    } table[] = {
        {be::auth(99), "failed to answer authreq",
         "failed to answer authreq: server asks for a login method that we do not speak"},
        {be::auth(0) + be::complete("SELECT 1"), "unknown pkt from server",
         "unknown pkt from server: unexpected message during login"},
        {header('R', 2), "bad pkt header", "bad pkt header"},
        {be::error("FATAL", "3D000", "no such database"), "login failed", "no such database"},
    };
    for (const auto &line : table) {
        lone it;
        it.hear(line.bytes);
        EXPECT_EQ(it.last, server_next::login_failed) << line.reason;
        EXPECT_EQ(it.it->error().reason(), line.reason);
        EXPECT_EQ(it.it->error().text(), line.text);
    }
}

TEST(server_login, connect_query) {
    lone it({}, "set role x");
    it.take();
    it.hear(server_hello());
    EXPECT_NE(it.last, server_next::logged_in);
    EXPECT_EQ(it.take(), fe::query("set role x"));
    it.hear(be::notice("x") + be::parameter("TimeZone", "CET") + be::selected("1"));
    EXPECT_FALSE(it.in_pool());
    it.hear(be::ready('I'));
    EXPECT_TRUE(it.in_pool());
    EXPECT_EQ(it.it->parameters()->value("timezone"), "CET");
    it.run(errand::reset, "discard all");
    it.hear(be::complete("DISCARD ALL") + be::ready('I'));
    EXPECT_EQ(it.last, server_next::errand_done) << "connect_query is not waited for again";
    lone fails({}, "set role x");
    fails.hear(server_hello()).hear(be::error("ERROR", "22023", "no role x"));
    EXPECT_EQ(fails.last, server_next::login_failed);
    EXPECT_EQ(fails.it->error().reason(), "exec_on_connect query failed");
    lone stays({}, "begin");
    stays.hear(server_hello()).hear(be::complete("BEGIN") + be::ready('T'));
    EXPECT_EQ(stays.last, server_next::login_failed);
}

// ---- in the pool ----

lone idle() {
    lone it;
    it.hear(server_hello());
    it.take();
    it.last = server_next::none;
    return it;
}

TEST(server_idle, anything_but_parameters_and_notifications_is_dirt) {
    for (int type = 0; type < 256; ++type) {
        const char letter = static_cast<char>(type);
        const auto whole = message(letter, z("TimeZone") + z("CET"));
        for (const auto &bytes : {whole, header(letter, 100), std::string(1, letter)}) {
            auto it = idle();
            it.hear(bytes);
            // Half of one is dirt as well: the next client would get the rest of it.
            const bool fine = (letter == 'S' || letter == 'A') && bytes == whole;
            EXPECT_EQ(it.last, fine ? server_next::none : server_next::lose) << type;
            EXPECT_EQ(it.it->state(), fine ? server_state::idle : server_state::closing) << type;
        }
    }
    auto it = idle();
    it.hear(be::parameter("TimeZone", "CET"));
    EXPECT_EQ(it.it->parameters()->value("timezone"), "CET");
    EXPECT_TRUE(it.it->clean());
}

// Found by the fuzz target `session`.
TEST(server_idle, an_errand_that_ends_with_dirt_ends_the_server) {
    for (const auto what : {errand::check, errand::reset}) {
        auto half = idle();
        half.run(what, "x").hear(be::complete("X") + be::ready('I') + be::notification("c").substr(0, 3));
        EXPECT_EQ(half.last, server_next::lose) << "the rest would be the next client's";
        auto early = idle();
        early.run(what, "x");
        early.it->set_unsent(true);
        early.hear(be::complete("X") + be::ready('I'));
        EXPECT_EQ(early.last, server_next::lose) << "an answer to a query that is not sent yet";
    }
}

TEST(server_idle, dirt_right_behind_the_login_is_a_failed_login) {
    lone it;
    it.hear(server_hello() + be::ready('I'));
    EXPECT_EQ(it.last, server_next::login_failed) << "else it would be opened again without a pause";
    EXPECT_EQ(it.it->error().message, "idle server got dirty");
    EXPECT_FALSE(it.it->error().from_server);
}

TEST(server_errands, check_and_reset) {
    for (const auto what : {errand::check, errand::reset}) {
        auto it = idle();
        it.run(what, "select 1");
        EXPECT_EQ(it.it->state(), server_state::tested);
        EXPECT_EQ(it.take(), fe::query("select 1"));
        EXPECT_FALSE(it.it->clean());
        it.hear(be::notice("x") + be::notification("c") + be::selected("1"));
        EXPECT_EQ(it.last, server_next::none);
        it.hear(be::ready('I'));
        EXPECT_EQ(it.last, server_next::errand_done);
        EXPECT_EQ(it.it->state(), server_state::idle);
        EXPECT_TRUE(it.it->clean());
    }
}

TEST(server_errands, failures_lose_the_server) {
    for (const auto what : {errand::check, errand::reset}) {
        for (const auto &bytes : {be::error("ERROR", "42601", "x") + be::ready('I'),
                                  be::complete("BEGIN") + be::ready('T'), be::ready('X'), be::parse_complete}) {
            auto it = idle();
            it.run(what, "x").hear(bytes);
            EXPECT_EQ(it.last, server_next::lose);
            EXPECT_FALSE(it.it->clean());
        }
    }
}

// ---- the proof ----

TEST(server_proof, each_part_is_needed) {
    world around;
    around.build();
    client_session client({1}, around.env, around.now);
    client.on_joined(around.route(), around.now);
    const auto linked = [&] {
        auto it = around.idle_server();
        it->link(client);
        EXPECT_TRUE(it->releasable());
        return it;
    };
    auto it = linked();
    it->owed().sent(request::query, asker::client);
    EXPECT_EQ(it->on_cancel(), cancel_answer::begin);
    EXPECT_TRUE(it->begin_cancel());
    it->owed().received('Z');
    EXPECT_FALSE(it->clean());
    effects fx;
    it->on_cancel_over(true, fx);
    EXPECT_EQ(fx.server, server_next::release);
    EXPECT_TRUE(it->clean());
    it->set_unsent(true);
    EXPECT_FALSE(it->clean());
    it->set_unsent(false);
    it->set_upload_open(true);
    EXPECT_FALSE(it->clean());
    it->set_upload_open(false);
    EXPECT_TRUE(it->clean());
    it->owed().sent(request::query, asker::client);
    EXPECT_FALSE(it->clean());
    it->close();
    EXPECT_FALSE(it->clean());
    EXPECT_FALSE(it->releasable());
}

TEST(server_proof, status_decides_not_sql) {
    for (const char status : {'I', 'T', 'E'}) {
        world around;
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("commit"));
        it.server_sends(be::complete("COMMIT") + be::ready(status));
        EXPECT_EQ(it.server() == nullptr, status == 'I');
    }
}

TEST(server_proof, a_ready_that_can_not_be) {
    for (int status = 0; status < 256; ++status) {
        const char letter = static_cast<char>(status);
        world around;
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("x"));
        it.server_sends(message('Z', std::string(1, letter)));
        EXPECT_EQ(it.lost() > 0, std::string_view("ITE").find(letter) == std::string_view::npos) << status;
    }
    for (const auto &bytes : {message('Z', ""), message('Z', "II"), message('Z', "III")}) {
        world around;
        rig it(around);
        it.welcomed();
        it.client_sends(fe::query("x"));
        it.server_sends(bytes);
        EXPECT_EQ(it.lost(), 1U);
    }
}

// ---- every type in every state ----

/// A server brought to a state, with what its client got before.
struct placed {
    std::string_view name;
    std::string_view legal;  ///< types that do not lose it
    std::function<void(rig &)> bring;
};

TEST(server_states, every_type_in_every_linked_state) {
    const placed places[] = {
        {"query", "TDCEGHIZWdcSAN", [](rig &it) { it.client_sends(fe::query("x")); }},
        {"batch", "1ESAN", [](rig &it) { it.client_sends(fe::parse("", "x") + fe::sync); }},
        {"bind", "2ESAN",
         [](rig &it) {
             it.client_sends(fe::parse("", "x") + fe::bind("", "") + fe::sync);
             it.server_sends(be::parse_complete);
         }},
        {"sync", "ZESAN",
         [](rig &it) {
             it.client_sends(fe::query("begin"));
             it.server_sends(be::complete("BEGIN") + be::ready('T'));
             it.client_sends(fe::sync);
         }},
        {"in transaction", "ESAN",
         [](rig &it) {
             it.client_sends(fe::query("begin"));
             it.server_sends(be::complete("BEGIN") + be::ready('T'));
         }},
        {"function", "VZESAN", [](rig &it) { it.client_sends(fe::function_call); }},
        {"copy in", "TDCEGHIZWdcSAN",
         [](rig &it) {
             it.client_sends(fe::query("copy"));
             it.server_sends(be::copy_in);
         }},
        {"errand", "TDCEGHIZWdcSAN",
         [](rig &it) {
             it.client_sends(fe::query("x"));
             it.server_sends(be::selected("1") + be::ready('I'));
             it.client_dies();
         }},
    };
    for (const auto &place : places) {
        for (int type = 0; type < 256; ++type) {
            const char letter = static_cast<char>(type);
            for (const bool bytewise : {false, true}) {
                world around;
                if (place.name == "errand") around.pool.pool_mode = config::pool_mode::session;
                rig it(around);
                it.welcomed();
                place.bring(it);
                ASSERT_NE(it.server(), nullptr) << place.name;
                const auto bytes = letter == 'Z'   ? be::ready('I')
                                   : letter == 'E' ? be::error("ERROR", "XX000", "x")
                                                   : message(letter, z("a") + z("b"));
                it.take_client();
                if (bytewise) {
                    for (const char c : bytes) it.server_sends(std::string_view(&c, 1));
                } else {
                    it.server_sends(bytes);
                }
                const bool legal = letter != '\0' && place.legal.find(letter) != std::string_view::npos;
                EXPECT_EQ(it.lost(), legal ? 0U : 1U) << place.name << " " << type;
                if (!legal && place.name != "errand") {
                    EXPECT_TRUE(it.client_gone) << place.name << " " << type;
                    EXPECT_EQ(types(it.to_client), "E") << place.name << " " << type;
                }
                EXPECT_FALSE(it.released_unclean);
            }
        }
    }
}

TEST(server_states, lengths_that_can_not_be) {
    for (int type = 0; type < 256; ++type) {
        for (const std::uint64_t length : {0ULL, 3ULL, 0x80000000ULL, 0xffffffffULL}) {
            world around;
            rig it(around);
            it.welcomed();
            it.client_sends(fe::query("x"));
            it.server_sends(header(static_cast<char>(type), length));
            ASSERT_EQ(it.lost(), 1U);
            ASSERT_TRUE(it.client_gone);
        }
    }
}

TEST(server_states, a_declared_length_costs_nothing) {
    world around;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::query("x"));
    it.server_sends(header('D', 0x7fffffff));
    EXPECT_EQ(it.take_client(), header('D', 0x7fffffff)) << "it streams";
    EXPECT_EQ(it.lost(), 0U);
    rig other(around);
    other.welcomed();
    other.client_sends(fe::query("x"));
    other.server_sends(header('S', 0x7fffffff));
    EXPECT_EQ(other.lost(), 1U) << "what is inspected is small";
}

}  // namespace
}  // namespace pgsluice::core
