// core::known_starts for all threads: a client is welcomed on the lobby's thread, and its first server is asked on
// another. The lock is its own, and held for a look-up: sets are made outside it.
#pragma once

#include <mutex>

#include "core/known_starts.hpp"

namespace pgsluice::net {

class shared_starts final : public core::known_starts {
public:
    core::shared_parameters begin(std::uint32_t pool, const core::shared_parameters &defaults,
                                  const asked &wishes) override {
        if (wishes.empty()) return defaults;
        auto key = key_of(pool, *defaults, wishes);
        const bool short_enough = key.size() <= most_bytes;
        if (short_enough) {
            const std::lock_guard lock(mutex_);
            if (auto known = find(key)) return known;
        }
        auto own = with_wishes(defaults, wishes);
        if (!short_enough || own == defaults) return own;
        const std::lock_guard lock(mutex_);
        return remember(std::move(key), own);
    }
    void accepted(const core::shared_parameters &begun, const core::parameter_set &now) override {
        if (core::all_confirmed(*begun)) return;  // most are, and then nothing is learnt
        const std::lock_guard lock(mutex_);
        known_starts::accepted(begun, now);
    }

private:
    std::mutex mutex_;
};

}  // namespace pgsluice::net
