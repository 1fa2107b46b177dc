// The queue of owed replies: by hand, every type against every head, and 100 000 random pipelines against a model of
// PostgreSQL's main loop (support/backend_model.hpp) with random timing between what is sent and what is heard.
#include "core/owed_replies.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>

#include "support/backend_model.hpp"
#include "support/seed.hpp"

namespace pgsluice::core {
namespace {

using test::backend_model;
using test::heard;
using test::told;

constexpr std::string_view may_come_any_time = "NSA";

/// Sends by letters: P B D E C S Q F, k = a known Parse, c = the end of a COPY; hears replies by letters; returns the
/// fates as letters.
struct conversation {
    owed_replies owed;

    static request of(char type) {
        switch (type) {
            case 'P':
                return request::parse;
            case 'B':
                return request::bind;
            case 'D':
                return request::describe;
            case 'E':
                return request::execute;
            case 'C':
                return request::close;
            case 'S':
                return request::sync;
            case 'Q':
                return request::query;
            case 'F':
                return request::function_call;
            case 'k':
                return request::known_parse;
            default:
                return request::copy_end;
        }
    }
    conversation &send(std::string_view types, asker who = asker::client) {
        for (const char type : types) owed.sent(of(type), who);
        return *this;
    }
    std::string hear(std::string_view types) {
        std::string fates;
        for (const char type : types) {
            const auto fate = owed.received(type);
            fates += fate == fate::to_client   ? 'c'
                     : fate == fate::swallow   ? 'p'
                     : fate == fate::violation ? '!'
                     : fate == fate::hold      ? 'h'
                                               : '1';
        }
        return fates;
    }
};

TEST(owed_replies, settles_after_each_kind_of_request) {
    struct {
        std::string_view sent, heard;
    } const table[] = {
        {"Q", "TDDCZ"},  {"Q", "IZ"},       {"Q", "CTDCCZ"},     {"Q", "EZ"},          {"Q", "TDEZ"},
        {"S", "Z"},      {"SS", "ZZ"},      {"PS", "1Z"},        {"PBDES", "12TDCZ"},  {"PBDES", "12nCZ"},
        {"PDS", "1tTZ"}, {"PDS", "1tnZ"},   {"BES", "2sZ"},      {"BES", "2IZ"},       {"CS", "3Z"},
        {"F", "VZ"},     {"F", "EZ"},       {"PBES", "EZ"},      {"PBES", "12EZ"},     {"PBESPBES", "EZ12CZ"},
        {"S", "EZ"},     {"PQ", "1TDCZ"},   {"PBEQ", "12CTDCZ"}, {"Q", "HddcCZ"},      {"BES", "2HdcCZ"},
        {"Qc", "GCZ"},   {"QcQ", "GCZTCZ"}, {"Qcc", "GCGCZ"},    {"QcSc", "GCGCZ"},    {"QcS", "GEZZ"},
        {"EcS", "GCZ"},  {"EcS", "GEZ"},    {"EScS", "GCZ"},     {"PBESdcS", "12GCZ"},
    };
    for (const auto &it : table) {
        conversation c;
        c.send(it.sent);
        for (const char type : it.heard) {
            EXPECT_FALSE(c.owed.settled()) << it.sent << " " << it.heard << " before " << type;
            EXPECT_EQ(c.hear(std::string(1, type)), "c") << it.sent << " " << it.heard << " at " << type;
        }
        EXPECT_TRUE(c.owed.settled()) << it.sent << " " << it.heard;
    }
}

TEST(owed_replies, an_open_batch_is_not_settled) {
    for (const std::string_view sent : {"P", "PB", "PBE", "C", "QP", "SP"}) {
        conversation c;
        c.send(sent);
        for (const char type : sent)
            c.hear(type == 'P' ? "1" : type == 'B' ? "2" : type == 'C' ? "3" : type == 'S' ? "Z" : "CZ");
        EXPECT_EQ(c.owed.settled(), false) << sent;
        EXPECT_TRUE(c.owed.batch_open()) << sent;
        c.send("S").hear("Z");
        EXPECT_TRUE(c.owed.settled()) << sent;
    }
}

TEST(owed_replies, skips_to_the_sync_after_an_error) {
    conversation c;
    EXPECT_EQ(c.send("PBE").hear("1E"), "cc");
    EXPECT_TRUE(c.owed.skipping());
    EXPECT_EQ(c.send("PBEQF").owed.owed(), 0U);  // the server drops them unread
    EXPECT_FALSE(c.owed.settled());
    EXPECT_EQ(c.send("S").hear("Z"), "c");
    EXPECT_TRUE(c.owed.settled());
}

TEST(owed_replies, a_copy_whose_sync_was_eaten_leaves_the_batch_open) {
    conversation c;  // the Sync right behind Execute, as libpq's PQexecParams sends it, then the data
    c.send("PBES").hear("12G");
    c.send("c").hear("C");
    EXPECT_FALSE(c.owed.settled());
    EXPECT_TRUE(c.owed.batch_open());
    c.send("S").hear("Z");
    EXPECT_TRUE(c.owed.settled());
}

TEST(owed_replies, the_second_copy_of_a_query_has_its_own_end) {
    conversation c;  // both CopyDone are sent before the first COPY is answered, with a Sync behind each
    c.send("Q").hear("G");
    c.send("cSccS");
    EXPECT_EQ(c.hear("CGCZZ"), "ccccc");
    EXPECT_TRUE(c.owed.settled());
}

TEST(owed_replies, a_request_behind_a_copy_that_fails_has_its_own_copy_end) {
    // The first COPY fails by its data before it reads the Query behind it; CopyDone and Sync are for the second one.
    for (const std::size_t heard_before : {0U, 1U, 2U, 3U, 4U}) {
        conversation c;
        const std::string sent = "QQcS", heard = "GEZGCZZ";
        c.send(sent.substr(0, 1 + heard_before / 2));
        std::size_t at = 0;
        for (; at < heard_before; ++at) EXPECT_EQ(c.hear(heard.substr(at, 1)), "c");
        c.send(sent.substr(1 + heard_before / 2));
        for (; at < heard.size(); ++at) EXPECT_EQ(c.hear(heard.substr(at, 1)), "c") << heard_before << " " << at;
        EXPECT_TRUE(c.owed.settled()) << heard_before;
    }
    conversation extended;  // the batch of the first skips to the Sync, CopyDone and all
    extended.send("E").hear("G");
    extended.send("BcS");
    EXPECT_EQ(extended.hear("EZ"), "cc");
    EXPECT_TRUE(extended.owed.settled());
}

TEST(owed_replies, doubt_about_what_is_ours_is_a_violation) {
    for (const bool known_parse : {false, true}) {
        conversation c;
        c.send("E").hear("G");
        c.send("S");
        if (known_parse) {
            c.send("k");
        } else {
            c.send("C", asker::pooler).send("B");
        }
        c.send("S");
        EXPECT_EQ(c.hear("EZ"), "cc");  // so much is the client's in any case
        EXPECT_TRUE(c.owed.doubtful());
        EXPECT_FALSE(c.owed.needs_sounding());
        EXPECT_EQ(c.hear("3"), "!");
    }
}

TEST(owed_replies, a_copy_that_failed_with_a_sync_under_way_is_sounded) {
    struct {
        std::string_view kind, heard, fates;
        bool skipping;
    } const table[] = {
        {"E", "Z3Z", "hpp", true},     // the COPY ate the Sync: the batch waits for another one
        {"E", "ZZ3Z", "hhpp", false},  // the error came first, and the Sync ended its batch
        {"Q", "ZZ3Z", "hhpp", false},
        {"Q", "ZZZ3Z", "hhhpp", false},
    };
    for (const auto &it : table) {
        conversation c;
        c.send(it.kind).hear("G");
        c.send("S");
        EXPECT_EQ(c.hear("E"), "c");
        EXPECT_TRUE(c.owed.needs_sounding());
        c.owed.sounded();
        EXPECT_FALSE(c.owed.needs_sounding());
        EXPECT_EQ(c.hear(it.heard), it.fates) << it.kind;
        EXPECT_FALSE(c.owed.doubtful());
        EXPECT_EQ(c.owed.skipping(), it.skipping);
        if (it.skipping) {
            EXPECT_EQ(c.send("S").hear("Z"), "c");
        }
        EXPECT_TRUE(c.owed.settled());
    }
}

TEST(owed_replies, the_first_reply_behind_the_syncs_of_a_copy_tells_how_many_it_had_eaten) {
    for (const std::string_view heard : {"", "Z", "ZZ"}) {
        conversation simple;
        simple.send("Q").hear("G");
        simple.send("SScQ");
        EXPECT_EQ(simple.hear("EZ"), "cc");
        EXPECT_EQ(simple.hear(heard), std::string(heard.size(), 'c'));
        EXPECT_FALSE(simple.owed.doubtful());
        EXPECT_EQ(simple.hear("CZ"), "cc");
        EXPECT_TRUE(simple.owed.settled());
        EXPECT_EQ(simple.hear("Z"), "!") << "no Sync is left in doubt";

        conversation extended;
        extended.send("E").hear("G");
        extended.send("SScSS").send("C", asker::pooler).send("BS");
        EXPECT_EQ(extended.hear("EZZ"), "ccc");
        EXPECT_EQ(extended.hear(heard), std::string(heard.size(), 'c'));
        EXPECT_EQ(extended.hear("32Z"), "pcc");
        EXPECT_TRUE(extended.owed.settled());
    }
    conversation few;
    few.send("E").hear("G");
    few.send("SScSSB");
    EXPECT_EQ(few.hear("EZ"), "cc");
    EXPECT_EQ(few.hear("2"), "!") << "two must have been answered";
}

TEST(owed_replies, more_ends_than_there_were_syncs_are_a_violation) {
    for (const auto &[kind, heard] : {std::pair{"E", "ZZZ"}, std::pair{"Q", "ZZZZ"}}) {
        conversation c;
        c.send(kind).hear("G");
        c.send("S");
        c.hear("E");
        c.owed.sounded();
        EXPECT_EQ(c.hear(heard).back(), '!') << kind;
    }
}

TEST(owed_replies, doubt_about_more_than_syncs_is_forwarded_and_never_settles) {
    conversation c;
    c.send("E").hear("G");
    c.send("ScQ");  // a query behind what the COPY may have eaten: its answers can not be told from others
    EXPECT_EQ(c.hear("E"), "c");
    EXPECT_TRUE(c.owed.doubtful());
    EXPECT_FALSE(c.owed.needs_sounding());
    EXPECT_EQ(c.hear("ZZ"), "cc");
    c.send("QPBES");
    EXPECT_EQ(c.hear("Z12TDCCZ"), "cccccccc");
    EXPECT_EQ(c.hear("\x7f"), "!");
    EXPECT_FALSE(c.owed.settled());
    EXPECT_EQ(c.owed.owed(), 0U);
    EXPECT_FALSE(c.owed.batch_open());
}

TEST(owed_replies, an_error_nobody_asked_for_is_told_and_is_the_end) {
    conversation c;
    EXPECT_EQ(c.hear("E"), "c");
    EXPECT_FALSE(c.owed.settled());
}

TEST(owed_replies, what_the_pooler_asked_is_swallowed) {
    conversation c;
    c.send("Q", asker::pooler).send("Q", asker::pooler).send("Q");
    EXPECT_EQ(c.hear("CZCEZ"), "ppppp");
    EXPECT_EQ(c.hear("TDCZ"), "cccc");
    c.send("C", asker::pooler).send("BES");
    EXPECT_EQ(c.owed.next_asker(), asker::pooler);
    EXPECT_EQ(c.hear("32CZ"), "pccc");
    EXPECT_TRUE(c.owed.settled());
}

TEST(owed_replies, an_error_at_our_message_in_a_clients_batch_is_the_clients) {
    conversation c;
    c.send("C", asker::pooler).send("BES");
    EXPECT_EQ(c.hear("EZ"), "cc");
    EXPECT_TRUE(c.owed.settled());
}

/// What ended, by letters: d done, f failed, x dropped.
std::string ends(owed_replies &owed) {
    std::string all(owed.outcomes());
    owed.clear_outcomes();
    return all;
}

TEST(owed_replies, tells_how_noted_requests_end) {
    struct {
        std::string_view sent, heard, ended;
    } const table[] = {
        {"PPS", "11Z", "dd"},   {"PBPS", "1EZ", "dx"},  {"PPS", "EZ", "fx"},
        {"PSPS", "EZ1Z", "fd"}, {"PSPS", "1ZEZ", "df"}, {"PBESPS", "12EZEZ", "df"},
        {"PQ", "1EZ", "d"},     {"PBEQPS", "EZ", "fx"}, {"PkS", "13Z", "dd"},
    };
    for (const auto &it : table) {
        conversation c;
        for (const char type : it.sent) c.owed.sent(conversation::of(type), asker::client, type == 'P' || type == 'k');
        c.hear(it.heard);
        EXPECT_EQ(ends(c.owed), it.ended) << it.sent << " " << it.heard;
        EXPECT_TRUE(c.owed.settled()) << it.sent;
    }
}

TEST(owed_replies, a_query_that_fails_has_failed_once) {
    conversation c;
    c.owed.sent(request::query, asker::client, true);
    c.hear("TDEZ");
    EXPECT_EQ(ends(c.owed), "f");
}

TEST(owed_replies, a_known_parse_is_answered_by_a_close) {
    conversation c;
    c.send("kBS");
    EXPECT_EQ(c.hear("3"), "1");
    EXPECT_EQ(c.hear("2Z"), "cc");
    EXPECT_EQ(c.send("kS").hear("EZ"), "cc");
}

TEST(owed_replies, numbers_batches_by_their_ends) {
    conversation c;
    const auto first = c.owed.batch();
    c.send("PBE");
    EXPECT_EQ(c.owed.batch(), first);
    EXPECT_TRUE(c.owed.last_batch());
    EXPECT_FALSE(c.owed.end_owed());
    c.send("S");
    EXPECT_NE(c.owed.batch(), first);
    EXPECT_TRUE(c.owed.end_owed());
    EXPECT_TRUE(c.owed.last_batch());
    c.send("P");
    EXPECT_FALSE(c.owed.last_batch());
    c.hear("12CZ");
    EXPECT_FALSE(c.owed.end_owed());
}

/// Every type that there is against every request at the head, and against none.
TEST(owed_replies, refuses_every_reply_that_is_not_legal) {
    const std::map<char, std::string> legal = {
        {'P', "1"}, {'B', "2"},  {'C', "3"},        {'D', "tTn"},
        {'S', "Z"}, {'F', "VZ"}, {'E', "DHdcGsCI"}, {'Q', "TDHWdcGCIZ"},
    };
    for (const auto &[head, allowed] : legal) {
        for (int type = 0; type < 256; ++type) {
            const char letter = static_cast<char>(type);
            if (may_come_any_time.find(letter) != std::string_view::npos) continue;
            for (const auto who : {asker::client, asker::pooler}) {
                conversation c;
                c.send(std::string(1, head), who);
                const bool good = letter == 'E' || allowed.find(letter) != std::string::npos;
                const std::string expected =
                    !good ? "!"
                    : who == asker::client ||
                            (letter == 'E' && std::string_view("SQF").find(head) == std::string_view::npos)
                        ? "c"
                        : "p";
                EXPECT_EQ(c.hear(std::string(1, letter)), expected) << head << " answered by " << type;
            }
        }
    }
    for (int type = 0; type < 256; ++type) {
        conversation c;
        EXPECT_EQ(c.hear(std::string(1, static_cast<char>(type))), type == 'E' ? "c" : "!") << type;
    }
}

TEST(owed_replies, copy_both) {
    using stands = frontend_state;
    const struct {
        std::string_view what;
        std::vector<std::pair<std::string_view, std::string_view>> lines;  ///< sent, then heard
        stands after;
        bool settled;
    } table[] = {
        {"streams", {{"Q", "Wdd"}}, stands::copying_both, false},
        {"the client ends it", {{"Q", "Wd"}, {"c", "ddcCCZ"}}, stands::linked, true},
        {"the server ends its half", {{"Q", "Wdc"}}, stands::copying_both, false},
        {"and the client then its own; a timeline has ended", {{"Q", "Wdc"}, {"c", "TDCCZ"}}, stands::linked, true},
        {"the client's half is over", {{"Q", "Wd"}, {"c", "d"}}, stands::linked, false},
        {"it asks on meanwhile", {{"Q", "Wd"}, {"cQ", "dcCZTDCZ"}}, stands::linked, true},
        {"all of it was sent ahead", {{"QcQ", "WddcCZTDCZ"}}, stands::linked, true},
        {"an error", {{"Q", "WdEZ"}}, stands::linked, true},
        {"an error after the client's end", {{"Q", "Wd"}, {"c", "EZ"}}, stands::linked, true},
        {"an error after the server's end", {{"Q", "WdcEZ"}}, stands::linked, true},
        {"a server that shuts down", {{"Q", "WdC"}}, stands::linked, false},
        {"one after the other", {{"Q", "Wd"}, {"c", "cCZ"}, {"Q", "Wd"}, {"c", "cCZ"}}, stands::linked, true},
    };
    for (const auto &it : table) {
        conversation c;
        for (const auto &[sent, heard] : it.lines) {
            EXPECT_EQ(c.send(sent).hear(heard), std::string(heard.size(), 'c')) << it.what;
        }
        EXPECT_EQ(c.owed.stands(), it.after) << it.what;
        EXPECT_EQ(c.owed.settled(), it.settled) << it.what;
    }
    for (const std::string_view wrong : {"Z", "T", "D", "W", "G", "H", "s", "1", "2", "3", "n", "t", "I", "V"}) {
        conversation c;
        c.send("Q").hear("Wd");
        EXPECT_EQ(c.hear(wrong), "!") << wrong;
    }
}

TEST(owed_replies, where_nothing_of_ours_may_be_sent_doubt_stays) {
    conversation c;
    c.owed.never_sound();
    c.send("QS").hear("G");
    c.send("SS");
    EXPECT_EQ(c.hear("E"), "c");
    EXPECT_TRUE(c.owed.doubtful());
    EXPECT_FALSE(c.owed.needs_sounding());
    EXPECT_EQ(c.hear("ZZZ"), "ccc");
    EXPECT_FALSE(c.owed.settled());
}

TEST(owed_replies, memory_follows_what_is_owed) {
    conversation c;  // a pipeline that is never empty for 100 000 requests
    c.send("Q");
    for (int i = 0; i < 100'000; ++i) {
        c.send("Q").hear("CZ");
        ASSERT_EQ(c.owed.owed(), 1U);
    }
}

// ---- against the model ----

class pipeline {
public:
    explicit pipeline(std::uint64_t seed) : random_(seed) {}

