// Every message type in every state, as two tables: what becomes of a client's message, and what a server's reply means
// for the request that waits for it. The machines look here and decide nothing of the kind themselves; a type that a
// table does not name is refused. Pure constants. Source: PostgreSQL manual, "Message Flow" and "Message Formats".
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "wire/backend.hpp"
#include "wire/frontend.hpp"

namespace pgsluice::core {

// ---- from clients ----

/// Where a client stands when a message of its begins.
enum class frontend_state : std::uint8_t {
    unlinked,      ///< without a server: nothing of its batch is anywhere
    linked,        ///< with a server
    skipping,      ///< an ERROR has ended its batch: everything up to Sync is void
    copying_both,  ///< replication streams, and it has not said CopyDone: a walsender takes nothing else meanwhile
    states,        ///< how many
};

enum class disposition : std::uint8_t {
    refuse,     ///< no such message here: FATAL
    request,    ///< needs a server, and is owed a reply
    sync,       ///< ends the batch
    answer,     ///< a Sync of a batch of which nothing went to a server: ReadyForQuery is known
    forward,    ///< goes to the server, and is owed nothing
    copy_end,   ///< the same, but ends a COPY
    drop,       ///< void, as for PostgreSQL
    terminate,  ///< the client leaves
};

namespace table {

template <class Cell, std::size_t States>
using by_type = std::array<std::array<Cell, States>, 256>;

constexpr auto frontend_rows() {
    namespace f = wire::frontend;
    using d = disposition;
    by_type<d, static_cast<std::size_t>(frontend_state::states)> rows{};  // refuse
    const auto row = [&](char type, d unlinked, d linked, d skipping, d copying_both) {
        rows[static_cast<unsigned char>(type)] = {unlinked, linked, skipping, copying_both};
    };
    //  type                unlinked      linked        skipping    copying_both
    row(f::query, /*      */ d::request, d::request, d::drop, d::refuse);
    row(f::function_call, /**/ d::request, d::request, d::drop, d::refuse);
    row(f::parse, /*      */ d::request, d::request, d::drop, d::refuse);
    row(f::bind, /*       */ d::request, d::request, d::drop, d::refuse);
    row(f::describe, /*   */ d::request, d::request, d::drop, d::refuse);
    row(f::execute, /*    */ d::request, d::request, d::drop, d::refuse);
    row(f::close, /*      */ d::request, d::request, d::drop, d::refuse);
    row(f::sync, /*       */ d::answer, d::sync, d::sync, d::refuse);
    row(f::flush, /*      */ d::drop, d::forward, d::drop, d::refuse);
    // Without a server: the rest of a COPY whose error was reported; PostgreSQL drops it as well.
    row(f::copy_data, /*  */ d::drop, d::forward, d::drop, d::forward);
    row(f::copy_done, /*  */ d::drop, d::copy_end, d::drop, d::copy_end);
    row(f::copy_fail, /*  */ d::drop, d::copy_end, d::drop, d::copy_end);
    row(f::terminate, /*  */ d::terminate, d::terminate, d::terminate, d::terminate);
    return rows;
}
inline constexpr auto frontend = frontend_rows();

}  // namespace table

constexpr disposition disposition_of(char type, frontend_state state) {
    return table::frontend[static_cast<unsigned char>(type)][static_cast<std::size_t>(state)];
}

// ---- from servers ----

/// What was sent, as far as replies tell it apart. copy_end stands for CopyDone or CopyFail: it is owed no reply, but
/// ends the time in which a server that copies in ignores Sync. known_parse is a Parse of the client's whose statement
/// the server has already: a Close of nothing went out instead, and its reply is passed on as ParseComplete. copy_both
/// is never sent: a query becomes it by CopyBothResponse, until the server's half of the copy is over.
enum class request : std::uint8_t {
    query,
    parse,
    known_parse,
    bind,
    describe,
    execute,
    close,
    sync,
    function_call,
    copy_end,
    copy_both,
    kinds,  ///< how many
};

/// What a reply means for the request at the head of the queue.
enum class step : std::uint8_t {
    violation,    ///< not owed
    part,         ///< more follows for this request
    last,         ///< the request is answered
    fails,        ///< it failed; what follows of its batch is void
    copies_in,    ///< the server reads COPY data from now on
    copies_both,  ///< both sides stream COPY data from now on: replication
    copied,       ///< the server has sent all of that
    completes,    ///< a command is over: the end of a query's part, all of an execute
};

namespace table {

constexpr auto reply_rows() {
    namespace b = wire::backend;
    constexpr auto states = static_cast<std::size_t>(request::kinds);
    by_type<step, states> rows{};  // violation
    const auto on = [&](char type, request what, step means) {
        rows[static_cast<unsigned char>(type)][static_cast<std::size_t>(what)] = means;
    };
    on(b::parse_complete, request::parse, step::last);
    on(b::bind_complete, request::bind, step::last);
    on(b::close_complete, request::close, step::last);
    on(b::close_complete, request::known_parse, step::last);
    on(b::parameter_description, request::describe, step::part);
    on(b::row_description, request::describe, step::last);
    on(b::row_description, request::query, step::part);
    on(b::no_data, request::describe, step::last);
    on(b::portal_suspended, request::execute, step::last);
    on(b::function_call_response, request::function_call, step::part);
    for (const request runs : {request::query, request::execute}) {
        on(b::data_row, runs, step::part);
        on(b::copy_out_response, runs, step::part);
        on(b::copy_data, runs, step::part);
        on(b::copy_done, runs, step::part);
        on(b::copy_in_response, runs, step::copies_in);
        on(b::command_complete, runs, step::completes);
        on(b::empty_query_response, runs, step::completes);
    }
    on(b::copy_both_response, request::query, step::copies_both);
    on(b::copy_data, request::copy_both, step::part);
    on(b::copy_done, request::copy_both, step::copied);
    // A server that shuts down says CommandComplete in place of CopyDone, and goes.
    on(b::command_complete, request::copy_both, step::copied);
    for (const request ends : {request::query, request::sync, request::function_call}) {
        on(b::ready_for_query, ends, step::last);
    }
    for (std::size_t any = 0; any < states; ++any) {
        on(b::error_response, static_cast<request>(any), step::fails);
    }
    return rows;
}
inline constexpr auto replies = reply_rows();

}  // namespace table

constexpr step step_of(char type, request head) {
    return table::replies[static_cast<unsigned char>(type)][static_cast<std::size_t>(head)];
}

namespace table {

constexpr auto part_types() {
    std::array<bool, 256> types{};
    for (std::size_t type = 0; type < types.size(); ++type)
        types[type] = std::ranges::find(replies[type], step::part) != replies[type].end();
    return types;
}
inline constexpr auto parts = part_types();

}  // namespace table

/// A part of the answer to some request: asked first of every reply, since most are none.
constexpr bool may_be_part(char type) {
    return table::parts[static_cast<unsigned char>(type)];
}

/// NoticeResponse, ParameterStatus and NotificationResponse are owed to nothing.
constexpr bool may_come_any_time(char type) {
    namespace b = wire::backend;
    return type == b::notice_response || type == b::parameter_status || type == b::notification_response;
}

/// A reply to some request.
constexpr bool is_reply(char type) {
    for (const step means : table::replies[static_cast<unsigned char>(type)]) {
        if (means != step::violation) return true;
    }
    return false;
}

}  // namespace pgsluice::core
