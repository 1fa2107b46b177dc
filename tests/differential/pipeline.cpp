// The generator: scenes that make sense, mistakes in all of them, and now and then plain noise.
#include "differential/pipeline.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "support/messages.hpp"

namespace pgsluice::differential {

using namespace std::string_literals;
namespace t = test;

namespace {

/// SplitMix64 (public domain, Sebastiano Vigna): the same numbers from the same seed everywhere.
class dice {
public:
    explicit dice(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        return z ^ (z >> 31);
    }
    std::size_t below(std::size_t bound) { return static_cast<std::size_t>(next() % bound); }
    bool chance(unsigned percent) { return next() % 100 < percent; }
    template <typename List>
    const auto &of(const List &list) {
        return list[below(list.size())];
    }

private:
    std::uint64_t state_;
};

/// SQL with a letter for each parameter it takes: i(nteger), t(ext). T stands for the table.
struct statement {
    std::string_view sql, parameters = "";
};

constexpr std::array reads{
    statement{"select 1"},
    statement{"select $1::int", "i"},
    statement{"select $1::text, $2::int", "ti"},
    statement{"select a, b from T where a = $1", "i"},
    statement{"select a, b from T order by a"},
    statement{"select g from generate_series(1, $1) g", "i"},
    statement{"select g, repeat('x', g * 100) from generate_series(1, 40) g"},
    statement{"values (1, 'one'), (2, null)"},
    statement{"select repeat('y', $1)", "i"},
    statement{"select '2020-02-03'::date, '2020-02-03 04:05+00'::timestamptz, interval '1 day 2 hours'"},
    statement{"select 'plain\\text'"},
    statement{"do $do$ begin raise notice 'a notice'; raise warning 'a warning'; end $do$"},
    statement{"-- nothing but a comment"},
    statement{""},
};
constexpr std::array writes{
    statement{"insert into T values ($1, $2)", "it"},
    statement{"insert into T values ($1, 'r') on conflict do nothing returning a, b", "i"},
    statement{"insert into T select g, 's' from generate_series(100, 105) g on conflict do nothing"},
    statement{"update T set b = $2 where a = $1", "it"},
    statement{"with u as (update T set b = 'u' returning a, b) select a, b from u order by a"},
    statement{"delete from T where a >= $1", "i"},
    statement{"delete from T where a = 3 returning *"},
};
constexpr std::array failures{
    statement{"select 1/$1::int", "i"},
    statement{"select 10/(3-g) from generate_series(1, 5) g"},
    statement{"select nosuch"},
    statement{"select * from nosuch"},
    statement{"selec"},
    statement{"select 'open"},
    statement{"insert into T values (1, 'double')"},
    statement{"insert into T values (-1, 'below')"},
    statement{"do $do$ begin raise exception 'raised' using errcode = 'P0042'; end $do$"},
    statement{"vacuum nosuch"},
    statement{"copy nosuch from stdin"},
    statement{"create database template1"},
};
constexpr std::array transactions{
    statement{"begin"},
    statement{"begin"},
    statement{"start transaction isolation level serializable read only"},
    statement{"commit"},
    statement{"commit"},
    statement{"end"},
    statement{"rollback"},
    statement{"rollback"},
    statement{"abort and chain"},
    statement{"commit and chain"},
    statement{"savepoint a"},
    statement{"savepoint b"},
    statement{"rollback to a"},
    statement{"release savepoint b"},
    statement{"set transaction read only"},
    statement{"set constraints all deferred"},
    statement{"prepare transaction 'two'"},
    statement{"declare c cursor for select g from generate_series(1, 9) g"},
    statement{"fetch 2 from c"},
    statement{"move 1 from c"},
    statement{"close c"},
    statement{"close all"},
};
/// Of one protocol-level name: a statement of its own, in one piece (see generate()).
constexpr std::array deallocates{
    statement{"deallocate s1"},
    statement{"deallocate prepare s2"},
    statement{"DEALLOCATE \"s3\";"},
};
constexpr std::array forgets{
    statement{"deallocate all"},    statement{"deallocate prepare all"},
    statement{"deallocate nosuch"}, statement{"discard all"},
    statement{"discard all"},       statement{"discard plans"},
    statement{"discard temp"},
};
constexpr std::array copies{
    statement{"copy T from stdin"},
    statement{"copy T (a, b) from stdin with (format csv)"},
    statement{"copy (select a, b from T order by a) to stdout"},
    statement{"copy (select g, repeat('z', g) from generate_series(1, 30) g) to stdout"},
    statement{"copy (select 10/(20-g) from generate_series(1, 30) g) to stdout"},
    statement{"copy (select a, b from T order by a) to stdout with (format binary)"},
};

struct parameter {
    std::string_view name;
    std::array<std::string_view, 5> values;
};
constexpr std::array parameters{
    parameter{"application_name", {"'one'", "'it''s'", "''", "'with \"quotes\" and \\'", "default"}},
    parameter{"datestyle", {"'ISO, MDY'", "german", "'SQL, DMY'", "postgres, ymd", "default"}},
    parameter{"timezone", {"utc", "'Europe/Paris'", "'america/new_york'", "-3.5", "'nosuch'"}},
    parameter{"standard_conforming_strings", {"on", "off", "true", "default", "'neither'"}},
    parameter{"client_encoding", {"utf8", "latin1", "'SQL_ASCII'", "win1252", "'nosuch'"}},
    // From here on: those that all_parameters adds.
    parameter{"intervalstyle", {"postgres", "iso_8601", "sql_standard", "postgres_verbose", "default"}},
    parameter{"default_transaction_read_only", {"on", "off", "off", "default", "'neither'"}},
};
constexpr std::size_t always_tracked = 5;

class generator {
public:
    generator(std::uint64_t seed, const options &how, int slot)
        : dice_(seed), how_(how), table_("differential.t" + std::to_string(slot)), slot_(slot) {}

