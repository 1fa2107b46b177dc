// What a server of a pool told at login, kept so that clients can be welcomed without one.
// Immutable once shared; any thread may read it.
#pragma once

#include <cstdint>
#include <memory>

#include "core/parameters.hpp"

namespace pgsluice::core {

struct welcome {
    /// As a server has them by itself.
    shared_parameters parameters;
};

using shared_welcome = std::shared_ptr<const welcome>;

/// The key a client gets in BackendKeyData, and must show in a CancelRequest. Ours, random, never a server's.
struct cancel_key {
    std::uint32_t pid = 0;
    std::uint32_t secret = 0;
};

}  // namespace pgsluice::core
