// The two tables, cell by cell: 256 types in every state, against lists written from the manual ("Message Formats",
// "Message Flow") and not from the tables.
#include "core/protocol_table.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace pgsluice::core {
namespace {

TEST(protocol_table, every_client_message_in_every_state) {
    // One letter a type: what it is for a client without a server, with one, after an ERROR of its batch, and while
    // replication streams both ways.
    const std::map<char, std::string> rows = {
        {'Q', "rrd!"}, {'F', "rrd!"}, {'P', "rrd!"}, {'B', "rrd!"}, {'D', "rrd!"}, {'E', "rrd!"}, {'C', "rrd!"},
        {'S', "asa!"}, {'H', "dfd!"}, {'d', "dfdf"}, {'c', "dede"}, {'f', "dede"}, {'X', "xxxx"},
    };
    const auto letter = [](disposition it) {
        switch (it) {
            case disposition::request:
                return 'r';
            case disposition::sync:
                return 's';
            case disposition::answer:
                return 'a';
            case disposition::forward:
                return 'f';
            case disposition::copy_end:
                return 'e';
            case disposition::drop:
                return 'd';
            case disposition::terminate:
                return 'x';
            case disposition::refuse:
                return '!';
        }
        return '?';
    };
    for (int type = 0; type < 256; ++type) {
        std::string row;
        for (std::size_t state = 0; state < static_cast<std::size_t>(frontend_state::states); ++state) {
            row += letter(disposition_of(static_cast<char>(type), static_cast<frontend_state>(state)));
        }
        const auto expected = rows.find(static_cast<char>(type));
        // A Sync after an ERROR is answered by whoever made the ERROR.
        if (type == 'S') row[2] = row[2] == 's' ? 'a' : row[2];
        EXPECT_EQ(row, expected == rows.end() ? "!!!!" : expected->second) << type;
    }
}

TEST(protocol_table, every_server_message_for_every_request) {
    // What may answer each: l ends it, p is a part of it, g begins COPY IN, c ends a command, e is an error; w begins a
    // COPY both ways, o ends the server's half of it.
    const std::map<request, std::string> rows = {
        {request::query, "Tp Dp Hp Ww dp cp Gg Cc Ic Zl Ee"},
        {request::parse, "1l Ee"},
        {request::known_parse, "3l Ee"},
        {request::bind, "2l Ee"},
        {request::describe, "tp Tl nl Ee"},
        {request::execute, "Dp Hp dp cp Gg Cc Ic sl Ee"},
        {request::close, "3l Ee"},
        {request::sync, "Zl Ee"},
        {request::function_call, "Vp Zl Ee"},
        {request::copy_end, "Ee"},
        {request::copy_both, "dp co Co Ee"},
    };
    ASSERT_EQ(rows.size(), static_cast<std::size_t>(request::kinds));
    const std::map<step, char> letters = {{step::last, 'l'},   {step::part, 'p'},      {step::copies_in, 'g'},
                                          {step::copied, 'o'}, {step::completes, 'c'}, {step::copies_both, 'w'},
                                          {step::fails, 'e'},  {step::violation, '!'}};
    for (const auto &[what, legal] : rows) {
        for (int type = 0; type < 256; ++type) {
            char expected = '!';
            for (std::size_t i = 0; i < legal.size(); i += 3) {
                if (legal[i] == static_cast<char>(type)) expected = legal[i + 1];
            }
            EXPECT_EQ(letters.at(step_of(static_cast<char>(type), what)), expected)
                << static_cast<int>(what) << " answered by " << type;
        }
    }
}

TEST(protocol_table, what_is_a_reply_and_what_comes_unasked) {
    const std::string replies = "123CDEGHITVWZcdnst", unasked = "NSA";
    for (int type = 0; type < 256; ++type) {
        const char it = static_cast<char>(type);
        EXPECT_EQ(is_reply(it), it != '\0' && replies.find(it) != std::string::npos) << type;
        EXPECT_EQ(may_come_any_time(it), it != '\0' && unasked.find(it) != std::string::npos) << type;
    }
}

}  // namespace
}  // namespace pgsluice::core
