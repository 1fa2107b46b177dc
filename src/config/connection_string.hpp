// The value of a [databases], [users] or [peers] entry: key=value key='va''lue' ..., as PgBouncer reads it.
// Not libpq's conninfo: no backslashes, no URI. It knows no option by name.
// Source: PgBouncer's config documentation, section [databases].
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace pgsluice::config {

struct connection_option {
    std::string key;
    std::string value;
};

/// The options in the order written. The error is one line that gives a position (1-based) and never the text itself,
/// since a value may be a password.
boost::system::result<std::vector<connection_option>, std::string> parse_connection_string(std::string_view text);

}  // namespace pgsluice::config
