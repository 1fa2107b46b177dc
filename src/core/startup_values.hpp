// Values in a startup packet that are more than a text. Pure functions; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/replication.hpp"

namespace pgsluice::core {

/// The value of `replication` as PostgreSQL reads it: "database", or a boolean. Nothing: it is neither. Source:
/// PostgreSQL manual, "Streaming Replication Protocol".
std::optional<replication> parse_replication(std::string_view value);

/// Reads libpq's "options": -c name=value, -cname=value, --name=value; a backslash takes the next byte as it is.
/// Nothing when there is anything else in it. Source: PostgreSQL manual, "The PostgreSQL options parameter".
std::optional<std::vector<std::pair<std::string, std::string>>> parse_options(std::string_view text);

}  // namespace pgsluice::core
