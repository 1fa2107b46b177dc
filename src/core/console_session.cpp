// Messages of an admin's, one by one; and the replies.
#include "core/console_session.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "wire/backend.hpp"
#include "wire/error_response.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;
using verb = console_command::verb;

namespace {

/// A command is short; a longer message is none.
constexpr std::uint32_t message_max_bytes = 32 * 1024;
/// Statements and portals of one admin's.
constexpr std::size_t names_max = 1000;

// As PgBouncer 1.25 prints it, with ours behind.
constexpr std::string_view help = R"(
	SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION
	SHOW PEERS|PEER_POOLS
	SHOW FDS|SOCKETS|ACTIVE_SOCKETS|LISTS|MEM|STATE
	SHOW DNS_HOSTS|DNS_ZONES
	SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS
	SET key = arg
	RELOAD
	PAUSE [<db>]
	RESUME [<db>]
	DISABLE <db>
	ENABLE <db>
	RECONNECT [<db>]
	KILL [<db>]
	KILL_CLIENT <client_id>
	SUSPEND
	SHUTDOWN
	SHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS
	WAIT_CLOSE [<db>]
	PAUSE [<db>] TIMEOUT '<time>'
	SHOW WHY [<client_id>])";

void append_empty(std::string &out, char type) {
    wire::writer(out, type).finish();
}

void append_notice(std::string &out, std::string_view message, std::string_view detail = {}) {
    wire::append_notice_response(out, {"NOTICE", "00000", message, detail, ""});
}

}  // namespace

void console_session::welcome(std::uint32_t pid, std::string_view secret,
                              const std::vector<std::pair<std::string, std::string>> &asked, effects &fx) {
    fx.to_client.make([&](std::string &out) {
        backend::append_authentication(out, backend::authentication_code::ok);
        // Drivers read the version of the server out of the first; it is PgBouncer's, whose console this is.
        for (const auto &[name, value] : {std::pair("server_version", "1.25.2/bouncer"),
                                          {"client_encoding", "UTF8"},
                                          {"server_encoding", "UTF8"},
                                          {"DateStyle", "ISO"},
                                          {"TimeZone", "GMT"},
                                          {"standard_conforming_strings", "on"},
                                          {"is_superuser", "on"}})
            backend::append_parameter_status(out, name, value);
        // It changes nothing; but drivers compare what they are told with what they asked for.
        for (const auto *const name :
             {"DateStyle", "client_encoding", "TimeZone", "standard_conforming_strings", "application_name"}) {
            const auto last = std::find_if(asked.rbegin(), asked.rend(),
                                           [&](const auto &it) { return base::equal_nocase(it.first, name); });
            if (last != asked.rend()) backend::append_parameter_status(out, name, last->second);
        }
        backend::append_backend_key_data(out, pid, secret);
        backend::append_ready_for_query(out, backend::status_idle);
    });
}

std::size_t console_session::on_bytes(std::string_view bytes, effects &fx) {
    std::size_t used = 0;
    while (!running_ && fx.client != client_next::close) {
        wire::frame message;
        const auto read = wire::read_frame(bytes.substr(used), message);
        if (read == wire::framing::need_header) break;
        if (read == wire::framing::bad_length || message.body_bytes > message_max_bytes) {
            close_with(refusal::bad_packet_header, header_in_hex(bytes.substr(used)), fx);
            return bytes.size();
        }
        if (!message.whole()) break;
        used += message.here_bytes();
        on_message(message, fx);
    }
    return used;
}

void console_session::on_message(const wire::frame &message, effects &fx) {
    switch (message.type) {
        case frontend::terminate:
            fx.why = client_left;
            fx.client = client_next::close;
            return;
        case frontend::sync:
            skip_to_sync_ = false;
            portals_.clear();  // there is no transaction that they could outlive
            return ready(fx);
        case frontend::query:
            skip_to_sync_ = false;
            return on_query(message.body, fx);
        case frontend::copy_data:
        case frontend::copy_done:
        case frontend::copy_fail:
            return;  // of a COPY that there is not, as in PostgreSQL
        default:
            break;
    }
    if (skip_to_sync_) return;
    simple_ = false;
    switch (message.type) {
        case frontend::flush:
            return;
        case frontend::parse:
            return on_parse(message.body, fx);
        case frontend::bind:
            return on_bind(message.body, fx);
        case frontend::describe:
            return on_describe(message.body, fx);
        case frontend::execute:
            return on_execute(message.body, fx);
        case frontend::close:
            return on_close(message.body, fx);
        default:
            return bad_packet(fx);
    }
}