    /// "" when all went well.
    std::string run() {
        const int requests = 1 + pick(12);
        for (int i = 0; i < requests; ++i) {
            request_something();
            while (pick(3) != 0) {
                if (const auto wrong = any_step(); !wrong.empty()) return wrong;
            }
            if (model_.dead) return {};
        }
        return finish();
    }
    std::string trace;
    bool doubted = false, sounded = false;

private:
    int pick(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }

    void send(told it) {
        if (owed_.skipping() && it.type != 'S') return;  // as client_session does
        trace += it.pooler ? "*" : "";
        if (it.pooler) ours_sent_ = true;
        trace += it.type;
        if (it.type != 'd' && it.type != 'H')
            owed_.sent(conversation::of(it.type), it.pooler ? asker::pooler : asker::client);
        model_.in.push_back(std::move(it));
    }
    told with_luck(char type, std::string plan) {
        told it{type, std::move(plan)};
        if (pick(6) == 0) it.fails = pick(static_cast<int>(it.plan.size()));
        return it;
    }

    void request_something() {
        if (believes_copy_ || pick(40) == 0) return copy_something();
        switch (pick(12)) {
            case 0:
                // As the pooler does: only with nothing under way, or ahead of a Bind.
                if (owed_.settled()) {
                    auto it = with_luck('Q', "CZ");
                    if (it.fails > 0) it.fails = 0;
                    it.pooler = true;
                    send(it);
                }
                return;
            case 1:
            case 2: {
                constexpr std::string_view plans[] = {"TDDCZ", "IZ", "CCTDCZ", "TCTCZ", "HddcCZ", "CZ"};
                return send(with_luck('Q', std::string(plans[pick(6)])));
            }
            case 3:
                return start_copy('Q', pick(4) == 0 ? "GCGCZ" : pick(2) == 0 ? "GCZ" : "TDCGCZ");
            case 4:
                return send(with_luck('F', "VZ"));
            case 5:
                return send(with_luck('S', "Z"));
            case 6:
                return send({'H', ""});
            case 7:
                if (!owed_.doubtful()) {
                    told ours{'C', "3"};
                    ours.pooler = true;
                    send(ours);
                    send(with_luck('B', "2"));
                }
                return;
            case 8:
                return start_copy('E', "GC");
            default: {
                send(with_luck('P', "1"));
                if (pick(8) != 0) send(with_luck('B', "2"));
                if (pick(2) != 0) send(with_luck('D', pick(2) != 0 ? "T" : "n"));
                constexpr std::string_view plans[] = {"DDC", "C", "I", "DDs", "HdcC"};
                if (pick(8) != 0) send(with_luck('E', std::string(plans[pick(5)])));
                if (pick(4) != 0) send(with_luck('S', "Z"));
                return;
            }
        }
    }

