// What the first server of a pool told at login, kept so that clients can be welcomed without one.
// Immutable once shared; any thread may read it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/parameters.hpp"

namespace pgsluice::core {

struct welcome {
    /// Parameters that do not follow clients, in the server's order.
    std::vector<std::pair<std::string, std::string>> fixed;
    /// The defaults of those that do.
    shared_parameters tracked;
};

using shared_welcome = std::shared_ptr<const welcome>;

/// The key a client gets in BackendKeyData, and must show in a CancelRequest. Ours, random, never a server's.
struct cancel_key {
    std::uint32_t pid = 0;
    std::uint32_t secret = 0;
};

}  // namespace pgsluice::core
