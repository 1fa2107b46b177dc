// Parameters: sets of them, and the SQL that makes a server's session a client's, which must mean the same to
// PostgreSQL's scanner for every string, encoding and setting of standard_conforming_strings
// (support/sql_session.hpp reads it back).
#include "core/parameters.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "support/seed.hpp"
#include "support/sql_session.hpp"

namespace pgsluice::core {
namespace {

using test::sql_session;

parameter reported(std::string_view name, std::string_view value) {
    return {.name = name, .value = value, .reported = true, .confirmed = true};
}
/// Asked for at startup; no server has accepted the value yet.
parameter asked(std::string_view name, std::string_view value, bool is_reported = true) {
    return {.name = name, .value = value, .reported = is_reported};
}
/// Set by us on a server that does not report it.
parameter accepted(std::string_view name, std::string_view value) {
    return {.name = name, .value = value, .confirmed = true};
}

parameter_set usual() {
    parameter_set it;
    for (const auto *name : {"DateStyle", "TimeZone", "application_name", "IntervalStyle", "search_path", "a\"b"})
        it.put(reported(name, "x"));
    it.put(reported("client_encoding", "UTF8"));
    it.put(reported("standard_conforming_strings", "on"));
    it.put(reported("session_authorization", "app"));
    it.put(reported("is_superuser", "off"));
    it.put(reported("in_hot_standby", "off"));
    return it;
}

TEST(parameter_set, many_changes_at_once_are_as_one_after_the_other) {
    const auto first = test::seed(1);
    for (std::uint64_t seed = first; seed < first + 500; ++seed) {
        std::mt19937_64 random(seed);
        const auto some = [&] {
            std::map<std::string, std::string> all;
            for (auto left = random() % 8; left > 0; --left)
                all[std::string(1, "abcdefgh"[random() % 8])] = "v" + std::to_string(random() % 3);
            return all;
        };
        parameter_set base, appended;
        for (const auto &[name, value] : some()) base.put(asked(name, value));
        std::vector<parameter> changes;
        const auto texts = some();
        for (const auto &[name, value] : texts) changes.push_back(reported(name, value));
        auto expected = base;
        for (const auto &it : changes) expected.put(it);
        EXPECT_EQ(base.with(changes), expected) << "PGSLUICE_TEST_SEED=" << seed;
        for (const auto it : expected) appended.append(it);
        EXPECT_EQ(appended, expected) << "PGSLUICE_TEST_SEED=" << seed;
    }
}

std::map<std::string, std::string> values_of(const parameter_set &set) {
    std::map<std::string, std::string> all;
    for (const auto it : set) all[sql_session::lower(std::string(it.name))] = it.value;
    return all;
}

struct pair_of_sessions {
    parameter_set own = usual(), server = own, client = own;
    bool keep = false;