    pipeline make() {
        const auto scenes = 1 + dice_.below(dice_.chance(10) ? 14 : 6);
        for (std::size_t i = 0; i < scenes; ++i) {
            scene();
            if (dice_.chance(60)) wait();
        }
        return std::move(parts_);
    }

private:
    // ---- building blocks ----

    void add(std::string bytes, std::string text, bool fails_copy = false) {
        parts_.push_back({std::move(bytes), std::move(text), fails_copy});
    }
    void wait() {
        if (!parts_.empty() && !parts_.back().waits()) add("", "(wait)");
    }
    void sync() {
        add(t::fe::sync, "Sync");
        batch_over();
    }
    void batch_over() {
        bound_.clear();
        if (!how_.statements) here_.erase("");
    }
    void flush() { add(t::fe::flush, "Flush"); }

    std::string in_place(std::string_view sql) const {
        std::string out;
        for (std::size_t i = 0; i < sql.size(); ++i) {
            const bool alone =
                sql[i] == 'T' && i > 0 && sql[i - 1] == ' ' && (i + 1 == sql.size() || sql[i + 1] == ' ');
            if (alone) {
                out += table_;
            } else {
                out += sql[i];
            }
        }
        return out;
    }
    std::string set_sql() {
        const auto &[name, values] = parameters[dice_.below(how_.all_parameters ? parameters.size() : always_tracked)];
        const auto value = std::string(dice_.of(values));
        const auto known = std::string(name);
        switch (dice_.below(8)) {
            case 0:
                return "set local " + known + " = " + value;
            case 1:
                return "reset " + known;
            case 2:
                return "show " + known;
            case 3:
                return "select current_setting('" + known + "')";
            case 4:
                if (value[0] == '\'') return "select set_config('" + known + "', " + value + ", false)";
                [[fallthrough]];
            default:
                return "set " + known + " to " + value;
        }
    }
    std::string value(char kind) {
        if (dice_.chance(4)) return "not what was asked for";
        return kind == 'i' ? std::to_string(dice_.below(9)) : std::string(dice_.below(20), 'v');
    }
    /// Without parameters, for simple Query.
    std::string literal(const statement &it) {
        std::string sql = in_place(it.sql);
        for (std::size_t i = it.parameters.size(); i > 0; --i) {
            const auto sign = "$" + std::to_string(i);
            const auto put = "'" + value(it.parameters[i - 1]) + "'";
            for (auto at = sql.find(sign); at != std::string::npos; at = sql.find(sign, at)) sql.replace(at, 2, put);
        }
        return sql;
    }
    /// One statement of any kind, in proportion to what is worth trying.
    statement any() {
        const auto roll = dice_.below(100);
        if (roll < 40) return dice_.of(reads);
        if (roll < 58) return dice_.of(writes);
        if (roll < 68) return dice_.of(failures);
        if (roll < 85) return dice_.of(transactions);
        if (roll < 89) return dice_.of(forgets);
        if (roll < 91) return dice_.of(copies);
        owned_ = set_sql();
        return {owned_};
    }

    // ---- scenes ----

