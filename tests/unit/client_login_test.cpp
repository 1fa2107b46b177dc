// A client's login: the packets without a type, options, protocol versions, and every auth_type against every stored
// form of a secret, right, wrong and unknown. SCRAM is played by the client of src/auth. Each with every cut of its
// bytes.
#include "core/client_login.hpp"

#include <gtest/gtest.h>

#include <map>

#include "auth/md5.hpp"
#include "auth/scram.hpp"
#include "core/startup_values.hpp"
#include "support/rig.hpp"

namespace pgsluice::core {
namespace {

using namespace test;
using config::auth_type;

std::string refused(refusal why, std::string_view argument = {}) {
    std::string out;
    append_refusal(out, why, argument);
    return out;
}

/// What a client gets when it says `bytes` first, for every cut of them; they must all be the same.
std::string answer_to(world &around, std::string_view bytes, bool cut_ssl = true) {
    std::string whole;
    for (int how = -2; how < static_cast<int>(bytes.size()); ++how) {
        if (how == 0) continue;
        rig it(around, 0);
        if (how == -2) it.client_sends(bytes);
        if (how == -1) {
            for (const char c : bytes) it.client_sends(std::string_view(&c, 1));
        }
        if (how > 0) {
            it.client_sends(bytes.substr(0, static_cast<std::size_t>(how)));
            it.client_sends(bytes.substr(static_cast<std::size_t>(how)));
        }
        const auto got = it.to_client + (it.client_gone ? "|closed" : "") + (it.wants_cancel ? "|cancel" : "");
        if (how == -2) {
            whole = got;
            if (!cut_ssl) break;
        } else {
            EXPECT_EQ(got, whole) << "cut " << how;
        }
    }
    return whole;
}
std::string answer_to(std::string_view bytes, bool cut_ssl = true) {
    world around;
    return answer_to(around, bytes, cut_ssl);
}
bool welcomed(const std::string &answer) {
    return answer.ends_with(be::ready('I'));
}

// ---- the first packets ----

TEST(client_startup, refusals) {
    const struct {
        std::string bytes, want;
    } table[] = {
        {startup({}), refused(refusal::no_user)},
        {startup({{"database", "db"}}), refused(refusal::no_user)},
        {startup({{"user", ""}}), refused(refusal::no_user)},
        {startup({{"user", std::string(128, 'u')}}), refused(refusal::user_too_long)},
        {startup({{"user", "u"}, {"database", std::string(64, 'd')}}),
         refused(refusal::no_such_database, std::string(63, 'd'))},
        {startup({{"user", "u"}, {"database", std::string(62, 'd') + "\xc3\xa4"}}),
         refused(refusal::no_such_database, std::string(62, 'd'))},
        {startup({{"user", std::string(64, 'u')}}), refused(refusal::no_such_database, std::string(63, 'u'))},
        {startup({{"user", "u"}, {"options", "-d x"}}), refused(refusal::bad_options)},
        {startup({{"user", "u"}, {"options", "nonsense"}}), refused(refusal::bad_options)},
        {startup({{"user", "u"}, {"replication", "maybe"}}), refused(refusal::invalid_replication, "maybe")},
        {startup({{"user", "u"}, {"replication", ""}}), refused(refusal::invalid_replication, "")},
        {startup({{"user", "u"}}, 2U << 16), refused(refusal::protocol_2)},
        {startup({{"user", "u"}}, 4U << 16), refused(refusal::bad_protocol, "0000001000040000")},
        {packet(be32(3U << 16) + z("user") + z("u")), refused(refusal::bad_startup_layout)},
        {cancel_request(1, "abc"), ""},
        {be32(7) + "abcdef", refused(refusal::bad_startup_length, "0000000761626364")},
        {"GET / HTTP/1.1\r\n\r\n", refused(refusal::bad_startup_length, "474554202f204854")},
        {"\x16\x03\x01\x02\x00\x01\x00\x01"s, refused(refusal::bad_startup_length, "1603010200010001")},
    };
    for (const auto &it : table) EXPECT_EQ(answer_to(it.bytes), it.want + "|closed");
}

TEST(client_startup, names_at_their_longest) {
    EXPECT_TRUE(welcomed(answer_to(startup({{"user", std::string(127, 'u')}, {"database", std::string(63, 'd')}}))));
}

TEST(client_startup, the_database_is_the_user_by_default) {
    world around;
    rig it(around, 0);
    it.hold_welcome = true;
    it.client_sends(startup({{"user", "app"}}));
    EXPECT_EQ(it.client().login()->database(), "app");
    EXPECT_EQ(it.client().state(), client_state::joining);
}

TEST(client_startup, parameters_that_are_ignored) {
    world around;
    around.settings.global.ignore_startup_parameters = {"extra_float_digits", "options"};
    for (const pairs &it :
         {pairs{{"user", "u"}, {"extra_float_digits", "2"}}, pairs{{"user", "u"}, {"EXTRA_float_digits", "2"}},
          pairs{{"user", "u"}, {"options", "nonsense"}}, pairs{{"user", "u"}, {"options", "-c extra_float_digits=2"}},
          pairs{{"user", "u"}, {"replication", "off"}}, pairs{{"user", "u"}, {"replication", "false"}}}) {
        EXPECT_TRUE(welcomed(answer_to(around, startup(it))));
    }
}

TEST(client_startup, replication_is_read_as_postgresql_reads_it) {
    const std::map<replication, std::vector<std::string_view>> table{
        {replication::logical, {"database"}},
        {replication::physical, {"true", "t", "TRU", "yes", "y", "on", "ON", "1"}},
        {replication::none, {"false", "f", "no", "n", "off", "of", "Off", "0"}}};
    for (const auto &[want, values] : table) {
        for (const auto value : values) EXPECT_EQ(parse_replication(value), want) << value;
    }
    for (const auto *value : {"", "o", "2", "00", "truee", "Database", "databas", " on", "on "}) {
        EXPECT_EQ(parse_replication(value), std::nullopt) << value;
    }
}

TEST(client_startup, what_a_replication_client_asks_for_is_for_its_server) {
    world around;
    around.settings.global.ignore_startup_parameters = {"geqo", "options"};
    rig it(around, 0);
    it.hold_welcome = true;
    it.client_sends(startup({{"user", "u"},
                             {"work_mem", "1MB"},
                             {"options", "-e  -c a=b"},
                             {"replication", "off"},
                             {"geqo", "off"},
                             {"replication", "on"}}));
    const auto *const login = it.client().login();
    ASSERT_TRUE(login->replicates());
    EXPECT_EQ(login->replicates()->kind, replication::physical);
    const pairs want{{"options", "-e  -c a=b"}, {"work_mem", "1MB"}};
    EXPECT_EQ(login->replicates()->parameters, want);
    EXPECT_TRUE(login->parameters().empty());
}

TEST(client_startup, what_is_asked_for_and_what_is_dropped) {
    using list = std::vector<std::pair<std::string, std::string>>;
    const struct {
        std::vector<std::string> ignored;
        pairs given;
        list want;
    } table[] = {
        {{}, {{"geqo", "off"}, {"my.var", ""}}, {{"geqo", "off"}, {"my.var", ""}}},
        {{}, {{"options", "-c geqo=off"}}, {{"geqo", "off"}}},
        // The options are behind what the packet names itself, as PostgreSQL has it: the later counts.
        {{},
         {{"geqo", "off"}, {"options", "-c geqo=on -c work_mem=1"}},
         {{"geqo", "on"}, {"work_mem", "1"}, {"geqo", "off"}}},
        {{"geqo"}, {{"GEQO", "off"}, {"options", "-c geqo=on -c work_mem=1"}}, {{"work_mem", "1"}}},
        {{"options"},
         {{"geqo", "off"}, {"options", "-c geqo=on -c timezone=CET"}},
         {{"timezone", "CET"}, {"geqo", "off"}}},
        // What PgBouncer keeps for each client it keeps in spite of this list.
        {{"timezone", "intervalstyle"},
         {{"TimeZone", "CET"}, {"IntervalStyle", "iso_8601"}},
         {{"TimeZone", "CET"}, {"IntervalStyle", "iso_8601"}}},
    };
    for (const auto &it : table) {
        world around;
        around.settings.global.ignore_startup_parameters = it.ignored;
        rig one(around, 0);
        one.hold_welcome = true;
        pairs all{{"user", "u"}};
        all.insert(all.end(), it.given.begin(), it.given.end());
        one.client_sends(startup(all));
        EXPECT_EQ(one.client().login()->parameters(), it.want);
    }
}

TEST(client_startup, encryption_is_declined_once_each) {
    const auto hello = startup({{"user", "u"}});
    for (const auto *first : {&ssl_request, &gssenc_request}) {
        world around;
        rig it(around, 0);
        it.client_sends(*first);
        EXPECT_EQ(it.take_client(), "N");
        it.client_sends(first == &ssl_request ? gssenc_request : ssl_request);
        EXPECT_EQ(it.take_client(), "N") << "the other one may still be asked for";
        it.client_sends(hello);
        EXPECT_TRUE(welcomed(it.take_client()));
        rig again(around, 0);
        again.client_sends(*first);
        again.take_client();
        again.client_sends(*first);
        EXPECT_EQ(again.take_client(), refused(refusal::startup_again));
        EXPECT_TRUE(again.client_gone);
    }
}

TEST(client_startup, nothing_may_come_before_the_answer) {
    for (const auto &behind :
         {startup({{"user", "u"}}), "x"s, gssenc_request, ssl_request, cancel_request(1, "abcd")}) {
        EXPECT_EQ(answer_to(ssl_request + behind, false), refused(refusal::data_after_ssl_request) + "|closed");
        EXPECT_EQ(answer_to(gssenc_request + behind, false), refused(refusal::data_after_gssenc_request) + "|closed");
    }
}

TEST(client_startup, cancel_requests) {
    EXPECT_EQ(answer_to(cancel_request(7, "abcd")), "|closed|cancel");
    EXPECT_EQ(answer_to(cancel_request(7, "abcd") + fe::terminate), "|closed|cancel")
        << "drivers in Go send X behind it";
    world around;
    rig it(around, 0);
    it.client_sends(ssl_request);
    it.client_sends(cancel_request(7, std::string(32, 'x')));
    EXPECT_TRUE(it.wants_cancel);
    EXPECT_EQ(it.client().login()->cancel().pid, 7U);
    EXPECT_EQ(it.client().login()->cancel().secret, std::string(32, 'x'));
}

TEST(client_startup, versions_and_options_are_negotiated_as_by_postgresql_18) {
    const struct {
        std::uint32_t minor;
        std::vector<std::string> options;
        std::optional<std::uint32_t> told;  ///< the minor version in NegotiateProtocolVersion
        std::size_t key_bytes;
    } table[] = {
        {0, {}, {}, 4},      {0, {"_pq_.a", "_pq_.b"}, 0, 4},
        {1, {}, {}, 4},      {1, {"_pq_.a"}, 1, 4},
        {2, {}, {}, 32},     {2, {"_pq_.a"}, 2, 32},
        {3, {}, 2, 32},      {9999, {"_pq_.test_protocol_negotiation"}, 2, 32},
        {0xffff, {}, 2, 32},
    };
    for (const auto &line : table) {
        pairs parameters{{"user", "u"}};
        std::string told;
        for (const auto &name : line.options) {
            parameters.emplace_back(name, "1");
            told += z(name);
        }
        world around;
        rig it(around, 0);
        it.client_sends(startup(parameters, 3U << 16 | line.minor));
        const auto messages = frames(it.to_client);
        ASSERT_FALSE(messages.empty());
        if (line.told) {
            EXPECT_EQ(messages[0], (cut{'v', be32(3U << 16 | *line.told) + be32(line.options.size()) + told}));
        }
        EXPECT_EQ(types(it.to_client).find('v', line.told ? 1 : 0), std::string::npos) << "once at most";
        EXPECT_EQ(messages[line.told ? 1 : 0], (cut{'R', be32(0)})) << line.minor;
        EXPECT_EQ(it.asked_key_bytes, line.key_bytes) << line.minor;
    }
    world around;
    around.settings.global.auth_type = auth_type::plain;
    rig it(around, 0);
    it.client_sends(startup({{"user", "u"}}, 3U << 16 | 3));
    EXPECT_EQ(types(it.to_client), "vR") << "before the authentication";
}

TEST(client_startup, options) {
    using list = std::vector<std::pair<std::string, std::string>>;
    const struct {
        std::string_view text;
        std::optional<list> want;
    } table[] = {
        {"", list{}},
        {"  ", list{}},
        {"-c a=b", list{{"a", "b"}}},
        {"-ca=b", list{{"a", "b"}}},
        {"--a=b", list{{"a", "b"}}},
        {"-c a=b -c c=d", list{{"a", "b"}, {"c", "d"}}},
        {" \t-c\na=b ", list{{"a", "b"}}},
        {"-c a=", list{{"a", ""}}},
        {"-c a=b=c", list{{"a", "b=c"}}},
        {"-c a=b\\ c", list{{"a", "b c"}}},
        {"-c a=b\\\\c", list{{"a", "b\\c"}}},
        {"-c a=b\\", list{{"a", "b\\"}}},
        {"--some-name=x-y", list{{"some_name", "x-y"}}},
        {"-c", std::nullopt},
        {"-c a", std::nullopt},
        {"-c =b", std::nullopt},
        {"--", std::nullopt},
        {"--a", std::nullopt},
        {"-x a=b", std::nullopt},
        {"a=b", std::nullopt},
        {"-c a=b x", std::nullopt},
    };
    for (const auto &it : table) EXPECT_EQ(parse_options(it.text), it.want) << it.text;
}

TEST(client_startup, options_override_as_parameters_do) {
    world around;
    rig it(around, 0);
    it.client_sends(startup({{"user", "u"}, {"options", "-c timezone=CET --application-name=o"}}));
    EXPECT_NE(it.to_client.find(be::parameter("TimeZone", "CET")), std::string::npos);
    EXPECT_NE(it.to_client.find(be::parameter("application_name", "o")), std::string::npos);
}

// ---- authentication ----

const std::string salt = "0123456789abcdef";

/// The three stored forms of "secret" for user app, as the loader makes them.
auth::credential stored(auth::secret_form form) {
    static const auto verifier = auth::make_scram_verifier("secret", salt, 4096);
    if (form == auth::secret_form::md5) return auth::parse_secret(auth::md5_secret("secret", "app"));
    auth::credential it;
    it.form = form;
    it.text = base::secret("secret"s);
    it.verifier = verifier;
    if (form == auth::secret_form::scram) it.text = base::secret("SCRAM-SHA-256$..."s);
    return it;
}

struct attempt {
    auth_type how;
    auth::secret_form form;
    std::string user = "app", password = "secret";
    bool bytewise = false;
};

/// Plays a whole login; the types of what the client got, and its last words.
struct outcome {
    bool in = false;
    std::string got, message, sqlstate;
};

outcome log_in(const attempt &it) {
    world around;
    around.settings.global.auth_type = it.how;
    around.settings.credentials.emplace("app", stored(it.form));
    around.settings.mix.add(auth::look_of(stored(it.form)));
    around.build();
    rig table(around, 0);
    const auto send = [&](const std::string &bytes) {
        if (!it.bytewise) return table.client_sends(bytes);
        for (const char c : bytes) table.client_sends(std::string_view(&c, 1));
    };
    outcome result;
    auth::scram_client scram(base::secret(it.password), "client's own nonce");
    send(startup({{"user", it.user}, {"database", "db"}}));
    for (int round = 0; round < 8 && !table.client_gone; ++round) {
        const auto all = frames(table.take_client());
        if (all.empty()) break;
        for (const auto &message : all) {
            result.got += message.type;
            if (message.type == 'Z') result.in = true;
            if (message.type != 'R') continue;
            const auto code = static_cast<unsigned char>(message.body[3]);
            const auto data = message.body.substr(4);
            if (code == 3) send(fe::password(it.password));
            if (code == 5) send(fe::password(auth::md5_response(auth::md5_secret(it.password, it.user), data)));
            if (code == 10) {
                EXPECT_EQ(data, "SCRAM-SHA-256\0\0"s);
                send(fe::sasl_first("SCRAM-SHA-256", scram.client_first()));
            }
            if (code == 11) send(fe::sasl(scram.on_server_first(data).value_or("?")));
            if (code == 12) {
                EXPECT_TRUE(scram.on_server_final(data));
            }
        }
    }
    for (const auto &message : frames(table.take_client())) {
        result.got += message.type;
        if (message.type != 'E') continue;
        result.message = field(message.body, 'M');
        result.sqlstate = field(message.body, 'C');
    }
    return result;
}

TEST(client_auth, every_type_against_every_stored_form) {
    using form = auth::secret_form;
    const struct {
        auth_type how;
        form stored_as;
        bool right_gets_in;
        std::string_view wrong;
    } table[] = {
        {auth_type::plain, form::plain, true, "password authentication failed"},
        {auth_type::plain, form::md5, true, "password authentication failed"},
        {auth_type::plain, form::scram, true, "password authentication failed"},
        {auth_type::md5, form::plain, true, "password authentication failed"},
        {auth_type::md5, form::md5, true, "password authentication failed"},
        {auth_type::md5, form::scram, true, "SASL authentication failed"},
        {auth_type::scram_sha_256, form::plain, true, "SASL authentication failed"},
        {auth_type::scram_sha_256, form::md5, false, "SASL authentication failed"},
        {auth_type::scram_sha_256, form::scram, true, "SASL authentication failed"},
    };
    for (const auto &it : table) {
        for (const bool bytewise : {false, true}) {
            const auto right = log_in({.how = it.how, .form = it.stored_as, .bytewise = bytewise});
            EXPECT_EQ(right.in, it.right_gets_in)
                << static_cast<int>(it.how) << static_cast<int>(it.stored_as) << right.message;
        }
        const auto wrong = log_in({.how = it.how, .form = it.stored_as, .password = "wrong"});
        EXPECT_FALSE(wrong.in);
        EXPECT_EQ(wrong.message, it.wrong);
        EXPECT_EQ(wrong.sqlstate, "28P01");
        // Whoever does not exist gets what a wrong password gets.
        const auto nobody = log_in({.how = it.how, .form = it.stored_as, .user = "nobody"});
        EXPECT_FALSE(nobody.in);
        EXPECT_EQ(nobody.got, wrong.got) << static_cast<int>(it.how) << static_cast<int>(it.stored_as);
        EXPECT_EQ(nobody.message, wrong.message);
    }
}

TEST(client_auth, trust_and_any) {
    using form = auth::secret_form;
    EXPECT_TRUE(log_in({.how = auth_type::trust, .form = form::plain}).in);
    const auto nobody = log_in({.how = auth_type::trust, .form = form::plain, .user = "nobody"});
    EXPECT_FALSE(nobody.in);
    EXPECT_EQ(nobody.message, "\"trust\" authentication failed");
    EXPECT_TRUE(log_in({.how = auth_type::any, .form = form::plain, .user = "nobody"}).in);
}

TEST(client_auth, an_empty_stored_secret_lets_nobody_in) {
    for (const auto how : {auth_type::plain, auth_type::md5, auth_type::scram_sha_256}) {
        for (const auto *password : {"", "x"}) {
            world around;
            around.settings.global.auth_type = how;
            around.settings.credentials.emplace("app", auth::credential{});
            rig it(around, 0);
            it.client_sends(startup({{"user", "app"}}));
            it.take_client();
            if (how == auth_type::scram_sha_256) continue;
            it.client_sends(fe::password(password));
            EXPECT_TRUE(it.client_gone);
        }
    }
}

TEST(client_auth, pass_through_keys_come_from_a_stored_verifier_only) {
    for (const auto form : {auth::secret_form::scram, auth::secret_form::plain}) {
        world around;
        around.settings.global.auth_type = auth_type::scram_sha_256;
        around.settings.credentials.emplace("app", stored(form));
        rig it(around, 0);
        it.hold_welcome = true;
        auth::scram_client scram(base::secret("secret"s), "nonce");
        it.client_sends(startup({{"user", "app"}}));
        it.take_client();
        it.client_sends(fe::sasl_first("SCRAM-SHA-256", scram.client_first()));
        it.client_sends(fe::sasl(*scram.on_server_first(frames(it.take_client()).at(0).body.substr(4))));
        ASSERT_EQ(it.client().state(), client_state::joining);
        const auto &keys = it.client().login()->keys();
        EXPECT_EQ(keys.has_value(), form == auth::secret_form::scram);
        if (keys) {
            EXPECT_TRUE(keys->client_key.equals(scram.keys().client_key));
            EXPECT_TRUE(keys->server_key.equals(scram.keys().server_key));
        }
    }
}

TEST(client_auth, messages_that_do_not_belong_there) {
    const struct {
        auth_type how;
        std::string bytes;
        refusal want;
        std::string_view argument{};
    } table[] = {
        {auth_type::plain, fe::query("select 1"), refusal::bad_login_message},
        {auth_type::plain, message('p', "no end"), refusal::bad_login_message},
        {auth_type::plain, message('p', "secret\0more"s), refusal::bad_login_message},
        {auth_type::plain, message('p', ""), refusal::bad_login_message},
        {auth_type::plain, fe::password(""), refusal::empty_password},
        {auth_type::plain, header('p', 3), refusal::bad_packet_header, "7000000003"},
        {auth_type::plain, header('p', 0xffffffff), refusal::bad_packet_header, "70ffffffff"},
        {auth_type::plain, header('p', 4 + 65537), refusal::password_too_long},
        {auth_type::plain, header('p', 0x7fffffff), refusal::password_too_long},
        {auth_type::md5, fe::password(""), refusal::empty_password},
        {auth_type::md5, fe::password("md5"), refusal::password_failed},
        {auth_type::scram_sha_256, header('p', 0x7fffffff), refusal::sasl_failed},
        {auth_type::scram_sha_256, fe::password("secret"), refusal::bad_login_message},
        {auth_type::scram_sha_256, fe::sasl_first("SCRAM-SHA-1", "n,,n=,r=x"), refusal::sasl_mechanism},
        {auth_type::scram_sha_256, fe::sasl_first("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=x"),
         refusal::sasl_mechanism},
        {auth_type::scram_sha_256, fe::sasl_first("SCRAM-SHA-256", ""), refusal::sasl_failed},
        {auth_type::scram_sha_256, fe::sasl_first("SCRAM-SHA-256", "nonsense"), refusal::sasl_failed},
        {auth_type::scram_sha_256, message('p', z("SCRAM-SHA-256")), refusal::bad_login_message},
        {auth_type::scram_sha_256, message('p', z("SCRAM-SHA-256") + be32(5) + "n,,n"), refusal::bad_login_message},
        {auth_type::scram_sha_256, message('p', z("SCRAM-SHA-256") + be32(3) + "n,,n"), refusal::bad_login_message},
        {auth_type::scram_sha_256, message('p', z("SCRAM-SHA-256") + be32(0x7fffffff) + "n,,n"),
         refusal::bad_login_message},
        {auth_type::scram_sha_256, message('p', z("SCRAM-SHA-256") + be32(0x80000000) + "n,,n"),
         refusal::bad_login_message},
        {auth_type::scram_sha_256, message('p', z("SCRAM-SHA-256") + be32(0xffffffff) + "n,,n"),
         refusal::bad_login_message},
    };
    for (const auto &line : table) {
        world around;
        around.settings.global.auth_type = line.how;
        around.settings.credentials.emplace("app", stored(auth::secret_form::plain));
        around.build();
        for (std::size_t at = 0; at <= line.bytes.size(); ++at) {
            rig it(around, 0);
            it.client_sends(startup({{"user", "app"}}));
            it.take_client();
            it.client_sends(std::string_view(line.bytes).substr(0, at));
            it.client_sends(std::string_view(line.bytes).substr(at));
            EXPECT_EQ(it.take_client(), refused(line.want, line.argument)) << testing::PrintToString(line.bytes);
            EXPECT_TRUE(it.client_gone);
        }
    }
}

TEST(client_auth, terminate_during_login_is_silent) {
    world around;
    around.settings.global.auth_type = auth_type::plain;
    rig it(around, 0);
    it.client_sends(startup({{"user", "app"}}));
    it.take_client();
    it.client_sends(fe::terminate);
    EXPECT_TRUE(it.client_gone);
    EXPECT_EQ(it.to_client, "");
}

TEST(client_auth, what_is_sent_ahead_is_kept) {
    // Startup, password and the first query in one piece, as a driver may send them.
    world around;
    around.settings.global.auth_type = auth_type::plain;
    around.settings.credentials.emplace("app", stored(auth::secret_form::plain));
    rig it(around);
    it.client_sends(startup({{"user", "app"}}) + fe::password("secret") + fe::query("select 1"));
    EXPECT_EQ(it.to_server, fe::query("select 1"));
}

TEST(client_auth, passwords_as_long_as_postgresql_takes_them) {
    const std::string longest(65534, 'x');
    world around;
    around.settings.global.auth_type = auth_type::plain;
    around.settings.credentials.emplace("app", auth::parse_secret(longest));
    rig it(around, 0);
    it.client_sends(startup({{"user", "app"}}));
    it.client_sends(fe::password(longest));
    EXPECT_TRUE(welcomed(it.to_client));
}

TEST(client_auth, a_reload_during_the_login_changes_nothing_for_it) {
    world around;
    around.settings.global.auth_type = auth_type::plain;
    around.settings.credentials.emplace("app", stored(auth::secret_form::plain));
    rig it(around, 0);
    it.client_sends(startup({{"user", "app"}}));
    around.env.settings = std::make_shared<config::settings>();  // the old one lives only in the login now
    it.client_sends(fe::password("secret"));
    EXPECT_TRUE(welcomed(it.to_client));
}

/// A user that auth_query has not found, or has found without a secret, is taken for one of those that it has found.
TEST(client_auth, who_is_not_found_looks_like_those_who_are) {
    const auto first_of = [](auth_type how, const secret_answer &answer) {
        config::settings settings;
        settings.global.auth_type = how;
        settings.global.auth_user = "asker";
        settings.asks_auth_query = true;
        settings.databases["db"].name = "db";
        environment env;
        counting_random random;
        env.random = &random;
        env.settings = std::make_shared<const config::settings>(std::move(settings));
        client_login login(env);
        effects fx;
        login.on_bytes(startup({{"user", "ann"}, {"database", "db"}}), fx);
        login.on_admitted(fx);
        EXPECT_EQ(fx.client, client_next::find_secret);
        EXPECT_TRUE(login.waits_elsewhere());
        login.on_secret(answer, fx);
        EXPECT_FALSE(login.waits_elsewhere());
        std::string out(fx.to_client.piece(0));
        if (how != auth_type::scram_sha_256) return out.substr(8, 1);
        fx.clear();
        auth::scram_client scram(base::secret("x"s), "nonce");
        login.on_bytes(fe::sasl_first("SCRAM-SHA-256", scram.client_first()), fx);
        out = fx.to_client.piece(0);
        return out.substr(out.rfind("i="));
    };
    using kind = secret_answer::kind;
    const auto empty = std::make_shared<auth::credential>();
    auto scram = std::make_shared<auth::secret_mix>(), md5 = std::make_shared<auth::secret_mix>();
    scram->add({true, 10000});
    md5->add({false, 0});
    for (const auto &none : {secret_answer{kind::unknown}, secret_answer{kind::found, empty}}) {
        auto among = none;
        EXPECT_EQ(first_of(auth_type::scram_sha_256, among), "i=4096") << "scram_iterations, until some were found";
        EXPECT_EQ(first_of(auth_type::md5, among), "\x0a");
        among.seen = scram;
        EXPECT_EQ(first_of(auth_type::scram_sha_256, among), "i=10000");
        EXPECT_EQ(first_of(auth_type::md5, among), "\x0a");
        among.seen = md5;
        EXPECT_EQ(first_of(auth_type::scram_sha_256, among), "i=4096");
        EXPECT_EQ(first_of(auth_type::md5, among), "\x05");
    }
}

/// A login by SCRAM of a user that auth_query is asked about: what it is shown, and whether it costs a derivation.
struct found_login {
    std::string shown, to_client;
    int derived = 0;
    bool in = false;
};

found_login log_in_as_found(derived_keys *known, const secret_answer &answer, const std::string &password,
                            auth_type how = auth_type::scram_sha_256) {
    config::settings settings;
    settings.global.auth_type = how;
    settings.global.auth_user = "asker";
    settings.global.scram_iterations = 5000;
    settings.asks_auth_query = true;
    settings.databases["db"].name = "db";
    environment env;
    counting_random random;
    env.random = &random;
    env.mock_key = "key";
    env.derived = known;
    env.settings = std::make_shared<const config::settings>(std::move(settings));
    client_login login(env);
    effects fx;
    found_login it;
    const auto told = [&] { return fx.to_client.pieces() == 0 ? std::string() : std::string(fx.to_client.piece(0)); };
    login.on_bytes(startup({{"user", "ann"}, {"database", "db"}}), fx);
    login.on_admitted(fx);
    fx.clear();
    login.on_secret(answer, fx);
    if (how != auth_type::scram_sha_256 && told().at(8) == '\x05') return it;
    auth::scram_client scram(base::secret(password), "nonce");
    fx.clear();
    login.on_bytes(fe::sasl_first("SCRAM-SHA-256", scram.client_first()), fx);
    EXPECT_NE(fx.client, client_next::derive) << "not before the proof is there";
    const auto first = told().substr(9);
    it.shown = first.substr(first.find(",s="));
    const auto last = scram.on_server_first(first);
    EXPECT_TRUE(last);
    fx.clear();
    login.on_bytes(message('p', *last), fx);
    if (fx.client == client_next::derive) {
        EXPECT_TRUE(login.waits_elsewhere());
        EXPECT_EQ(told(), "");
        ++it.derived;
        const auto work = login.work();
        EXPECT_EQ(work.iterations, 5000);
        fx.clear();
        login.on_derived(auth::do_work(work), fx);
    }
    it.to_client = told();
    it.in = fx.client == client_next::join && scram.on_server_final(it.to_client.substr(9));
    return it;
}

/// ... at the end of SCRAM alone, by whoever computes them, and a refusal costs the same whoever is refused.
TEST(client_auth, keys_of_plain_secrets_that_were_found) {
    using kind = secret_answer::kind;
    const auto found = [](const std::string &secret) {
        auto mix = std::make_shared<auth::secret_mix>();
        mix->add({false, 5000});
        return secret_answer{kind::found, std::make_shared<auth::credential>(auth::parse_secret(secret)), {}, mix};
    };
    auto unknown = found("");
    unknown.what = kind::unknown;
    unknown.credential = nullptr;
    derived_keys known;
    for (int i = 0; i < 2; ++i) {
        const auto wrong = log_in_as_found(&known, found("secret"), "wrong");
        EXPECT_EQ(std::pair(wrong.in, wrong.derived), std::pair(false, 1)) << i;
        EXPECT_EQ(wrong.to_client, refused(refusal::sasl_failed));
        for (const auto &nobody : {unknown, found("")}) {
            const auto none = log_in_as_found(&known, nobody, "wrong");
            EXPECT_EQ(std::pair(none.in, none.derived), std::pair(false, 1))
                << "nor is it to be told by the time it takes";
            EXPECT_EQ(none.shown, wrong.shown) << "nor by the salt";
            EXPECT_EQ(none.to_client, wrong.to_client);
        }
        const auto right = log_in_as_found(&known, found("secret"), "secret");
        EXPECT_EQ(std::pair(right.in, right.derived), std::pair(true, i == 0 ? 1 : 0)) << i;
        EXPECT_EQ(right.shown, wrong.shown);
    }
    EXPECT_EQ(known.size(), 1U) << "of who has shown the password";
    const auto changed = log_in_as_found(&known, found("other"), "other");
    EXPECT_EQ(std::pair(changed.in, changed.derived), std::pair(true, 1));
    EXPECT_FALSE(log_in_as_found(&known, found("secret"), "other").in) << "keys of another secret";

    EXPECT_EQ(log_in_as_found(&known, found("secret"), "secret", auth_type::md5).derived, 0)
        << "SCRAM is not asked for";
}

TEST(client_auth, found_verifiers_cost_no_derivation) {
    using kind = secret_answer::kind;
    auto mix = std::make_shared<auth::secret_mix>();
    mix->add({true, 5000});
    auto stored = std::make_shared<auth::credential>(auth::parse_secret("secret"));
    stored->form = auth::secret_form::scram;
    stored->verifier = auth::make_scram_verifier("secret", "0123456789abcdef", 5000);
    derived_keys known;
    for (const auto how : {auth_type::scram_sha_256, auth_type::md5}) {
        for (const char *password : {"secret", "wrong"}) {
            const auto it = log_in_as_found(&known, {kind::found, stored, {}, mix}, password, how);
            EXPECT_EQ(std::pair(it.in, it.derived), std::pair(password == "secret"s, 0));
            EXPECT_EQ(log_in_as_found(&known, {kind::unknown, nullptr, {}, mix}, password, how).derived, 0);
        }
    }
    EXPECT_EQ(known.size(), 0U);
}

TEST(client_auth, who_can_not_be_looked_up_is_told_so) {
    const std::pair<secret_answer::kind, refusal> table[] = {
        {secret_answer::kind::failed, refusal::auth_query_failed},
        {secret_answer::kind::crowded_out, refusal::too_many_lookups},
    };
    for (const auto &[what, why] : table) {
        config::settings settings;
        settings.global.auth_user = "asker";
        settings.databases["db"].name = "db";
        environment env;
        env.settings = std::make_shared<const config::settings>(std::move(settings));
        client_login login(env);
        effects fx;
        login.on_bytes(startup({{"user", "ann"}, {"database", "db"}}), fx);
        login.on_admitted(fx);
        login.on_secret({what}, fx);
        EXPECT_EQ(fx.client, client_next::close);
        EXPECT_EQ(fx.to_client.piece(0), refused(why));
    }
}

/// Of users whose secrets differ in form none is told from one that is not there by what it is asked for.
TEST(client_auth, an_unknown_user_of_a_mixed_auth_file_is_asked_for_either) {
    std::string asked;
    for (int i = 0; i < 32; ++i) {
        world around;
        around.settings.global.auth_type = auth_type::md5;
        for (const auto form : {auth::secret_form::md5, auth::secret_form::scram})
            around.settings.mix.add(auth::look_of(stored(form)));
        rig it(around, 0);
        it.client_sends(startup({{"user", "nobody" + std::to_string(i)}, {"database", "db"}}));
        asked += frames(it.take_client()).at(0).body.at(3);
    }
    EXPECT_NE(asked.find('\x05'), std::string::npos);
    EXPECT_NE(asked.find('\x0a'), std::string::npos);
}

}  // namespace
}  // namespace pgsluice::core
