// A well-behaved server at the level of bytes, for whatever a client says: support/backend_model decides what is
// answered and when, this turns messages into its plans and its reply types into bytes, and keeps prepared statements,
// portals, parameters and the transaction. What a query does follows from its first letter; a row is its own query's
// text. Begins after the login. Written from the manual ("Message Flow", "PREPARE", "DEALLOCATE"), not from src/.
#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fuzz/fuzz.hpp"
#include "support/backend_model.hpp"
#include "support/rig.hpp"
#include "support/sql_session.hpp"

namespace pgsluice::fuzz {

using namespace std::string_view_literals;

class model_server {
public:
    model_server() {
        for (const auto &[name, value] : test::usual_parameters()) session_.values[lower(name)] = value;
        session_.own = session_.values;
    }

    /// Whole messages; what is not whole yet waits.
    void hear(std::string_view bytes) {
        in_ += bytes;
        std::size_t at = 0;
        while (in_.size() - at >= 5) {
            std::size_t length = 0;
            for (std::size_t i = 1; i < 5; ++i) length = length << 8 | static_cast<unsigned char>(in_[at + i]);
            if (in_.size() - at < length + 1) break;
            if (in_[at] == 'X') terminated_ = true;
            asked_.push_back({in_[at], in_.substr(at + 5, length - 4)});
            model_.in.push_back({in_[at], "", false, -1});
            at += length + 1;
        }
        in_.erase(0, at);
    }
    /// Reads one message or gives one reply; false when it waits. `hit`: a cancel strikes.
    bool step(bool hit = false) {
        const auto unread = model_.in.size();
        plan_next();
        const bool copies = model_.in_copy();
        const bool did = model_.step(hit);
        if (model_.in.size() < unread) {
            // What is skipped, or belongs to a COPY, changes nothing here.
            if (!copies && model_.running()) begin(std::move(asked_.front()));
            synced_in_copy_ = synced_in_copy_ || (copies && asked_.front().type == 'S');
            asked_.pop_front();
        } else if (hit) {
            code_ = "57014";
        }
        for (; !model_.out.empty(); model_.out.pop_front()) say(model_.out.front().type);
        return did;
    }
    std::string take() { return std::exchange(out_, {}); }

    /// Everything was run and said, and no transaction is open. The rest of a COPY that is over may be unread: it is
    /// dropped before whatever comes next.
    bool at_rest() const {
        const auto dropped = [](const auto &it) { return "dcfH"sv.find(it.type) != std::string_view::npos; };
        return in_.empty() && std::all_of(model_.in.begin(), model_.in.end(), dropped) && out_.empty() &&
               model_.at_rest() && status_ == 'I';
    }
    /// A COPY has eaten a Sync.
    bool synced_in_copy() const { return synced_in_copy_; }
    /// It has ended the connection.
    bool dead() const { return model_.dead || terminated_; }
    std::size_t statements() const { return statements_.size(); }
    /// It was asked for a statement under a name of the pooler's that it does not have, or has already, though nobody
    /// took one away by SQL: the pooler's account of its statements is wrong.
    bool deceived() const { return deceived_; }

private:
    struct message {
        char type = 0;
        std::string body;
        std::string sql{};  ///< what runs, or was prepared
    };