    void scene() {
        const auto roll = dice_.below(100);
        if (roll < 24) return simple();
        if (roll < 62) return batch();
        if (roll < 67) return transaction();
        if (roll < 69) return pieces();
        if (roll < 76) return copy_in();
        if (roll < 79) return query(literal(copies[2 + dice_.below(copies.size() - 2)]));
        if (roll < 83) return function_call();
        if (roll < 90) return query(set_sql());
        if (roll < 92) return query(literal(dice_.of(forgets)));
        if (roll < 94) return deallocate();
        noise();
    }

    void query(const std::string &sql) {
        add(t::fe::query(sql), "Query " + sql);
        batch_over();
    }

    void simple() {
        std::string sql = literal(any());
        if (dice_.chance(25)) {
            for (auto more = 1 + dice_.below(3); more > 0; --more) sql += "; " + literal(any());
        }
        query(sql);
    }

    void transaction() {
        query("begin");
        for (auto steps = 1 + dice_.below(4); steps > 0; --steps) {
            if (dice_.chance(30)) wait();
            if (dice_.chance(50)) {
                simple();
            } else {
                batch();
            }
        }
        if (dice_.chance(85)) query(dice_.chance(60) ? "commit" : "rollback");
    }

    std::string statement_name() {
        if (!how_.statements) return "";
        static constexpr std::array<std::string_view, 8> names{"", "", "s1", "s1", "s2", "s3", "s4", "S1"};
        return std::string(dice_.of(names));
    }
    std::string portal_name() {
        static constexpr std::array<std::string_view, 5> names{"", "", "", "p1", "p2"};
        return std::string(dice_.of(names));
    }

    void parse(const std::string &name) {
        statement it = any();
        const std::string sql = in_place(it.sql);
        std::string types;
        unsigned count = 0;
        if (dice_.chance(40)) {
            for (const char kind : it.parameters) {
                types += t::be32(kind == 'i' ? 23 : 25);
                ++count;
            }
        }
        add(t::message('P', t::z(name) + t::z(sql) + t::be16(count) + types),
            "Parse \"" + name + "\" " + sql + (count > 0 ? " (typed)" : ""));
        here_[name] = it.parameters;
    }

    void bind(const std::string &portal, const std::string &name) {
        const auto known = here_.find(name);
        std::string kinds = known != here_.end() ? known->second : "";
        if (dice_.chance(4)) kinds += 'i';
        if (dice_.chance(2) && !kinds.empty()) kinds.pop_back();
        const bool binary = dice_.chance(15);
        std::string values, text;
        for (const char kind : kinds) {
            std::string one = value(kind);
            text += " '" + one + "'";
            if (binary && kind == 'i') one = t::be32(one.size() == 1 ? static_cast<unsigned>(one[0] - '0') : 7);
            values += dice_.chance(3) ? t::be32(0xffffffffU) : t::be32(one.size()) + one;
        }
        std::string formats = t::be16(0);
        if (binary) {
            formats = t::be16(static_cast<unsigned>(kinds.size()));
            for (const char kind : kinds) formats += t::be16(kind == 'i' ? 1 : 0);
        }
        const std::string results = dice_.chance(10) ? t::be16(1) + t::be16(1) : t::be16(0);
        add(t::message('B', t::z(portal) + t::z(name) + formats + t::be16(static_cast<unsigned>(kinds.size())) +
                                values + results),
            "Bind portal \"" + portal + "\" to \"" + name + "\"" + text + (binary ? " (binary)" : ""));
        bound_.insert(portal);
    }

    bool may_use(const std::string &name) const { return how_.statements || here_.count(name) > 0; }

    /// Mostly Parse, Bind, Describe, Execute and Sync, with any of them missing, doubled or of something else.
    void batch() {
        for (auto times = 1 + dice_.below(dice_.chance(15) ? 6 : 2); times > 0; --times) {
            const std::string name = statement_name();
            const std::string portal = portal_name();
            if (!may_use(name) || dice_.chance(here_.count(name) > 0 ? 45 : 92)) {
                if (!name.empty() && dice_.chance(35)) close('S', name);
                parse(name);
            }
            if (dice_.chance(20)) describe('S', name);
            if (dice_.chance(5)) mid_batch();
            if (dice_.chance(92)) bind(portal, name);
            if (dice_.chance(45)) describe('P', portal);
            if (dice_.chance(90)) execute(portal);
            if (dice_.chance(10)) execute(portal);
            if (dice_.chance(6)) close_one(name, portal);
            if (dice_.chance(8)) mid_batch();
            if (dice_.chance(40)) sync();
        }
        if (dice_.chance(93)) sync();
    }
    /// Of the right kind or the wrong one: neither is an error, and one must not take the other away.
    void close_one(const std::string &name, const std::string &portal) {
        const bool of_statement = dice_.chance(50), by_portal = dice_.chance(50);
        if (of_statement && how_.statements) return close('S', by_portal ? portal : name);
        close('P', by_portal ? portal : name);
    }
    void mid_batch() {
        flush();
        if (dice_.chance(70)) wait();
    }
    void describe(char kind, const std::string &name) {
        add(t::fe::describe(kind, name), "Describe "s + kind + " \"" + name + "\"");
    }
    void close(char kind, const std::string &name) {
        add(t::fe::close(kind, name), "Close "s + kind + " \"" + name + "\"");
        if (kind == 'S') here_.erase(name);
    }
    /// Only what this batch has bound. PostgreSQL 15 reads freed memory when a failed transaction executes a portal of
    /// before its failure whose statement is gone, and takes every session of the server down with it.
    void execute(const std::string &wanted) {
        execute_any(bound_.count(wanted) > 0 ? wanted : "nowhere", dice_.chance(75) ? 0 : 1 + dice_.below(4));
    }
    void execute_any(const std::string &portal, std::size_t rows) {
        add(t::message('E', t::z(portal) + t::be32(rows)),
            "Execute \"" + portal + "\"" + (rows > 0 ? " rows " + std::to_string(rows) : ""));
    }