// ---- the simple protocol ----

void console_session::on_query(std::string_view body, effects &fx) {
    wire::reader in(body);
    const auto text = in.cstring();
    if (!in.done()) return bad_packet(fx);
    simple_ = true;
    formats_.clear();
    rows_max_ = 0;
    auto parsed = parse_console(text);
    if (parsed.has_error()) return fail(parsed.error(), fx);
    command_ = std::move(*parsed);
    begin(fx);
}

// ---- the extended one ----

void console_session::on_parse(std::string_view body, effects &fx) {
    wire::reader in(body);
    const auto name = in.cstring();
    const auto text = in.cstring();
    if (!in.ok()) return bad_packet(fx);
    if (!name.empty() && statements_.contains(name)) return fail({refusal::duplicate_statement, std::string(name)}, fx);
    if (statements_.size() >= names_max) return fail({refusal::too_many_statements}, fx);
    auto parsed = parse_console(text);
    if (parsed.has_error()) return fail(parsed.error(), fx);
    statements_.insert_or_assign(std::string(name), std::move(*parsed));
    fx.to_client.make(backend::append_parse_complete);
}

void console_session::on_bind(std::string_view body, effects &fx) {
    wire::reader in(body);
    const std::string name(in.cstring());
    const auto statement = in.cstring();
    in.bytes(2U * in.u16());  // formats of parameters
    const auto parameters = in.u16();
    if (!in.ok()) return bad_packet(fx);
    const auto found = statements_.find(statement);
    if (found == statements_.end()) return fail({refusal::unknown_statement, std::string(statement)}, fx);
    if (parameters > 0) return fail({refusal::console_bad_arguments, {}, "Commands of the console take no $1."}, fx);
    portal fresh{found->second, {}};
    for (unsigned left = in.u16(); left > 0 && in.ok(); --left) fresh.formats.push_back(in.u16());
    if (!in.done()) return bad_packet(fx);
    if (fresh.formats.size() > 1 && fresh.formats.size() != columns(fresh.what).size())
        return fail({refusal::console_bad_arguments, {}, "Bind names another number of result formats than columns."},
                    fx);
    if (portals_.size() >= names_max) return fail({refusal::too_many_statements}, fx);
    portals_.insert_or_assign(name, std::move(fresh));
    fx.to_client.make([](std::string &out) { append_empty(out, backend::bind_complete); });
}

void console_session::on_describe(std::string_view body, effects &fx) {
    wire::reader in(body);
    const char what = in.byte();
    const auto name = in.cstring();
    if (!in.done() || (what != 'S' && what != 'P')) return bad_packet(fx);
    if (what == 'S') {
        const auto found = statements_.find(name);
        if (found == statements_.end()) return fail({refusal::unknown_statement, std::string(name)}, fx);
        fx.to_client.make([](std::string &out) { wire::writer(out, backend::parameter_description).u16(0).finish(); });
        return describe(found->second, {}, fx);
    }
    const auto found = portals_.find(name);
    if (found == portals_.end()) return fail({refusal::unknown_portal, std::string(name)}, fx);
    describe(found->second.what, found->second.formats, fx);
}

void console_session::on_execute(std::string_view body, effects &fx) {
    wire::reader in(body);
    const std::string name(in.cstring());
    rows_max_ = in.u32();
    if (!in.done()) return bad_packet(fx);
    const auto found = portals_.find(name);
    if (found == portals_.end()) return fail({refusal::unknown_portal, name}, fx);
    auto &it = found->second;
    portal_ = name;
    command_ = it.what;
    formats_ = it.formats;
    rows_sent_ = 0;
    if (!it.finished) {
        it.finished = true;
        return begin(fx);
    }
    for (; !it.rest.empty() && (rows_max_ == 0 || rows_sent_ < rows_max_); ++rows_sent_) {
        fx.to_client.make([&](std::string &out) { out += it.rest.front(); });
        it.rest.pop_front();
    }
    complete(fx);
}

