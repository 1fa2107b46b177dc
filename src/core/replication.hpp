// What makes a client one of replication: it asks for a walsender by `replication` in its startup packet, and gets a
// server of its own. Immutable once shared; any thread may read it. Source: PostgreSQL manual, "Streaming Replication
// Protocol".
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pgsluice::core {

enum class replication : std::uint8_t { none, physical, logical };

constexpr std::string_view to_string(replication kind) {
    return kind == replication::physical ? "physical" : kind == replication::logical ? "logical" : "none";
}

/// As the log has it: what a client would write.
constexpr std::string_view startup_value(replication kind) {
    return kind == replication::physical ? "yes" : kind == replication::logical ? "database" : "no";
}

/// What such a client's server is asked for at its start, in the client's words.
struct replication_start {
    replication kind = replication::none;
    std::vector<std::pair<std::string, std::string>> parameters;
};

}  // namespace pgsluice::core
