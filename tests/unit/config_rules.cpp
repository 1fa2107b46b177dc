// auth_hba_file and auth_ident_file as part of the configuration: when they are read, what is refused with its file and
// line, what is warned of. The grammar itself is in auth_hba_test.cpp and auth_ident_map_test.cpp.
#include <gtest/gtest.h>

#include "unit/config_support.hpp"

namespace pgsluice::config {
namespace {

using test::fault_of;
using test::load_files;
using test::warnings_of;

boost::system::result<loaded, error> load_rules(std::string hba, std::string ident = "", std::string more = "") {
    return load_files({{"p.ini",
                        "[databases]\ndb = host=x\n[pgbouncer]\nauth_file = users.txt\nauth_type = hba\n"
                        "auth_hba_file = hba.conf\nauth_ident_file = ident.conf\n" +
                            more},
                       {"users.txt", "\"app\" \"strongpassword\"\n"},
                       {"hba.conf", std::move(hba)},
                       {"ident.conf", std::move(ident)}});
}

TEST(config_rules, are_read) {
    const auto result = load_rules("local all all peer map=m\nhost all all all md5\n", "m a b\n");
    ASSERT_EQ(fault_of(result), "");
    EXPECT_EQ(warnings_of(result), "");
    EXPECT_EQ(result->value->hba->all().size(), 2U);
    EXPECT_TRUE(result->value->ident->allows("m", "a", "b"));
    EXPECT_EQ(result->value->global.auth_type, auth_type::hba);
    // No rule asks for SCRAM: no verifier is derived.
    EXPECT_FALSE(result->value->credentials.at("app").verifier);
    EXPECT_TRUE(load_rules("local all all scram-sha-256")->value->credentials.at("app").verifier);
}

TEST(config_rules, refuses) {
    const std::tuple<std::string, std::string, std::string> table[] = {
        {"local all all magic", "", "hba.conf:1: unknown method \"magic\""},
        {"local all all trust\nlocal all +g trust\nlocal x\n", "",
         "hba.conf:2: +g: who is a member of what is known to PostgreSQL alone; name the users (and 1 more bad lines)"},
        {"local all all trust", "m a", "ident.conf:1: a line is a map, a system user and a database user"},
        {"include x", "", "hba.conf:1: \"x\": No such file or directory"},
        {"\nhost all all all pam pam_use_hostname=x", "", "hba.conf:2: pam_use_hostname is 0 or 1"},
        {"host all all all ldap ldapserver=x", "",
         "hba.conf:1: method ldap needs ldapbasedn, ldapprefix or ldapsuffix"},
    };
    for (const auto &[hba, ident, fault] : table) EXPECT_EQ(fault_of(load_rules(hba, ident)), fault) << hba;
    EXPECT_EQ(fault_of(load_rules("", "", "auth_hba_file = gone\n")),
              "p.ini:8: auth_hba_file = gone: No such file or directory");
    EXPECT_EQ(fault_of(load_rules("", "", "auth_ident_file = gone\n")),
              "p.ini:8: auth_ident_file = gone: No such file or directory");
    EXPECT_EQ(fault_of(load_rules("", "", "auth_hba_file =\n")), "p.ini:5: auth_type = hba needs auth_hba_file");
    EXPECT_EQ(warnings_of(load_rules("local all all trust", "", "auth_file =\n")),
              "p.ini:5: auth_type = hba needs auth_file or auth_user: without them nobody can log in\n");
}

constexpr built_in everything{true, true}, nothing{false, false};

TEST(config_rules, what_is_not_built_in_is_refused) {
    const auto load_with = [](std::string ini, built_in with) {
        return load("p.ini",
                    test::memory_files{{{"p.ini", "[databases]\ndb = host=x\n[pgbouncer]\n" + ini},
                                        {"hba.conf", "local all all peer\nhost all all all pam\n"},
                                        {"ldap.conf", "host all all all ldap ldapurl=ldap://x/dc=y,dc=z\n"}}},
                    "salt key", nullptr, with);
    };
    const std::string without_pam =
        "pam: this pgsluice was built without PAM; install libpam0g-dev and build it again (PGSLUICE_PAM)";
    const std::string without_ldap =
        "ldap: this pgsluice was built without LDAP; install libldap-dev and build it again (PGSLUICE_LDAP)";
    const std::string ldap = "auth_type = ldap\nauth_ldap_options = ldapserver=x ldapprefix=cn=\n";
    const std::pair<std::string, std::string> table[] = {
        {"auth_type = pam", "p.ini:4: auth_type = " + without_pam},
        {ldap, "p.ini:4: auth_type = " + without_ldap},
        {"auth_type = hba\nauth_hba_file = hba.conf\n", "hba.conf:2: method " + without_pam},
        {"auth_type = hba\nauth_hba_file = ldap.conf\n", "ldap.conf:1: method " + without_ldap},
    };
    for (const auto &[ini, fault] : table) {
        EXPECT_EQ(fault_of(load_with(ini, nothing)), fault) << ini;
        const auto good = load_with(ini, everything);  // auth_file is not needed
        ASSERT_EQ(fault_of(good), "") << ini;
        EXPECT_TRUE(good->value->asks_pam_or_ldap());
    }
    EXPECT_EQ(load_with(ldap, everything)->value->ldap->name_to_bind("ann"), "cn=ann");
    const auto both = load_with("auth_type = pam\nauth_ldap_options = ldapserver=x ldapprefix=a\n", everything);
    EXPECT_EQ(warnings_of(both), "p.ini:5: auth_ldap_options has no effect without auth_type = ldap\n");
    EXPECT_EQ(fault_of(load_with("auth_type = ldap\nauth_ldap_options = ldapserver=x\n", everything)),
              "p.ini:5: auth_ldap_options: method ldap needs ldapbasedn, ldapprefix or ldapsuffix");
}

TEST(config_rules, warns) {
    EXPECT_EQ(warnings_of(load_rules("# none\n")), "hba.conf: there is no rule: no client can connect\n");
    EXPECT_EQ(warnings_of(load_rules("local all all peer map=m", "n a b")),
              "hba.conf:1: map m is not in auth_ident_file: nobody gets in by this line\n");
    EXPECT_EQ(warnings_of(load_rules("local all all trust\nhostssl all all all md5\nhostssl all all all cert")),
              "hba.conf:2: nobody gets in by this line: client_tls_sslmode = disable\n");
    // The files are of no use to another auth_type, and are not read.
    const auto other = load_rules("bad", "bad", "auth_type = md5\n");
    EXPECT_EQ(fault_of(other), "");
    EXPECT_EQ(warnings_of(other),
              "p.ini:6: auth_hba_file has no effect without auth_type = hba\n"
              "p.ini:7: auth_ident_file has no effect without auth_type = hba\n");
    EXPECT_TRUE(other->value->hba->all().empty());
}

}  // namespace
}  // namespace pgsluice::config
