// Options of LDAP as PostgreSQL's manual has them, URLs, what is refused and in what words; the DN and the filter that
// a name becomes, hostile ones above all; and the messages between pgsluice and the program that asks.
#include <gtest/gtest.h>

#include "auth/ldap_options.hpp"
#include "auth/password_check.hpp"

namespace pgsluice::auth {
namespace {

ldap_options good(std::string_view text) {
    ldap_options options;
    EXPECT_EQ(parse_ldap_options(text, options).value_or(""), "") << text;
    return options;
}

std::string fault_of(std::string_view text) {
    ldap_options options;
    return parse_ldap_options(text, options).value_or("");
}

TEST(auth_ldap, what_options_become) {
    const auto simple = good("ldapserver=a.example ldapprefix=\"cn=\" ldapsuffix=\", dc=example, dc=net\"");
    EXPECT_EQ(simple.uris(), "ldap://a.example:389");
    EXPECT_FALSE(simple.searches());
    EXPECT_EQ(simple.name_to_bind("ann"), "cn=ann, dc=example, dc=net");
    const auto search = good(
        "ldapserver=\"a b 10.0.0.1 ::1\" ldapscheme=ldaps ldapbasedn=\"dc=x, dc=y\" ldapbinddn=\"cn=s\" "
        "ldapbindpasswd=\"p w\" ldapsearchattribute=mail");
    EXPECT_EQ(search.uris(), "ldaps://a:636 ldaps://b:636 ldaps://10.0.0.1:636 ldaps://[::1]:636");
    EXPECT_TRUE(search.searches());
    EXPECT_EQ(search.base_dn, "dc=x, dc=y");
    EXPECT_EQ(search.bind_dn, "cn=s");
    EXPECT_TRUE(search.bind_password.equals("p w"));
    EXPECT_EQ(search.filter_for("ann"), "(mail=ann)");
    EXPECT_EQ(good("ldapserver=x ldapbasedn=y").filter_for("ann"), "(uid=ann)");
    const auto tls = good("ldapserver=x ldapport=1389 ldaptls=1 ldapbasedn=y");
    EXPECT_EQ(tls.uris(), "ldap://x:1389");
    EXPECT_TRUE(tls.start_tls);
    const auto filter = good("ldapserver=x ldapbasedn=y ldapsearchfilter=\"(|(uid=$username)(mail=$username))\"");
    EXPECT_EQ(filter.filter_for("ann"), "(|(uid=ann)(mail=ann))");
    EXPECT_EQ(filter.filter_for("$username"), "(|(uid=$username)(mail=$username))") << "put in once, not again";
}

TEST(auth_ldap, commas_without_quotes) {
    // PostgreSQL's lines need quotes there; PgBouncer's have been written without.
    EXPECT_EQ(good("ldapserver=x ldapprefix=cn= ldapsuffix=,dc=example,dc=net").name_to_bind("a"),
              "cn=a,dc=example,dc=net");
    EXPECT_EQ(good("ldapserver=x, ldapbasedn=dc=y,dc=z, ldaptls=1").base_dn, "dc=y,dc=z");
    EXPECT_TRUE(good("ldapserver=x, ldapbasedn=dc=y,dc=z, ldaptls=1").start_tls);
}

TEST(auth_ldap, urls) {
    struct row {
        std::string_view url, uris;
        std::optional<std::string> base;
        std::string_view filter;
        ldap_scope scope;
    };
    const row table[] = {
        {"ldap://x/dc=y,dc=z", "ldap://x:389", "dc=y,dc=z", "(uid=u)", ldap_scope::sub},
        {"ldaps://x:6636/dc=y?cn", "ldaps://x:6636", "dc=y", "(cn=u)", ldap_scope::sub},
        {"ldap://[::1]:3/dc=y?cn?one", "ldap://[::1]:3", "dc=y", "(cn=u)", ldap_scope::one},
        {"ldap://[::1]/dc=y??base", "ldap://[::1]:389", "dc=y", "(uid=u)", ldap_scope::base},
        {"ldap://x/ou=a%20b%2cdc=y??sub?(sn=$username)", "ldap://x:389", "ou=a b,dc=y", "(sn=u)", ldap_scope::sub},
        {"ldap://127.0.0.1:12345/dc=example,dc=net?uid?sub", "ldap://127.0.0.1:12345", "dc=example,dc=net", "(uid=u)",
         ldap_scope::sub},
        {"ldap://x/?cn", "ldap://x:389", "", "(cn=u)", ldap_scope::sub},
    };
    for (const auto &it : table) {
        const auto options = good("ldapurl=\"" + std::string(it.url) + "\"");
        EXPECT_EQ(options.uris(), it.uris);
        EXPECT_EQ(options.base_dn, it.base) << it.url;
        EXPECT_EQ(options.filter_for("u"), it.filter) << it.url;
        EXPECT_EQ(options.scope, it.scope) << it.url;
    }
    // A URL that says where alone goes with a simple bind, and with what other options say.
    EXPECT_EQ(good("ldapurl=ldap://x ldapprefix=a").uris(), "ldap://x:389");
    EXPECT_EQ(good("ldapurl=ldap://x/dc=y ldapbinddn=b ldapbindpasswd=c").bind_dn, "b");
}

TEST(auth_ldap, refuses) {
    const std::string form =
        "behind the method stand options as name=value; a value with blanks or # in it needs quotes";
    const std::pair<std::string_view, std::string> table[] = {
        {"", "method ldap needs ldapserver or ldapurl"},
        {"ldapserver=\"\" ldapprefix=x", "method ldap needs ldapserver or ldapurl"},
        {"ldapserver=x", "method ldap needs ldapbasedn, ldapprefix or ldapsuffix"},
        {"ldapserver=x ldapprefix=y ldapbasedn=z",
         "ldapprefix and ldapsuffix do not go with a search (ldapbasedn ...)"},
        {"ldapserver=x ldapsuffix=y ldapbinddn=z",
         "ldapprefix and ldapsuffix do not go with a search (ldapbasedn ...)"},
        {"ldapurl=ldap://x/dc=y ldapprefix=z", "ldapprefix and ldapsuffix do not go with a search (ldapbasedn ...)"},
        {"ldapserver=x ldapbasedn=y ldapsearchattribute=a ldapsearchfilter=($username)",
         "ldapsearchattribute does not go with ldapsearchfilter"},
        {"ldapserver=x ldapbasedn=y ldapsearchattribute=a)(b", "ldapsearchattribute is the name of one attribute"},
        {"ldapserver=x ldapbasedn=y ldapsearchfilter=(uid=admin)",
         "ldapsearchfilter has no $username: it would find the same entry for everybody"},
        {"ldapserver=x ldapbasedn=y ldapbinddn=z", "ldapbinddn and ldapbindpasswd go together"},
        {"ldapserver=x ldapbasedn=y ldapbindpasswd=hunter2", "ldapbinddn and ldapbindpasswd go together"},
        {"ldapserver=x ldapscheme=ldaps ldaptls=1 ldapbasedn=y",
         "ldaptls = 1 is TLS within ldap://, and does not go with ldaps"},
        {"ldapserver=x:389 ldapport=0 ldapbasedn=y", "ldapport is a number from 1 to 65535"},
        {"ldapserver=x ldapport=65536 ldapbasedn=y", "ldapport is a number from 1 to 65535"},
        {"ldapserver=x ldapport=389x ldapbasedn=y", "ldapport is a number from 1 to 65535"},
        {"ldapserver=x/y ldapbasedn=y", "ldapserver lists host names or addresses, with blanks between them"},
        {"ldapserver=x ldapscheme=http ldapbasedn=y", "ldapscheme is ldap or ldaps"},
        {"ldapserver=x ldaptls=yes ldapbasedn=y", "ldaptls is 0 or 1"},
        {"ldapurl=http://x/y", "ldapurl begins with ldap:// or ldaps://"},
        {"ldapurl=ldap://x:0/y", "ldapurl: ldapport is a number from 1 to 65535"},
        {"ldapurl=ldap://x/y?uid?all", "ldapurl: the scope is base, one or sub"},
        {"ldapurl=ldap://x/%2", "ldapurl: behind % stand two hex digits"},
        {"ldapurl=ldap://x/%zz", "ldapurl: behind % stand two hex digits"},
        {"ldapurl=ldap://x/y?uid?sub?($username)?e",
         "ldapurl ends with the filter: extensions are not in this version"},
        {"ldapurl=ldap:///dc=y", "method ldap needs ldapserver or ldapurl"},
        {"ldapurl=ldap://a/b@c:3/dc=y?a,b", "ldapsearchattribute is the name of one attribute"},
        {"map=x ldapserver=x", "unknown option: there are ldapserver, ldapurl and others that begin with ldap"},
        {"hunter2", form},
        {"ldapbindpasswd=a hunter2", form},
        {"=x", form},
    };
    for (const auto &[text, fault] : table) EXPECT_EQ(fault_of(text), fault) << text;
    for (const auto *const text : {"\"ldapserver=x", "ldapserver=x ldapbindpasswd=\"hunter2", "@hunter2"}) {
        EXPECT_NE(fault_of(text), "") << text;
        EXPECT_EQ(fault_of(text).find("hunter2"), text[0] == '@' ? fault_of(text).find("hunter2") : std::string::npos);
    }
}

TEST(auth_ldap, a_password_is_not_shown) {
    for (const auto *const text : {"ldapserver=x ldapbindpasswd=hunter2", "\"ldapbindpasswd\"=hunter2",
                                   "\"ldapbindpasswd=hunter 2\"", "ldapbindpasswd=hunter, 2"})
        EXPECT_EQ(without_password(text), "****") << text;
    EXPECT_EQ(without_password("ldapserver=x"), "ldapserver=x");
}

TEST(auth_ldap, hostile_names) {
    const auto in_dn = good("ldapserver=x ldapprefix=uid= ldapsuffix=,dc=y");
    const auto in_filter = good("ldapserver=x ldapbasedn=y");
    const struct {
        std::string name, dn, filter;
    } table[] = {
        {"ann", "uid=ann,dc=y", "(uid=ann)"},
        {"a b", "uid=a b,dc=y", "(uid=a b)"},
        {"j\xc3\xbcrgen", "uid=j\xc3\xbcrgen,dc=y", "(uid=j\xc3\xbcrgen)"},
        {"*", "uid=*,dc=y", "(uid=\\2a)"},
        {"*)(uid=*", "uid=*)(uid\\3d*,dc=y", "(uid=\\2a\\29\\28uid=\\2a)"},
        {"a)(|(uid=*)", "uid=a)(|(uid\\3d*),dc=y", "(uid=a\\29\\28|\\28uid=\\2a\\29)"},
        {"a\\2a", "uid=a\\5c2a,dc=y", "(uid=a\\5c2a)"},
        {"admin,dc=z", "uid=admin\\2cdc\\3dz,dc=y", "(uid=admin,dc=z)"},
        {"a+uid=b", "uid=a\\2buid\\3db,dc=y", "(uid=a+uid=b)"},
        {" a ", "uid=\\20a\\20,dc=y", "(uid= a )"},
        {"#04", "uid=\\2304,dc=y", "(uid=#04)"},
        {"a\"b;c<d>e", "uid=a\\22b\\3bc\\3cd\\3ee,dc=y", "(uid=a\"b;c<d>e)"},
        {std::string("a\0b", 3), "uid=a\\00b,dc=y", "(uid=a\\00b)"},
        {"a\nb\x7f", "uid=a\\0ab\\7f,dc=y", "(uid=a\\0ab\\7f)"},
    };
    for (const auto &it : table) {
        EXPECT_EQ(in_dn.name_to_bind(it.name), it.dn);
        EXPECT_EQ(in_filter.filter_for(it.name), it.filter);
    }
}

TEST(auth_ldap, names_of_a_domain_are_no_dns) {
    const auto domain = good("ldapprefix=CORP\\ ldapserver=x");
    const auto mail = good("ldapserver=x ldapsuffix=@example.net");
    EXPECT_EQ(domain.name_to_bind("ann.b-c_d 1"), "CORP\\ann.b-c_d 1");
    EXPECT_EQ(mail.name_to_bind("ann"), "ann@example.net");
    for (const std::string name : {"a@b", "cn=a", "a,b", "a\\b", "a/b", "a*", "a\nb", "a\"", "a;b", "<a", "a+b"}) {
        EXPECT_FALSE(domain.name_to_bind(name)) << name;
        EXPECT_FALSE(mail.name_to_bind(name)) << name;
    }
}

/// What a filter's parser would make of an escaped name: every byte back, and no byte with a meaning.
TEST(auth_ldap, every_byte_stays_itself) {
    const auto unescaped = [](const std::string &text) {
        std::string plain;
        for (std::size_t i = 0; i < text.size(); ++i) {
            if (text[i] == '\\') {
                plain += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
                i += 2;
            } else {
                plain += text[i];
            }
        }
        return plain;
    };
    for (int a = 0; a < 256; ++a) {
        for (const int b : {0, int{' '}, int{'*'}, int{'\\'}, int{','}, int{'x'}}) {
            const std::string name{static_cast<char>(a), static_cast<char>(b), static_cast<char>(a)};
            EXPECT_EQ(unescaped(escaped_for_filter(name)), name);
            EXPECT_EQ(unescaped(escaped_for_dn(name)), name);
            EXPECT_EQ(escaped_for_filter(name).find_first_of(std::string("*()\0", 4)), std::string::npos);
            EXPECT_EQ(escaped_for_dn(name).find_first_of(std::string("\"+,;<>=\0", 8)), std::string::npos);
        }
    }
}

// ---- messages ----

password_check a_question() {
    password_check it;
    it.what = password_check::kind::ldap;
    it.user = "ann";
    it.password = base::secret(std::string(65535, 'p'));
    it.service = "s";
    it.remote_host = "::1";
    it.resolve_host = true;
    it.uris = "ldap://x:389";
    it.start_tls = true;
    it.search = true;
    it.name = "n";
    it.bind_dn = "b";
    it.bind_password = base::secret(std::string("secret"));
    it.base_dn = "dc=y";
    it.filter = "(uid=ann)";
    it.scope = ldap_scope::one;
    it.limit = std::chrono::milliseconds(10'000);
    return it;
}

TEST(password_check, there_and_back) {
    const auto asked = a_question();
    const auto bytes = to_bytes(asked);
    EXPECT_EQ(message_length(bytes), bytes.size() - message_length_bytes);
    EXPECT_LE(bytes.size(), message_max_bytes);
    const auto body = std::string_view(bytes).substr(message_length_bytes);
    const auto read = parse_password_check(body);
    ASSERT_TRUE(read);
    EXPECT_EQ(to_bytes(*read), bytes);
    EXPECT_TRUE(read->password.equals(asked.password));
    EXPECT_EQ(read->scope, ldap_scope::one);
    EXPECT_EQ(read->limit, asked.limit);
    for (std::size_t size = 0; size < body.size(); size += size < 100 || body.size() - size < 100 ? 1 : 97)
        EXPECT_FALSE(parse_password_check(body.substr(0, size))) << size;
    EXPECT_FALSE(parse_password_check(std::string(body) + "x"));
    EXPECT_FALSE(parse_password_check("b" + std::string(body.substr(1)))) << "of another version";
    for (const auto what :
         {password_verdict::kind::right, password_verdict::kind::wrong, password_verdict::kind::failed}) {
        const auto said = to_bytes(password_verdict{what, "because"});
        const auto heard = parse_password_verdict(std::string_view(said).substr(message_length_bytes));
        ASSERT_TRUE(heard);
        EXPECT_EQ(heard->what, what);
        EXPECT_EQ(heard->why, "because");
    }
    // What is no verdict is none: not by accident `right`, whose number is 0.
    EXPECT_FALSE(parse_password_verdict(""));
    EXPECT_FALSE(parse_password_verdict("a"));
    EXPECT_FALSE(parse_password_verdict(std::string("a\0\0\0\3\0\0\0\0", 9)));
}

}  // namespace
}  // namespace pgsluice::auth