    /// A COPY: its data is sent at once, or once CopyInResponse is here. In between libpq sends Sync or Flush.
    void start_copy(char type, std::string plan) {
        auto it = with_luck(type, std::move(plan));
        const auto copies = static_cast<int>(std::count(it.plan.begin(), it.plan.end(), 'G'));
        if (pick(3) == 0) it.fails = it.plan.find('G') == 0 ? 1 : -1;  // fails at its data
        send(it);
        while (pick(2) == 0) send({pick(3) == 0 ? 'S' : 'H', "Z"});
        believes_copy_ = true;
        if (pick(2) == 0) {
            for (int i = 0; i < copies; ++i) copy_something(true);
        }
    }
    void copy_something(bool all = false) {
        while (pick(3) != 0) {
            if (pick(5) == 0)
                send({'S', "Z"});
            else
                send({pick(6) == 0 ? 'H' : 'd', ""});
        }
        if (all || pick(2) == 0) {
            send({pick(4) == 0 ? 'f' : 'c', ""});
            believes_copy_ = false;
        }
    }

    /// The pooler finds out what is owed; meanwhile its client is held back.
    std::string sound() {
        for (const auto *const it : {"Z", "3", "Z"}) {
            told ours{it[0] == 'Z' ? 'S' : 'C', it};
            ours.pooler = true;
            trace += "*?";
            model_.in.push_back(std::move(ours));
        }
        owed_.sounded();
        sounded = true;
        while (owed_.sounding() && !model_.dead) {
            if (!model_.step(false) && model_.out.empty()) return "sounding has no end";
            if (const auto wrong = hear_one(); !wrong.empty()) return wrong;
        }
        return {};
    }

