// The conversation: the search path, then Parse, Bind, Describe, Execute, Sync, all in one piece; then at most one row
// of two columns.
#include "core/auth_query.hpp"

#include "core/console_command.hpp"
#include "wire/backend.hpp"
#include "wire/error_response.hpp"
#include "wire/frame.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;

namespace {

/// The query runs with auth_user's rights, where others may create objects and (the owner of a database, by ALTER
/// DATABASE) say what is found first. So nothing stands before the system's own names; the functions that users of
/// PgBouncer have in public are still found; and pg_temp, which is first where it is not named, is last. It holds for
/// this transaction: whatever lies between (a pooler of its own, connect_query) can neither refuse it nor keep it.
constexpr std::string_view fix_search_path =
    "select pg_catalog.set_config('search_path', 'pg_catalog, public, pg_temp', true)";

/// Without a look at whether it can be asked. Nothing where auth_query is not used.
std::optional<secret_question> question_of(const config::settings &all, const std::string &database,
                                           const std::string &user) {
    static const config::database none;
    const auto *const found = all.find_database(database);
    const auto &entry = found != nullptr ? *found : none;
    secret_question it;
    it.auth_user = entry.auth_user.value_or(all.global.auth_user);
    it.query = entry.auth_query.value_or(all.global.auth_query);
    it.database = entry.auth_dbname.value_or(all.global.auth_dbname);
    it.guessed = it.database.empty() && !all.databases.contains(database);
    if (it.database.empty()) it.database = database;
    it.user = user;
    it.scram_iterations = all.global.scram_iterations;
    if (it.auth_user.empty() || it.query.empty()) return std::nullopt;
    return it;
}

/// Whether there is a server to ask. The console is none, also where `*` would take its name for a database's.
bool can_be_asked(const config::settings &all, const secret_question &it) {
    return !is_console(it.database) && all.find_database(it.database) != nullptr;
}

}  // namespace

std::optional<secret_question> question_for(const config::settings &all, const std::string &database,
                                            const std::string &user) {
    auto it = question_of(all, database, user);
    // PostgreSQL knows no such name, and one that is not text would be an error of the query's.
    const bool possible = it && user.size() <= 63 && can_be_asked(all, *it);
    return possible ? std::move(it) : std::nullopt;
}

std::string why_not_asked(const config::settings &all, const std::string &database, const std::string &user) {
    const auto it = question_of(all, database, user);
    if (!it || can_be_asked(all, *it)) return {};
    if (is_console(it->database)) return "auth_query could not be asked: the console needs auth_dbname";
    return "auth_query could not be asked: [databases] has no \"" + it->database + "\"";
}

void auth_query::ask(std::string &out) const {
    using namespace std::string_view_literals;
    frontend::append_parse(out, "", std::string(fix_search_path) + std::string(3, '\0'));
    wire::writer(out, frontend::bind).bytes("\0\0\0\0\0\0\0\0"sv).finish();
    wire::writer(out, frontend::execute).cstring("").u32(0).finish();
    frontend::append_parse(out, "", what_.query + std::string(3, '\0'));
    // Portal, statement; no formats; one parameter; results as text.
    wire::writer(out, frontend::bind)
        .bytes("\0\0\0\0\0\1"sv)
        .u32(static_cast<std::uint32_t>(what_.user.size()))
        .bytes(what_.user)
        .bytes("\0\0"sv)
        .finish();
    wire::writer(out, frontend::describe).u8('P').cstring("").finish();
    wire::writer(out, frontend::execute).cstring("").u32(2).finish();
    frontend::append_sync(out);
}

std::size_t auth_query::on_bytes(std::string_view bytes, std::string &out) {
    std::size_t used = 0;
    while (!done()) {
        wire::frame message;
        const auto read = wire::read_frame(bytes.substr(used), message);
        if (read == wire::framing::need_header) break;
        if (read == wire::framing::bad_length || message.body_bytes > message_max_bytes) {
            fail("unexpected response from auth_query");
            break;
        }
        if (!message.whole()) break;
        used += message.here_bytes();
        switch (message.type) {
            case backend::error_response: {
                const auto fields = wire::parse_error_fields(message.body);
                const auto why = (asked_ ? "error response from auth_query: " : "auth_query could not be asked: ") +
                                 std::string(fields ? fields->message : "?");
                // A name that is no text in the server's encoding is nobody's there (class 22, data exception). In a
                // database that is not there nobody is.
                const bool nobody = fields && fields->sqlstate == (asked_ ? "22021" : "3D000");
                nobody && (asked_ || what_.guessed) ? tell_unknown(why) : fail(why);
                break;
            }
            case backend::row_description:
                on_row_description(message.body);
                break;
            case backend::no_data:
                fail("expected 2 columns from auth_query, not 0");
                break;
            case backend::data_row:
                if (described_) on_row(message.body);  // the one before that is the search path
                break;
            case backend::portal_suspended:
                fail("auth_query gave more than one row");
                break;
            case backend::ready_for_query:
                if (asked_) {
                    answer_ = secret_answer{found_ ? secret_answer::kind::found : secret_answer::kind::unknown, found_};
                } else {
                    asked_ = true;
                    ask(out);
                }
                break;
            default:  // the welcome, ParseComplete, notices
                break;
        }
    }
    return used;
}

void auth_query::on_row_description(std::string_view body) {
    described_ = true;
    const auto columns = wire::reader(body).u16();
    if (columns != 2) fail("expected 2 columns from auth_query, not " + std::to_string(columns));
}

void auth_query::on_row(std::string_view body) {
    wire::reader in(body);
    const auto columns = in.u16();
    const auto field = [&]() -> std::optional<std::string_view> {
        const auto length = in.i32();
        if (length < 0) return std::nullopt;
        return in.bytes(static_cast<std::size_t>(length));
    };
    const auto name = field(), secret = field();
    if (columns != 2 || !in.done()) return fail("unexpected response from auth_query");
    if (found_) return fail("auth_query gave more than one row");
    // What a function with OUT parameters gives that has found nobody, as in PgBouncer's documentation.
    if (!name) return tell_unknown("auth_query response contained null user name");
    if (*name != what_.user) return fail("auth_query gave another user than the one asked for");
    found_ = std::make_shared<auth::credential>(auth::parse_secret(secret.value_or("")));
}

void auth_query::tell_unknown(std::string_view oddity) {
    if (!done()) answer_ = secret_answer{secret_answer::kind::unknown, nullptr, std::string(oddity)};
}

void auth_query::fail(std::string_view why) {
    if (!done()) answer_ = secret_answer{secret_answer::kind::failed, nullptr, std::string(why)};
}

}  // namespace pgsluice::core
