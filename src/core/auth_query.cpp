// The conversation: Parse, Bind, Describe, Execute, Sync in one piece; then at most one row of two columns.
#include "core/auth_query.hpp"

#include "wire/backend.hpp"
#include "wire/error_response.hpp"
#include "wire/frame.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;

std::optional<secret_question> question_for(const config::settings &all, const std::string &database,
                                            const std::string &user) {
    static const config::database none;
    const auto *const found = all.find_database(database);
    const auto &entry = found != nullptr ? *found : none;
    secret_question it;
    it.auth_user = entry.auth_user.value_or(all.global.auth_user);
    it.query = entry.auth_query.value_or(all.global.auth_query);
    it.database = entry.auth_dbname.value_or(all.global.auth_dbname);
    if (it.database.empty()) it.database = database;
    it.user = user;
    it.scram_iterations = all.global.scram_iterations;
    // PostgreSQL knows no such name, and one that is not text would be an error of the query's.
    const bool possible = user.size() <= 63 && all.find_database(it.database) != nullptr;
    if (it.auth_user.empty() || it.query.empty() || !possible) return std::nullopt;
    return it;
}

void auth_query::ask(std::string &out) const {
    using namespace std::string_view_literals;
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
                // A name that is no text in the server's encoding is nobody's there (class 22, data exception).
                if (asked_ && fields && fields->sqlstate == "22021") {
                    answer_ = secret_answer{secret_answer::kind::unknown};
                    break;
                }
                fail((asked_ ? "error response from auth_query: " : "auth_query could not be asked: ") +
                     std::string(fields ? fields->message : "?"));
                break;
            }
            case backend::row_description:
                on_row_description(message.body);
                break;
            case backend::no_data:
                fail("expected 2 columns from auth_query, not 0");
                break;
            case backend::data_row:
                on_row(message.body);
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
    if (!name) return fail("auth_query response contained null user name");
    if (*name != what_.user) return fail("auth_query gave another user than the one asked for");
    found_ = std::make_shared<auth::credential>(auth::parse_secret(secret.value_or("")));
}

void auth_query::fail(std::string_view why) {
    if (!done()) answer_ = secret_answer{secret_answer::kind::failed, nullptr, std::string(why)};
}

}  // namespace pgsluice::core
