// Startup wishes that were seen before.
#include "core/known_starts.hpp"

namespace pgsluice::core {

namespace {

shared_parameters with_wishes(const shared_parameters &defaults, const known_starts::asked &wishes) {
    auto own = std::make_shared<parameter_set>(*defaults);
    for (const auto &[name, value] : wishes) {
        const auto known = defaults->find(name);
        if (known && known->value == value) {
            own->put(*known);
        } else {
            own->put({.name = known ? known->name : name, .value = value, .reported = known && known->reported});
        }
    }
    // Most clients ask for nothing of their own, and share the pool's set.
    return *own == *defaults ? defaults : own;
}

/// With lengths, so that no two can be read as one another.
std::string key_of(std::uint32_t pool, const parameter_set &defaults, const known_starts::asked &wishes) {
    std::string key = std::to_string(pool);
    const auto add = [&](std::string_view text) {
        key.append(1, ':').append(std::to_string(text.size())).append(1, ':').append(text);
    };
    for (const auto &[name, value] : wishes) {
        add(name);
        add(value);
    }
    key += '|';
    for (const auto it : defaults) {
        add(it.name);
        add(it.value);
    }
    return key;
}

bool all_confirmed(const parameter_set &set) {
    for (const auto it : set)
        if (!it.confirmed) return false;
    return true;
}

}  // namespace

shared_parameters known_starts::begin(std::uint32_t pool, const shared_parameters &defaults, const asked &wishes) {
    if (wishes.empty()) return defaults;
    auto key = key_of(pool, *defaults, wishes);
    if (const auto it = by_wishes_.find(key); it != by_wishes_.end()) return it->second;
    auto own = with_wishes(defaults, wishes);
    if (own == defaults || key.size() > most_bytes) return own;
    if (by_wishes_.size() >= most) {
        by_wishes_.clear();
        by_set_.clear();
    }
    if (!all_confirmed(*own)) by_set_.emplace(own.get(), key);
    by_wishes_.emplace(std::move(key), own);
    return own;
}

void known_starts::accepted(const shared_parameters &begun, const parameter_set &now) {
    const auto found = by_set_.find(begun.get());
    if (found == by_set_.end()) return;
    // Only what was asked for: the rest is this server's, and not every server's.
    auto settled = std::make_shared<parameter_set>(*begun);
    for (const auto it : *begun) {
        if (it.confirmed) continue;
        if (const auto made = now.find(it.name)) settled->put(*made);
    }
    by_wishes_[found->second] = std::move(settled);
    by_set_.erase(found);
}

}  // namespace pgsluice::core
