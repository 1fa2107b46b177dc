// What makes a client one of replication: it asks for a walsender by `replication` in its startup packet, and gets a
// server of its own. Immutable once shared; any thread may read it. Source: PostgreSQL manual, "Streaming Replication
// Protocol".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pgsluice::core {

enum class replication : std::uint8_t { none, physical, logical };

constexpr std::string_view to_string(replication kind) {
    return kind == replication::physical ? "physical" : kind == replication::logical ? "logical" : "none";
}

/// The value of the startup parameter as PostgreSQL reads it: "database", or a boolean. Nothing: it is neither.
std::optional<replication> parse_replication(std::string_view value);

/// What such a client's server is asked for at its start, in the client's words.
struct replication_start {
    replication kind = replication::none;
    std::vector<std::pair<std::string, std::string>> parameters;
};

}  // namespace pgsluice::core
