// Tracked parameters: the SQL that makes a server's session a client's must mean the same to PostgreSQL's scanner, for
// every string, encoding and setting of standard_conforming_strings (support/sql_session.hpp reads it back).
#include "core/parameters.hpp"

#include <gtest/gtest.h>

#include <random>

#include "support/seed.hpp"
#include "support/sql_session.hpp"

namespace pgsluice::core {
namespace {

using test::sql_session;

const tracked_names names({"IntervalStyle", "search_path", "datestyle", "a\"b"});

std::size_t place(std::string_view name) {
    return static_cast<std::size_t>(names.find(name));
}

struct pair_of_sessions {
    parameter_set server{names.size()}, client{names.size()};
    pair_of_sessions() {
        for (std::size_t i = 0; i < names.size(); ++i) {
            const char *const value = i == place("client_encoding")               ? "UTF8"
                                      : i == place("standard_conforming_strings") ? "on"
                                                                                  : "x";
            server.report(i, value);
            client.report(i, value);
        }
    }
    /// Runs the change on a session like the server's; what is still different afterwards, or "".
    std::string apply() const {
        const auto change = change_parameters(names, server, client);
        sql_session session;
        for (std::size_t i = 0; i < names.size(); ++i)
            if (server.known(i)) session.values[sql_session::lower(names[i])] = server.value(i);
        try {
            for (const auto &sql : change.queries) session.query(sql);
        } catch (const std::exception &problem) {
            return problem.what();
        }
        for (std::size_t i = 0; i < names.size(); ++i) {
            if (!server.known(i) || !client.known(i)) continue;
            const auto &got = session.values[sql_session::lower(names[i])];
            const bool nocase = i == place("client_encoding") || i == place("standard_conforming_strings");
            const auto same =
                nocase ? sql_session::lower(got) == sql_session::lower(client.value(i)) : got == client.value(i);
            if (!same) return names[i] + " is " + got;
        }
        return {};
    }
};

TEST(parameters, names) {
    EXPECT_EQ(names.size(), 8U) << "DateStyle is there already";
    EXPECT_EQ(names[0], "DateStyle");
    EXPECT_EQ(names[tracked_names::client_encoding], "client_encoding");
    EXPECT_EQ(names[tracked_names::standard_conforming_strings], "standard_conforming_strings");
    EXPECT_EQ(names.find("TIMEZONE"), 2);
    EXPECT_EQ(names.find("timezon"), tracked_names::none);
    EXPECT_EQ(names.find(""), tracked_names::none);
    std::vector<std::string> many;
    for (int i = 0; i < 100; ++i) many.push_back("p" + std::to_string(i));
    EXPECT_EQ(tracked_names(many).size(), tracked_names::limit);
}

TEST(parameters, nothing_to_do_is_nothing_done) {
    pair_of_sessions it;
    EXPECT_TRUE(change_parameters(names, it.server, it.client).queries.empty());
    it.client.ask(place("client_encoding"), "utf8");
    it.client.ask(place("standard_conforming_strings"), "ON");
    EXPECT_TRUE(change_parameters(names, it.server, it.client).queries.empty())
        << "values of these compare without case";
    EXPECT_TRUE(change_parameters(names, parameter_set(names.size()), it.client).queries.empty())
        << "unknown to the server";
    EXPECT_TRUE(change_parameters(names, it.server, parameter_set(names.size())).queries.empty()) << "not asked for";
}

TEST(parameters, all_changes_are_one_query) {
    pair_of_sessions it;
    it.client.report(place("TimeZone"), "CET");
    it.client.report(place("application_name"), "psql");
    const auto change = change_parameters(names, it.server, it.client);
    ASSERT_EQ(change.queries.size(), 1U);
    EXPECT_EQ(change.queries[0], R"(SET "TimeZone"='CET';SET "application_name"='psql';)");
    EXPECT_EQ(change.changed, 1U << place("TimeZone") | 1U << place("application_name"));
    EXPECT_TRUE(change.confirmed);
    it.client.ask(place("TimeZone"), "cet");
    EXPECT_FALSE(change_parameters(names, it.server, it.client).confirmed);
}

TEST(parameters, what_changes_the_reading_goes_first) {
    pair_of_sessions it;
    it.server.report(place("standard_conforming_strings"), "off");
    it.client.report(place("client_encoding"), "SJIS");
    it.client.report(place("application_name"), "\x83\x5c");
    const auto change = change_parameters(names, it.server, it.client);
    ASSERT_EQ(change.queries.size(), 3U);
    EXPECT_EQ(change.queries[0], R"(SET "standard_conforming_strings"='on';)");
    EXPECT_EQ(change.queries[1], R"(SET "client_encoding"='SJIS';)");
    EXPECT_EQ(it.apply(), "");
}

TEST(parameters, the_same_bytes_under_another_encoding_are_another_value) {
    pair_of_sessions it;
    it.server.report(place("application_name"), "\xc3\xa4");
    it.client.report(place("application_name"), "\xc3\xa4");
    it.client.report(place("client_encoding"), "LATIN1");
    const auto change = change_parameters(names, it.server, it.client);
    EXPECT_NE(change.changed & 1U << place("application_name"), 0U);
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
                        it.server.report(place("standard_conforming_strings"), server_strings);
                        it.client.report(place("standard_conforming_strings"), client_strings);
                        it.server.report(place("client_encoding"), server_encoding);
                        it.client.report(place("client_encoding"), client_encoding);
                        it.client.ask(place("application_name"), text);
                        it.client.ask(place("search_path"), text);
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
                    it.server.report(place("standard_conforming_strings"), server);
                    it.client.report(place("standard_conforming_strings"), client);
                    if (other_too) it.client.report(place("TimeZone"), "a'b\\");
                    if (encoding_too) it.client.report(place("client_encoding"), "LATIN1");
                    EXPECT_EQ(it.apply(), "") << server << client << other_too << encoding_too;
                }
            }
        }
    }
}

TEST(parameters, a_name_is_quoted_too) {
    pair_of_sessions it;
    it.client.report(place("a\"b"), "v");
    const auto change = change_parameters(names, it.server, it.client);
    EXPECT_EQ(change.queries.at(0), R"(SET "a""b"='v';)");
    EXPECT_EQ(it.apply(), "");
}

TEST(parameters, a_list_of_identifiers_keeps_its_text) {
    pair_of_sessions it;
    it.client.report(place("search_path"), "\"$user\", public");
    EXPECT_EQ(change_parameters(names, it.server, it.client).queries.at(0),
              "SELECT pg_catalog.set_config('search_path','\"$user\", public',false);");
}

}  // namespace
}  // namespace pgsluice::core