void console_session::on_close(std::string_view body, effects &fx) {
    wire::reader in(body);
    const char what = in.byte();
    const auto name = in.cstring();
    if (!in.done() || (what != 'S' && what != 'P')) return bad_packet(fx);
    if (what == 'S') {
        if (const auto found = statements_.find(name); found != statements_.end()) statements_.erase(found);
    } else if (const auto found = portals_.find(name); found != portals_.end()) {
        portals_.erase(found);
    }
    fx.to_client.make(backend::append_close_complete);
}

// ---- a command ----

void console_session::begin(effects &fx) {
    rows_sent_ = 0;
    described_ = false;
    if (counts_ != nullptr) {
        ++(*counts_)[figure::queries];
        ++(*counts_)[figure::transactions];
    }
    if (rights_ != console_rights::admin && !may_stats_users(command_))
        return fail({refusal::console_admin_needed}, fx);
    if (const auto why = what_lacks(command_); why != refusal::none) return fail({why}, fx);
    if (command_.what == verb::nothing) {
        fx.to_client.make([](std::string &out) { append_empty(out, backend::empty_query_response); });
        if (simple_) ready(fx);
        return;
    }
    running_ = true;
    if (command_.what == verb::set_ignored) return on_done({{}, {"SET ignored"}}, fx);
    if (command_.what == verb::show && command_.table == console_table::help) {
        fx.to_client.make([](std::string &out) { append_notice(out, "Console usage", help); });
        return on_done({}, fx);
    }
    if (command_.what == verb::show && command_.table == console_table::parameter) {
        on_rows({{command_.value}}, fx);
        return on_done({}, fx);
    }
    fx.client = client_next::command;
}

std::vector<console_column> console_session::columns(const console_command &what) {
    if (what.what != verb::show) return {};
    if (what.table == console_table::parameter) return {{what.name, column_type::text}};
    const auto all = columns_of(what.table);
    return {all.begin(), all.end()};
}

void console_session::describe(const console_command &what, const result_formats &formats, effects &fx) {
    const auto all = columns(what);
    fx.to_client.make([&](std::string &out) {
        all.empty() ? append_empty(out, backend::no_data) : append_row_description(out, all, formats);
    });
}

void console_session::on_rows(const std::vector<console_row> &rows, effects &fx) {
    if (!running_) return;
    const auto all = columns();
    if (simple_ && !std::exchange(described_, true)) describe(command_, formats_, fx);
    for (const auto &row : rows) {
        if (rows_max_ > 0 && rows_sent_ >= rows_max_) {
            append_data_row(portals_[portal_].rest.emplace_back(), all, row, formats_);
            continue;
        }
        ++rows_sent_;
        fx.to_client.make([&](std::string &out) { append_data_row(out, all, row, formats_); });
    }
}

void console_session::on_done(const console_outcome &outcome, effects &fx) {
    if (!running_) return;
    if (outcome.refused.why != refusal::none) return fail(outcome.refused, fx);
    if (!columns().empty()) on_rows({}, fx);
    for (const auto &notice : outcome.notices) fx.to_client.make([&](std::string &out) { append_notice(out, notice); });
    complete(fx);
}

void console_session::complete(effects &fx) {
    running_ = false;
    const bool suspended = !simple_ && rows_max_ > 0 && !portals_[portal_].rest.empty();
    fx.to_client.make([&](std::string &out) {
        if (suspended) return append_empty(out, backend::portal_suspended);
        wire::writer(out, backend::command_complete).cstring(tag_of(command_)).finish();
    });
    if (simple_) ready(fx);
}

void console_session::fail(const console_refusal &why, effects &fx) {
    running_ = false;
    fx.to_client.make([&](std::string &out) { append_refusal(out, why.why, why.argument, why.detail); });
    errors_.push_back(words(why.why, why.argument).message);
    skip_to_sync_ = !simple_;
    if (simple_) ready(fx);
}

void console_session::bad_packet(effects &fx) {
    close_with(refusal::protocol_violation, "No message of a console's client.", fx);
}

void console_session::close_with(refusal why, std::string_view argument, effects &fx) {
    running_ = false;
    fx.to_client.make([&](std::string &out) { append_refusal(out, why, argument); });
    fx.why = words(why, argument).message;
    fx.client = client_next::close;
}

void console_session::ready(effects &fx) const {
    fx.to_client.make([](std::string &out) { backend::append_ready_for_query(out, backend::status_idle); });
}

}  // namespace pgsluice::core