    static std::string lower(std::string_view text) { return test::sql_session::lower(std::string(text)); }
    static std::string text(std::string_view &rest) {
        const auto end = std::min(rest.find('\0'), rest.size());
        std::string taken(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
        return taken;
    }
    static bool pooler_made(std::string_view name) { return name.starts_with("PGSLUICE_") && name != "PGSLUICE_0"; }
    static bool ends_transaction(std::string_view sql) { return !sql.empty() && "rRcC"sv.find(sql[0]) != sql.npos; }

    /// What the first unread message will do, as things stand now.
    void plan_next() {
        if (model_.in.empty()) return;
        auto &told = model_.in.front();
        auto &next = asked_.front();
        std::string_view rest = next.body;
        const auto fail = [&](std::string_view code, int at = 0) {
            told.fails = at;
            next_code_ = code;
        };
        told.fails = -1;
        next_doubt_ = false;
        next_code_.clear();
        const bool aborted = status_ == 'E';
        switch (next.type) {
            case 'Q':
                next.sql = text(rest);
                told.plan = run(next.sql, true) + "Z";
                break;
            case 'F':
                told.plan = "VZ";
                if (aborted) fail("25P02");
                return;
            case 'P': {
                const auto name = text(rest);
                next.sql = text(rest);
                told.plan = "1";
                if (aborted && !next.sql.empty() && !ends_transaction(next.sql)) return fail("25P02");
                if (next.sql.starts_with("wrong")) return fail("42601");
                if (!name.empty() && statements_.contains(name)) fail("42P05");
                return;
            }
            case 'B': {
                text(rest);
                const auto name = text(rest);
                told.plan = "2";
                if (!find(name, next)) return fail("26000");
                if (aborted && !ends_transaction(next.sql)) return fail("25P02");
                if (next.sql.starts_with("unbound")) fail("08P01");
                return;
            }
            case 'D': {
                const bool statement = next.body.starts_with('S');
                rest.remove_prefix(std::min<std::size_t>(1, rest.size()));
                const auto name = text(rest);
                told.plan = statement ? "t" : "";
                if (statement ? !find(name, next) : !portals_.contains(name))
                    return fail(statement ? "26000" : "34000");
                if (!statement) next.sql = portals_[name];
                const bool rows = !run(next.sql, true).empty() && run(next.sql, true)[0] == 'T';
                told.plan += rows ? "T" : "n";
                if (aborted && rows) fail("25P02");
                return;
            }
            case 'E': {
                const auto name = text(rest);
                if (!portals_.contains(name)) return fail("34000"), static_cast<void>(told.plan = "C");
                next.sql = portals_[name];
                told.plan = run(next.sql, false);
                break;
            }
            case 'C':
                told.plan = "3";
                return;
            case 'S':
                told.plan = "Z";
                return;
            default:
                told.plan = "";
                return;
        }
        if (aborted && !ends_transaction(next.sql) && told.plan.front() != 'I') return fail("25P02");
        if (next.sql.starts_with('e')) fail("22012");
        if (next.sql.starts_with('f')) fail("22012", next.type == 'Q' ? 2 : 1);  // after a row
        const auto gone = deallocated(next.sql);
        if (gone && *gone != "all" && !statements_.contains(*gone)) fail("26000");
    }
    bool find(const std::string &name, message &next) {
        const auto it = statements_.find(name);
        if (it != statements_.end()) next.sql = it->second;
        next_doubt_ = it == statements_.end() && pooler_made(name);
        return it != statements_.end();
    }

    /// The message is read, and runs.
    void begin(message &&it) {
        now_ = std::move(it);
        code_ = next_code_;
        doubt_ = next_doubt_;
        const bool unnamed = now_.type == 'Q' || (now_.type == 'P' && now_.body.starts_with('\0'));
        if (unnamed) statements_.erase("");  // even when it fails
    }

    /// The name that DEALLOCATE takes away, "all" for all.
    static std::optional<std::string> deallocated(std::string_view sql) {
        const auto small = lower(sql);
        if (small == "discard all" || small == "deallocate all") return "all";
        if (!small.starts_with("deallocate ")) return std::nullopt;
        auto name = sql.substr(11);
        if (name.size() >= 2 && name.front() == '"' && name.back() == '"')
            return std::string(name.substr(1, name.size() - 2));
        return lower(name);
    }

    /// The replies to a query's run, by its first letter.
    std::string run(std::string_view sql, bool simple) {
        const std::string columns = simple ? "T" : "";
        if (sql.empty()) return "I";
        if (lower(sql) == "discard all") return "XC";
        if (deallocated(sql)) return "C";
        for (const auto ours : {"SET \""sv, "RESET \""sv, "SELECT pg_catalog."sv})
            if (sql.starts_with(ours)) return "YC";
        switch (sql.front() | 0x20) {
            case 's':
                return columns + "DC";
            case 'b':
                return "b";  // BEGIN
            case 'r':
            case 'c':
                return "x";  // COMMIT, ROLLBACK
            case 'i':
                return "GC";  // COPY IN
            case 'o':
                return "HddcC";  // COPY OUT
            case 'f':
                return columns + "DC";
            case 'm':
                return simple ? "TDCTDC" : "C";
            case 'n':
                return "NC";
            case 'p':
                return "PC";  // SET application_name
            case 'l':
                return "AC";  // a notification
            case 'u':
                return simple ? "TDC" : "Ds";  // PortalSuspended
            default:
                return "C";
        }
    }

    /// As PostgreSQL does: what it reports at login it reports whenever it changes.
    template <class Change>
    void change(Change &&what) {
        const auto before = session_.values;
        what();
        for (const auto &[name, value] : test::usual_parameters()) {
            const auto &now = session_.values[lower(name)];
            if (const auto was = before.find(lower(name)); was == before.end() || was->second != now)
                out_ += test::be::parameter(name, now);
        }
    }
    void carry_out(const std::string &sql) {
        change([&] {
            try {
                session_.query(sql);
            } catch (const std::exception &) {
                return;  // a client's own words, not change_parameters()'s
            }
        });
    }
    std::string complete() {
        const auto gone = deallocated(now_.sql);
        if (!gone) return "SELECT 1";
        if (*gone != "all") {
            betrayed_ = betrayed_ || pooler_made(*gone);
            statements_.erase(*gone);
            return "DEALLOCATE";
        }
        const auto unnamed = statements_.extract("");
        statements_.clear();
        const bool discard = lower(now_.sql) == "discard all";
        if (!discard && !unnamed.empty()) statements_[""] = unnamed.mapped();
        return discard ? "DISCARD ALL" : "DEALLOCATE ALL";
    }

    void say(char type) {
        using namespace test;
        std::string_view rest = now_.body;
        switch (type) {
            case '1': {
                const auto name = text(rest);
                statements_[name] = now_.sql;
                break;
            }
            case '2':
                portals_[text(rest)] = now_.sql;
                break;
            case '3': {
                const bool statement = rest.starts_with('S');
                rest.remove_prefix(std::min<std::size_t>(1, rest.size()));
                statement ? statements_.erase(text(rest)) : portals_.erase(text(rest));
                break;
            }
            case 'b':
                status_ = status_ == 'I' ? 'T' : status_;
                out_ += be::complete("BEGIN");
                return;
            case 'x':
                status_ = 'I';
                portals_.clear();
                out_ += be::complete("COMMIT");
                return;
            case 'C':
                out_ += be::complete(complete());
                return;
            case 'D':
                out_ += be::row(now_.sql);
                return;
            case 'E':
                status_ = status_ == 'T' ? 'E' : status_;
                deceived_ = deceived_ || (!betrayed_ && doubt_);
                out_ += be::error(model_.dead ? "FATAL" : "ERROR", code_.empty() ? "22P04" : code_, "no");
                return;
            case 'N':
                out_ += be::notice("note");
                return;
            case 'P':
                return change([&] { session_.values["application_name"] = "set"; });
            case 'X':
                return change([&] { session_.values = session_.own; });
            case 'Y':
                return carry_out(now_.sql);
            case 'A':
                out_ += be::notification("channel");
                return;
            case 'T':
                out_ += be::columns("c");
                return;
            case 'V':
                out_ += test::message('V', be32(4) + "abcd");
                return;
            case 'Z':
                if (status_ == 'I') portals_.clear();
                out_ += be::ready(status_);
                return;
            case 't':
                out_ += test::message('t', be16(0));
                return;
            case 'd':
                out_ += test::message('d', "line\n");
                return;
            case 'G':
            case 'H':
                out_ += test::message(type, "\0\0\0"s);
                return;
            default:
                break;
        }
        out_ += test::message(type);
    }

    test::backend_model model_;
    test::sql_session session_;
    std::deque<message> asked_;  ///< what the model has not read yet, and more about it
    message now_;
    std::map<std::string, std::string> statements_, portals_;
    std::string in_, out_;
    std::string code_, next_code_;             ///< why it fails
    bool doubt_ = false, next_doubt_ = false;  ///< it fails for a name of the pooler's
    bool deceived_ = false, betrayed_ = false;
    bool synced_in_copy_ = false;
    char status_ = 'I';
    bool terminated_ = false;
};

}  // namespace pgsluice::fuzz
