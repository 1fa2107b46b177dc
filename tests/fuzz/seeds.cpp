// Writes the first inputs of every target, by hand and from the scripts of tests/support: fuzz_seeds FOLDER makes
// FOLDER/<target>/<name>. libFuzzer takes it from there; conversations of real drivers come from record.py.
#include <filesystem>
#include <fstream>
#include <map>

#include "auth/scram.hpp"
#include "fuzz/phrases.hpp"
#include "support/rig.hpp"

using namespace pgsluice;
using namespace std::string_literals;
namespace fe = test::fe;
namespace be = test::be;

namespace {

std::filesystem::path root;

void write(const std::string &target, const std::string &name, const std::string &bytes) {
    std::filesystem::create_directories(root / target);
    std::ofstream(root / target / name, std::ios::binary) << bytes;
}
std::string byte(unsigned value) {
    return std::string(1, static_cast<char>(value));
}

/// What clients say, by name; for client_bytes as it is, for session phrase by phrase.
const std::map<std::string, std::string> &talks() {
    static const std::map<std::string, std::string> it{
        {"simple", fe::query("select 1") + fe::query("select 2")},
        {"transaction", fe::query("begin") + fe::query("select 1") + fe::query("error") + fe::query("rollback")},
        {"empty", fe::query("") + fe::sync + fe::flush + fe::sync},
        {"many", fe::query("many") + fe::query("notice") + fe::query("parameter") + fe::query("listen")},
        {"extended", fe::unnamed("select 1") + fe::sync + fe::unnamed("update") + fe::sync},
        {"pipeline", fe::unnamed("a") + fe::sync + fe::unnamed("error") + fe::unnamed("b") + fe::sync + fe::query("c")},
        {"flush", fe::unnamed("select") + fe::flush + fe::execute("") + fe::flush + fe::sync},
        {"unnamed_later", fe::parse("", "select 1") + fe::sync + fe::bind("", "") + fe::execute("") + fe::sync},
        {"portal", fe::query("begin") + fe::parse("", "u") + fe::bind("p", "") + fe::execute("p") + fe::execute("p") +
                       fe::close('P', "p") + fe::sync + fe::query("commit")},
        {"named", fe::parse("s", "select 1") + fe::describe('S', "s") + fe::sync + fe::bind("", "s") + fe::execute("") +
                      fe::sync + fe::close('S', "s") + fe::sync},
        {"named_error", fe::parse("s", "error") + fe::bind("", "s") + fe::execute("") + fe::parse("t", "select 1") +
                            fe::sync + fe::bind("", "t") + fe::execute("") + fe::sync},
        {"named_twice", fe::parse("s", "a") + fe::parse("s", "b") + fe::sync + fe::bind("", "nobody") + fe::sync},
        {"named_flush", fe::parse("s", "select 1") + fe::flush + fe::bind("", "s") + fe::describe('P', "") +
                            fe::execute("") + fe::flush + fe::close('S', "s") + fe::sync},
        {"discard", fe::parse("s", "a") + fe::sync + fe::query("DEALLOCATE ALL") + fe::bind("", "s") + fe::sync +
                        fe::query("DISCARD ALL") + fe::query("DEALLOCATE s")},
        {"discard_pipelined", fe::parse("s", "a") + fe::sync + fe::close('S', "s") + fe::sync +
                                  fe::query("DISCARD ALL") + fe::parse("t", "a") + fe::bind("", "t") + fe::execute("") +
                                  fe::sync},
        {"discard_extended", fe::parse("s", "a") + fe::unnamed("DEALLOCATE ALL") + fe::bind("", "s") + fe::sync +
                                 fe::parse("s", "a") + fe::unnamed("deallocate s") + fe::bind("", "s") + fe::sync},
        {"named_alike", fe::parse("s", "a") + fe::sync + fe::parse("t", "a") + fe::parse("u", "b") + fe::bind("", "t") +
                            fe::execute("") + fe::sync + fe::query("begin") + fe::query("error") + fe::parse("v", "a") +
                            fe::sync + fe::query("rollback") + fe::bind("", "u") + fe::sync},
        {"copy_in", fe::query("insert") + fe::copy_data("1\n") + fe::copy_data("2\n") + fe::copy_done},
        {"copy_fail", fe::query("insert") + fe::copy_data("1\n") + fe::copy_fail("no") + fe::query("select 1")},
        {"copy_sync", fe::unnamed("insert") + fe::sync + fe::copy_data("1\n") + fe::sync + fe::copy_done + fe::sync},
        {"copy_late", fe::query("error") + fe::copy_data("1\n") + fe::copy_done + fe::query("out")},
        {"copy_query", fe::query("insert") + fe::query("select 1")},
        {"function", fe::function_call + fe::function_call},
        {"terminate", fe::query("begin") + fe::terminate},
        {"unknown", fe::query("begin") + test::message('?', "what")},
        {"password", test::message('p', "what")},
        {"short_length", test::header('Q', 3)},
        {"long_length", test::header('Q', 0x7fffffff) + "select"},
        {"longer_length", test::header('d', 0x80000000) + "x"},
        {"too_long", fe::query("begin") + fe::query(std::string(1200, ' '))},
        {"no_end", test::message('P', "name without an end")},
        {"half", fe::query("begin") + fe::query("select 1").substr(0, 7)},
    };
    return it;
}

void client_bytes() {
    const auto with = [](unsigned choices, unsigned cuts, const std::string &rest) {
        return byte(choices) + byte(cuts) + rest;
    };
    for (const auto &[name, bytes] : talks()) {
        write("client_bytes", name, with(0, 0, bytes));
        write("client_bytes", name + "_cut", with(0, 3, bytes));
        write("client_bytes", name + "_session", with(1, 5, bytes));
        write("client_bytes", name + "_statement", with(2, 1, bytes));
        write("client_bytes", name + "_waits", with(16, 7, bytes));
        write("client_bytes", name + "_one", with(32, 3, bytes));
        write("client_bytes", name + "_none", with(64, 0, bytes));
        write("alike", name, with(0, 0, bytes));
        write("alike", name + "_cut", with(32, 3, bytes));
    }
    constexpr unsigned any = 4, trust = 4 + 32, plain = 4 + 64, md5 = 4 + 96, scram = 4 + 128;
    const auto hello = [](const std::string &user, const test::pairs &more = {}) {
        test::pairs all{{"user", user}, {"database", "db"}};
        all.insert(all.end(), more.begin(), more.end());
        return test::startup(all);
    };
    const auto talk = fe::query("select 1") + fe::terminate;
    write("client_bytes", "login_any", with(any, 1, test::ssl_request + hello("x") + talk));
    write("client_bytes", "login_options",
          with(any, 1,
               hello("x", {{"options", "-c DateStyle=German --TimeZone=utc"}, {"application_name", "mine"}}) + talk));
    write("client_bytes", "login_unknown", with(any, 1, hello("x", {{"replication", "database"}})));
    write("client_bytes", "login_newer",
          with(any, 1, test::startup({{"user", "x"}, {"_pq_.test_protocol_negotiation", ""}}, 0x0003270f) + talk));
    write("client_bytes", "login_trust", with(trust, 1, hello("app") + talk));
    write("client_bytes", "login_plain", with(plain, 1, hello("app") + fe::password("secret") + talk));
    write("client_bytes", "login_plain_scram", with(plain, 1, hello("scram") + fe::password("secret") + talk));
    write("client_bytes", "login_md5", with(md5, 1, hello("hashed") + fe::password("md5" + std::string(32, '0'))));
    const std::string nonce(18, 'n');
    auth::scram_client client(base::secret("secret"s), nonce);
    write("client_bytes", "login_scram",
          with(scram, 1,
               hello("app") + fe::sasl_first("SCRAM-SHA-256", client.client_first()) +
                   fe::sasl("c=biws,r=x,p=" + std::string(43, 'A') + "=")));
    write("client_bytes", "cancel", with(any, 0, test::cancel_request(42, "\1\2\3\4")));
    write("client_bytes", "protocol_2", with(any, 0, test::packet(test::be32(2U << 16))));
    write("client_bytes", "gssenc_ssl", with(any, 3, test::gssenc_request + test::ssl_request + hello("x")));
}

void server_bytes() {
    const auto with = [](unsigned choices, unsigned script, unsigned cuts, const std::string &rest) {
        return byte(choices) + byte(script) + byte(cuts) + rest;
    };
    const auto done = be::complete("SELECT 1") + be::ready('I');
    const std::map<std::string, std::pair<unsigned, std::string>> answers{
        {"simple", {0, be::selected("1") + be::ready('I') + be::selected("2") + be::ready('I')}},
        {"transaction",
         {1, be::complete("BEGIN") + be::ready('T') + be::selected("1") + be::ready('T') + be::complete("COMMIT") +
                 be::ready('I')}},
        {"extended", {2, be::parse_complete + be::bind_complete + be::no_data + done + be::bind_complete + done}},
        {"flush",
         {3,
          be::parse_complete + be::bind_complete + be::no_data + be::complete("") + be::complete("") + be::ready('I')}},
        {"pipeline",
         {4, be::error("ERROR", "42601", "syntax error") + be::ready('I') + be::parse_complete + be::bind_complete +
                 be::no_data + done + done}},
        {"copy_in", {5, be::copy_in + be::complete("COPY 1") + be::ready('I') + be::selected("1") + be::ready('I')}},
        {"copy_error", {5, be::copy_in + be::error("ERROR", "22P02", "bad data") + be::ready('I')}},
        {"copy_batch", {6, be::parse_complete + be::bind_complete + be::no_data + be::copy_in + done}},
        {"copy_batch_error",
         {7, be::parse_complete + be::bind_complete + be::no_data + be::copy_in +
                 be::error("ERROR", "57014", "COPY from stdin failed") + be::ready('I')}},
        {"copy_out",
         {8, be::copy_out + test::message('d', "1\n") + test::message('c') + done +
                 test::message('V', test::be32(4) + "abcd") + be::ready('I') + test::message('I') + be::ready('I')}},
        {"named",
         {9, be::parse_complete + test::message('t', test::be16(0)) + be::columns("c") + be::ready('I') +
                 be::bind_complete + be::row("1") + done + be::close_complete + be::ready('I')}},
        {"named_plan",
         {9, be::parse_complete + test::message('t', test::be16(0)) + be::columns("c") + be::ready('I') +
                 be::error("ERROR", "0A000", "cached plan must not change result type") + be::ready('I') +
                 be::close_complete + be::parse_complete + be::ready('I') + be::bind_complete + be::row("1") + done}},
        {"named_lost",
         {9, be::parse_complete + test::message('t', test::be16(0)) + be::columns("c") + be::ready('I') +
                 be::error("ERROR", "26000", "prepared statement \"s\" does not exist") + be::ready('I') +
                 be::parse_complete + be::ready('I') + be::bind_complete + done}},
        {"portals",
         {10, be::parse_complete + be::bind_complete + be::columns("c") + be::row("1") + test::message('s') +
                  be::ready('I') + be::bind_complete + done + be::bind_complete}},
        {"syncs", {11, be::ready('I') + be::ready('I')}},
        {"async",
         {0, be::notice("n") + be::parameter("TimeZone", "utc") + be::notification("c") + be::selected("1") +
                 be::parameter("application_name", "x") + be::ready('I')}},
        {"fatal", {0, be::columns("c") + be::error("FATAL", "57P01", "terminating connection")}},
        {"too_much", {0, be::selected("1") + be::ready('I') + be::row("2")}},
        {"wrong", {0, be::parse_complete}},
        {"short", {0, test::header('D', 3)}},
        {"long", {0, be::columns("c") + test::header('D', 0x7fffffff) + "x"}},
        {"long_ready", {0, be::columns("c") + test::header('Z', 0x7fffffff) + "I"}},
        {"status", {0, be::selected("1") + be::ready('x')}},
    };
    for (const auto &[name, it] : answers) {
        write("server_bytes", name, with(0, it.first, 0, it.second));
        write("server_bytes", name + "_cut", with(0, it.first, 1, it.second));
        write("server_bytes", name + "_session", with(8, it.first, 2, it.second));
        write("server_bytes", name + "_statement", with(16, it.first, 3, it.second));
        write("server_bytes", name + "_reset",
              with(64, it.first, 4, it.second + be::complete("DISCARD ALL") + be::ready('I')));
        write("server_bytes", name + "_picky",
              with(128, it.first, 5,
                   be::parameter("application_name", "mine") + be::complete("SET") + be::ready('I') + it.second));
    }
    const auto hello = test::server_hello();
    const auto rest = hello.substr(test::message('R', test::be32(0)).size());
    const auto one = be::selected("1") + be::ready('I');
    write("server_bytes", "login", with(1, 0, 0, hello + one));
    write("server_bytes", "login_connect_query", with(1 + 32, 0, 1, hello + one + one));
    write("server_bytes", "login_cleartext", with(1 + 6, 0, 1, be::auth(3) + hello + one));
    write("server_bytes", "login_md5", with(1 + 2, 0, 1, be::auth(5, "salt") + hello + one));
    for (const unsigned choice : {4U, 6U}) {
        // The nonce of the house's first server: bytes that count up from 1.
        test::counting_random random;
        const std::string nonce = random.bytes(auth::scram_nonce_bytes);
        const auto made = auth::make_scram_verifier("secret", "0123456789abcdef", 4096);
        auth::scram_client client(auth::scram_keys{made.stored_key, made.server_key}, nonce);
        const auto own = client.client_first().substr(sizeof("n,,n=,r=") - 1);
        const auto first = "r=" + own + "xyz,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096";
        write("server_bytes", "login_scram" + std::to_string(choice),
              with(1 + choice, 0, 1,
                   be::auth(10, "SCRAM-SHA-256\0\0"s) + be::auth(11, first) +
                       be::auth(12, "v=" + std::string(43, 'A') + "=") + rest));
    }
    write("server_bytes", "login_refused", with(1, 0, 1, be::error("FATAL", "3D000", "database \"x\" does not exist")));
    write("server_bytes", "login_starting",
          with(1, 0, 1, be::error("FATAL", "57P03", "the database system is starting up")));
    write("server_bytes", "login_key", with(1, 0, 1, be::auth(0) + be::key(1, std::string(256, 'k')) + be::ready('I')));
    write("server_bytes", "login_long", with(1, 0, 1, be::auth(0) + test::header('S', 0x7fffffff) + "x"));
    write("server_bytes", "login_broken_error", with(1, 0, 1, test::message('E', "S")));
    write("server_bytes", "login_nameless_error", with(1, 0, 1, test::message('E', "\0"s)));
}

void session() {
    // As steps: the phrase's number after a step that sends it; then everything is answered.
    const auto say = [](unsigned who, const std::string &phrase) {
        const auto &all = fuzz::from_clients();
        const auto at = std::find(all.begin(), all.end(), phrase) - all.begin();
        return byte(who * 32) + byte(static_cast<unsigned>(at));
    };
    const auto lie = [](unsigned who, const std::string &phrase) {
        const auto &all = fuzz::from_servers();
        const auto at = std::find(all.begin(), all.end(), phrase) - all.begin();
        return byte(4 + who * 32) + byte(static_cast<unsigned>(at));
    };
    const auto answer = byte(10) + byte(10 + 32);
    const std::string copy = fe::query("insert by copy");
    const std::map<std::string, std::string> plays{
        {"two_clients", say(0, fe::query("select 1")) + say(1, fe::query("select 1")) + answer +
                            say(1, fe::query("begin")) + answer + say(0, fe::query("select 1")) + answer +
                            say(1, fe::query("commit")) + answer},
        {"batch", say(0, fe::parse("", "select 1")) + say(0, fe::bind("", "")) + say(0, fe::execute("")) + answer +
                      say(0, fe::sync) + answer + say(1, fe::bind("", "")) + say(1, fe::execute("")) +
                      say(1, fe::sync) + answer},
        {"error", say(0, fe::parse("", "error")) + say(0, fe::bind("", "")) + say(0, fe::execute("")) + answer +
                      say(0, fe::query("select 1")) + say(0, fe::sync) + answer},
        {"named", say(0, fe::parse("s1", "select 1")) + say(0, fe::sync) + answer + say(1, fe::query("begin")) +
                      answer + say(0, fe::bind("", "s1")) + say(0, fe::execute("")) + say(0, fe::sync) + answer +
                      say(1, fe::bind("", "s1")) + say(1, fe::sync) + answer + say(0, fe::close('S', "s1")) +
                      say(0, fe::sync) + answer},
        {"named_shared", say(0, fe::parse("s1", "select 1")) + say(1, fe::parse("s2", "select 1")) +
                             say(0, fe::bind("", "s1")) + say(1, fe::bind("", "s2")) + say(0, fe::execute("")) +
                             say(1, fe::execute("")) + say(0, fe::sync) + say(1, fe::sync) + answer},
        {"named_failed", say(0, fe::parse("", "error")) + say(0, fe::bind("", "")) + say(0, fe::execute("")) +
                             say(0, fe::parse("s1", "select 1")) + say(0, fe::sync) + answer +
                             say(0, fe::bind("", "s1")) + say(0, fe::flush) + answer + say(0, fe::sync) + answer},
        {"named_plan", say(0, fe::parse("s1", "select 1") + fe::sync) + answer +
                           say(0, fe::bind("", "s1") + fe::execute("") + fe::sync) +
                           lie(0, be::error("ERROR", "0A000", "cached plan must not change result type")) +
                           lie(0, be::ready('I')) + answer},
        {"named_lost", say(0, fe::parse("s1", "select 1") + fe::sync) + answer +
                           say(0, fe::bind("", "s1") + fe::execute("") + fe::sync) +
                           lie(0, be::error("ERROR", "26000", "prepared statement \"s1\" does not exist")) +
                           lie(0, be::ready('I')) + answer},
        {"deallocate", say(0, fe::parse("s1", "select 1") + fe::sync) + answer + say(0, fe::query("DEALLOCATE ALL")) +
                           lie(0, be::complete("DEALLOCATE ALL")) + lie(0, be::ready('I')) +
                           say(0, fe::bind("", "s1") + fe::execute("") + fe::sync) + answer},
        {"copy", say(0, copy) + answer + say(0, fe::copy_data("1\n")) + say(0, fe::copy_done) + answer + say(1, copy) +
                     answer + say(1, fe::copy_fail("no")) + answer},
        {"copy_sync", say(0, fe::parse("", "insert by copy")) + say(0, fe::bind("", "")) + say(0, fe::execute("")) +
                          say(0, fe::sync) + answer + say(0, fe::copy_done) + answer + say(0, fe::sync) + answer},
        {"cancel", byte(14) + say(0, fe::query("select 1")) + byte(16) + say(0, fe::query("select 1")) + byte(13) +
                       byte(16) + byte(10 + 128) + byte(17)},
        {"waits", byte(14) + say(0, fe::query("select 1")) + say(1, fe::parse("", "select 1")) + say(1, fe::sync) +
                      byte(15) + byte(2) + byte(13 + 128) + answer + byte(13) + answer},
        {"dies", say(0, fe::query("begin")) + answer + byte(19) + byte(25) + byte(24) + say(0, fe::query("select 1")) +
                     answer + byte(18)},
        {"logs_in",
         byte(18) + byte(24 + 64) +
             say(0, test::startup(
                        {{"user", "app"}, {"database", "db"}, {"application_name", "mine"}, {"TimeZone", "utc"}})) +
             say(0, fe::query("select 1")) + answer + answer},
        {"server_logs_in", byte(19) + byte(25 + 64) + lie(0, test::server_hello()) + say(0, fe::query("select 1")) +
                               lie(0, be::columns("c")) + lie(0, be::row("row")) +
                               lie(0, be::complete("SET") + be::ready('I'))},
        {"full", byte(21 + 128) + say(0, fe::query("select 1")) + answer + byte(21) + byte(20 + 128) +
                     say(0, fe::query("many")) + answer + byte(20) + answer},
        {"cut", say(0, fe::query("select 1")) + byte(12) + byte(9 + 128) + byte(3) + byte(9 + 128) + byte(7) + byte(9) +
                    byte(64) + byte(0) + byte(8 + 128) + byte(6) + byte(8) + answer},
        {"reload", say(0, fe::query("begin")) + byte(23) + byte(1) + answer + say(0, fe::query("commit")) + answer +
                       byte(18) + answer + byte(23) + byte(2) + say(1, fe::query("begin")) + answer},
        {"check", byte(22) + say(0, fe::query("select 1")) + answer + byte(22 + 32) + byte(19 + 32)},
        {"async", lie(0, be::parameter("TimeZone", "Europe/Berlin")) + lie(0, be::notification("channel")) +
                      say(0, fe::query("select 1")) + lie(0, be::notice("note")) +
                      lie(0, be::parameter("application_name", "other")) + answer},
        {"raw", byte(2) + byte(14) + fe::query("select 1").substr(0, 14) + byte(6) + byte(6) + be::ready('I') +
                    byte(3) + "Q" + byte(2) + "x" + byte(0) + byte(7 + 128) + "D" + test::be32(0x7fffffff)},
        {"late", say(0, fe::query("begin")) + answer + byte(15) + byte(3)},
    };
    for (const auto &[name, play] : plays) {
        for (const unsigned choices : {0U, 1U, 2U, 4U, 0xf3U}) {
            write("session", name + "_" + std::to_string(choices), byte(choices) + byte(choices % 4) + play);
        }
    }
}

void small_ones() {
    write("startup", "plain", test::startup({{"user", "app"}, {"database", "db"}}));
    write("startup", "options", test::startup({{"user", "app"}, {"options", "-c a=b --c-d=e\\ f -cg=h"}}));
    write("startup", "options_alone", "-c a=b --c-d=e\\ f -cg=h");
    write("startup", "newer", test::startup({{"user", "a"}, {"_pq_.x", ""}}, 0x00030002));
    write("startup", "ssl", test::ssl_request);
    write("startup", "gssenc", test::gssenc_request + test::ssl_request);
    write("startup", "cancel", test::cancel_request(42, "\1\2\3\4"));
    write("startup", "cancel_long", test::cancel_request(42, std::string(256, 'k')));
    write("startup", "cancel_longer", test::cancel_request(42, std::string(257, 'k')));
    write("startup", "protocol_2", test::packet(test::be32(2U << 16) + std::string(288, '\0')));
    write("startup", "no_end", test::packet(test::be32(3U << 16) + "user"));
    write("startup", "behind", test::packet(test::be32(3U << 16) + test::z("user") + test::z("a") + "\0x"s));
    write("startup", "long", test::be32(10001) + test::be32(3U << 16));

    write("error_fields", "plain", be::error("ERROR", "22012", "division by zero").substr(5));
    write("error_fields", "notice", be::notice("n").substr(5));
    write("error_fields", "all",
          "SFEHLER\0VERROR\0C22012\0Mm\0Dd\0Hh\0P1\0p2\0qq\0Ww\0ss\0tt\0cc\0dd\0nn\0Ff\0L1\0Rr\0\0"s);
    write("error_fields", "no_end", "SERROR\0Mx"s);
    write("error_fields", "behind", "SERROR\0\0x"s);

    write("userlist", "all", "; users\n\"a\" \"b\"\n\"md5\" \"md5d41402abc4b2a76b9719d911017c592\" \"rest\"\n");
    write("userlist", "quotes", "\"a\"\"b\" \"c\"\"\"\r\n\t\"d\" \"\"\n");
    write("userlist", "scram",
          "\"s\" \"SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$" + std::string(43, 'A') + "=:" + std::string(43, 'A') +
              "=\"\n");
    write("userlist", "twice", "\"a\" \"b\"\n\"a\" \"c\"\n");
    write("userlist", "open", "\"a\" \"b\n");

    write("hba", "kinds",
          "local all all peer map=m\nhost all all 127.0.0.1/32 md5 # c\nhostssl a,b u ::1/128 cert "
          "clientcert=verify-full\n"
          "hostnossl sameuser all 10.0.0.0 255.0.0.0 scram-sha-256\nhostgssenc all all all reject\n"
          "hostnogssenc replication all samenet password\nhost all all samehost trust\nhost all all .x.org trust\n");
    write("hba", "words",
          "host \"a b\",/^d[0-9]+$,\"all\", \\\n \"/^(a|b),c$\" \"+g\" \"x\"\"y\" all trust\r\nlocal @a @a trust\n\x1e"
          "u, v\n@d/b.conf"
          "\x1e"
          "db\n");
    write("hba", "include",
          "include a\ninclude_if_exists x\ninclude_dir d\n\x1elocal all all trust\n\x1e"
          "host all all all md5\n"
          "\x1elocal db user reject");
    write("hba", "cycle", "include a\nlocal @main all trust\n\x1einclude main\ninclude d/b.conf\n\x1einclude a");
    write("hba", "ldap",
          "host all all all ldap ldapserver=x ldapport=389 ldapprefix=\"cn=\" ldapsuffix=\", dc=x\"\n"
          "host all all all pam pamservice=s pam_use_hostname=1\n");
    write("hba", "bad",
          "host all +g all md5\nhost samerole all all md5\nlocal all \"x\nhost a a 127.0.0.1/33 md5\nhost a a 1::2::3 "
          "md5");
    write("hba", "pattern", "local /^(a+a+)+$ /^[[:alpha:]_]{2,3}(?=x)\\d*?$ md5\n");

    write("ident", "plain", "m root app\nm \"a b\" \"c\"\"d\" # x\nn u all\n");
    write("ident", "pattern", "m /^(.*)@example\\.com$ \\1\nm /x /^app_\nm /^(a)?b$ x\\1\n");
    write("ident", "include", "include a\ninclude_dir d\n\x1em a b\n\x1em c d\n\x1em e f\n");
    write("ident", "bad", "m\nm a b c\nm a,b c\nm a +g\nm /( x\nm /a \\1\n");

    write(
        "ini", "all",
        "[databases]\ndb = host=127.0.0.1 port=5432 dbname=x pool_size=5 connect_query='select ''1'''\n* = host=/tmp\n"
        "[pgbouncer]\n; a comment\nlisten_addr = 127.0.0.1, ::1\nlisten_port = 6432\nauth_type = md5\n"
        "auth_file = a\npool_mode = transaction\nserver_idle_timeout = 600\nignore_startup_parameters = options\n"
        "[users]\napp = pool_mode=session max_user_connections=3\n\x1e\"app\" \"secret\"\n");
    write("ini", "include", "[pgbouncer]\n%include a\nlisten_port = 1\n\x1e%include b\n\x1e[databases]\nx =\n");
    write("ini", "cycle", "%include a\n\x1e%include a\n");
    write("ini", "quoted", "[databases]\n'a b''c' = host=x\n[peers]\n1 = host=x\n");
    write("ini", "connection", "host=a port=1 dbname='x y' password='it''s' user=");
    write("ini", "broken", "[databases\n");

    const auto by_keys = [](unsigned how, const std::string &first, const std::string &last) {
        return byte(how) + byte(static_cast<unsigned>(first.size())) + first + last;
    };
    const std::string signature = "v=" + std::string(43, 'A') + "=";
    write("scram_client", "right", by_keys(1, "xyz,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096", signature));
    write("scram_client", "extension", by_keys(1, "xyz,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096,z=1", signature + ",z=2"));
    write("scram_client", "refused", by_keys(1, "xyz,s=MDEy,i=4096", "e=invalid-proof"));
    write("scram_client", "iterations", by_keys(1, "xyz,s=MDEy,i=99999999999", ""));
    write("scram_client", "nonce", by_keys(0, "r=xyz,s=MDEy,i=4096", ""));
    write("scram_server", "right", byte(2));
    write("scram_server", "mock", byte(3));
    write("scram_server", "changed", byte(6) + byte(5) + byte(1) + byte(1) + "x");
    write("scram_server", "extension", byte(6) + byte(80) + byte(0) + byte(5) + ",z=1,");
    write("scram_server", "own",
          by_keys(0, "n,,n=,r=abc", "c=biws,r=abcZGVmZ2hpamtsbW5vcHFyc3R1,p=" + std::string(43, 'A') + "="));
    write("scram_server", "binding", by_keys(0, "p=tls-unique,,n=,r=abc", ""));
}

}  // namespace

int main(int count, char **arguments) {
    if (count != 2) return 2;
    root = arguments[1];
    client_bytes();
    server_bytes();
    session();
    small_ones();
    return 0;
}