    void deallocate() {
        const std::string sql = literal(dice_.of(deallocates));
        if (dice_.chance(50)) return query(sql);
        if (dice_.chance(50)) sync();
        add(t::fe::parse("", sql), "Parse \"\" " + sql);
        here_[""] = "";
        add(t::fe::bind("", ""), "Bind portal \"\" to \"\"");
        if (dice_.chance(50)) describe('P', "");
        execute_any("", 0);
        sync();
        close('S', "");
        sync();
    }

    /// A portal fetched in pieces, with Syncs and other requests between them.
    void pieces() {
        const bool in_transaction = dice_.chance(85);
        if (in_transaction) query(dice_.chance(20) ? "begin; savepoint a" : "begin");
        const std::string name = how_.statements ? "u" + std::to_string(parts_.size()) : "";
        const std::string portal = "of" + name;
        const std::string sql = dice_.chance(80) ? "select g from generate_series(1, 11) g"
                                                 : "select 10/(5-g) from generate_series(1, 9) g";
        add(t::fe::parse(name, sql), "Parse \"" + name + "\" " + sql);
        add(t::fe::bind(portal, name), "Bind portal \"" + portal + "\" to \"" + name + "\"");
        for (auto times = 2 + dice_.below(4); times > 0; --times) {
            execute_any(portal, dice_.below(6));
            if (dice_.chance(20)) mid_batch();
            if (dice_.chance(20)) describe('P', portal);
            if (dice_.chance(10)) close('P', portal);
            if (dice_.chance(50)) sync();
            if (dice_.chance(30)) wait();
            if (dice_.chance(20) && how_.statements) query("select 'between'");
        }
        sync();
        if (in_transaction && dice_.chance(85)) query(dice_.chance(60) ? "commit" : "rollback");
    }

    void copy_in() {
        const bool csv = dice_.chance(20);
        const std::string sql = literal(copies[csv ? 1 : 0]) + (dice_.chance(8) ? "; select 'after'" : "");
        const bool extended = dice_.chance(40) && sql.find(';') == std::string::npos;
        const bool ends = dice_.chance(90);
        const bool syncs = !extended || ends;  // see generate()
        if (extended) {
            add(t::message('P', t::z("") + t::z(sql) + t::be16(0)), "Parse \"\" " + sql);
            here_[""] = "";
            add(t::fe::bind("", ""), "Bind portal \"\" to \"\"");
            execute_any("", 0);
            if (syncs && dice_.chance(10)) sync();
        } else {
            query(sql);
        }
        if (dice_.chance(60)) wait();
        copy_data(csv, syncs);
        if (ends) copy_end();
        if (dice_.chance(10)) copy_data(csv, syncs);  // late
        if (dice_.chance(8)) copy_end();
        if (syncs && (extended || dice_.chance(10))) sync();
    }
    void copy_data(bool csv, bool syncs) {
        for (auto rows = dice_.below(6); rows > 0; --rows) {
            const auto number = std::to_string(20 + dice_.below(60));
            const auto roll = dice_.below(100);
            if (roll < 10) {
                add(t::fe::copy_data("no number\n"), "CopyData that is no row", true);
                if (dice_.chance(50)) wait();
            } else if (roll < 14) {
                flush();
            } else if (roll < 18 && syncs) {
                sync();
            } else if (roll < 22) {
                add(t::fe::copy_data(number + (csv ? "," : "\t")), "CopyData, half a row");
                add(t::fe::copy_data("half\n"), "CopyData, its other half");
            } else if (roll < 24) {
                add(t::fe::copy_data(""), "CopyData of nothing");
            } else {
                add(t::fe::copy_data(number + (csv ? ",copied\n" : "\tcopied\n")), "CopyData row " + number);
            }
        }
    }
    void copy_end() {
        if (dice_.chance(80)) {
            add(t::fe::copy_done, "CopyDone");
        } else {
            add(t::fe::copy_fail("enough"), "CopyFail");
        }
        if (dice_.chance(15)) wait();
    }

