// What a server of a pool told at login, kept so that clients can be welcomed without one.
// Immutable once shared; any thread may read it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/parameters.hpp"

namespace pgsluice::core {

struct welcome {
    /// As a server has them by itself.
    shared_parameters parameters;

    bool operator==(const welcome &other) const {
        return parameters == other.parameters || (parameters && other.parameters && *parameters == *other.parameters);
    }
    bool of_standby() const { return parameters && parameters->value("in_hot_standby") == "on"; }
};

using shared_welcome = std::shared_ptr<const welcome>;

/// The key a client gets in BackendKeyData, and must show in a CancelRequest. Ours, random, never a server's.
struct cancel_key {
    /// What the protocol gives room for: 4 bytes up to 3.1, from 3.2 on as many as PostgreSQL 18 sends.
    static constexpr std::size_t short_bytes = 4, long_bytes = 32;

    cancel_key() = default;
    /// `bytes` beyond long_bytes make a key that is nobody's.
    cancel_key(std::uint32_t number, std::string_view bytes) : pid(number), size_bytes(bytes.size()) {
        std::copy_n(bytes.begin(), std::min(bytes.size(), long_bytes), secret.begin());
    }
    std::string_view text() const { return {secret.data(), std::min(size_bytes, long_bytes)}; }

    std::uint32_t pid = 0;
    std::array<char, long_bytes> secret{};  ///< zeros behind its end, so that all of it can be compared
    std::size_t size_bytes = 0;
};

}  // namespace pgsluice::core
