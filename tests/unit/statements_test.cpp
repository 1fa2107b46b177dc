// The three books of prepared statements, and DEALLOCATE as SQL spells it. What is sent for them: client_session and
// server_session, tested in client_statements_test.cpp.
#include "core/statements.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "support/seed.hpp"

namespace pgsluice::core {
namespace {

using then = client_statements::on_failure;

shared_statement made(std::string body) {
    return std::make_shared<const statement>(statement{std::move(body), 0, true});
}
shared_parameters parameters() {
    return std::make_shared<const parameter_set>();
}

// ---- the store ----

TEST(statement_store, keeps_one_copy_of_equal_ones) {
    statement_store store;
    const auto a = store.intern("select 1"), b = store.intern("select 1"), c = store.intern("select 2");
    EXPECT_EQ(a, b);
    EXPECT_NE(a, c);
    EXPECT_EQ(a->body, "select 1");
}

TEST(statement_store, forgets_what_nobody_holds) {
    statement_store store;
    for (int i = 0; i < 100'000; ++i) {
        store.intern(std::to_string(i));
        ASSERT_LE(store.size(), 128U);
    }
}

TEST(statement_store, forgets_what_many_names_held) {
    statement_store store;
    std::vector<shared_statement> held;
    for (int i = 0; i < 1000; ++i) held.push_back(store.intern(std::to_string(i)));
    held.resize(10);
    store.let_go(400);
    EXPECT_EQ(store.size(), 1000U) << "a look at all of them for a few would cost more than it brings";
    store.let_go(590);
    EXPECT_EQ(store.size(), 10U);
}

// ---- a client's book ----

TEST(client_statements_book, a_change_holds_at_once_and_is_settled_by_the_answer) {
    client_statements book;
    const auto first = made("a"), second = made("b");
    book.change("s", first, 1, then::undo);
    EXPECT_EQ(book.find("s")->now, first);
    EXPECT_EQ(book.find("s")->pending, 1U);
    book.settle("d");
    EXPECT_EQ(book.find("s")->pending, 0U);
    book.change("s", nullptr, 2, then::keep);
    book.change("s", second, 2, then::undo);
    EXPECT_EQ(book.find("s")->now, second);
    book.settle("dd");
    EXPECT_EQ(book.find("s")->now, second);
    EXPECT_EQ(book.count(), 1U);
    EXPECT_EQ(book.bytes(), 2 + statement_overhead_bytes);
}

TEST(client_statements_book, counts_names_and_what_each_takes) {
    client_statements book;
    const auto empty = made("");
    for (int i = 10; i < 60; ++i) {
        book.change("s" + std::to_string(i), empty, 1, then::undo);
        book.settle("d");
    }
    EXPECT_EQ(book.bytes(), 50 * (3 + statement_overhead_bytes));
    book.drop_all_named();
    EXPECT_EQ(book.bytes(), 0U);
}

TEST(client_statements_book, what_was_skipped_is_undone) {
    client_statements book;
    const auto first = made("a");
    book.change("s", first, 1, then::undo);
    book.settle("d");
    book.change("s", nullptr, 2, then::keep);
    book.change("s", made("bb"), 2, then::undo);
    book.change("t", made("c"), 2, then::undo);
    book.settle("xxx");
    EXPECT_EQ(book.find("s")->now, first);
    EXPECT_EQ(book.find("t"), nullptr);
    EXPECT_EQ(book.bytes(), client_statements::cost_bytes("s", 1));
    EXPECT_EQ(book.count(), 1U);
}

TEST(client_statements_book, a_failure_leaves_what_its_message_leaves) {
    client_statements book;
    const auto first = made("a");
    book.change("", first, 1, then::clear);
    book.settle("d");
    book.change("", made("b"), 2, then::clear);  // an unnamed Parse that fails has ended the one before
    book.settle("f");
    EXPECT_EQ(book.find("")->now, nullptr);
    book.change("s", first, 3, then::undo);
    book.settle("d");
    book.change("s", nullptr, 4, then::undo);  // DEALLOCATE in an aborted transaction
    book.settle("f");
    EXPECT_EQ(book.find("s")->now, first);
    book.change("s", nullptr, 5, then::keep);  // a simple query, for the unnamed one
    book.settle("f");
    EXPECT_EQ(book.find("s"), nullptr);
}

TEST(client_statements_book, an_undone_change_under_a_later_one) {
    client_statements book;
    const auto first = made("a"), third = made("c");
    book.change("", first, 1, then::clear);
    book.settle("d");
    book.change("", made("b"), 2, then::clear);
    book.change("", third, 3, then::clear);
    book.settle("x");
    EXPECT_EQ(book.find("")->now, third) << "the later one stands";
    book.settle("x");
    EXPECT_EQ(book.find("")->now, first) << "and when it falls, what was before both is there";
}

/// More than a client may send: were each looked for among those behind it, this would take minutes.
TEST(client_statements_book, undoes_very_many_changes) {
    constexpr std::size_t names = 100'000;
    client_statements book;
    const auto first = made("a"), second = made("bb");
    const auto name = [](std::size_t number) { return "s" + std::to_string(number); };
    for (std::size_t i = 0; i < names; ++i) book.change(name(i), i % 2 == 0 ? first : nullptr, 1, then::undo);
    book.settle(std::string(names, 'd'));
    const auto bytes = book.bytes();
    for (std::size_t i = 0; i < names; ++i) book.change(name(i), nullptr, 2, then::keep);
    for (std::size_t i = 0; i < names; ++i) book.change(name(i), second, 2, then::undo);
    EXPECT_EQ(book.count(), names);
    // In pieces, so that settled ones are taken out while later ones of the same names are open.
    book.settle("f");
    for (std::size_t left = 2 * names - 1; left > 0; left -= std::min<std::size_t>(left, 30'000))
        book.settle(std::string(std::min<std::size_t>(left, 30'000), 'x'));
    EXPECT_EQ(book.find(name(0)), nullptr) << "its Close failed, which leaves it closed";
    for (std::size_t i = 1; i < names; ++i) {
        const auto *const slot = book.find(name(i));
        ASSERT_EQ(slot == nullptr ? nullptr : slot->now, i % 2 == 0 ? first : nullptr);
    }
    EXPECT_EQ(book.count(), names / 2 - 1);
    EXPECT_EQ(book.bytes(), bytes - client_statements::cost_bytes(name(0), 1));
}

TEST(client_statements_book, all_named_ones_at_once) {
    client_statements book;
    book.change("a", made("a"), 1, then::undo);
    book.change("", made("u"), 1, then::clear);
    book.settle("dd");
    book.change("late", made("l"), 2, then::undo);
    book.change("a", nullptr, 2, then::keep);
    book.drop_all_named();
    EXPECT_EQ(book.find("a")->now, nullptr);
    EXPECT_TRUE(book.find("late")->now) << "its Parse comes after";
    book.settle("dx");
    EXPECT_EQ(book.find("a"), nullptr) << "what was dropped does not come back";
    EXPECT_TRUE(book.find("")->now);
}

/// Random batches against a model that applies each message when its outcome is known, as PostgreSQL does.
TEST(client_statements_book, follows_a_model_through_random_batches) {
    const auto first = test::seed(1);
    for (std::uint64_t seed = first; seed < first + 2'000; ++seed) {
        std::mt19937_64 random(seed);
        const auto pick = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
        client_statements book;
        std::map<std::string, shared_statement> truth;
        const std::string names[] = {"", "a", "b"};
        for (std::uint64_t batch = 1; batch < 12; ++batch) {
            struct one {
                std::string name;
                shared_statement to;
                then after;
            };
            std::vector<one> all;
            const auto count = 1 + pick(5);
            for (unsigned i = 0; i < count; ++i) {
                const auto kind = static_cast<then>(pick(3));
                all.push_back({names[pick(3)], pick(2) == 0 ? nullptr : made(std::to_string(random())), kind});
                book.change(all.back().name, all.back().to, batch, all.back().after);
            }
            const auto fails_at = pick(2) == 0 ? count : pick(count);
            std::string outcomes;
            for (unsigned i = 0; i < count; ++i) {
                outcomes += i < fails_at ? 'd' : i == fails_at ? 'f' : 'x';
                if (i > fails_at) continue;
                if (i < fails_at || all[i].after == then::keep) truth[all[i].name] = all[i].to;
                if (i == fails_at && all[i].after == then::clear) truth[all[i].name] = nullptr;
            }
            book.settle(outcomes);
            for (const auto &name : names) {
                const auto *const slot = book.find(name);
                ASSERT_EQ(slot == nullptr ? nullptr : slot->now, truth[name]) << "PGSLUICE_TEST_SEED=" << seed;
            }
        }
        std::size_t bytes = 0;
        for (const auto &[name, what] : truth)
            bytes += what ? client_statements::cost_bytes(name, what->body.size()) : 0;
        ASSERT_EQ(book.bytes(), bytes) << "PGSLUICE_TEST_SEED=" << seed;
    }
}

// ---- a server's book ----

TEST(server_statements_book, knows_a_statement_by_text_and_meaning) {
    statement_store store;
    server_statements book;
    const auto with_zone = [&](std::string_view zone) {
        auto set = std::make_shared<parameter_set>();
        set->put({.name = "TimeZone", .value = zone, .reported = true, .confirmed = true});
        return shared_parameters(set);
    };
    const auto utc = with_zone("UTC"), also_utc = with_zone("UTC"), cet = with_zone("CET");
    const auto text = store.intern("select now()");
    auto &entry = book.add(text, utc, 1, 1);
    book.settle(entry.number, outcome::done, 1);
    EXPECT_EQ(book.find(text, utc), &entry);
    EXPECT_EQ(book.find(text, also_utc), &entry);
    EXPECT_EQ(book.find(text, cet), nullptr);
    EXPECT_EQ(book.find(store.intern("select 1"), utc), nullptr);
    statement_store elsewhere;  // another worker's copy
    EXPECT_EQ(book.find(elsewhere.intern("select now()"), utc), &entry);
}

TEST(server_statements_book, tells_very_many_apart) {
    statement_store store;
    server_statements book;
    const auto now = parameters();
    std::vector<shared_statement> texts;
    for (int i = 0; i < 2000; ++i) texts.push_back(store.intern("select " + std::to_string(i)));
    for (const auto &text : texts) {
        ASSERT_EQ(book.find(text, now), nullptr) << text->body;
        const auto number = book.add(text, now, 1, 1).number;
        book.settle(number, outcome::done, 1);
        ASSERT_EQ(book.find(text, now), book.at(number)) << text->body;
    }
    for (const auto &text : texts) ASSERT_EQ(book.find(text, now)->what->body, text->body);
}

TEST(server_statements_book, what_was_found_last_is_found_only_as_long_as_it_is_there) {
    statement_store store;
    const auto now = parameters();
    const auto what = store.intern("a"), other = store.intern("b");
    using change = void (*)(server_statements &, std::uint64_t number);
    const change changes[] = {
        [](server_statements &book, std::uint64_t number) { book.settle(number, outcome::failed, 2); },
        [](server_statements &book, std::uint64_t number) { EXPECT_EQ(book.evict(1, 2), number); },
        [](server_statements &book, std::uint64_t number) {
            EXPECT_EQ(book.evict(1, 2), number);
            book.evicted(number, false);
        },
        [](server_statements &book, std::uint64_t) { book.drop_all(); },
        [](server_statements &book, std::uint64_t) { book.all_stale(); },
        [](server_statements &book, std::uint64_t) { book.meaning_changed(1); },
        [](server_statements &book, std::uint64_t) { book.link_over(1); },
    };
    for (const auto what_happens : changes) {
        server_statements book;
        const auto number = book.add(what, now, 1, 1).number;
        book.settle(number, outcome::done, 1);
        ASSERT_NE(book.find(what, now), nullptr);
        EXPECT_EQ(book.find(what, now), book.at(number));
        EXPECT_EQ(book.find(what, now, false, 2), nullptr) << "of another link";
        EXPECT_EQ(book.find(other, now), nullptr);
        what_happens(book, number);
        EXPECT_EQ(book.find(what, now), nullptr);
        const auto again = book.add(what, now, 3, 3).number;
        EXPECT_EQ(book.find(what, now), book.at(again));
        EXPECT_EQ(book.find(what, now)->number, again);
    }
}

TEST(server_statements_book, a_parse_that_was_not_done_leaves_nothing) {
    statement_store store;
    server_statements book;
    const auto now = parameters();
    for (const auto how : {outcome::failed, outcome::dropped}) {
        const auto number = book.add(store.intern("x"), now, 1, 1).number;
        book.settle(number, how, 1);
        EXPECT_EQ(book.size(), 0U);
        EXPECT_EQ(book.bytes(), 0U);
    }
}

TEST(server_statements_book, the_least_recently_used_goes_first_and_nothing_in_use) {
    statement_store store;
    server_statements book;
    const auto now = parameters();
    const auto add = [&](std::string_view text, std::uint64_t link) {
        return book.add(store.intern(text), now, 1, link).number;
    };
    const auto a = add("a", 1), b = add("b", 1), c = add("c", 1);
    EXPECT_EQ(book.evict(3, 1), 0U) << "all in use";
    book.touch(*book.find(store.intern("a"), now), 2);
    EXPECT_EQ(book.evict(4, 2), 0U) << "there is room";
    EXPECT_EQ(book.evict(3, 2), b);
    EXPECT_EQ(book.evict(2, 2), c);
    EXPECT_EQ(book.evict(1, 2), 0U) << "in use";
    EXPECT_EQ(book.evict(1, 3), a);
    EXPECT_EQ(book.evict(1, 3), 0U);
}

TEST(server_statements_book, what_a_client_has_closed_is_not_in_use) {
    statement_store store;
    server_statements book;
    const auto now = parameters();
    const auto a = store.intern("a");
    const auto kept = book.add(store.intern("kept"), now, 1, 1).number, closed = book.add(a, now, 1, 1).number;
    book.let_go(a);
    EXPECT_EQ(book.evict(2, 1), closed) << "within the link that made it, and behind one that is in use";
    EXPECT_EQ(book.evict(1, 1), 0U);
    EXPECT_EQ(book.evict(1, 2), kept);
}

TEST(server_statements_book, what_could_not_be_evicted_is_there_and_not_used) {
    statement_store store;
    server_statements book;
    const auto now = parameters();
    const auto a = store.intern("a");
    const auto number = book.add(a, now, 1, 1).number;
    book.settle(number, outcome::done, 1);
    const auto bytes = book.bytes();
    EXPECT_EQ(book.evict(1, 2), number);
    EXPECT_EQ(book.find(a, now, true), nullptr) << "its Close is under way";
    EXPECT_EQ(book.bytes(), 0U);
    book.evicted(number, false);
    EXPECT_EQ(book.bytes(), bytes);
    EXPECT_EQ(book.find(a, now), nullptr);
    EXPECT_EQ(book.evict(1, 2), number) << "it goes first";
    book.evicted(number, true);
    EXPECT_EQ(book.size(), 0U);
    EXPECT_EQ(book.what(number), nullptr);
}

TEST(server_statements_book, is_bounded_in_bytes_too) {
    statement_store store;
    server_statements book;
    const auto now = parameters();
    const std::string big(server_statements_max_bytes / 2, 'x');
    const auto first = book.add(store.intern(big + "1"), now, 1, 1).number;
    EXPECT_EQ(book.evict(100, 2), 0U);
    book.add(store.intern(big + "2"), now, 1, 2);
    EXPECT_EQ(book.evict(100, 2), first);
}

TEST(server_statements_book, counts_what_short_ones_take) {
    statement_store store;
    server_statements book;
    const auto empty = store.intern("");
    for (int i = 0; i < 50; ++i) book.add(empty, parameters(), 1, 1);
    EXPECT_EQ(book.bytes(), 50 * statement_overhead_bytes);
    book.all_stale();
    book.settle(1, outcome::dropped, 1);
    EXPECT_EQ(book.bytes(), 49 * statement_overhead_bytes);
}

TEST(server_statements_book, stale_ones_are_not_found) {
    statement_store store;
    server_statements book;
    const auto now = parameters();
    const auto a = store.intern("a"), b = store.intern("b");
    book.settle(book.add(a, now, 1, 1).number, outcome::done, 7);
    book.settle(book.add(b, now, 1, 1).number, outcome::done, 8);
    book.meaning_changed(8);
    EXPECT_NE(book.find(a, now), nullptr);
    EXPECT_EQ(book.find(b, now), nullptr) << "prepared in the round in which the parameters changed";
    book.all_stale();
    EXPECT_EQ(book.find(a, now), nullptr);
    EXPECT_EQ(book.size(), 2U) << "they go as room is needed";
}

TEST(server_statements_book, all_dropped_but_what_is_under_way) {
    statement_store store;
    server_statements book;
    const auto now = parameters();
    book.settle(book.add(store.intern("a"), now, 1, 1).number, outcome::done, 1);
    book.add(store.intern("b"), now, 1, 1);
    book.drop_all();
    EXPECT_EQ(book.find(store.intern("a"), now), nullptr);
    EXPECT_NE(book.find(store.intern("b"), now), nullptr);
}

// ---- DEALLOCATE ----

/// It is looked for in pieces of 32 bytes: none may fall between two of them, or behind the last.
TEST(may_drop_statements, at_every_place_in_every_case) {
    for (const std::string word : {"discard", "DISCARD", "DisCard", "deallocate", "DEALLOCATE", "dEALLOCATe"}) {
        for (std::size_t before = 0; before < 130; ++before) {
            for (const std::size_t behind : {0U, 1U, 5U, 31U, 32U, 33U, 70U}) {
                const auto sql = std::string(before, ' ') + word + std::string(behind, ';');
                // Its own memory, without room behind: a look beyond the end is a sanitizer's to see.
                const std::vector<char> exact(sql.begin(), sql.end());
                EXPECT_TRUE(may_drop_statements({exact.data(), exact.size()})) << sql;
            }
        }
    }
    for (const std::string none :
         {"", "d", "discar", "discards", "select distinct a from dealt", "deallocated", "dis"}) {
        for (std::size_t before = 0; before < 70; ++before) {
            EXPECT_FALSE(may_drop_statements(std::string(before, ' ') + none)) << none << before;
        }
    }
}

TEST(deallocated_name, as_postgresql_reads_it) {
    const std::pair<std::string_view, std::string_view> table[] = {
        {"deallocate s", "s"},
        {"DEALLOCATE PREPARE s", "s"},
        {"  dealloCATE\n\tS1 ; ", "s1"},
        {"deallocate \"S1\"", "S1"},
        {"deallocate \"a\"\"b\"", "a\"b"},
        {"deallocate prepare", "prepare"},
        {"deallocate prepare prepare", "prepare"},
        {"deallocate \"all\"", "all"},
        {"deallocate prepare \"all\"", "all"},
        {"deallocate _x$1", "_x$1"},
        {"/* a /* b */ c */ deallocate -- s\nt -- u", "t"},
        {"deallocate/**/s/***/;--", "s"},
        {"; ;deallocate s;;", "s"},
        // Not one of those: the server sees it as it is.
        {"deallocate all", ""},
        {"deallocate prepare ALL", ""},
        {"deallocate", ""},
        {"deallocate 1", ""},
        {"deallocate s; select 1", ""},
        {"deallocate s t", ""},
        {"deallocate \"s", ""},
        {"deallocate -- s", ""},
        {"/* deallocate s", ""},
        {"deallocate s /* no end", ""},
        {"deallocate s /*/", ""},
        {"deallocates", ""},
        {"select 1", ""},
        {"", ""},
        {"d", ""},
    };
    for (const auto &[sql, name] : table) EXPECT_EQ(deallocated_name(sql), name) << sql;
}

}  // namespace
}  // namespace pgsluice::core
