// Prepared statements between one client and one server: what goes each way for each message, with every cut of the
// bytes and with each peer gone at every step (support/rig.hpp). Through PostgreSQL: integration/test_prepared.py.
#include <gtest/gtest.h>
#include <malloc.h>

#include "core/client_session.hpp"
#include "support/rig.hpp"

namespace pgsluice::core {
namespace {

using namespace test;

void expect_script(world &around, const script &lines) {
    EXPECT_EQ(run_every_way(
                  [&] {
                      auto it = std::make_unique<rig>(around);
                      it->welcomed();
                      return it;
                  },
                  lines),
              "");
}
void expect_script(const script &lines) {
    world around;
    expect_script(around, lines);
}

std::string refused(refusal why, std::string_view argument = {}) {
    std::string out;
    append_refusal(out, why, argument);
    return out;
}

const std::string nothing = "PGSLUICE_0", one = "PGSLUICE_1", two = "PGSLUICE_2";
const std::string close_nothing = fe::close('S', nothing), close_unnamed = fe::close('S', "");
std::string use(std::string_view name) {
    return fe::bind("", name) + fe::execute("");
}
const std::string prepared = be::parse_complete + be::ready('I');
const std::string rows = be::bind_complete + be::row("1") + be::complete("SELECT 1");
const std::string answered = rows + be::ready('I');

TEST(prepared, named_here_and_there) {
    expect_script({client(fe::parse("s", "x") + fe::sync), to_server(fe::parse(one, "x") + fe::sync), server(prepared),
                   to_client(prepared), released, client(use("s") + fe::sync), to_server(use(one) + fe::sync),
                   server(answered), to_client(answered), released, client(fe::describe('S', "s") + fe::sync),
                   to_server(fe::describe('S', one) + fe::sync)});
}

TEST(prepared, parse_and_use_in_one_batch) {
    const auto answer = be::parse_complete + answered;
    expect_script({client(fe::parse("s", "x") + use("s") + fe::sync),
                   to_server(fe::parse(one, "x") + use(one) + fe::sync), server(answer), to_client(answer), released});
}

TEST(prepared, a_second_name_for_the_same_text) {
    expect_script({client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
                   to_server(fe::parse(one, "x") + fe::sync), client(fe::parse("t", "x") + use("t") + fe::sync),
                   to_server(close_nothing + use(one) + fe::sync), server(be::close_complete + answered),
                   to_client(be::parse_complete + answered), released});
}

TEST(prepared, on_a_server_that_lacks_it) {
    world around;
    rig it(around, 2);
    it.welcomed();
    it.client_sends(fe::parse("s", "x") + fe::sync);
    it.server_sends(prepared);
    it.take_client();
    it.take_server();
    it.rotate();
    it.client_sends(use("s") + fe::sync);
    EXPECT_EQ(it.take_server(), fe::parse(one, "x") + use(one) + fe::sync);
    it.server_sends(be::parse_complete + answered);
    EXPECT_EQ(it.take_client(), answered);
    EXPECT_EQ(it.server(), nullptr);
}

TEST(prepared, a_parse_of_ours_that_fails_is_the_clients_error) {
    world around;
    rig it(around, 2);
    it.welcomed();
    it.client_sends(fe::parse("s", "x") + fe::sync);
    it.server_sends(prepared);
    it.take_client();
    it.take_server();
    it.rotate();
    it.client_sends(use("s") + fe::sync);
    const auto gone = be::error("ERROR", "42P01", "relation does not exist") + be::ready('I');
    it.server_sends(gone);
    EXPECT_EQ(it.take_client(), gone);
    it.take_server();
    it.client_sends(use("s") + fe::sync);
    EXPECT_EQ(it.take_server(), fe::parse(two, "x") + use(two) + fe::sync) << "it is not there, so it is tried again";
}

TEST(prepared, unknown_names) {
    const auto missing = be::error("ERROR", "26000", "unnamed prepared statement does not exist");
    for (const auto &[sent, there] : {std::pair{use("s"), fe::bind("", "") + fe::execute("")},
                                      std::pair{fe::describe('S', "s"), fe::describe('S', "")}}) {
        expect_script({client(sent + fe::sync), to_server(close_unnamed + there + fe::sync),
                       server(be::close_complete + missing + be::ready('I')),
                       to_client(refused(refusal::unknown_statement, "s") + be::ready('I')), released});
    }
}

TEST(prepared, an_error_that_must_come_and_does_not) {
    expect_script({client(use("s") + fe::sync), server(be::close_complete + be::bind_complete), closed});
}

TEST(prepared, another_error_than_the_expected_is_passed_on) {
    const auto other = be::error("ERROR", "57014", "canceling statement") + be::ready('I');
    expect_script({client(use("s") + fe::sync), to_server(close_unnamed + use("") + fe::sync),
                   server(be::close_complete + other), to_client(other), released});
}

TEST(prepared, a_name_that_is_taken) {
    const auto taken = be::error("ERROR", "42P05", "prepared statement \"PGSLUICE_1\" already exists") + be::ready('I');
    expect_script({client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
                   to_server(fe::parse(one, "x") + fe::sync), client(fe::parse("s", "y") + use("s") + fe::sync),
                   to_server(fe::parse(one, "y") + use(one) + fe::sync), server(taken),
                   to_client(refused(refusal::duplicate_statement, "s") + be::ready('I')), released,
                   client(use("s") + fe::sync), to_server(use(one) + fe::sync)});
}

TEST(prepared, in_a_transaction_that_is_aborted) {
    const auto begun = be::complete("BEGIN") + be::ready('T');
    const auto broken = be::error("ERROR", "22012", "division by zero") + be::ready('E');
    const auto aborted = be::error("ERROR", "25P02", "aborted") + be::ready('E');
    expect_script({client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
                   to_server(fe::parse(one, "x") + fe::sync), client(fe::query("begin")), server(begun),
                   to_client(begun), client(fe::query("1/0")), server(broken), to_client(broken),
                   to_server(fe::query("begin") + fe::query("1/0")), client(fe::parse("t", "x") + fe::sync),
                   to_server(fe::parse("", "x") + fe::sync), server(aborted), to_client(aborted),
                   client(use("t") + fe::sync), to_server(close_unnamed + use("") + fe::sync)});
}

TEST(prepared, what_an_earlier_batch_leaves_open_is_waited_for) {
    const auto failed = be::error("ERROR", "42601", "syntax error") + be::ready('I');
    expect_script({client(fe::parse("s", "x") + fe::sync + use("s") + fe::sync),
                   to_server(fe::parse(one, "x") + fe::sync), server(prepared), to_client(prepared),
                   to_server(use(one) + fe::sync), server(answered), to_client(answered), released});
    expect_script({client(fe::parse("s", "x") + fe::sync + fe::parse("s", "y") + fe::sync),
                   to_server(fe::parse(one, "x") + fe::sync), server(failed), to_client(failed),
                   to_server(fe::parse(two, "y") + fe::sync)});
}

TEST(prepared, closed_here_and_kept_there) {
    expect_script({client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
                   to_server(fe::parse(one, "x") + fe::sync),
                   client(fe::close('S', "s") + fe::parse("s", "x") + fe::sync), to_client(be::close_complete),
                   to_server(close_nothing + fe::sync), server(be::close_complete + be::ready('I')),
                   to_client(prepared), released, client(fe::close('S', "s") + fe::sync),
                   to_client(be::close_complete + be::ready('I')), to_server("")});
}

/// What is made on the server for our DEALLOCATE to take away.
const std::string deallocatable = close_nothing + message('P', z(nothing) + z("") + be16(0));
const std::string deallocate_nothing = "DEALLOCATE \"PGSLUICE_0\"", made = be::close_complete + be::parse_complete;
const std::string nothing_there = be::error("ERROR", "26000", "prepared statement \"PGSLUICE_0\" does not exist");

TEST(prepared, a_deallocate_takes_nothing_from_others) {
    const auto done = be::complete("DEALLOCATE") + be::ready('I');
    const auto sql = fe::query("/* its own */ deallocate s -- and no other's");
    expect_script({client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
                   to_server(fe::parse(one, "x") + fe::sync), client(sql),
                   to_server(deallocatable + fe::query(deallocate_nothing)), server(made + done), to_client(done),
                   released, client(sql), to_server(sql), server(nothing_there + be::ready('I')),
                   to_client(nothing_there + be::ready('I')), released,
                   client(fe::parse("t", "x") + use("s") + fe::sync),
                   to_server(close_nothing + close_unnamed + use("") + fe::sync)});
}

TEST(prepared, a_deallocate_behind_a_close_that_may_be_skipped) {
    const auto failed = be::bind_complete + be::error("ERROR", "22012", "division by zero") + be::ready('I');
    const auto batch = fe::parse("", "y") + use("") + fe::close('S', "s") + fe::sync;
    expect_script({client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
                   to_server(fe::parse(one, "x") + fe::sync), client(batch + fe::query("deallocate s")),
                   to_server(fe::parse("", "y") + use("") + close_nothing + fe::sync),
                   server(be::parse_complete + failed), to_client(be::parse_complete + failed),
                   to_server(deallocatable + fe::query(deallocate_nothing))});
}

TEST(prepared, a_deallocate_that_is_itself_prepared_takes_the_name_away_when_it_is_executed) {
    const auto done = be::bind_complete + be::complete("DEALLOCATE") + be::ready('I');
    const auto ours = fe::parse("PGSLUICE_3", deallocate_nothing), bound = fe::bind("", "PGSLUICE_3");
    expect_script({client(fe::parse("s", "x") + fe::sync),
                   server(prepared),
                   to_client(prepared),
                   to_server(fe::parse(one, "x") + fe::sync),
                   client(fe::parse("d", "deallocate s") + fe::sync),
                   to_server(fe::parse(two, "deallocate s") + fe::sync),
                   server(prepared),
                   to_client(prepared),
                   released,
                   client(use("s") + fe::sync),
                   to_server(use(one) + fe::sync),
                   server(answered),
                   to_client(answered),
                   released,
                   client(use("d") + fe::sync),
                   to_server(ours + bound + deallocatable + fe::execute("") + fe::sync),
                   server(be::parse_complete + be::bind_complete + made + be::complete("DEALLOCATE") + be::ready('I')),
                   to_client(done),
                   released,
                   client(use("d") + fe::sync),
                   to_server(use(two) + fe::sync)});
}

/// A client in a transaction, with statement s and one that deallocates it, bound to portals named by number.
struct deallocating_portals {
    static constexpr int most = 1000;
    world around;
    rig it{around, 1};
    bool first = true;