    std::string any_step() {
        switch (pick(3)) {
            case 0:
                model_.step(pick(60) == 0);
                return {};
            default:
                return hear_one();
        }
    }

    std::string hear_one() {
        if (model_.out.empty()) return check();
        const auto reply = model_.out.front();
        model_.out.pop_front();
        trace += ' ';
        trace += reply.type;
        trace += ' ';
        const bool was_doubtful = owed_.doubtful(), was_sounding = owed_.sounding();
        const auto fate = owed_.received(reply.type);
        doubted = doubted || owed_.doubtful();
        if (fate == fate::violation) {
            if (!was_doubtful || !(ours_sent_ || sounded)) return "a violation was reported";
            // A COPY failed in doubt, with requests of ours behind it or an error in the sounding: the connection ends.
            model_.dead = true;
            model_.out.clear();
            return {};
        }
        if (was_doubtful && reply.type == 'Z' && fate == fate::hold) {
            if (held_ && *held_) return "a ReadyForQuery of the pooler's went to the client";
            held_ = reply.pooler;
        }
        if (was_sounding && reply.type == '3') {
            if (!held_ || !*held_) return "a ReadyForQuery of the client's is lost";
            held_.reset();
        }
        if (owed_.needs_sounding() && !was_doubtful) return sound();
        // An error at a request of the pooler's inside a batch is the client's.
        if (reply.type != 'E' && fate != fate::hold && (fate == fate::swallow) != reply.pooler)
            return "the reply went to the wrong one";
        if (reply.type == 'G') believes_copy_ = true;
        return check();
    }