    /// length(text), int4div, and the server side of libpq's large objects.
    void function_call() {
        const auto call = [&](unsigned oid, const std::vector<std::string> &arguments, const char *name) {
            std::string body =
                t::be32(oid) + t::be16(1) + t::be16(1) + t::be16(static_cast<unsigned>(arguments.size()));
            for (const auto &it : arguments) body += t::be32(it.size()) + it;
            add(t::message('F', body + t::be16(1)), "FunctionCall "s + name);
            batch_over();
            if (dice_.chance(30)) wait();
        };
        switch (dice_.below(5)) {
            case 0:
                return call(1317, {"seven77"}, "length");
            case 1:
                return call(154, {t::be32(7), t::be32(dice_.below(2))}, "int4div");
            case 2:
                return call(4000000, {}, "that is none");
            default: {
                const auto oid = t::be32(900000U + static_cast<unsigned>(slot_));
                if (dice_.chance(80)) query("begin");
                call(715, {oid}, "lo_create");
                call(952, {oid, t::be32(0x60000)}, "lo_open");
                call(955, {t::be32(0), "large object"}, "lowrite");
                call(956, {t::be32(0), t::be32(0), t::be32(0)}, "lo_lseek");
                call(954, {t::be32(0), t::be32(5)}, "loread");
                call(953, {t::be32(0)}, "lo_close");
                if (dice_.chance(50)) call(964, {oid}, "lo_unlink");
                query(dice_.chance(50) ? "commit" : "rollback");
            }
        }
    }

    /// Any message at any time.
    void noise() {
        for (auto times = 2 + dice_.below(10); times > 0; --times) {
            const std::string name = statement_name();
            const auto roll = dice_.below(17);
            if (!may_use(name) && (roll == 2 || roll == 3 || roll == 4)) {
                parse(name);
                continue;
            }
            switch (roll) {
                case 0:
                case 1:
                    parse(name);
                    break;
                case 2:
                case 3:
                    bind(portal_name(), name);
                    break;
                case 4:
                    describe('S', name);
                    break;
                case 5:
                    describe('P', portal_name());
                    break;
                case 6:
                case 7:
                    execute(portal_name());
                    break;
                case 8:
                    close('S', name);
                    break;
                case 9:
                    close('P', portal_name());
                    break;
                case 10:
                    simple();
                    break;
                case 11:
                    add(t::fe::copy_data("1\tlate\n"), "CopyData");
                    break;
                case 12:
                    copy_end();
                    break;
                case 13:
                    mid_batch();
                    break;
                default:
                    sync();
                    break;
            }
        }
        sync();
    }

    dice dice_;
    const options &how_;
    std::string table_;
    int slot_;
    pipeline parts_;
    std::set<std::string> bound_;              ///< portals of the batch
    std::map<std::string, std::string> here_;  ///< statements we think are there, with their parameters
    std::string owned_;
};

}  // namespace

pipeline generate(std::uint64_t seed, const options &how, int slot) {
    return generator(seed, how, slot).make();
}

pipeline ending(const pipeline &before, int slot) {
    pipeline parts;
    // A COPY may still wait for data.
    const auto may_copy = [](const part &it) { return it.text.find("from stdin") != std::string::npos; };
    if (std::any_of(before.begin(), before.end(), may_copy))
        parts.push_back({t::fe::copy_fail("the end"), "CopyFail", false});
    parts.push_back({t::fe::sync, "Sync", false});
    const auto query = [&](const std::string &sql) { parts.push_back({t::fe::query(sql), "Query " + sql, false}); };
    query("rollback");
    query("select '" + std::string(marker) + "', (select string_agg(a || b, ',' order by a) from differential.t" +
          std::to_string(slot) +
          "), current_setting('application_name'), current_setting('timezone'), current_setting('datestyle'), "
          "current_setting('client_encoding'), current_setting('standard_conforming_strings'), "
          "current_setting('intervalstyle'), current_setting('default_transaction_read_only')");
    return parts;
}

}  // namespace pgsluice::differential