    parameter_change change() const { return change_parameters({own, keep}, server, client); }
    std::string sql() const {
        std::string all;
        for (const auto &query : change().queries) all += query;
        return all;
    }
    /// Runs the change on a session like the server's; what is still different afterwards, or "".
    std::string apply() const {
        sql_session session;
        session.own = values_of(own);
        session.values = values_of(server);
        try {
            for (const auto &query : change().queries) session.query(query);
        } catch (const std::exception &problem) {
            return problem.what();
        }
        const auto wanted = values_of(client);
        for (const auto &[name, value] : wanted) {
            const bool nocase = name == "client_encoding" || name == "standard_conforming_strings";
            const auto &got = session.values[name];
            if (nocase ? sql_session::lower(got) != sql_session::lower(value) : got != value)
                return name + " is " + got;
        }
        for (const auto &[name, value] : session.values) {
            if (!wanted.contains(name) && !session.own.contains(name) && !name.starts_with("pgsluice."))
                return name + " is still " + value;
        }
        return {};
    }
};

TEST(parameter_sets, against_a_map) {
    std::mt19937_64 random(test::seed(1));
    std::map<std::string, std::pair<std::string, std::string>> model;
    parameter_set set;
    for (int i = 0; i < 3000; ++i) {
        std::string name(random() % 3, 'x');
        for (auto &c : name) c = "abAB_\xe4"[random() % 6];
        const std::string value(random() % 20, static_cast<char>('a' + random() % 26));
        const auto key = sql_session::lower(name);
        if (random() % 4 == 0) {
            set.erase(name);
            model.erase(key);
        } else {
            set.put({.name = name, .value = value, .reported = random() % 2 == 0, .confirmed = true});
            model[key] = {name, value};
        }
        std::map<std::string, std::pair<std::string, std::string>> got;
        std::string last;
        for (const auto it : set) {
            EXPECT_TRUE(got.empty() || base::compare_nocase(last, it.name) < 0);
            last = it.name;
            got[sql_session::lower(std::string(it.name))] = {std::string(it.name), std::string(it.value)};
        }
        ASSERT_EQ(got, model);
        ASSERT_EQ(set.find(name).has_value(), model.contains(key));
        ASSERT_EQ(set.value(name), model.contains(key) ? model[key].second : "");
    }
}

TEST(parameter_sets, equal_and_of_the_same_meaning) {
    const auto a = usual();
    auto b = usual();
    EXPECT_EQ(a, b);
    EXPECT_TRUE(same_meaning(a, a));
    EXPECT_TRUE(same_meaning(a, b));
    b.put(reported("application_name", "other"));
    EXPECT_NE(a, b);
    EXPECT_TRUE(same_meaning(a, b));
    b.erase("APPLICATION_NAME");
    EXPECT_TRUE(same_meaning(a, b));
    for (const auto *name : {"search_path", "DateStyle", "session_authorization", "standard_conforming_strings"}) {
        auto c = b;
        c.put(reported(name, "other"));
        EXPECT_FALSE(same_meaning(a, c)) << name;
        c.erase(name);
        EXPECT_FALSE(same_meaning(a, c)) << name;
        EXPECT_FALSE(same_meaning(c, a)) << name;
    }
    b.put(accepted("role", "bob"));
    EXPECT_FALSE(same_meaning(a, b));
}

TEST(parameters, nothing_to_do_is_nothing_done) {
    pair_of_sessions it;
    EXPECT_EQ(it.sql(), "");
    it.client.put(asked("client_encoding", "utf8"));
    it.client.put(asked("standard_conforming_strings", "ON"));
    EXPECT_EQ(it.sql(), "") << "values of these compare without case";
    it.client.put(reported("in_hot_standby", "on"));
    it.client.put(reported("is_superuser", "on"));
    EXPECT_EQ(it.sql(), "") << "not to be set by anybody";
    it.client.put(reported("crdb_version", "1"));
    EXPECT_EQ(it.sql(), "") << "what another server reported, and this one does not know";
    it.client.put(asked("is_superuser", "on"));
    EXPECT_EQ(it.sql(), R"(SET "is_superuser"='on';)") << "asked for: the server says what it thinks of that";
    EXPECT_TRUE(it.change().await);
}

TEST(parameters, all_changes_are_one_query) {
    pair_of_sessions it;
    it.client.put(reported("TimeZone", "CET"));
    it.client.put(reported("application_name", "psql"));
    const auto change = it.change();
    ASSERT_EQ(change.queries.size(), 1U);
    EXPECT_EQ(change.queries[0], R"(SET "application_name"='psql';SET "TimeZone"='CET';)");
    EXPECT_FALSE(change.await);
}

TEST(parameters, what_might_be_refused_is_awaited) {
    pair_of_sessions it;
    it.client.put(asked("application_name", "psql"));
    EXPECT_FALSE(it.change().await) << "no server refuses it";
    it.client.put(asked("application_name", "\xff"));
    EXPECT_TRUE(it.change().await) << "unless its bytes are not text";
    for (const bool is_reported : {true, false}) {
        pair_of_sessions other;
        other.client.put(asked("TimeZone", "cet", is_reported));
        EXPECT_TRUE(other.change().await);
    }
    pair_of_sessions known;
    known.client.put(accepted("geqo", "off"));
    EXPECT_FALSE(known.change().await);
    known.server.put(accepted("statement_timeout", "1"));
    EXPECT_TRUE(known.change().await) << "our own queries may be struck by it";
}

TEST(parameters, what_the_server_does_not_report) {
    pair_of_sessions it;
    it.client.put(accepted("geqo", "off"));
    it.client.put(accepted("my.var", "a'b"));
    EXPECT_EQ(it.sql(), R"(SET "geqo"='off';SET "my.var"='a''b';)");
    EXPECT_EQ(it.apply(), "");
    it.server.put(accepted("my.var", "a'b"));
    it.server.put(accepted("work_mem", "1MB"));
    EXPECT_EQ(it.sql(), R"(SET "geqo"='off';RESET "work_mem";)");
    EXPECT_EQ(it.apply(), "");
    it.server.put(asked("my.var", "a'b", false));
    EXPECT_EQ(it.sql(), R"(SET "geqo"='off';SET "my.var"='a''b';RESET "work_mem";)") << "in doubt it is set again";
    it.client = it.own;
    EXPECT_EQ(it.sql(), R"(RESET "my.var";RESET "work_mem";)");
    EXPECT_FALSE(it.change().await);
    EXPECT_EQ(it.apply(), "");
    it.server.put(accepted("transaction_isolation", "serializable"));
    EXPECT_EQ(it.sql(), R"(RESET "my.var";RESET "work_mem";)") << "it went with its transaction";
}

TEST(parameters, what_may_be_refused_later_is_awaited_though_it_was_accepted_before) {
    pair_of_sessions it;
    it.client.put(accepted("search_path", "a"));
    EXPECT_FALSE(it.change().await);
    it.client.put(accepted("default_text_search_config", "public.mine"));
    EXPECT_TRUE(it.change().await);
    it.client = it.own;
    it.server.put(accepted("default_tablespace", "gone"));
    EXPECT_TRUE(it.change().await);
}

TEST(parameters, what_the_client_has_never_heard_of_is_as_the_server_has_it) {
    pair_of_sessions it;
    it.client.erase("search_path");
    EXPECT_EQ(it.sql(), "");
    it.server.put(reported("search_path", "another client's"));
    EXPECT_EQ(it.sql(), R"(RESET "search_path";)");
    EXPECT_EQ(it.apply(), "");
}

TEST(parameters, a_value_of_connect_query_is_brought_back) {
    pair_of_sessions it;
    it.keep = true;
    it.client.put(asked("my.var", "mine", false));
    it.client.put(asked("search_path", "reported, so it is told", true));
    sql_session session;
    session.own = session.values = values_of(it.own);
    for (const auto *const before : {"connect_query's", "", "=", "a\nb"}) {
        session.values["my.var"] = before;
        for (int round = 0; round < 3; ++round) {
            for (const auto &query : it.change().queries) session.query(query);
            EXPECT_EQ(session.values["my.var"], "mine");
            auto there = it;
            there.server = it.client;
            there.client = it.own;
            for (const auto &query : there.change().queries) session.query(query);
            EXPECT_EQ(session.values["my.var"], before);
            EXPECT_EQ(session.values["search_path"], "x");
        }
    }
    // DISCARD ALL took everything, what was kept too.
    session.values = values_of(it.own);
    auto there = it;
    there.server = it.client;
    there.client = it.own;
    for (const auto &query : there.change().queries) session.query(query);
    EXPECT_FALSE(session.values.contains("my.var"));
}

TEST(parameters, who_the_session_is_comes_first_and_last) {
    pair_of_sessions it;
    it.client.put(accepted("role", "bob"));
    it.client.put(reported("TimeZone", "CET"));
    it.client.put(accepted("zero", "0"));
    EXPECT_EQ(it.sql(), R"(SET "TimeZone"='CET';SET "zero"='0';SET "role"='bob';)");
    EXPECT_TRUE(it.change().await) << "a role that is gone must not let anything run as another";
    it.server.put(accepted("role", "bob"));
    EXPECT_EQ(it.sql(), R"(RESET "role";SET "TimeZone"='CET';SET "zero"='0';SET "role"='bob';)")
        << "it may lack the right";
    EXPECT_TRUE(it.change().await);
    it.client = it.own;
    EXPECT_EQ(it.sql(), R"(RESET "role";)");
    EXPECT_TRUE(it.change().await);
    it.server.put(reported("session_authorization", "eve"));
    EXPECT_EQ(it.sql(), R"(SET "session_authorization"='app';RESET "role";)");
    it.client.put(asked("session_authorization", "bob"));
    EXPECT_EQ(it.sql(), R"(SET "session_authorization"='app';RESET "role";SET "session_authorization"='bob';)");
    EXPECT_TRUE(it.change().await);
    it.server = it.client;
    it.server.put(reported("session_authorization", "bob"));
    EXPECT_EQ(it.sql(), "");
}

TEST(parameters, a_name_that_is_too_long_for_an_identifier) {
    pair_of_sessions it;
    const auto name = "my." + std::string(200, 'n');
    it.client.put(accepted(name, "v"));
    EXPECT_EQ(it.sql(), "SELECT pg_catalog.set_config('" + name + "','v',false);");
    std::swap(it.client, it.server);
    EXPECT_EQ(it.sql(), "SELECT pg_catalog.set_config('" + name + "',NULL,false);");
    EXPECT_EQ(it.apply(), "");
}

TEST(parameters, what_changes_the_reading_goes_first) {
    pair_of_sessions it;
    it.server.put(reported("standard_conforming_strings", "off"));
    it.client.put(reported("client_encoding", "SJIS"));
    it.client.put(reported("application_name", "\x83\x5c"));
    const auto change = it.change();
    ASSERT_EQ(change.queries.size(), 3U);
    EXPECT_EQ(change.queries[0], R"(SET "standard_conforming_strings"='on';)");
    EXPECT_EQ(change.queries[1], R"(SET "client_encoding"='SJIS';)");
    EXPECT_EQ(it.apply(), "");
}

TEST(parameters, the_same_bytes_under_another_encoding_are_another_value) {
    pair_of_sessions it;
    for (auto *const set : {&it.server, &it.client}) {
        set->put(reported("application_name", "\xc3\xa4"));
        set->put(accepted("my.var", "\xc3\xa4"));
        set->put(accepted("my.ascii", "a"));
    }
    it.client.put(reported("client_encoding", "LATIN1"));
    EXPECT_EQ(it.change().queries.back(), "SET \"application_name\"='\xc3\xa4';SET \"my.var\"='\xc3\xa4';");
}

/// Each string against each pair of settings on both sides.
TEST(parameters, round_trip_of_any_string) {
    std::vector<std::string> strings{"",
                                     "'",
                                     "''",
                                     "\\",
                                     "\\'",
                                     "'; drop table t; --",
                                     "\\'; drop table t; --",
                                     "\"",
                                     "a\"b",
                                     "E'x'",
                                     "$$x$$",
                                     "--",
                                     "/*",
                                     ";",
                                     "\n\r\t",
                                     "\x83\x5c",      // SJIS, its second byte a backslash
                                     "\x95\x5c\x27",  // and a quote behind
                                     "\xa1\x5c",      // BIG5, GBK
                                     "\xa1\x40\x5c",
                                     "\x81\x7e",
                                     "caf\xc3\xa9",
                                     "\xff\xfe",
                                     std::string(8192, '\''),
                                     std::string(8192, '\\'),
                                     std::string(8192, 'x')};
    std::mt19937_64 random(test::seed(1));
    for (int i = 0; i < 200; ++i) {
        std::string text(random() % 40, ' ');
        for (auto &c : text)
            c = random() % 2 == 0 ? "'\\\"\x83\x5c;,=\xa1"[random() % 9] : static_cast<char>(1 + random() % 255);
        strings.push_back(text);
    }
    for (const auto &text : strings) {
        for (const auto *server_strings : {"on", "off"}) {
            for (const auto *client_strings : {"on", "off"}) {
                for (const auto *server_encoding : {"UTF8", "SJIS"}) {
                    for (const auto *client_encoding : {"UTF8", "SJIS", "BIG5", "GBK", "LATIN1"}) {
                        // A lead byte at the end takes the quote with it: PostgreSQL refuses such a text as a whole.
                        if (!text.empty() && static_cast<unsigned char>(text.back()) >= 0x80 &&
                            std::string_view("SJISBIG5GBK").find(client_encoding) != std::string_view::npos)
                            continue;
                        pair_of_sessions it;
                        it.server.put(reported("standard_conforming_strings", server_strings));
                        it.client.put(reported("standard_conforming_strings", client_strings));
                        it.server.put(reported("client_encoding", server_encoding));
                        it.client.put(reported("client_encoding", client_encoding));
                        it.client.put(asked("application_name", text));
                        it.client.put(asked("search_path", text));
                        it.client.put(asked("my.var", text, false));
                        it.keep = client_encoding == server_encoding;
                        const bool splits = [&] {  // a lead byte in front of a quote that we would double
                            for (std::size_t i = 0; i + 1 < text.size(); ++i)
                                if (static_cast<unsigned char>(text[i]) >= 0x80 &&
                                    (text[i + 1] == '\'' || text[i + 1] == '"'))
                                    return true;
                            return false;
                        }();
                        if (splits && std::string_view("SJISBIG5GBK").find(client_encoding) != std::string_view::npos)
                            continue;
                        ASSERT_EQ(it.apply(), "") << testing::PrintToString(text) << " " << server_strings
                                                  << client_strings << server_encoding << client_encoding;
                    }
                }
            }
        }
    }
}

TEST(parameters, standard_conforming_strings_is_put_back) {
    for (const auto *server : {"on", "off"}) {
        for (const auto *client : {"on", "off"}) {
            for (const bool other_too : {false, true}) {
                for (const bool encoding_too : {false, true}) {
                    pair_of_sessions it;
                    it.server.put(reported("standard_conforming_strings", server));
                    it.client.put(reported("standard_conforming_strings", client));
                    if (other_too) it.client.put(reported("TimeZone", "a'b\\"));
                    if (encoding_too) it.client.put(reported("client_encoding", "LATIN1"));
                    EXPECT_EQ(it.apply(), "") << server << client << other_too << encoding_too;
                }
            }
        }
    }
}

TEST(parameters, a_name_is_quoted_too) {
    pair_of_sessions it;
    it.client.put(reported("a\"b", "v"));
    it.client.put(asked("x\"='1';drop table t;--", "v", false));
    EXPECT_EQ(it.sql(), R"(SET "a""b"='v';SET "x""='1';drop table t;--"='v';)");
    EXPECT_EQ(it.apply(), "");
}

TEST(parameters, a_list_of_identifiers_keeps_its_text) {
    pair_of_sessions it;
    it.client.put(reported("search_path", "\"$user\", public"));
    EXPECT_EQ(it.sql(), "SELECT pg_catalog.set_config('search_path','\"$user\", public',false);");
}

}  // namespace
}  // namespace pgsluice::core
