// ErrorResponse and NoticeResponse: built from and read into named fields.
// Source: PostgreSQL manual, "Error and Notice Message Fields". The words themselves are core/errors' business.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pgsluice::wire {

/// Fields of an error or notice; empty = absent. Views live as long as what they were read from.
struct error_fields {
    std::string_view severity;  ///< S (localised) and, in what we build, V
    std::string_view sqlstate;  ///< C: five characters
    std::string_view message;   ///< M
    std::string_view detail;    ///< D
    std::string_view hint;      ///< H
};

void append_error_response(std::string &out, const error_fields &);
void append_notice_response(std::string &out, const error_fields &);

/// Reads a body. A field that is missing stays empty; a body that is not well formed is nothing.
/// Severity is V where present (never localised), else S.
std::optional<error_fields> parse_error_fields(std::string_view body);

}  // namespace pgsluice::wire
