// What the schedules of the session target name by number: whole messages of a client and of a server. Numbers are in
// the corpus, so that new phrases go to the end.
#pragma once

#include <string>
#include <vector>

#include "support/rig.hpp"

namespace pgsluice::fuzz {

using namespace std::string_literals;
namespace fe = test::fe;
namespace be = test::be;

inline const std::vector<std::string> &from_clients() {
    static const std::vector<std::string> it{
        fe::query("select 1"),
        fe::query("begin"),
        fe::query("commit"),
        fe::query("error"),
        fe::query("insert by copy"),
        fe::query("out by copy"),
        fe::query("many"),
        fe::query(""),
        fe::query("notice"),
        fe::query("parameter"),
        fe::query("fails"),
        fe::parse("", "select 1"),
        fe::parse("", "insert by copy"),
        fe::parse("", "error"),
        fe::bind("", ""),
        fe::describe('P', ""),
        fe::describe('S', ""),
        fe::execute(""),
        fe::close('S', ""),
        fe::close('P', ""),
        fe::sync,
        fe::flush,
        fe::copy_data("1\n"),
        fe::copy_done,
        fe::copy_fail("no"),
        fe::function_call,
        fe::unnamed("select 1") + fe::sync,
        fe::parse("s1", "select 1"),
        fe::parse("s1", "update"),
        fe::parse("s2", "select 1"),
        fe::bind("", "s1"),
        fe::bind("p", "s1"),
        fe::bind("", "s2"),
        fe::describe('S', "s1"),
        fe::describe('P', "p"),
        fe::execute("p"),
        fe::close('S', "s1"),
        fe::close('P', "p"),
        fe::query("DEALLOCATE ALL"),
        fe::query("DISCARD ALL"),
        fe::query("DEALLOCATE s1"),
        fe::bind("", "s1") + fe::execute("") + fe::sync,
        fe::parse("s1", "select 1") + fe::sync,
        test::startup({{"user", "app"}, {"database", "db"}}),
        test::startup({{"user", "app"}, {"database", "db"}, {"application_name", "mine"}, {"TimeZone", "utc"}}),
        test::ssl_request,
        test::gssenc_request,
        test::cancel_request(42, "\1\2\3\4"),
        fe::terminate,
    };
    return it;
}

inline const std::vector<std::string> &from_servers() {
    static const std::vector<std::string> it{
        be::ready('I'),
        be::ready('T'),
        be::ready('E'),
        be::complete("SELECT 1"),
        be::columns("c"),
        be::row("row"),
        be::parse_complete,
        be::bind_complete,
        be::close_complete,
        be::no_data,
        test::message('t', test::be16(0)),
        test::message('s'),
        test::message('I'),
        be::copy_in,
        be::copy_out,
        test::message('W', "\0\0\0"s),
        test::message('d', "line\n"),
        test::message('c'),
        be::error("ERROR", "22012", "division by zero"),
        be::error("FATAL", "57P01", "terminating connection due to administrator command"),
        be::error("ERROR", "0A000", "cached plan must not change result type"),
        be::error("ERROR", "26000", "prepared statement \"s1\" does not exist"),
        be::notice("note"),
        be::notification("channel"),
        be::parameter("application_name", "other"),
        be::parameter("TimeZone", "Europe/Berlin"),
        be::parameter("session_authorization", "postgres"),
        test::message('V', test::be32(4) + "abcd"),
        be::complete("SET") + be::ready('I'),
        be::auth(0),
        be::key(4711, "\1\2\3\4"),
        test::server_hello(),
        be::complete("DEALLOCATE ALL"),
        be::complete("DISCARD ALL"),
    };
    return it;
}

}  // namespace pgsluice::fuzz
