// Columns of every table, and cells as bytes.
#include "core/console_table.hpp"

#include <array>
#include <charconv>

#include "wire/backend.hpp"

namespace pgsluice::core {

namespace {

using enum column_type;
using column = console_column;

constexpr std::array socket_columns = std::to_array<column>({
    {"type", text},
    {"user", text},
    {"database", text},
    {"replication", text},
    {"state", text},
    {"addr", text},
    {"port", int4},
    {"local_addr", text},
    {"local_port", int4},
    {"connect_time", text},
    {"request_time", text},
    {"wait", int4},
    {"wait_us", int4},
    {"close_needed", int4},
    {"ptr", text},
    {"link", text},
    {"remote_pid", int4},
    {"tls", text},
    {"application_name", text},
    {"prepared_statements", int4},
    {"id", int4},
    // These are of SOCKETS and ACTIVE_SOCKETS alone.
    {"recv_pos", int4},
    {"pkt_pos", int4},
    {"pkt_remain", int4},
    {"send_pos", int4},
    {"send_remain", int4},
    {"pkt_avail", int4},
    {"send_avail", int4},
});
constexpr std::size_t connection_columns = 21;

constexpr std::array database_columns = std::to_array<column>({
    {"name", text},
    {"host", text},
    {"port", int4},
    {"database", text},
    {"force_user", text},
    {"pool_size", int4},
    {"min_pool_size", int4},
    {"reserve_pool_size", int4},
    {"server_lifetime", int4},
    {"pool_mode", text},
    {"load_balance_hosts", text},
    {"max_connections", int4},
    {"current_connections", int4},
    {"max_client_connections", int4},
    {"current_client_connections", int4},
    {"paused", int4},
    {"disabled", int4},
});

constexpr std::array pool_columns = std::to_array<column>({
    {"database", text},
    {"user", text},
    {"cl_active", int4},
    {"cl_waiting", int4},
    {"cl_active_cancel_req", int4},
    {"cl_waiting_cancel_req", int4},
    {"sv_active", int4},
    {"sv_active_cancel", int4},
    {"sv_being_canceled", int4},
    {"sv_idle", int4},
    {"sv_used", int4},
    {"sv_tested", int4},
    {"sv_login", int4},
    {"maxwait", int4},
    {"maxwait_us", int4},
    {"pool_mode", text},
    {"load_balance_hosts", text},
    {"sv_closing", int4},  // ours: PostgreSQL has not ended them yet, and they hold their slots
});

constexpr std::array peer_columns =
    std::to_array<column>({{"peer_id", int4}, {"host", text}, {"port", int4}, {"pool_size", int4}});
constexpr std::array peer_pool_columns = std::to_array<column>({{"peer_id", int4},
                                                                {"cl_active_cancel_req", int4},
                                                                {"cl_waiting_cancel_req", int4},
                                                                {"sv_active_cancel", int4},
                                                                {"sv_login", int4}});
constexpr std::array list_columns = std::to_array<column>({{"list", text}, {"items", int4}});
constexpr std::array user_columns = std::to_array<column>({
    {"name", text},
    {"pool_size", text},
    {"reserve_pool_size", text},
    {"pool_mode", text},
    {"max_user_connections", int4},
    {"current_connections", int4},
    {"max_user_client_connections", int4},
    {"current_client_connections", int4},
});

constexpr std::array stats_columns = std::to_array<column>({
    {"database", text},
    {"total_server_assignment_count", numeric},
    {"total_xact_count", numeric},
    {"total_query_count", numeric},
    {"total_received", numeric},
    {"total_sent", numeric},
    {"total_xact_time", numeric},
    {"total_query_time", numeric},
    {"total_wait_time", numeric},
    {"total_client_parse_count", numeric},
    {"total_server_parse_count", numeric},
    {"total_bind_count", numeric},
    {"total_client_login_count", numeric},
    {"avg_server_assignment_count", numeric},
    {"avg_xact_count", numeric},
    {"avg_query_count", numeric},
    {"avg_recv", numeric},
    {"avg_sent", numeric},
    {"avg_xact_time", numeric},
    {"avg_query_time", numeric},
    {"avg_wait_time", numeric},
    {"avg_client_parse_count", numeric},
    {"avg_server_parse_count", numeric},
    {"avg_bind_count", numeric},
    {"avg_client_login_count", numeric},
});
constexpr std::array stats_totals_columns = std::to_array<column>({
    {"database", text},
    {"server_assignment_count", numeric},
    {"xact_count", numeric},
    {"query_count", numeric},
    {"bytes_received", numeric},
    {"bytes_sent", numeric},
    {"xact_time", numeric},
    {"query_time", numeric},
    {"wait_time", numeric},
    {"client_parse_count", numeric},
    {"server_parse_count", numeric},
    {"bind_count", numeric},
    {"client_login_count", numeric},
});
constexpr std::array stats_average_columns = std::to_array<column>({
    {"database", text},
    {"server_assignment_count", numeric},
    {"xact_count", numeric},
    {"query_count", numeric},
    {"bytes_received", numeric},
    {"bytes_sent", numeric},
    {"xact_time", numeric},
    {"query_time", numeric},
    {"wait_time", numeric},
    {"avg_client_parse_count", numeric},  // the mixed names are PgBouncer's
    {"avg_server_parse_count", numeric},
    {"avg_bind_count", numeric},
    {"avg_client_login_count", numeric},
});
constexpr std::array total_columns = std::to_array<column>({{"name", text}, {"value", numeric}});

constexpr std::array config_columns = std::to_array<column>({
    {"key", text},
    {"value", text},
    {"default", text},
    {"changeable", text},
    {"file", text},  // ours: where the value comes from; NULL for a default
    {"line", int4},
});
constexpr std::array state_columns = std::to_array<column>({{"key", text}, {"value", text}});
constexpr std::array mem_columns =
    std::to_array<column>({{"name", text}, {"size", int4}, {"used", int4}, {"free", int4}, {"memtotal", int4}});
constexpr std::array dns_host_columns = std::to_array<column>({{"hostname", text}, {"ttl", int8}, {"addrs", text}});
constexpr std::array dns_zone_columns = std::to_array<column>({{"zonename", text}, {"serial", int8}, {"count", int4}});
constexpr std::array version_columns = std::to_array<column>({{"version", text}});
constexpr std::array fd_columns = std::to_array<column>({
    {"fd", int4},
    {"task", text},
    {"user", text},
    {"database", text},
    {"addr", text},
    {"port", int4},
    {"cancel", int8},
    {"link", int4},
    {"client_encoding", text},
    {"std_strings", text},
    {"datestyle", text},
    {"timezone", text},
    {"password", text},
    {"scram_client_key", bytea},
    {"scram_server_key", bytea},
});
constexpr std::array why_columns = std::to_array<column>({
    {"client", int8},
    {"database", text},
    {"user", text},
    {"application_name", text},
    {"waiting_us", int8},
    {"place", int4},
    {"limit", text},
    {"reason", text},
    {"holder", int8},
    {"holder_user", text},
    {"holder_application_name", text},
    {"holder_state", text},
    {"held_us", int8},
});

std::string text_of(const console_cell &cell) {
    if (const auto *number = std::get_if<std::int64_t>(&cell)) return std::to_string(*number);
    return std::get<std::string>(cell);
}

std::string big_endian(std::uint64_t value, unsigned size_bytes) {
    std::string out;
    for (unsigned i = size_bytes; i > 0; --i) out += static_cast<char>(value >> (8 * (i - 1)));
    return out;
}

std::string binary_of(column_type type, const console_cell &cell) {
    const auto *const number = std::get_if<std::int64_t>(&cell);
    if (number == nullptr) return text_of(cell);
    const auto value = static_cast<std::uint64_t>(*number);
    switch (type) {
        case int4:
            return big_endian(value, 4);
        case int8:
            return big_endian(value, 8);
        case numeric:
            return binary_numeric(value);
        case text:
        case bytea:
            break;
    }
    return text_of(cell);
}

bool is_binary(const result_formats &formats, std::size_t index) {
    if (formats.empty()) return false;
    return formats[formats.size() == 1 ? 0 : index] == 1;
}

}  // namespace

std::span<const console_column> columns_of(console_table table) {
    switch (table) {
        case console_table::clients:
        case console_table::servers:
            return std::span(socket_columns).first(connection_columns);
        case console_table::sockets:
        case console_table::active_sockets:
            return socket_columns;
        case console_table::config:
            return config_columns;
        case console_table::databases:
            return database_columns;
        case console_table::dns_hosts:
            return dns_host_columns;
        case console_table::dns_zones:
            return dns_zone_columns;
        case console_table::fds:
            return fd_columns;
        case console_table::lists:
            return list_columns;
        case console_table::mem:
            return mem_columns;
        case console_table::peer_pools:
            return peer_pool_columns;
        case console_table::peers:
            return peer_columns;
        case console_table::pools:
            return pool_columns;
        case console_table::state:
            return state_columns;
        case console_table::stats:
            return stats_columns;
        case console_table::stats_averages:
            return stats_average_columns;
        case console_table::stats_totals:
            return stats_totals_columns;
        case console_table::totals:
            return total_columns;
        case console_table::users:
            return user_columns;
        case console_table::version:
            return version_columns;
        case console_table::why:
            return why_columns;
        case console_table::help:
        case console_table::parameter:
            break;
    }
    return {};
}

std::string binary_numeric(std::uint64_t value) {
    constexpr std::uint64_t base = 10000;
    std::vector<std::uint16_t> digits;  // the lowest first
    for (auto rest = value; rest > 0; rest /= base) digits.push_back(static_cast<std::uint16_t>(rest % base));
    const auto weight = digits.empty() ? 0U : static_cast<unsigned>(digits.size() - 1);
    std::size_t first = 0;  // zeros at the end are not sent
    while (first < digits.size() && digits[first] == 0) ++first;
    // Count of digits, weight of the first, sign and scale.
    std::string out = big_endian(digits.size() - first, 2) + big_endian(weight, 2) + std::string(4, '\0');
    for (auto i = digits.size(); i > first; --i) out += big_endian(digits[i - 1], 2);
    return out;
}

void append_row_description(std::string &out, std::span<const console_column> columns, const result_formats &formats) {
    wire::writer message(out, wire::backend::row_description);
    message.u16(static_cast<std::uint16_t>(columns.size()));
    for (std::size_t i = 0; i < columns.size(); ++i) {
        const auto &it = columns[i];
        const std::uint16_t variable = 0xffff;
        const auto size = static_cast<std::uint16_t>(it.type == int4 ? 4 : it.type == int8 ? 8 : variable);
        // No table, no column of one; the type, its size and no modifier.
        message.cstring(it.name).u32(0).u16(0).u32(static_cast<std::uint32_t>(it.type)).u16(size).u32(0xffffffffU);
        message.u16(is_binary(formats, i) ? 1 : 0);
    }
    message.finish();
}

void append_data_row(std::string &out, std::span<const console_column> columns, const console_row &row,
                     const result_formats &formats) {
    wire::writer message(out, wire::backend::data_row);
    message.u16(static_cast<std::uint16_t>(columns.size()));
    for (std::size_t i = 0; i < columns.size(); ++i) {
        if (i >= row.size() || std::holds_alternative<std::monostate>(row[i])) {
            message.u32(0xffffffffU);
            continue;
        }
        const auto bytes = is_binary(formats, i) ? binary_of(columns[i].type, row[i]) : text_of(row[i]);
        message.u32(static_cast<std::uint32_t>(bytes.size())).bytes(bytes);
    }
    message.finish();
}

}  // namespace pgsluice::core