    deallocating_portals() {
        it.welcomed();
        it.client_sends(fe::parse("s", "x") + fe::parse("d", "deallocate s") + fe::sync);
        it.server_sends(be::parse_complete + be::parse_complete + be::ready('I'));
        begin();
    }
    void begin() {
        it.client_sends(fe::query("begin"));
        it.server_sends(be::complete("BEGIN") + be::ready('T'));
        forget();
    }
    void forget() {
        it.take_client();
        it.take_server();
    }
    void bind(std::string_view portal) {
        it.client_sends(fe::bind(portal, "d") + fe::sync);
        const auto bound = fe::bind(portal, "PGSLUICE_3") + fe::sync;
        ASSERT_EQ(it.take_server(), (first ? fe::parse("PGSLUICE_3", deallocate_nothing) : "") + bound);
        it.server_sends((first ? be::parse_complete : "") + be::bind_complete + be::ready('T'));
        ASSERT_EQ(it.take_client(), be::bind_complete + be::ready('T'));
        first = false;
    }
    void bind(int begin, int end) {
        for (int i = begin; i < end; ++i) ASSERT_NO_FATAL_FAILURE(bind(std::to_string(i)));
    }
    /// The transaction ends while the next one is on its way already, with a portal of its own: the link stays.
    void goes_on_with(std::string_view portal) {
        it.client_sends(fe::query("commit") + fe::query("begin") + fe::bind(portal, "d") + fe::sync);
        it.server_sends(be::complete("COMMIT") + be::ready('I'));
        it.server_sends(be::complete("BEGIN") + be::ready('T'));
        it.server_sends(be::bind_complete + be::ready('T'));
        forget();
    }
    void expect_refused(std::string_view portal) {
        it.client_sends(fe::bind(portal, "d") + fe::sync);
        EXPECT_EQ(it.take_server(), close_unnamed + fe::describe('S', "") + fe::sync);
        it.server_sends(be::close_complete + be::error("ERROR", "26000", "no such statement") + be::ready('E'));
        EXPECT_EQ(it.take_client(), refused(refusal::too_many_portals) + be::ready('E'));
    }
};

TEST(prepared, portals_of_a_deallocate_are_bounded) {
    deallocating_portals all;
    ASSERT_NO_FATAL_FAILURE(all.bind(0, all.most));
    ASSERT_NO_FATAL_FAILURE(all.bind("7")) << "in place of the one that there was";
    all.it.client_sends(fe::close('P', "8") + fe::sync);
    all.it.server_sends(be::close_complete + be::ready('T'));
    all.forget();
    ASSERT_NO_FATAL_FAILURE(all.bind("in its place"));
    all.expect_refused("one more");
}

TEST(prepared, portals_of_a_deallocate_end_with_their_transaction) {
    deallocating_portals all;
    ASSERT_NO_FATAL_FAILURE(all.bind(0, all.most - 1));
    all.goes_on_with("next");
    ASSERT_NO_FATAL_FAILURE(all.bind(0, all.most - 1));
    all.expect_refused("one more");
}

TEST(prepared, a_portal_of_the_next_transaction_outlives_the_one_before) {
    deallocating_portals all;
    ASSERT_NO_FATAL_FAILURE(all.bind(0, 1));
    all.goes_on_with("next");
    all.it.client_sends(fe::execute("next") + fe::sync);
    EXPECT_EQ(all.it.take_server(), deallocatable + fe::execute("next") + fe::sync);
}

TEST(prepared, portals_are_told_apart_as_postgresql_does) {
    deallocating_portals all;
    const std::string name(63, 'p');
    ASSERT_NO_FATAL_FAILURE(all.bind(name + "1"));
    all.it.client_sends(fe::execute(name + "2") + fe::sync);
    EXPECT_EQ(all.it.take_server(), deallocatable + fe::execute(name + "2") + fe::sync);
}

TEST(prepared, what_a_client_had_is_forgotten_when_it_leaves) {
    world around;
    rig stays(around, 1);
    {
        rig leaves(around, 1);
        leaves.welcomed();
        for (int i = 0; i < 1000; ++i) {
            leaves.client_sends(fe::parse(std::to_string(i), std::to_string(i)) + fe::sync);
            leaves.server_sends((i < 200 ? "" : be::close_complete) + prepared);
        }
        EXPECT_EQ(around.statements.size(), 1000U);
    }
    EXPECT_LE(around.statements.size(), 200U) << "those that its server has";
}

TEST(prepared, a_deallocate_without_a_name_survives_between_transactions) {
    const auto done = be::bind_complete + be::complete("DEALLOCATE") + be::ready('I');
    const auto unnamed = fe::parse("", "deallocate s");
    expect_script(
        {client(fe::parse("s", "x") + unnamed + fe::sync), to_server(fe::parse(one, "x") + unnamed + fe::sync),
         server(be::parse_complete + prepared), to_client(be::parse_complete + prepared), released,
         client(use("") + fe::sync),
         to_server(fe::parse(two, deallocate_nothing) + fe::bind("", two) + deallocatable + fe::execute("") + fe::sync),
         server(be::parse_complete + be::bind_complete + made + be::complete("DEALLOCATE") + be::ready('I')),
         to_client(done)});
}

TEST(prepared, a_deallocate_executed_when_the_name_is_gone) {
    const auto missing = refused(refusal::unknown_statement, "s") + be::ready('I');
    const auto both = fe::execute("") + fe::execute("");
    const auto gone = be::bind_complete + be::complete("DEALLOCATE");
    expect_script({client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
                   to_server(fe::parse(one, "x") + fe::sync), client(fe::parse("", "deallocate s") + fe::sync),
                   to_server(fe::parse("", "deallocate s") + fe::sync), server(prepared), to_client(prepared), released,
                   client(use("") + fe::flush),
                   to_server(fe::parse(two, deallocate_nothing) + fe::bind("", two) + deallocatable + fe::execute("") +
                             fe::flush),
                   server(be::parse_complete + be::bind_complete + made + be::complete("DEALLOCATE")), to_client(gone),
                   client(use("") + fe::sync), to_server(use("") + fe::sync)});
}

TEST(prepared, a_deallocate_of_a_name_like_ours_finds_the_client_s_alone) {
    const auto sql = fe::query("deallocate \"PGSLUICE_1\"");
    const auto missing = refused(refusal::unknown_statement, one) + be::ready('I');
    const auto done = be::complete("DEALLOCATE") + be::ready('I');
    expect_script({client(sql), to_server(close_nothing + fe::query(deallocate_nothing)),
                   server(be::close_complete + nothing_there + be::ready('I')), to_client(missing), released,
                   client(fe::parse(one, "x") + fe::sync), to_server(fe::parse(one, "x") + fe::sync), server(prepared),
                   to_client(prepared), released, client(sql), to_server(deallocatable + fe::query(deallocate_nothing)),
                   server(made + done), to_client(done)});
}

TEST(prepared, a_deallocate_that_is_longer_than_its_text_is_not_replaced) {
    const auto longer = message('Q', z("deallocate s") + fe::query("hidden") + std::string(2000, 'x'));
    const auto broken = be::error("ERROR", "08P01", "invalid message format") + be::ready('I');
    expect_script({client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
                   to_server(fe::parse(one, "x") + fe::sync), client(longer), to_server(longer), server(broken),
                   to_client(broken), released});
}

TEST(prepared, in_a_copy_nothing_is_waited_for) {
    const auto copy = fe::query("copy t from stdin -- nothing to discard");
    const auto lost = be::error("ERROR", "08P01", "unexpected message type 0x50 during COPY from stdin") +
                      be::error("FATAL", "08P01", "terminating connection because protocol synchronization was lost");
    expect_script({client(copy), to_server(copy), server(be::copy_in), to_client(be::copy_in),
                   client(fe::parse("s", "x") + fe::sync), to_server(fe::parse("s", "x") + fe::sync), server(lost),
                   to_client(lost)});
}

TEST(prepared, a_deallocate_behind_a_discard_all_finds_nothing) {
    const auto dropped = be::complete("DISCARD ALL") + be::ready('I');
    const auto missing = be::error("ERROR", "26000", "prepared statement \"s\" does not exist") + be::ready('I');
    expect_script({client(fe::parse("s", "x") + fe::sync), to_server(fe::parse(one, "x") + fe::sync), server(prepared),
                   to_client(prepared), released, client(fe::query("discard all") + fe::query("deallocate s")),
                   to_server(fe::query("discard all")), server(dropped), to_client(dropped),
                   to_server(fe::query("deallocate s")), server(missing), to_client(missing), released});
}

TEST(prepared, what_comes_behind_a_discard_all_waits_even_without_a_name_yet) {
    const auto dropped = be::complete("DISCARD ALL") + be::ready('I');
    expect_script({client(fe::parse("s", "x") + fe::sync), to_server(fe::parse(one, "x") + fe::sync), server(prepared),
                   to_client(prepared), released, client(fe::close('S', "s") + fe::sync),
                   to_client(be::close_complete + be::ready('I')),
                   client(fe::query("discard all") + fe::parse("t", "x") + use("t") + fe::sync),
                   to_server(fe::query("discard all")), server(dropped), to_client(dropped),
                   to_server(fe::parse(two, "x") + use(two) + fe::sync)});
}

/// The server skips the Close that was to make room: it still has that statement, and is told so again.
TEST(prepared, room_that_was_not_made) {
    world around;
    around.settings.global.max_prepared_statements = 1;
    rig it(around);
    it.welcomed();
    it.client_sends(fe::parse("s", "x") + fe::sync);
    it.server_sends(prepared);
    EXPECT_EQ(it.take_server(), fe::parse(one, "x") + fe::sync);
    it.client_sends(fe::parse("", "broken") + fe::parse("t", "y") + fe::sync);
    EXPECT_EQ(it.take_server(), fe::parse("", "broken") + fe::close('S', one) + fe::parse(two, "y") + fe::sync);
    it.server_sends(be::error("ERROR", "42601", "syntax error") + be::ready('I'));
    it.client_sends(fe::parse("u", "z") + fe::sync);
    EXPECT_EQ(it.take_server(), fe::close('S', one) + fe::parse("PGSLUICE_3", "z") + fe::sync);
}

TEST(prepared, all_are_deallocated_when_the_server_says_so) {
    for (const auto *const tag : {"DISCARD ALL", "DEALLOCATE ALL"}) {
        const auto done = be::complete(tag) + be::ready('I');
        expect_script({client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
                       to_server(fe::parse(one, "x") + fe::sync), client(fe::query("whatever")),
                       to_server(fe::query("whatever")), server(done), to_client(done), released,
                       client(use("s") + fe::sync), to_server(close_unnamed + use("") + fe::sync)});
    }
}

// ---- made anew ----

const std::string changed = be::error("ERROR", "0A000", "cached plan must not change result type");
const std::string anew = fe::close('S', one) + fe::parse(one, "x");
const std::string made_anew = be::close_complete + be::parse_complete;

script after_prepared(script rest) {
    script all{client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
               to_server(fe::parse(one, "x") + fe::sync)};
    all.insert(all.end(), rest.begin(), rest.end());
    return all;
}

TEST(prepared_anew, a_batch_that_was_refused_at_its_start) {
    for (const auto *const code : {"0A000", "26000"}) {
        const auto refusal = be::error("ERROR", code, "prepared statement \"PGSLUICE_1\" does not exist");
        expect_script(
            after_prepared({client(use("s") + fe::sync), to_server(use(one) + fe::sync),
                            server(refusal + be::ready('I')), to_client(""), to_server(anew + use(one) + fe::sync),
                            server(made_anew + answered), to_client(answered), released}));
    }
}

TEST(prepared_anew, before_the_clients_sync) {
    expect_script(
        after_prepared({client(use("s") + fe::flush), to_server(use(one) + fe::flush), server(changed), to_client(""),
                        to_server(fe::sync), server(be::ready('I')), to_server(anew + use(one) + fe::flush),
                        server(made_anew + rows), to_client(rows), client(fe::sync), to_server(fe::sync),
                        server(be::ready('I')), to_client(be::ready('I')), released}));
}

TEST(prepared_anew, what_the_client_sends_meanwhile_comes_after) {
    expect_script(after_prepared({client(use("s")), to_server(use(one)), server(changed), to_server(fe::sync),
                                  client(fe::sync + fe::query("next")), to_server(""), server(be::ready('I')),
                                  to_server(anew + use(one) + fe::sync + fe::query("next")),
                                  server(made_anew + answered), to_client(answered)}));
}

TEST(prepared_anew, the_description_of_what_is_refused_is_not_shown) {
    const auto parameters = message('t', be16(0));
    expect_script(
        after_prepared({client(fe::describe('S', "s") + fe::sync), to_server(fe::describe('S', one) + fe::sync),
                        server(parameters), to_client(""), server(changed + be::ready('I')), to_client(""),
                        to_server(anew + fe::describe('S', one) + fe::sync),
                        server(made_anew + parameters + be::columns("a") + be::ready('I')),
                        to_client(parameters + be::columns("a") + be::ready('I')), released}));
    expect_script(after_prepared({client(fe::describe('S', "s") + fe::sync), server(parameters), to_client(""),
                                  server(be::no_data + be::ready('I')),
                                  to_client(parameters + be::no_data + be::ready('I')), released}));
}

TEST(prepared_anew, only_once) {
    expect_script(
        after_prepared({client(use("s") + fe::sync), to_server(use(one) + fe::sync), server(changed + be::ready('I')),
                        to_server(anew + use(one) + fe::sync), server(made_anew + changed + be::ready('I')),
                        to_client(changed + be::ready('I')), released, client(use("s") + fe::sync),
                        to_server(fe::parse(two, "x") + use(two) + fe::sync)}));
}

TEST(prepared_anew, not_when_something_has_run_or_more_is_on_its_way) {
    const auto begun = be::complete("BEGIN") + be::ready('T');
    expect_script(after_prepared({client(fe::query("begin")), server(begun), to_client(begun),
                                  client(use("s") + fe::sync), to_server(fe::query("begin") + use(one) + fe::sync),
                                  server(changed + be::ready('E')), to_client(changed + be::ready('E'))}));
    expect_script(after_prepared({client(use("s") + use("s") + fe::sync), to_server(use(one) + use(one) + fe::sync),
                                  server(rows + changed + be::ready('I')), to_client(rows + changed + be::ready('I')),
                                  released}));
    expect_script(after_prepared({client(use("s") + fe::sync + fe::query("next")),
                                  to_server(use(one) + fe::sync + fe::query("next")), server(changed + be::ready('I')),
                                  to_client(changed + be::ready('I'))}));
}

/// A client that was told of the rows of "s" and asks for those of "t" would read those of "s" by what it was told.
TEST(prepared_anew, not_a_batch_of_two_statements) {
    const auto description = be::parameter_description + be::columns("a");
    const auto told = be::parse_complete + description + be::parse_complete + be::ready('I');
    const auto second = fe::bind("", "t") + fe::describe('P', "") + fe::execute("");
    expect_script({client(fe::parse("s", "x") + fe::describe('S', "s") + fe::parse("t", "y") + fe::sync), server(told),
                   to_client(told),
                   to_server(fe::parse(one, "x") + fe::describe('S', one) + fe::parse(two, "y") + fe::sync),
                   client(use("s") + second + fe::sync),
                   to_server(use(one) + fe::bind("", two) + fe::describe('P', "") + fe::execute("") + fe::sync),
                   server(changed + be::ready('I')), to_client(changed + be::ready('I')), to_server(""), released});
}

/// Which requests the server skips can not be told: names end the connection, what needs none goes through as it is.
TEST(prepared, behind_a_copy_that_leaves_doubt) {
    world around;
    rig it(around, 1);
    it.welcomed();
    it.client_sends(fe::parse("", "copy") + use("") + fe::sync);
    it.take_server();
    it.server_sends(be::parse_complete + be::bind_complete + message('G', std::string("\0\0\0", 3)));
    it.client_sends(fe::copy_fail("enough") + fe::execute("") + fe::sync);
    it.take_server();
    it.server_sends(be::error("ERROR", "57014", "COPY from stdin failed"));
    it.take_client();
    it.client_sends(fe::parse("", "x") + use(""));
    EXPECT_EQ(it.take_server(), fe::parse("", "x") + use(""));
    it.client_sends(use("s") + fe::sync);
    EXPECT_EQ(it.take_client(), refused(refusal::statement_in_doubt));
    EXPECT_EQ(it.take_server(), "");
}

// ---- the unnamed one ----

TEST(prepared_unnamed, comes_along_to_another_server) {
    world around;
    rig it(around, 2);
    it.welcomed();
    it.client_sends(fe::parse("", "x") + fe::sync);
    it.server_sends(prepared);
    it.take_client();
    it.take_server();
    it.client_sends(use("") + fe::sync);
    EXPECT_EQ(it.take_server(), use("") + fe::sync) << "the same server still has it";
    it.server_sends(answered);
    it.rotate();
    it.take_client();
    it.client_sends(use("") + fe::sync);
    EXPECT_EQ(it.take_server(), fe::parse("", "x") + use("") + fe::sync);
    it.server_sends(be::parse_complete + answered);
    EXPECT_EQ(it.take_client(), answered);
}

/// The rows of a portal are those of what it was bound to, though the statement has been made anew since.
TEST(prepared_unnamed, a_portal_outlives_it) {
    const auto asked = fe::parse("", "x") + fe::bind("p", "") + fe::parse("", "y") + fe::describe('S', "") +
                       fe::describe('P', "p") + fe::sync;
    const auto told = be::parse_complete + be::bind_complete + be::parse_complete + be::parameter_description +
                      be::description({"y"}) + be::description({"x", "x"}) + be::ready('I');
    expect_script({client(asked), to_server(asked), server(told), to_client(told), client(use("") + fe::sync),
                   to_server(use("") + fe::sync), server(answered), to_client(answered), released});
}

TEST(prepared_unnamed, a_simple_query_ends_it) {
    const auto done = be::complete("SELECT 0") + be::ready('I');
    expect_script({client(fe::parse("", "x") + fe::sync), server(prepared), to_client(prepared),
                   to_server(fe::parse("", "x") + fe::sync), client(fe::query("q")), server(done), to_client(done),
                   to_server(fe::query("q")), client(use("") + fe::sync),
                   to_server(close_unnamed + use("") + fe::sync)});
}

/// A client that is told of one statement's rows while it makes another of that name was told nothing of the other's.
TEST(prepared_unnamed, a_description_is_of_what_it_was_asked_of) {
    const auto description = be::description({"a"});
    const auto first = be::parse_complete + be::parameter_description + description + be::ready('I');
    expect_script({client(fe::parse("", "x") + fe::describe('S', "") + fe::sync + fe::parse("", "y") + fe::sync),
                   to_server(fe::parse("", "x") + fe::describe('S', "") + fe::sync + fe::parse("", "y") + fe::sync),
                   server(first + prepared), to_client(first + prepared), client(use("") + fe::sync),
                   to_server(use("") + fe::sync)});
}

TEST(prepared, a_description_of_a_portal_is_of_what_was_bound) {
    const auto description = be::description({"a"});
    const auto both = fe::parse("s", "x") + fe::parse("t", "y");
    const auto answer = be::bind_complete + be::parameter_description + description + description + be::ready('I');
    expect_script({client(both + fe::sync), to_server(fe::parse(one, "x") + fe::parse(two, "y") + fe::sync),
                   server(be::parse_complete + prepared), to_client(be::parse_complete + prepared),
                   client(fe::bind("", "s") + fe::describe('S', "t") + fe::describe('P', "") + fe::sync),
                   to_server(fe::bind("", one) + fe::describe('S', two) + fe::describe('P', "") + fe::sync),
                   server(answer), to_client(answer), client(use("s") + fe::sync), to_server(use(one) + fe::sync)});
}

TEST(prepared_unnamed, one_too_long_to_be_remembered_streams_and_is_not_taken_for_another) {
    world around;
    rig it(around, 2);
    it.welcomed();
    const auto parse = fe::parse("", std::string(unnamed_statement_max_bytes + 1, 'x'));
    it.client_sends(parse.substr(0, 100));
    EXPECT_EQ(it.take_server(), parse.substr(0, 100));
    it.client_sends(parse.substr(100) + fe::sync);
    it.take_server();
    it.server_sends(prepared);
    it.client_sends(use("") + fe::sync);
    EXPECT_EQ(it.take_server(), use("") + fe::sync);
    it.server_sends(answered);
    it.rotate();
    it.client_sends(use("") + fe::sync);
    EXPECT_EQ(it.take_server(), close_unnamed + use("") + fe::sync);
}

TEST(prepared_unnamed, a_simple_query_ends_it_though_one_before_it_was_skipped) {
    const auto failed = be::parse_complete + be::error("ERROR", "34000", "portal does not exist") + be::ready('I');
    const auto done = be::complete("SELECT 0") + be::ready('I');
    const auto sent = fe::parse("", "x") + fe::execute("nowhere") + fe::query("q") + fe::sync + fe::query("r");
    expect_script({client(sent), to_server(sent), server(failed + done), to_client(failed + done),
                   client(use("") + fe::sync), to_server(close_unnamed + use("") + fe::sync)});
}

/// What it means for the one who made it is PostgreSQL's business; it can not be made anew.
TEST(prepared_unnamed, one_that_is_not_remembered_outlives_a_report) {
    world around;
    rig it(around);
    it.welcomed();
    const auto set = be::complete("SET") + be::ready('I');
    it.client_sends(fe::query("set") + fe::parse("", std::string(70'000, 'x')));
    it.take_server();
    it.server_sends(be::parameter("DateStyle", "German") + set);
    it.client_sends(use("") + fe::sync);
    EXPECT_EQ(it.take_server(), use("") + fe::sync);
}

// ---- bounds ----

TEST(prepared_bounds, the_server_closes_what_was_not_used_for_longest) {
    world around;
    around.settings.global.max_prepared_statements = 1;
    expect_script(around, {client(fe::parse("s", "x") + fe::sync), server(prepared), to_client(prepared),
                           to_server(fe::parse(one, "x") + fe::sync), client(fe::parse("t", "y") + fe::sync),
                           to_server(fe::close('S', one) + fe::parse(two, "y") + fe::sync),
                           server(be::close_complete + prepared), to_client(prepared), released});
}

TEST(prepared_bounds, a_named_one_that_is_too_long) {
    world around;
    rig it(around);
    it.welcomed();
    const auto missing = be::error("ERROR", "26000", "no") + be::ready('I');
    it.client_sends(header('P', 5 + named_statement_max_bytes + 4) + "s" + '\0');
    EXPECT_EQ(it.take_server(), close_unnamed + fe::describe('S', ""));
    it.client_sends(std::string(named_statement_max_bytes + 4 + 1 - 2, 'x') + fe::sync);
    EXPECT_EQ(it.take_server(), fe::sync);
    it.server_sends(be::close_complete + missing);
    EXPECT_EQ(it.take_client(), refused(refusal::statement_too_long) + be::ready('I'));
    EXPECT_FALSE(it.client_gone);
}

/// What the heap holds; 0 where a sanitizer has taken its place.
std::size_t heap_bytes() {
    const auto now = ::mallinfo2();
    return now.uordblks + now.hblkhd;
}

TEST(prepared_bounds, a_long_one_is_not_kept_by_each_server_that_it_was_sent_to) {
    world around;
    rig it(around, 4);
    it.welcomed();
    constexpr std::size_t bytes = 8 << 20;
    it.client_sends(fe::parse("s", std::string(bytes, 'x')) + fe::sync);
    it.server_sends(prepared);
    const auto before = heap_bytes();
    for (int others = 0; others < 3; ++others) {
        it.rotate();
        it.client_sends(use("s") + fe::sync);
        EXPECT_GT(it.take_server().size(), bytes);
        it.server_sends(be::parse_complete + answered);
    }
    EXPECT_LT(heap_bytes(), before + bytes);
}

TEST(prepared_bounds, a_long_name_is_not_kept_by_a_client_that_waits) {
    world around;
    rig it(around);
    it.welcomed();
    constexpr std::size_t bytes = 8 << 20;
    it.client_sends(fe::parse("s", "x") + fe::sync);
    it.server_sends(prepared);
    it.client_sends(fe::bind(std::string(bytes, 'p'), "s") + fe::sync);
    it.take_server();
    const auto before = heap_bytes();
    it.server_sends(be::bind_complete + be::ready('I'));
    EXPECT_EQ(it.server(), nullptr);
    if (before != 0) {
        EXPECT_LE(heap_bytes() + 2 * bytes, before) << "what it had sent, and the portal's name";
    }
}

TEST(prepared_bounds, a_name_counts_up_to_63_bytes) {
    const std::string name(63, 'n');
    expect_script({client(fe::parse(name + "a", "x") + fe::sync), to_server(fe::parse(one, "x") + fe::sync),
                   server(prepared), to_client(prepared), client(use(name + "b") + fe::sync),
                   to_server(use(one) + fe::sync)});
}

}  // namespace
}  // namespace pgsluice::core
