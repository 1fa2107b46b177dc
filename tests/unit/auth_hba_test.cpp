// pg_hba.conf: every kind of line and every reason to refuse one; then which line a client meets. How lines are divided
// is in auth_rule_file_test.cpp; the same against PostgreSQL itself is in tests/hba.
#include <gtest/gtest.h>

#include "auth/hba.hpp"
#include "unit/auth_rules_support.hpp"

namespace pgsluice::auth {
namespace {

hba_file read(std::string_view text, test::files others = {}) {
    others["f"] = text;
    return read_hba("f", test::reader_of(others));
}

/// What is wrong with the only line, or "".
std::string problem_of(std::string_view line) {
    const auto found = read(line);
    if (found.problems.empty()) return found.rules.all().size() == 1 ? "" : "no rule";
    EXPECT_EQ(found.rules.all().size(), 0U) << line;
    EXPECT_EQ(found.problems.size(), 1U) << line;
    return found.problems[0].text;
}

TEST(auth_hba, good_lines) {
    for (const auto *const line : {
             "local all all trust",
             "local all all reject",
             "local all all peer",
             "local all all ident",
             "local all all peer map=x",
             "local all all password",
             "local all all scram-sha-256",
             "local all all md5",
             "\"local\" \"all\" \"all\" \"trust\"",
             "host all all all trust",
             "host all all 0.0.0.0/0 trust",
             "host all all ::/0 trust",
             "host all all 127.0.0.1/32 trust",
             "host all all 127.0.0.1 255.255.255.255 trust",
             "host all all 10.0.0.1 255.0.255.0 trust",
             "host all all ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff trust",
             "host all all \"127.0.0.1/32\" trust",
             "host all all samehost trust",
             "host all all samenet trust",
             "host all all db.example.com trust",
             "host all all .example.com trust",
             "host all all \"all\" trust",  // a host of this name
             "host all all ::ffff:0:0/95 trust",
             "hostssl all all all cert",
             "hostssl all all all cert map=x",
             "hostssl all all all cert clientcert=verify-full clientname=CN",
             "hostssl all all all cert clientname=DN map=x",
             "hostssl all all all scram-sha-256 clientcert=verify-ca",
             "hostssl all all all md5 clientcert=verify-full",
             "host all all all cert",
             "hostnossl all all all md5",
             "hostgssenc all all all md5",
             "hostnogssenc all all all md5",
             "host replication,sameuser,a all all md5",
             "host /^db[0-9]+$ /^u all md5",
             "host \"/^(a|b),c$\" all all md5",
             "host \"samerole\" \"+x\" all md5",
             "host all all all pam",
             "host all all all pam pamservice=pgsluice pam_use_hostname=1",
             "host all all all ldap ldapserver=x ldapport=389 ldaptls=1 ldapprefix=\"cn=\" ldapsuffix=\", dc=x\"",
             "host all all all ldap ldapserver=x ldapscheme=ldaps ldapbasedn=\"dc=x, dc=y\" ldapsearchattribute=uid",
             "host all all all ldap ldapurl=\"ldap://x/dc=y?uid?sub\"",
         })
        EXPECT_EQ(problem_of(line), "") << line;
}

TEST(auth_hba, bad_lines) {
    const std::pair<std::string_view, std::string_view> table[] = {
        {"local", "the line ends before the databases"},
        {"local all", "the line ends before the users"},
        {"local all all", "the line ends before the method"},
        {"host all all", "the line ends before the address"},
        {"host all all all", "the line ends before the method"},
        {"host all all 127.0.0.1/32", "the line ends before the method"},
        {"host all all 127.0.0.1", "the line ends before the mask (or write the address with a prefix length)"},
        {"hosts all all all trust", "unknown connection type \"hosts\""},
        {"LOCAL all all trust", "unknown connection type \"LOCAL\""},
        {"local,host all all trust", "more than one connection type"},
        {"host all all 127.0.0.1/32,127.0.0.2/32 trust", "more than one address"},
        {"host all all all trust,md5", "more than one method"},
        {"host all all 127.0.0.1 255.0.0.0,255.0.0.0 md5",
         "more than one mask (or write the address with a prefix length)"},
        {"host samerole all all md5",
         "samerole: who is a member of what is known to PostgreSQL alone; name the databases"},
        {"host a,samegroup all all md5",
         "samegroup: who is a member of what is known to PostgreSQL alone; name the databases"},
        {"host all +staff all md5", "+staff: who is a member of what is known to PostgreSQL alone; name the users"},
        {"host all a,+ all md5", "+: who is a member of what is known to PostgreSQL alone; name the users"},
        {"host /( all all md5", "/(: regular expression: it is not well formed"},
        {"host all / all md5", "/: regular expression: it is empty"},
        {"host all all 127.0.0.1/33 md5", "bad prefix length in \"127.0.0.1/33\""},
        {"host all all 127.0.0.1/ md5", "bad prefix length in \"127.0.0.1/\""},
        {"host all all 127.0.0.1/+8 md5", "bad prefix length in \"127.0.0.1/+8\""},
        {"host all all 127.0.0.1/8x md5", "bad prefix length in \"127.0.0.1/8x\""},
        {"host all all 127.0.0.1/255.0.0.0 md5", "bad prefix length in \"127.0.0.1/255.0.0.0\""},
        {"host all all ::1/129 md5", "bad prefix length in \"::1/129\""},
        {"host all all 127.0.0.1/99999999999 md5", "bad prefix length in \"127.0.0.1/99999999999\""},
        {"host all all 127.0.0.1 md5", "\"md5\" is no mask"},
        {"host all all 127.0.0.1 ffff:: md5", "address and mask are of two families"},
        {"host all all ::1 255.0.0.0 md5", "address and mask are of two families"},
        {"host all all 127.1/16 md5", "\"127.1\" is no address"},
        {"host all all 256.0.0.1/16 md5", "\"256.0.0.1\" is no address"},
        {"host all all 1 md5", "\"1\" is no address"},
        {"host all all ::1%lo/128 md5", "\"::1%lo\" is no address"},
        {"host all all fe80::1%/64 md5", "\"fe80::1%\" is no address"},
        {"host all all 10.0.0.1%lo/8 md5", "a host name has no prefix length: \"10.0.0.1%lo/8\""},
        {"host all all x:y md5", "\"x:y\" is no address"},
        {"host all all example.com/24 md5", "a host name has no prefix length: \"example.com/24\""},
        {"host all all *.example.com md5", "\"*.example.com\" is neither an address nor a host name"},
        {"host all all a..b md5", "\"a..b\" is neither an address nor a host name"},
        {"host all all \"\" md5", "\"\" is no address"},
        {"host all all ::ffff:10.0.0.0/104 reject",
         "\"::ffff:10.0.0.0/104\": clients of IPv4 are matched by IPv4 addresses; write it as one"},
        {"host all all ::ffff:10.0.0.1/128 md5",
         "\"::ffff:10.0.0.1/128\": clients of IPv4 are matched by IPv4 addresses; write it as one"},
        {"host all all all plain", "unknown method \"plain\"; write password"},
        {"host all all all MD5", "unknown method \"MD5\""},
        {"host all all all crypt", "unknown method \"crypt\""},
        {"host all all all gss", "method gss is not in this version"},
        {"host all all all ident", "method ident is not in this version"},
        {"host all all all radius radiusservers=x", "method radius is not in this version"},
        {"host all all all peer", "method peer works on Unix sockets (local) only"},
        {"local all all cert", "method cert needs TLS: it works with hostssl (and host) only"},
        {"hostnossl all all all cert", "method cert needs TLS: it works with hostssl (and host) only"},
        {"local all all md5 x", "behind the method stand options as name=value, not \"x\""},
        {"local all all md5 =x", "behind the method stand options as name=value, not \"=x\""},
        {"local all all md5 x=y", "unknown option \"x\""},
        {"local all all md5 map=y", "option map belongs to the methods peer and cert"},
        {"local all all md5 clientcert=verify-ca", "option clientcert belongs to hostssl"},
        {"host all all all md5 clientcert=verify-ca", "option clientcert belongs to hostssl"},
        {"hostssl all all all md5 clientcert=1", "clientcert is verify-ca or verify-full"},
        {"hostssl all all all cert clientcert=verify-ca", "with method cert clientcert is verify-full"},
        {"hostssl all all all cert clientname=dn", "clientname is CN or DN"},
        {"host all all all cert clientname=DN", "option clientname belongs to hostssl"},
        {"host all all all md5 pamservice=x", "option pamservice belongs to method pam"},
        {"host all all all pam pam_use_hostname=yes", "pam_use_hostname is 0 or 1"},
        {"host all all all md5 ldapserver=x", "option ldapserver belongs to method ldap"},
        {"host all all all ldap", "method ldap needs ldapserver or ldapurl"},
        {"host all all all ldap ldapserver=x", "method ldap needs ldapbasedn, ldapprefix or ldapsuffix"},
        {"host all all all ldap ldapserver=x ldapport=0", "ldapport is a number from 1 to 65535"},
        {"host all all all ldap ldapserver=x ldapscheme=http", "ldapscheme is ldap or ldaps"},
        {"host all all all ldap ldapserver=x ldaptls=2", "ldaptls is 0 or 1"},
        {"host all all all ldap ldapserver=x ldapprefix=a ldapbasedn=b",
         "ldapprefix and ldapsuffix do not go with a search (ldapbasedn ...)"},
        {"host all all all ldap ldapserver=x ldapbasedn=b ldapsearchattribute=u ldapsearchfilter=f",
         "ldapsearchattribute does not go with ldapsearchfilter"},
    };
    for (const auto &[line, problem] : table) EXPECT_EQ(problem_of(line), problem) << line;
}

TEST(auth_hba, a_bad_line_says_where_and_the_others_stay) {
    const auto found = read("local all all trust\n\nhost all all all magic\nlocal all \\\nall reject\nhost \"\n");
    ASSERT_EQ(found.rules.all().size(), 2U);
    EXPECT_EQ(found.rules.all()[1].line, 4);
    EXPECT_EQ(found.rules.all()[1].file, "f");
    EXPECT_EQ(test::text_of(found.problems),
              "f:6: a double quote is not closed on its line\nf:3: unknown method \"magic\"\n");
}

// ---- matching ----

hba_client tcp(std::string_view address, std::string_view database = "d", std::string_view user = "u") {
    hba_client client;
    client.address = *parse_ip(address);
    client.database = database;
    client.user = user;
    return client;
}

hba_client unix_client(std::string_view database = "d", std::string_view user = "u") {
    hba_client client;
    client.local = true;
    client.database = database;
    client.user = user;
    return client;
}

/// The line of the rule, 0 for none, with "name?" or "failed" before it where that is the answer.
std::string match(const std::string &text, const hba_client &client) {
    const auto file = read(text);
    EXPECT_EQ(test::text_of(file.problems), "") << text;
    const auto answer = file.rules.match(client);
    const auto line = answer.rule == nullptr ? "0" : std::to_string(answer.rule->line);
    switch (answer.what) {
        case hba_answer::kind::rule:
        case hba_answer::kind::no_rule:
            return line;
        case hba_answer::kind::needs_name:
            return "name? " + line;
        case hba_answer::kind::failed:
            return "failed " + line;
    }
    return "?";
}

TEST(auth_hba, first_match_and_none) {
    EXPECT_EQ(match("", unix_client()), "0");
    EXPECT_EQ(match("host all all all trust", unix_client()), "0");
    EXPECT_EQ(match("local all all trust", tcp("127.0.0.1")), "0");
    EXPECT_EQ(match("local all x trust\nlocal all all reject\nlocal all all trust", unix_client()), "2");
}

TEST(auth_hba, connection_types) {
    auto plain = tcp("127.0.0.1"), tls = tcp("127.0.0.1");
    tls.tls = true;
    const auto line = [](const char *type) { return std::string(type) + " all all all trust"; };
    EXPECT_EQ(match(line("host"), plain) + match(line("host"), tls), "11");
    EXPECT_EQ(match(line("hostssl"), plain) + match(line("hostssl"), tls), "01");
    EXPECT_EQ(match(line("hostnossl"), plain) + match(line("hostnossl"), tls), "10");
    EXPECT_EQ(match(line("hostgssenc"), plain) + match(line("hostgssenc"), tls), "00");
    EXPECT_EQ(match(line("hostnogssenc"), plain) + match(line("hostnogssenc"), tls), "11");
    auto local = unix_client();
    local.tls = true;  // means nothing there
    EXPECT_EQ(match(line("host") + "\n" + line("hostssl") + "\nlocal all all trust", local), "3");
}

TEST(auth_hba, names) {
    const auto database = [](const std::string &words, std::string_view name, std::string_view user = "u") {
        return match("local " + words + " all trust", unix_client(name, user)) == "1";
    };
    EXPECT_TRUE(database("all", "x"));
    EXPECT_FALSE(database("\"all\"", "x"));
    EXPECT_TRUE(database("\"all\"", "all"));
    EXPECT_TRUE(database("all", "all"));
    EXPECT_FALSE(database("All", "x"));
    EXPECT_TRUE(database("a,b", "b"));
    EXPECT_FALSE(database("a,b", "B"));
    EXPECT_FALSE(database("a", "ab"));
    EXPECT_TRUE(database("sameuser", "u", "u"));
    EXPECT_FALSE(database("sameuser", "u", "v"));
    EXPECT_FALSE(database("\"sameuser\"", "u", "u"));
    EXPECT_TRUE(database("\"sameuser\"", "sameuser"));
    EXPECT_FALSE(database("replication", "replication"));
    EXPECT_TRUE(database("\"replication\"", "replication"));
    EXPECT_TRUE(database("\"a b\"", "a b"));
    EXPECT_TRUE(database("/^db[0-9]+$", "db12"));
    EXPECT_FALSE(database("/^db[0-9]+$", "db12x"));
    EXPECT_TRUE(database("/b", "abc"));  // anywhere, unless it says otherwise
    EXPECT_TRUE(database("x,/^db", "db"));
    EXPECT_TRUE(database("\"/^a,b$\"", "a,b"));

    const auto user = [](const std::string &words, std::string_view name) {
        return match("local all " + words + " trust", unix_client("d", name)) == "1";
    };
    EXPECT_TRUE(user("all", "x"));
    EXPECT_TRUE(user("\"all\"", "all"));
    EXPECT_FALSE(user("\"all\"", "x"));
    EXPECT_TRUE(user("\"+g\"", "+g"));
    EXPECT_TRUE(user("sameuser", "sameuser"));  // no keyword here
    EXPECT_FALSE(user("sameuser", "d"));
    EXPECT_FALSE(user("a,b", "c"));
    EXPECT_TRUE(user("a,/^c", "cc"));
}

TEST(auth_hba, lists_from_files) {
    const auto file = read("local @dbs @users trust\nlocal all @nobody reject\nlocal all all md5",
                           {{"dbs", "d\n\"all\""}, {"users", "u, v\nw"}, {"nobody", ""}});
    ASSERT_TRUE(file.problems.empty());
    const auto line = [&](std::string_view database, std::string_view user) {
        return file.rules.match(unix_client(database, user)).rule->line;
    };
    EXPECT_EQ(line("d", "w"), 1);
    EXPECT_EQ(line("all", "v"), 1);
    EXPECT_EQ(line("x", "v"), 3);
    EXPECT_EQ(line("d", "x"), 3);
    // An empty list where one name must stand is a bad line, and does not shift the fields.
    EXPECT_EQ(read("host all all @nobody trust", {{"nobody", ""}}).problems.at(0).text,
              "the file named for the address is empty");
}

TEST(auth_hba, replication) {
    const std::string rules =
        "local all all trust\nlocal \"replication\",d all trust\nlocal /.* all trust\nlocal replication all md5";
    auto client = unix_client();
    client.replication = hba_replication::physical;
    EXPECT_EQ(match(rules, client), "4");
    EXPECT_EQ(match("local all,x,replication u md5", client), "1");
    EXPECT_EQ(match("local sameuser all md5", client), "0");
    client.replication = hba_replication::logical;
    EXPECT_EQ(match(rules, client), "1");
    EXPECT_EQ(match("local replication all md5\nlocal d all md5", client), "2");
}

TEST(auth_hba, addresses) {
    const auto fits = [](const std::string &address, std::string_view client) {
        return match("host all all " + address + " trust", tcp(client)) == "1";
    };
    EXPECT_TRUE(fits("all", "::1") && fits("all", "1.2.3.4"));
    EXPECT_TRUE(fits("0.0.0.0/0", "1.2.3.4"));
    EXPECT_FALSE(fits("0.0.0.0/0", "::1"));
    EXPECT_FALSE(fits("::/0", "1.2.3.4"));
    EXPECT_TRUE(fits("::/0", "::1"));
    EXPECT_TRUE(fits("10.0.0.0 255.0.0.0", "10.1.1.1"));
    EXPECT_TRUE(fits("10.0.7.9 255.0.255.0", "10.1.7.1"));
    EXPECT_FALSE(fits("10.0.7.9 255.0.255.0", "10.1.8.1"));
    EXPECT_TRUE(fits("fe80::1%eth0/64", "fe80::7"));
    EXPECT_TRUE(fits("febf::1%2 ffff::", "febf::7"));
    EXPECT_FALSE(fits("fe80::1%eth0/64", "fe80:0:0:1::7"));
    // An IPv4 client on a socket for both families is one of IPv4.
    EXPECT_TRUE(fits("127.0.0.0/8", "::ffff:127.0.0.9"));
    EXPECT_FALSE(fits("::/0", "::ffff:127.0.0.9"));
    EXPECT_FALSE(fits("::ffff:0:0/95", "::ffff:127.0.0.9"));
}

TEST(auth_hba, interfaces) {
    const std::vector<ip_network> own{{*parse_ip("127.0.0.1"), prefix_mask(ip_family::v4, 8)},
                                      {*parse_ip("fe80::1"), prefix_mask(ip_family::v6, 64)}};
    const auto line = [&](std::string_view address) {
        auto client = tcp(address);
        client.interfaces = &own;
        return match("host all all samehost trust\nhost all all samenet md5", client);
    };
    EXPECT_EQ(line("127.0.0.1"), "1");
    EXPECT_EQ(line("::ffff:127.0.0.1"), "1");
    EXPECT_EQ(line("127.9.0.1"), "2");
    EXPECT_EQ(line("128.0.0.1"), "0");
    EXPECT_EQ(line("fe80::1"), "1");
    EXPECT_EQ(line("fe80::2"), "2");
    EXPECT_EQ(line("fe80:1::2"), "0");
    // Not known is not "no": a later rule may not decide.
    EXPECT_EQ(match("host all all samenet reject\nhost all all all trust", tcp("127.0.0.1")), "failed 1");
    EXPECT_EQ(match("host other all samenet reject\nhost all all all trust", tcp("127.0.0.1")), "2");
}

TEST(auth_hba, host_names) {
    const std::string rules =
        "host other all never.asked trust\nhost all all db.example.com reject\nhost all all .example.com md5\n"
        "host all all all trust";
    auto client = tcp("10.0.0.1");
    EXPECT_EQ(match(rules, client), "name? 2");
    const auto named = [&](std::string name) {
        client.host_name = &name;
        return match(rules, client);
    };
    EXPECT_EQ(named("db.example.com"), "2");
    EXPECT_EQ(named("DB.Example.COM"), "2");
    EXPECT_EQ(named("www.example.com"), "3");
    EXPECT_EQ(named("a.b.example.com"), "3");
    EXPECT_EQ(named("example.com"), "4");
    EXPECT_EQ(named("badexample.com"), "4");
    EXPECT_EQ(named("db.example.com.evil"), "4");
    EXPECT_EQ(named(""), "4");
    EXPECT_FALSE(host_name_matches(".", ""));
    // No one is looked up for a rule that is not his.
    EXPECT_EQ(match("host x all a.b trust\nhost all x a.b trust\nlocal all all trust", tcp("10.0.0.1")), "0");
}

TEST(auth_hba, what_a_rule_holds) {
    const auto file = read(
        "hostssl all all all cert map=m\nhostssl all all all md5 clientcert=verify-ca\n"
        "host all all all pam pamservice=s\nlocal all all ident map=\"a b\"");
    ASSERT_TRUE(file.problems.empty());
    const auto &rules = file.rules.all();
    EXPECT_EQ(rules[0].method, hba_method::cert);
    EXPECT_EQ(rules[0].map, "m");
    EXPECT_EQ(rules[1].certificate, hba_certificate::verify_ca);
    EXPECT_EQ(rules[2].pam_service, "s");
    EXPECT_FALSE(rules[2].pam_use_hostname);
    EXPECT_EQ(rules[3].method, hba_method::peer);
    EXPECT_EQ(rules[3].map, "a b");
    for (const auto *const name : {"trust", "reject", "md5", "password", "scram-sha-256", "peer", "pam"})
        EXPECT_STREQ(to_string(read("local all all " + std::string(name)).rules.all().at(0).method), name);
}

TEST(auth_hba, no_secret_in_a_complaint) {
    for (const auto *const line :
         {"host all all all ldap ldapserver=x ldapbindpasswd=hunter2", "host all all all md5 ldapbindpasswd=hunter2",
          "host all all all ldap ldapserver=x ldapprefix=y ldapbindpasswd=hunter2"})
        EXPECT_EQ(problem_of(line).find("hunter2"), std::string::npos) << line;
}

TEST(auth_hba, every_cut_is_read_or_refused) {
    const std::string text =
        "# c\nlocal all all peer map=m\nhost \"a b\",/^c$ @l 10.0.0.0 255.0.0.0 md5\\\n\nhostssl all x ::1/128 cert\n";
    for (std::size_t size = 0; size <= text.size(); ++size) {
        const auto found = read(text.substr(0, size), {{"l", "u"}});
        EXPECT_LE(found.rules.all().size() + found.problems.size(), 3U) << size;
    }
}

TEST(auth_hba, name_patterns) {
    const auto fits = [](std::string_view pattern, std::string_view name) {
        const auto made = name_pattern::compile(pattern);
        EXPECT_TRUE(made.has_value()) << pattern;
        return made.has_value() && made->matches(name) == pattern_match::yes;
    };
    EXPECT_TRUE(fits("^a.c$", "abc"));
    EXPECT_TRUE(fits("^a.c$", "a\nc"));
    EXPECT_FALSE(fits("^admin$", "x\nadmin"));  // ^ and $ know no lines
    EXPECT_FALSE(fits("^admin$", "admin\n"));
    EXPECT_TRUE(fits("^(a|bc)+$", "abcbc"));
    EXPECT_TRUE(fits("^[[:alpha:]_]{2,3}$", "a_b"));
    EXPECT_TRUE(fits("^[]a]$", "]"));
    EXPECT_TRUE(fits("^[^]a]$", "b"));
    EXPECT_TRUE(fits("^\\d+\\.\\w$", "12.x"));
    EXPECT_FALSE(fits("^\\d+\\.\\w$", "12xx"));
    EXPECT_TRUE(fits("^(?:a|b)(?=c)", "bc"));
    EXPECT_FALSE(fits("^a(?!c)", "ac"));
    EXPECT_FALSE(fits("^a$", "A"));
    for (const auto *const pattern :
         {"",        "(",      "a)",   "[a",      "a{2",   "a{",      "a{,2}",   "a{256}",   "a{1,99999999999}",
          "a{x}",    "a{3,2}", "a**",  "a{2}{3}", "a+*",   "a*??",    "*",       "a\\",      "\\ma",
          "\\1",     "(a)\\1", "\\bx", "\\x41",   "[\\d]", "[[.a.]]", "[[=a=]]", "[[:alpha", "(?i)a",
          "(?<=a)b", "***=a",  "a++",  "\xc3\xa9"})
        EXPECT_TRUE(name_pattern::compile(pattern).has_error()) << pattern;
    // What explodes is given up in good time, and is neither a yes nor a no.
    const auto evil = name_pattern::compile("^(a+a+)+$");
    ASSERT_TRUE(evil.has_value());
    EXPECT_NE(evil->matches(std::string(60, 'a') + "b"), pattern_match::yes);
    auto client = unix_client("d", "x");
    const auto file = read("local all /^((((a+)+)+)+)+$ reject\nlocal all all trust");
    const std::string name = std::string(120, 'a') + "b";
    client.user = name;
    const auto answer = file.rules.match(client);
    EXPECT_TRUE(answer.what == hba_answer::kind::failed || answer.rule->line == 2);
}

}  // namespace
}  // namespace pgsluice::auth
