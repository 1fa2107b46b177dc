// The tables of SHOW: one description a table (names and types of its columns, in order), and rows of typed cells, with
// their forms on the wire. Columns of PgBouncer's first, exactly as it has them; ours behind. Any thread.
// Source: PgBouncer documentation, "Show commands"; types as PgBouncer 1.25 sends them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/console_command.hpp"

namespace pgsluice::core {

/// By their object ids. Source: PostgreSQL, pg_type.
enum class column_type : std::uint32_t { bytea = 17, int8 = 20, int4 = 23, text = 25, numeric = 1700 };

struct console_column {
    std::string_view name;
    column_type type = column_type::text;
};

/// NULL, a number, or a text. Of the type that its column has.
using console_cell = std::variant<std::monostate, std::int64_t, std::string>;
using console_row = std::vector<console_cell>;

/// Empty for help, which is a notice, and for parameter, whose column has the parameter's name.
std::span<const console_column> columns_of(console_table);

/// Formats of result columns as in Bind: none (all text), one for all, or one each; 0 = text, 1 = binary.
using result_formats = std::vector<std::uint16_t>;

void append_row_description(std::string &out, std::span<const console_column>, const result_formats &);
/// A cell more or less than there are columns, or of another kind, is a fault of the caller, and shown as NULL.
void append_data_row(std::string &out, std::span<const console_column>, const console_row &, const result_formats &);
/// A number of any size from 0 on, as numeric's binary form. Source: PostgreSQL, numeric_send.
std::string binary_numeric(std::uint64_t);

}  // namespace pgsluice::core
