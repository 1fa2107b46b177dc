// Messages that a backend sends: their type bytes, and the few that we build ourselves.
// Source: PostgreSQL manual, "Message Formats".
#pragma once

#include <string>
#include <string_view>

#include "wire/writer.hpp"

namespace pgsluice::wire::backend {

inline constexpr char authentication = 'R';
inline constexpr char backend_key_data = 'K';
inline constexpr char bind_complete = '2';
inline constexpr char close_complete = '3';
inline constexpr char command_complete = 'C';
inline constexpr char copy_both_response = 'W';
inline constexpr char copy_data = 'd';
inline constexpr char copy_done = 'c';
inline constexpr char copy_in_response = 'G';
inline constexpr char copy_out_response = 'H';
inline constexpr char data_row = 'D';
inline constexpr char empty_query_response = 'I';
inline constexpr char error_response = 'E';
inline constexpr char function_call_response = 'V';
inline constexpr char negotiate_protocol_version = 'v';
inline constexpr char no_data = 'n';
inline constexpr char notice_response = 'N';
inline constexpr char notification_response = 'A';
inline constexpr char parameter_description = 't';
inline constexpr char parameter_status = 'S';
inline constexpr char parse_complete = '1';
inline constexpr char portal_suspended = 's';
inline constexpr char ready_for_query = 'Z';
inline constexpr char row_description = 'T';

/// Transaction status in ReadyForQuery.
inline constexpr char status_idle = 'I';
inline constexpr char status_in_transaction = 'T';
inline constexpr char status_failed = 'E';

/// Codes of Authentication messages.
enum class authentication_code : std::uint32_t {
    ok = 0,
    cleartext = 3,
    md5 = 5,
    sasl = 10,
    sasl_continue = 11,
    sasl_final = 12
};

inline void append_authentication(std::string &out, authentication_code code, std::string_view data = {}) {
    writer(out, authentication).u32(static_cast<std::uint32_t>(code)).bytes(data).finish();
}
inline void append_parameter_status(std::string &out, std::string_view name, std::string_view value) {
    writer(out, parameter_status).cstring(name).cstring(value).finish();
}
inline void append_backend_key_data(std::string &out, std::uint32_t pid, std::string_view secret) {
    writer(out, backend_key_data).u32(pid).bytes(secret).finish();
}
inline void append_parse_complete(std::string &out) {
    writer(out, parse_complete).finish();
}
inline void append_close_complete(std::string &out) {
    writer(out, close_complete).finish();
}
inline void append_ready_for_query(std::string &out, char status) {
    writer(out, ready_for_query).u8(static_cast<std::uint8_t>(status)).finish();
}

}  // namespace pgsluice::wire::backend
