// Messages that a frontend sends: their type bytes, and the few that we build ourselves.
// Source: PostgreSQL manual, "Message Formats".
#pragma once

#include <string>
#include <string_view>

#include "wire/writer.hpp"

namespace pgsluice::wire::frontend {

inline constexpr char bind = 'B';
inline constexpr char close = 'C';
inline constexpr char copy_data = 'd';
inline constexpr char copy_done = 'c';
inline constexpr char copy_fail = 'f';
inline constexpr char describe = 'D';
inline constexpr char execute = 'E';
inline constexpr char flush = 'H';
inline constexpr char function_call = 'F';
inline constexpr char parse = 'P';
inline constexpr char password = 'p';  ///< also GSS and SASL responses
inline constexpr char query = 'Q';
inline constexpr char sync = 'S';
inline constexpr char terminate = 'X';

inline void append_query(std::string &out, std::string_view sql) {
    writer(out, query).cstring(sql).finish();
}
/// `body`: what follows the name, the text and the parameter types.
inline void append_parse(std::string &out, std::string_view name, std::string_view body) {
    writer(out, parse).cstring(name).bytes(body).finish();
}
inline void append_close_statement(std::string &out, std::string_view name) {
    writer(out, close).u8('S').cstring(name).finish();
}
inline void append_close_portal(std::string &out, std::string_view name) {
    writer(out, close).u8('P').cstring(name).finish();
}
inline void append_describe_statement(std::string &out, std::string_view name) {
    writer(out, describe).u8('S').cstring(name).finish();
}
inline void append_flush(std::string &out) {
    writer(out, flush).finish();
}
inline void append_sync(std::string &out) {
    writer(out, sync).finish();
}
inline void append_copy_fail(std::string &out, std::string_view why) {
    writer(out, copy_fail).cstring(why).finish();
}
inline void append_terminate(std::string &out) {
    writer(out, terminate).finish();
}
inline void append_password(std::string &out, std::string_view text) {
    writer(out, password).cstring(text).finish();
}
inline void append_sasl_initial_response(std::string &out, std::string_view mechanism, std::string_view response) {
    writer(out, password).cstring(mechanism).u32(static_cast<std::uint32_t>(response.size())).bytes(response).finish();
}
inline void append_sasl_response(std::string &out, std::string_view response) {
    writer(out, password).bytes(response).finish();
}

}  // namespace pgsluice::wire::frontend
