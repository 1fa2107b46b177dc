// Requests appended, the model moved along, replies predicted.
#include "script.hpp"

#include <algorithm>
#include <utility>

#include "wire/backend.hpp"
#include "wire/frontend.hpp"
#include "wire/writer.hpp"

namespace oracle {

namespace backend = pgsluice::wire::backend;
namespace frontend = pgsluice::wire::frontend;
using pgsluice::wire::writer;

namespace {

constexpr char in_failed_transaction[] = "25P02";

std::string big_endian16(std::size_t value) {
    return {static_cast<char>(value >> 8 & 0xff), static_cast<char>(value & 0xff)};
}
std::string big_endian32(std::size_t value) {
    return big_endian16(value >> 16) + big_endian16(value & 0xffff);
}

/// The statement for a Query: parameters as literals.
std::string literal_sql(const statement &it) {
    std::string out;
    for (std::size_t i = 0; i < it.sql.size(); ++i) {
        if (it.sql[i] == '$' && i + 1 < it.sql.size() && it.sql[i + 1] >= '1' && it.sql[i + 1] <= '9') {
            out += quoted(it.params[static_cast<std::size_t>(it.sql[i + 1] - '1')]);
            ++i;
        } else {
            out += it.sql[i];
        }
    }
    return out;
}

}  // namespace

std::string data_row(const std::vector<std::string> &columns, bool more) {
    auto out = big_endian16(columns.size() + (more ? 1 : 0));
    for (const auto &column : columns) out += big_endian32(column.size()) + column;
    return out;
}

std::string quoted(std::string_view text) {
    std::string out = text.find('\\') == std::string_view::npos ? "'" : "E'";
    for (const char c : text) {
        if (c == '\'' || c == '\\') out += c;
        out += c;
    }
    return out + "'";
}

// ---- the model ----

void script::expect(char type, std::string_view body, bool whole) {
    replies_.push_back({.type = type, .body = std::string(body), .whole = whole});
}

void script::expect_error(const std::string &sqlstate) {
    expect(backend::error_response, sqlstate);
    fail_statement();
}

void script::settle(bool committed) {
    if (model_.open) {
        settlements_.push_back({*model_.open, committed, bytes_.size()});
        if (committed) commits_.push_back(settlements_.back());
        touched_.push_back(*model_.open);
    }
    model_.open.reset();
    model_.parts = 0;
}

void script::fail_statement() {
    if (model_.status == 'T') {
        model_.status = 'E';
        if (model_.parts_at_savepoint == 0) model_.now = model_.at_commit = model_.lasting;
    } else if (model_.status == 'I') {
        settle(false);
    }
}

std::size_t script::open_work() {
    if (!model_.open) {
        world_.works.push_back({.session = session_, .seq = model_.next_seq++});
        model_.open = world_.works.size() - 1;
        model_.parts = 0;
    }
    return *model_.open;
}

std::uint64_t script::new_part() {
    const auto work = open_work();
    touched_.push_back(work);
    world_.works[work].tried |= std::uint64_t{1} << model_.parts;
    return model_.parts++;
}

void script::succeeded(const statement &it) {
    switch (it.what) {
        case effect::none:
            break;
        case effect::write:
            world_.works[open_work()].parts |= std::uint64_t{1} << it.part;
            break;
        case effect::begin:
            model_.status = 'T';
            model_.at_commit = model_.lasting;
            model_.parts_at_savepoint = 0;
            break;
        case effect::commit:
        case effect::rollback: {
            const bool committed = it.what == effect::commit && model_.status == 'T';
            settle(committed);
            if (committed) model_.lasting = model_.at_commit;
            model_.now = model_.at_commit = model_.lasting;
            model_.status = 'I';
            model_.parts_at_savepoint = 0;
            break;
        }
        case effect::savepoint:
            // The highest bit is never a row: it says that there is a savepoint.
            model_.parts_at_savepoint =
                std::uint64_t{1} << 63 | (model_.open ? world_.works[*model_.open].parts : std::uint64_t{0});
            break;
        case effect::rollback_to:
            model_.status = 'T';
            if (model_.open) world_.works[*model_.open].parts = model_.parts_at_savepoint & ~(std::uint64_t{1} << 63);
            model_.parts_at_savepoint = 0;
            break;
        case effect::release:
            model_.parts_at_savepoint = 0;
            break;
        case effect::set:
            model_.now[it.parameter] = model_.at_commit[it.parameter] = it.value;
            if (model_.status == 'I') model_.lasting[it.parameter] = it.value;
            sets_ = true;
            break;
        case effect::deallocate:
            if (it.value.empty()) {
                model_.names.clear();
            } else {
                model_.names.erase(it.value);
            }
            break;
        case effect::set_local:
            model_.now[it.parameter] = it.value;
            sets_ = true;
            break;
    }
}

void script::ready() {
    if (model_.status == 'I') {
        settle(true);  // an implicit transaction ends here
        if (std::exchange(notification_due_, false)) expect(backend::notification_response);
    }
    expected it{.type = backend::ready_for_query, .body = {model_.status}, .whole = true};
    it.settled = std::exchange(settlements_, {});
    it.reported = model_.now;
    replies_.push_back(std::move(it));
}

bool script::refused_in_failed(const statement &it) const {
    return model_.status == 'E' && it.what != effect::commit && it.what != effect::rollback &&
           it.what != effect::rollback_to && !it.tag.empty() && it.error != "42601";
}

void script::next() {
    bytes_.clear();
    replies_.clear();
    touched_.clear();
    commits_.clear();
    // What a transaction has SET is lasting only when its COMMIT, perhaps of a later script, has been answered.
    sets_ = sets_ && model_.status != 'I';
}

// ---- requests ----

void script::results(const statement &it, bool with_description) {
    if (it.copy_out) {
        expect(backend::copy_out_response);
        for (const auto &line : it.rows) expect(backend::copy_data, line, true);
        expect(backend::copy_done);
    } else {
        if (with_description && it.columns > 0) expect(backend::row_description, big_endian16(it.columns));
        if (it.notice) expect(backend::notice_response);
        for (const auto &row : it.rows) {
            expect(backend::data_row, row, !it.pid);
            replies_.back().identity = it.identity;
            replies_.back().pid = it.pid;
        }
    }
    if (it.notifies) notification_due_ = true;
    const bool nothing_to_commit = it.what == effect::commit && model_.status == 'E';
    if (it.tag.empty()) {
        expect(backend::empty_query_response);
    } else {
        expect(backend::command_complete, (nothing_to_commit ? "ROLLBACK" : it.tag) + '\0', true);
    }
    succeeded(it);
}

void script::query(const std::vector<statement> &list) {
    std::string sql;
    for (const auto &it : list) sql += (sql.empty() ? "" : "; ") + literal_sql(it);
    frontend::append_query(bytes_, sql);
    if (skipping_) return;
    batch_open_ = false;
    for (const auto &it : list) {
        if (refused_in_failed(it)) {
            expect_error(in_failed_transaction);
            break;
        }
        if (!it.error.empty()) {
            // A name that can not be found fails before the rows of its own statement, a function amid them.
            if (it.fails_at == stage::execute && it.columns > 0) {
                expect(backend::row_description, big_endian16(it.columns));
            }
            expect_error(it.error);
            break;
        }
        results(it, true);
    }
    ready();
}

void script::append_parse(const std::string &name, const std::string &sql) {
    writer(bytes_, frontend::parse).cstring(name).cstring(sql).u16(0).finish();
}

void script::append_bind(const std::string &portal, const std::string &name, const std::vector<std::string> &params,
                         bool binary) {
    writer out(bytes_, frontend::bind);
    out.cstring(portal).cstring(name).u16(0).u16(static_cast<std::uint16_t>(params.size()));
    for (const auto &value : params) out.u32(static_cast<std::uint32_t>(value.size())).bytes(value);
    if (binary) {
        out.u16(1).u16(1);
    } else {
        out.u16(0);
    }
    out.finish();
}

void script::append_execute(const std::string &portal, std::size_t rows) {
    writer(bytes_, frontend::execute).cstring(portal).u32(static_cast<std::uint32_t>(rows)).finish();
}

void script::extended(const statement &it, const std::string &name, bool describe, bool binary) {
    const auto known = model_.names.find(name);
    if (!name.empty() && (model_.uncertain_names || (known != model_.names.end() && known->second != it.sql))) {
        close('S', name);
    }
    const bool parse = name.empty() || !model_.names.contains(name);
    if (parse) append_parse(name, it.sql);
    auto params = it.params;
    if (it.error == "08P01") params.push_back("one too many");
    append_bind("", name, params, binary);
    if (describe) writer(bytes_, frontend::describe).u8('P').cstring("").finish();
    append_execute("", 0);
    batch_open_ = true;
    if (skipping_) return;
    const auto fails = [&](stage here) {
        const bool refused = refused_in_failed(it) && here != stage::execute;
        if (!refused && (it.error.empty() || it.fails_at != here)) return false;
        skipping_ = true;
        expect_error(refused ? in_failed_transaction : it.error);
        return true;
    };
    if (parse) {
        if (fails(stage::parse)) return;
        expect(backend::parse_complete);
        if (!name.empty()) model_.names[name] = it.sql;
    }
    if (fails(stage::bind)) return;
    expect(backend::bind_complete);
    if (describe && it.columns > 0) expect(backend::row_description, big_endian16(it.columns));
    if (describe && it.columns == 0) expect(backend::no_data);
    if (fails(stage::execute)) return;
    results(it, false);
}

void script::portal_open(const statement &it, const std::string &portal) {
    append_parse("", it.sql);
    append_bind(portal, "", it.params, false);
    batch_open_ = true;
    if (skipping_) return;
    if (refused_in_failed(it)) {
        skipping_ = true;
        return expect_error(in_failed_transaction);
    }
    expect(backend::parse_complete);
    expect(backend::bind_complete);
}

void script::portal_piece(const statement &it, const std::string &portal, std::size_t from, std::size_t rows) {
    append_execute(portal, rows);
    batch_open_ = true;
    if (skipping_) return;
    if (model_.status == 'E') {
        skipping_ = true;
        return expect_error(in_failed_transaction);
    }
    const auto last = std::min(it.rows.size(), from + rows);
    for (auto i = from; i < last; ++i) expect(backend::data_row, it.rows[i], true);
    if (from + rows <= it.rows.size()) {
        expect(backend::portal_suspended);
    } else {
        expect(backend::command_complete, "SELECT " + std::to_string(last - from) + '\0', true);
    }
}

void script::parse_only(const statement &it) {
    append_parse("", it.sql);
    batch_open_ = true;
    if (skipping_) return;
    if (refused_in_failed(it)) {
        skipping_ = true;
        return expect_error(in_failed_transaction);
    }
    expect(backend::parse_complete);
}

void script::bind_only(const statement &it) {
    append_bind("", "", it.params, false);
    append_execute("", 0);
    batch_open_ = true;
    if (skipping_) return;
    expect(backend::bind_complete);
    results(it, false);
}

void script::close(char kind, const std::string &name) {
    writer(bytes_, frontend::close).u8(static_cast<std::uint8_t>(kind)).cstring(name).finish();
    batch_open_ = true;
    if (skipping_) return;
    expect(backend::close_complete);
    if (kind == 'S') model_.names.erase(name);
}

void script::describe_only(const statement &it) {
    append_parse("", it.sql);
    writer(bytes_, frontend::describe).u8('S').cstring("").finish();
    batch_open_ = true;
    if (skipping_) return;
    if (refused_in_failed(it)) {
        skipping_ = true;
        return expect_error(in_failed_transaction);
    }
    expect(backend::parse_complete);
    expect(backend::parameter_description, big_endian16(it.params.size()));
    expect(it.columns > 0 ? backend::row_description : backend::no_data,
           it.columns > 0 ? big_endian16(it.columns) : "");
}

void script::bind_unknown(const std::string &name) {
    append_bind("", name, {}, false);
    append_execute("", 0);
    batch_open_ = true;
    if (skipping_) return;
    skipping_ = true;
    expect_error("26000");
}

void script::parse_double(const std::string &name) {
    append_parse(name, "select 1");
    batch_open_ = true;
    if (skipping_) return;
    skipping_ = true;
    expect_error(model_.status == 'E' ? in_failed_transaction : "42P05");
}

void script::sync() {
    writer(bytes_, frontend::sync).finish();
    batch_open_ = skipping_ = false;
    ready();
}

void script::flush() {
    writer(bytes_, frontend::flush).finish();
}

void script::function_call(std::uint32_t oid, const std::vector<std::string> &arguments, const std::string &result) {
    {
        writer out(bytes_, frontend::function_call);
        out.u32(oid).u16(0).u16(static_cast<std::uint16_t>(arguments.size()));
        for (const auto &value : arguments) out.u32(static_cast<std::uint32_t>(value.size())).bytes(value);
        out.u16(0).finish();
    }
    if (skipping_) return;
    batch_open_ = false;
    if (model_.status == 'E') {
        expect_error(in_failed_transaction);
    } else {
        expect(backend::function_call_response, big_endian32(result.size()) + result, true);
    }
    ready();
}

void script::copy_begin(const statement &it, bool simple) {
    if (simple) {
        frontend::append_query(bytes_, literal_sql(it));
    } else {
        append_parse("", it.sql);
        append_bind("", "", {}, false);
        append_execute("", 0);
        batch_open_ = true;
    }
    if (skipping_) return;
    if (refused_in_failed(it)) {
        skipping_ = !simple;
        expect_error(in_failed_transaction);
        if (simple) {
            batch_open_ = false;
            ready();
        }
        return;
    }
    if (!simple) {
        expect(backend::parse_complete);
        expect(backend::bind_complete);
    }
    expect(backend::copy_in_response);
}

void script::copy_lines(const std::vector<std::string> &lines, const statement &it, bool simple, bool fail) {
    for (const auto &line : lines) writer(bytes_, frontend::copy_data).bytes(line).finish();
    if (fail) {
        writer(bytes_, frontend::copy_fail).cstring("no more of " + world_.token(session_)).finish();
    } else {
        writer(bytes_, frontend::copy_done).finish();
    }
    // Where COPY was refused, all this is ignored.
    if (skipping_ || model_.status == 'E') return;
    if (!it.error.empty()) {
        expect_error(it.error);
        if (!simple) skipping_ = true;
    } else {
        expect(backend::command_complete, it.tag + '\0', true);
        world_.works[open_work()].parts |= it.part;
    }
    if (simple) {
        batch_open_ = false;
        ready();
    }
}

}  // namespace oracle
