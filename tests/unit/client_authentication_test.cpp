// auth_type and the lines of pg_hba.conf to what a client must do; and the login that does it: what is sent, who gets
// in, what the client is told and what the log alone is.
#include "core/client_authentication.hpp"

#include <gtest/gtest.h>

#include "support/rig.hpp"
#include "unit/auth_rules_support.hpp"

namespace pgsluice::core {
namespace {

using namespace test;
using config::auth_type;

class known_host : public host_facts {
public:
    std::optional<std::vector<auth::ip_network>> interfaces() override {
        ++asked;
        if (!has_interfaces) return std::nullopt;
        return std::vector<auth::ip_network>{{*auth::parse_ip("127.0.0.1"), auth::prefix_mask(auth::ip_family::v4, 8)}};
    }
    std::optional<std::string> user_name(std::uint32_t uid) override {
        ++asked;
        if (uid == 7) return "ann";
        return std::nullopt;
    }
    bool has_interfaces = true;
    int asked = 0;
};

config::settings with_rules(const std::string &hba, const std::string &ident = "") {
    const auto reader = auth::test::reader_of({{"hba", hba}, {"ident", ident}});
    auto rules = auth::read_hba("hba", reader);
    auto maps = auth::read_ident("ident", reader);
    EXPECT_EQ(auth::test::text_of(rules.problems) + auth::test::text_of(maps.problems), "");
    config::settings settings;
    settings.global.auth_type = auth_type::hba;
    settings.global.auth_hba_file = "hba";
    settings.hba = std::make_shared<const auth::hba_rules>(std::move(rules.rules));
    settings.ident = std::make_shared<const auth::ident_maps>(std::move(maps.maps));
    return settings;
}

client_facts over_tcp(std::string_view address = "127.0.0.1") {
    client_facts facts;
    facts.tcp = true;
    facts.address = *auth::parse_ip(address);
    return facts;
}

client_facts over_tls(std::string name) {
    auto facts = over_tcp();
    facts.tls = facts.certificate_verified = true;
    facts.certificate_name = std::move(name);
    return facts;
}

client_facts over_unix(std::optional<std::uint32_t> uid = 7) {
    client_facts facts;
    facts.peer_uid = uid;
    return facts;
}

/// The step, with the refusal behind it where one is refused.
std::pair<login_step, std::string> decide(const config::settings &settings, const client_facts &facts,
                                          std::string_view user = "ann", std::string_view database = "db",
                                          replication kind = replication::none) {
    known_host host;
    const auto found = authentication_for(settings, facts, {database, user, kind}, &host, nullptr);
    return {found.step, found.step == login_step::refuse ? words(found.refused).message : ""};
}

using outcome = std::pair<login_step, std::string>;
const outcome rejected{login_step::refuse, "login rejected"};
const outcome bad_certificate{login_step::refuse, "certificate authentication failed"};
const outcome bad_peer{login_step::refuse, "unix socket login rejected"};

TEST(client_authentication, every_auth_type) {
    const std::pair<auth_type, outcome> table[] = {
        {auth_type::any, {login_step::let_in_any, ""}},
        {auth_type::trust, {login_step::let_in, ""}},
        {auth_type::plain, {login_step::ask_password, ""}},
        {auth_type::md5, {login_step::ask_md5, ""}},
        {auth_type::scram_sha_256, {login_step::ask_scram, ""}},
        {auth_type::cert, bad_certificate},
        {auth_type::hba, rejected},
        {auth_type::pam, {login_step::ask_outside, ""}},
        {auth_type::ldap, {login_step::ask_outside, ""}},
    };
    for (const auto &[type, expected] : table) {
        config::settings settings;
        settings.global.auth_type = type;
        EXPECT_EQ(decide(settings, over_tcp()), expected) << config::to_string(type);
    }
    config::settings settings;
    settings.global.auth_type = auth_type::cert;
    EXPECT_EQ(decide(settings, over_tls("ann")).first, login_step::let_in);
    EXPECT_EQ(decide(settings, over_tls("bob")), bad_certificate);
    EXPECT_EQ(decide(settings, over_unix()), bad_certificate);
}

TEST(client_authentication, every_hba_method) {
    const std::pair<const char *, outcome> table[] = {
        {"trust", {login_step::let_in, ""}},
        {"reject", rejected},
        {"password", {login_step::ask_password, ""}},
        {"md5", {login_step::ask_md5, ""}},
        {"scram-sha-256", {login_step::ask_scram, ""}},
        {"peer", {login_step::let_in, ""}},
        {"pam", {login_step::ask_outside, ""}},
        {"ldap ldapserver=x ldapbasedn=y", {login_step::ask_outside, ""}},
    };
    for (const auto &[method, expected] : table)
        EXPECT_EQ(decide(with_rules("local all all " + std::string(method)), over_unix()), expected) << method;
    EXPECT_EQ(decide(with_rules(""), over_unix()), rejected);
    EXPECT_EQ(decide(with_rules("host all all all trust"), over_unix()), rejected);
}

TEST(client_authentication, peer) {
    const auto plain = with_rules("local all all peer");
    EXPECT_EQ(decide(plain, over_unix(), "bob"), bad_peer);
    EXPECT_EQ(decide(plain, over_unix(8)), bad_peer) << "a user that the system does not know";
    EXPECT_EQ(decide(plain, over_unix({})), bad_peer) << "nobody knows who";
    EXPECT_EQ(authentication_for(plain, over_unix(), {"db", "ann"}, nullptr, nullptr).step, login_step::refuse);
    const auto mapped = with_rules("local all all peer map=m", "m ann bob\nm ann carol");
    EXPECT_EQ(decide(mapped, over_unix(), "ann"), bad_peer);
    EXPECT_EQ(decide(mapped, over_unix(), "carol").first, login_step::let_in);
    EXPECT_EQ(decide(with_rules("local all all peer map=gone"), over_unix()), bad_peer);
}

TEST(client_authentication, certificates) {
    const auto plain = with_rules("hostssl all all all cert");
    EXPECT_EQ(decide(plain, over_tls("ann")).first, login_step::let_in);
    EXPECT_EQ(decide(plain, over_tls("bob")), bad_certificate);
    EXPECT_EQ(decide(plain, over_tls("")), bad_certificate);
    EXPECT_EQ(decide(plain, over_tls(std::string("ann\0x", 5)), std::string_view("ann\0x", 5)), bad_certificate);
    auto unverified = over_tls("ann");
    unverified.certificate_verified = false;
    EXPECT_EQ(decide(plain, unverified), bad_certificate);
    EXPECT_EQ(decide(plain, over_tcp()), rejected);
    EXPECT_EQ(decide(with_rules("host all all all cert"), over_tcp()), bad_certificate);
    // The whole subject, where a line says so: by a map, or a user of that very name.
    auto subject = over_tls("ann");
    subject.certificate_subject = "CN=ann,O=Shop";
    const auto by_subject = with_rules("hostssl all all all cert clientname=DN map=m", "m \"CN=ann,O=Shop\" ann");
    EXPECT_EQ(decide(by_subject, subject).first, login_step::let_in);
    EXPECT_EQ(decide(by_subject, subject, "bob"), bad_certificate);
    EXPECT_EQ(decide(by_subject, over_tls("ann")), bad_certificate);
    EXPECT_EQ(decide(with_rules("hostssl all all all cert clientname=DN"), subject), bad_certificate);
    EXPECT_EQ(
        decide(with_rules("hostssl all all all md5 clientcert=verify-full clientname=DN"), subject, "CN=ann,O=Shop"),
        outcome(login_step::ask_md5, ""));
    EXPECT_EQ(decide(with_rules("hostssl all all all md5 clientcert=verify-full clientname=DN"), subject),
              bad_certificate);
    const auto mapped = with_rules("hostssl all all all cert map=m", "m /^(.*)@x$ \\1");
    EXPECT_EQ(decide(mapped, over_tls("ann@x")).first, login_step::let_in);
    EXPECT_EQ(decide(mapped, over_tls("ann")), bad_certificate);

    const auto ca = with_rules("hostssl all all all scram-sha-256 clientcert=verify-ca");
    EXPECT_EQ(decide(ca, over_tls("bob")).first, login_step::ask_scram);
    EXPECT_EQ(decide(ca, over_tls("")).first, login_step::ask_scram);
    EXPECT_EQ(decide(ca, unverified), bad_certificate);
    const auto full = with_rules("hostssl all all all scram-sha-256 clientcert=verify-full");
    EXPECT_EQ(decide(full, over_tls("ann")).first, login_step::ask_scram);
    EXPECT_EQ(decide(full, over_tls("bob")), bad_certificate);
    EXPECT_EQ(decide(full, unverified), bad_certificate);
    EXPECT_EQ(decide(with_rules("hostssl all all all reject clientcert=verify-full"), over_tls("ann")), rejected);
}

TEST(client_authentication, replication) {
    const auto rules = with_rules("local all all md5\nlocal replication all trust");
    EXPECT_EQ(decide(rules, over_unix(), "ann", "db", replication::none).first, login_step::ask_md5);
    EXPECT_EQ(decide(rules, over_unix(), "ann", "db", replication::logical).first, login_step::ask_md5);
    EXPECT_EQ(decide(rules, over_unix(), "ann", "db", replication::physical).first, login_step::let_in);
}

TEST(client_authentication, the_system_is_asked_when_a_rule_wants_to_know) {
    known_host host;
    const auto plain = with_rules("local all bob peer\nhost all all 127.0.0.0/8 trust\nlocal all all trust");
    for (const auto &facts : {over_tcp(), over_unix()})
        EXPECT_EQ(authentication_for(plain, facts, {"db", "ann"}, &host, nullptr).step, login_step::let_in);
    EXPECT_EQ(host.asked, 0);
    const auto near = with_rules("host all all samehost trust\nhost all all all md5");
    EXPECT_EQ(authentication_for(near, over_tcp(), {"db", "ann"}, &host, nullptr).step, login_step::let_in);
    EXPECT_EQ(authentication_for(near, over_tcp("127.0.0.2"), {"db", "ann"}, &host, nullptr).step, login_step::ask_md5);
    host.has_interfaces = false;
    const auto unknown = authentication_for(near, over_tcp(), {"db", "ann"}, &host, nullptr);
    EXPECT_EQ(unknown.step, login_step::refuse);
    EXPECT_EQ(unknown.place, "hba:1");
}

// ---- the login ----

world with_login(const std::string &hba, client_facts facts) {
    world around;
    around.settings = with_rules(hba);
    around.settings.global.max_packet_size = 1 << 30;
    around.settings.credentials.emplace("ann", auth::parse_secret("secret"));
    around.facts = std::move(facts);
    return around;
}

std::string refused(refusal why) {
    std::string out;
    append_refusal(out, why);
    return out;
}

TEST(client_authentication, the_line_is_for_the_log_alone) {
    const struct {
        const char *rules, *user, *log;
        refusal want;
    } table[] = {
        {"host all all all trust\n\nlocal all all reject", "ann", "login rejected (hba:3)", refusal::login_rejected},
        {"", "ann", "login rejected (no line of hba)", refusal::login_rejected},
        {"local all all trust", "bob", "\"trust\" authentication failed (hba:1)", refusal::trust_failed},
        {"local all all peer", "bob", "unix socket login rejected (hba:1)", refusal::peer_failed},
    };
    for (const auto &line : table) {
        auto around = with_login(line.rules, over_unix());
        rig it(around, 0);
        it.client_sends(startup({{"user", line.user}}));
        EXPECT_TRUE(it.client_gone) << line.rules;
        EXPECT_EQ(it.to_client, refused(line.want)) << line.rules;
        EXPECT_EQ(it.why, line.log);
    }
}

TEST(client_authentication, by_the_method_of_its_line) {
    auto around = with_login("host all all 10.0.0.0/8 trust\nhost all all all password", over_tcp("10.1.1.1"));
    rig trusted(around);
    trusted.client_sends(startup({{"user", "ann"}}));
    EXPECT_TRUE(trusted.to_client.ends_with(be::ready('I')));
    around.facts = over_tcp("11.1.1.1");
    for (const auto *const password : {"secret", "wrong"}) {
        rig asked(around);
        asked.client_sends(startup({{"user", "ann"}}));
        EXPECT_EQ(asked.take_client(), message('R', be32(3)));
        asked.client_sends(fe::password(password));
        EXPECT_EQ(asked.client_gone, password == std::string_view("wrong"));
        EXPECT_EQ(asked.why, asked.client_gone ? "password authentication failed (hba:2)" : "");
    }
}

// ---- PAM and LDAP ----

using verdict = auth::password_verdict::kind;

TEST(client_authentication, what_pam_is_asked) {
    const struct {
        const char *rules;
        client_facts facts;
        const char *service, *host;
        bool resolve;
    } table[] = {
        {"host all all all pam", over_tcp("10.1.2.3"), "pgbouncer", "10.1.2.3", false},
        {"host all all all pam pamservice=own pam_use_hostname=1", over_tcp("::ffff:10.1.2.3"), "own", "10.1.2.3",
         true},
        {"host all all all pam pam_use_hostname=0", over_tcp("fe80::1"), "pgbouncer", "fe80:0:0:0:0:0:0:1", false},
        {"local all all pam pam_use_hostname=1", over_unix(), "pgbouncer", "[local]", false},
    };
    for (const auto &line : table) {
        auto around = with_login(line.rules, line.facts);
        rig it(around);
        it.client_sends(startup({{"user", "bob"}}));  // whom auth_file lacks
        EXPECT_EQ(it.take_client(), message('R', be32(3)));
        it.client_sends(fe::password("his"));
        ASSERT_TRUE(it.asked) << line.rules;
        EXPECT_EQ(it.asked->what, auth::password_check::kind::pam);
        EXPECT_EQ(it.asked->user, "bob");
        EXPECT_TRUE(it.asked->password.equals("his"));
        EXPECT_EQ(it.asked->service, line.service);
        EXPECT_EQ(it.asked->remote_host, line.host);
        EXPECT_EQ(it.asked->resolve_host, line.resolve);
        EXPECT_EQ(it.to_client, "");
    }
}

TEST(client_authentication, what_ldap_is_asked) {
    auto around =
        with_login("host all all all ldap ldapurl=ldaps://x/dc=y?cn ldapbinddn=b ldapbindpasswd=s", over_tcp());
    rig searched(around);
    searched.client_sends(startup({{"user", "a*"}}) + fe::password("his"));
    ASSERT_TRUE(searched.asked);
    EXPECT_EQ(searched.asked->what, auth::password_check::kind::ldap);
    EXPECT_EQ(searched.asked->uris, "ldaps://x:636");
    EXPECT_TRUE(searched.asked->search);
    EXPECT_EQ(searched.asked->filter, "(cn=a\\2a)");
    EXPECT_EQ(searched.asked->base_dn, "dc=y");
    EXPECT_EQ(searched.asked->bind_dn, "b");
    EXPECT_TRUE(searched.asked->bind_password.equals("s"));
    around = with_login("host all all all ldap ldapserver=x ldapsuffix=@y", over_tcp());
    for (const std::string user : {"ann", "a@b"}) {
        rig simple(around);
        simple.client_sends(startup({{"user", user}}) + fe::password("his"));
        ASSERT_TRUE(simple.asked);
        EXPECT_FALSE(simple.asked->search);
        EXPECT_EQ(simple.asked->name, user == "ann" ? "ann@y" : "") << "nobody's: never a search, never anonymous";
    }
}

TEST(client_authentication, what_pam_and_ldap_answer) {
    const std::string ldap = "host all all all ldap ldapserver=x ldapbasedn=y", pam = "host all all all pam";
    const struct {
        std::string rules;
        verdict what;
        refusal want;
        const char *log;
    } table[] = {
        {pam, verdict::wrong, refusal::pam_failed, "PAM authentication failed (hba:1) (because)"},
        {ldap, verdict::wrong, refusal::ldap_failed, "LDAP authentication failed (hba:1) (because)"},
        {pam, verdict::failed, refusal::password_unchecked, "the password could not be checked (hba:1) (because)"},
        {ldap, verdict::failed, refusal::password_unchecked, "the password could not be checked (hba:1) (because)"},
    };
    for (const auto &line : table) {
        auto around = with_login(line.rules, over_tcp());
        rig it(around);
        it.client_sends(startup({{"user", "bob"}}) + fe::password("his"));
        it.take_client();
        it.checked(line.what, "because");
        EXPECT_TRUE(it.client_gone) << line.rules;
        EXPECT_EQ(it.to_client, refused(line.want)) << line.rules;
        EXPECT_EQ(it.why, line.log);
    }
    for (const auto &rules : {pam, ldap}) {
        auto around = with_login(rules, over_tcp());
        rig it(around);
        it.client_sends(startup({{"user", "bob"}}) + fe::password("his") + fe::query("select 1"));
        EXPECT_EQ(it.to_server, "") << "kept until then";
        it.checked(verdict::right);
        EXPECT_FALSE(it.client_gone);
        EXPECT_EQ(it.to_server, fe::query("select 1"));
        // An answer that nobody waits for any more changes nothing.
        it.take_client();
        it.checked(verdict::wrong);
        EXPECT_FALSE(it.client_gone);
        EXPECT_EQ(it.to_client, "");
        // An empty password binds as nobody: it is asked of nobody.
        rig empty(around);
        empty.client_sends(startup({{"user", "bob"}}) + fe::password(""));
        EXPECT_FALSE(empty.asked);
        EXPECT_TRUE(empty.to_client.ends_with(refused(refusal::empty_password)));
    }
}

TEST(client_authentication, the_password_serves_for_servers) {
    config::settings settings;
    settings.global.auth_type = auth_type::pam;
    environment env;
    env.settings = std::make_shared<const config::settings>(std::move(settings));
    for (const auto what : {verdict::right, verdict::wrong, verdict::failed}) {
        client_login login(env, over_tcp());
        effects fx;
        login.on_bytes(startup({{"user", "bob"}}), fx);
        login.on_admitted(fx);
        login.on_bytes(fe::password("md5 his own"), fx);
        ASSERT_EQ(fx.client, client_next::check_password);
        const auto question = login.take_check();
        EXPECT_TRUE(question.password.equals("md5 his own"));
        login.on_checked({what, ""}, fx);
        EXPECT_EQ(fx.client, what == verdict::right ? client_next::join : client_next::close);
        ASSERT_EQ(login.found() != nullptr, what == verdict::right);
        if (login.found() == nullptr) continue;
        EXPECT_EQ(login.found()->form, auth::secret_form::plain);
        EXPECT_TRUE(login.found()->text.equals("md5 his own"));
    }
}

TEST(client_authentication, guesses_at_pam_and_ldap_are_kept_back) {
    auto around = with_login("host all all all pam", over_tcp());
    login_pace pace;
    around.env.pace = &pace;
    for (std::uint32_t i = 0; i <= login_pace::free_failures; ++i) {
        rig it(around);
        it.client_sends(startup({{"user", "bob"}}) + fe::password("his"));
        it.take_client();
        it.checked(verdict::wrong);
        EXPECT_EQ(it.to_client.empty(), i == login_pace::free_failures) << i;
    }
    // Nor is it one that the password is right and the database impossible.
    {
        rig it(around);
        it.client_sends(startup({{"user", "bob"}, {"database", std::string(64, 'd')}}) + fe::password("his"));
        it.take_client();
        it.checked(verdict::right);
        EXPECT_EQ(it.to_client, "");
    }
    // Silence is no answer: what is right is kept back as well, with all that was sent behind it.
    rig it(around);
    it.client_sends(startup({{"user", "bob"}}) + fe::password("his") + fe::query("select 1"));
    it.take_client();
    it.checked(verdict::right);
    EXPECT_EQ(it.to_client, "");
    around.now = it.client().deadline();
    it.ring();
    EXPECT_FALSE(it.client_gone);
    EXPECT_EQ(it.to_server, fe::query("select 1"));
    EXPECT_EQ(pace.size(), 0U);
    // One whose turn would come after its time to log in has used that up.
    for (std::uint32_t i = 0; i < 20; ++i) {
        rig wrong(around);
        wrong.client_sends(startup({{"user", "bob"}}) + fe::password("his"));
        wrong.checked(verdict::wrong);
    }
    rig late(around);
    around.now += around.settings.global.client_login_timeout - base::seconds(1);
    late.client_sends(startup({{"user", "bob"}}) + fe::password("his"));
    late.take_client();
    late.checked(verdict::right);
    around.now += base::seconds(1);
    late.ring();
    EXPECT_EQ(late.to_client, refused(refusal::login_timeout));
}

TEST(client_authentication, waits_for_the_name_of_its_address) {
    auto around = with_login("host all all .example.com trust\nhost all all all reject", over_tcp());
    for (const auto *const name : {"db.example.com", "db.example.org", ""}) {
        rig it(around);
        it.client_sends(startup({{"user", "ann"}}) + fe::query("select 1"));
        EXPECT_TRUE(it.looks_up);
        EXPECT_EQ(it.to_client, "");
        it.client_sends(fe::query("select 2"));  // kept until then
        EXPECT_EQ(it.to_client, "");
        it.named(name);
        if (name == std::string_view("db.example.com")) {
            EXPECT_FALSE(it.client_gone);
            EXPECT_EQ(it.to_server, fe::query("select 1") + fe::query("select 2"));
        } else {
            EXPECT_TRUE(it.client_gone);
            EXPECT_EQ(it.to_client, refused(refusal::login_rejected));
        }
    }
    // An answer that nobody waits for any more changes nothing.
    auto open = with_login("host all all all trust", over_tcp());
    rig it(open);
    it.client_sends(startup({{"user", "ann"}}));
    it.take_client();
    it.named("db.example.com");
    EXPECT_EQ(it.to_client, "");
    EXPECT_FALSE(it.client_gone);
}

}  // namespace
}  // namespace pgsluice::core