    /// Settled must mean: nothing more will come.
    std::string check() {
        if (!owed_.settled()) return {};
        if (!model_.out.empty()) return "settled with a reply under way";
        if (!model_.at_rest()) return "settled while the server is in a batch";
        for (const auto &it : model_.in) {
            if (std::string_view("dcfH").find(it.type) == std::string_view::npos)
                return "settled with an unread request";
        }
        return {};
    }

    std::string finish() {
        // The client plays its part to the end: ends a COPY it is in, and its batch.
        for (int round = 0; round < 8; ++round) {
            while (model_.step(false)) {
            }
            while (!model_.out.empty()) {
                if (const auto wrong = hear_one(); !wrong.empty()) return wrong;
            }
            if (model_.dead) return {};
            if (model_.in_copy()) {
                send({'c', ""});
            } else if (round == 0 || !model_.at_rest() || owed_.skipping()) {
                send({'S', "Z"});
            } else {
                break;
            }
        }
        if (!model_.at_rest()) return "the model did not come to rest";
        if (owed_.doubtful()) return owed_.settled() ? "settled in doubt" : "";
        return owed_.settled() ? "" : "not settled at the end";
    }

    std::mt19937_64 random_;
    owed_replies owed_;
    backend_model model_;
    bool believes_copy_ = false;
    bool ours_sent_ = false;
    std::optional<bool> held_;  ///< the ReadyForQuery held back: whether it is the pooler's
};

TEST(owed_replies, follows_postgresql_through_random_pipelines) {
    const auto first = test::seed(1);
    int doubts = 0, soundings = 0;
    for (std::uint64_t seed = first; seed < first + 100'000; ++seed) {
        pipeline it(seed);
        const auto wrong = it.run();
        ASSERT_EQ(wrong, "") << "PGSLUICE_TEST_SEED=" << seed << " " << it.trace;
        doubts += it.doubted && !it.sounded ? 1 : 0;
        soundings += it.sounded ? 1 : 0;
    }
    EXPECT_GT(soundings, 1'000);
    EXPECT_LT(doubts, 25'000) << "doubt must stay the exception";
}

}  // namespace
}  // namespace pgsluice::core
