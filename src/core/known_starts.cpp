// Startup wishes that were seen before.
#include "core/known_starts.hpp"

#include <algorithm>

namespace pgsluice::core {

/// In the order of names, so that many cost no more than their number.
shared_parameters known_starts::with_wishes(const shared_parameters &defaults, const asked &wishes) {
    std::vector<parameter> own;
    own.reserve(wishes.size());
    for (const auto &[name, value] : wishes) own.push_back({.name = name, .value = value});
    std::stable_sort(own.begin(), own.end(),
                     [](const parameter &a, const parameter &b) { return base::compare_nocase(a.name, b.name) < 0; });
    const auto last_of_each = std::unique(own.rbegin(), own.rend(), [](const parameter &a, const parameter &b) {
        return base::equal_nocase(a.name, b.name);
    });
    own.erase(own.begin(), last_of_each.base());
    auto known = defaults->begin();
    for (auto &wish : own) {
        while (known != defaults->end() && base::compare_nocase((*known).name, wish.name) < 0) ++known;
        if (known == defaults->end() || !base::equal_nocase((*known).name, wish.name)) continue;
        const auto usual = *known;
        wish.name = usual.name;
        wish.reported = usual.reported;
        if (wish.value == usual.value) wish = usual;
    }
    auto set = std::make_shared<parameter_set>(defaults->with(own));
    // Most clients ask for nothing of their own, and share the pool's set.
    return *set == *defaults ? defaults : set;
}

/// With lengths, so that no two can be read as one another.
std::string known_starts::key_of(std::uint32_t pool, const parameter_set &defaults, const asked &wishes) {
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

shared_parameters known_starts::find(const std::string &key) const {
    const auto it = by_wishes_.find(key);
    return it == by_wishes_.end() ? nullptr : it->second;
}

shared_parameters known_starts::remember(std::string key, const shared_parameters &own) {
    if (auto known = find(key)) return known;
    if (by_wishes_.size() >= most) {
        by_wishes_.clear();
        by_set_.clear();
    }
    if (!all_confirmed(*own)) by_set_.emplace(own.get(), key);
    by_wishes_.emplace(std::move(key), own);
    return own;
}

shared_parameters known_starts::begin(std::uint32_t pool, const shared_parameters &defaults, const asked &wishes) {
    if (wishes.empty()) return defaults;
    auto key = key_of(pool, *defaults, wishes);
    if (auto known = find(key)) return known;
    const auto own = with_wishes(defaults, wishes);
    return own == defaults || key.size() > most_bytes ? own : remember(std::move(key), own);
}

void known_starts::accepted(const shared_parameters &begun, const parameter_set &now) {
    const auto found = by_set_.find(begun.get());
    if (found == by_set_.end()) return;
    // Only what was asked for: the rest is this server's, and not every server's.
    std::vector<parameter> made;
    match(*begun, now, [&](const parameter *asked_for, const parameter *it) {
        if (asked_for != nullptr && it != nullptr && !asked_for->confirmed) made.push_back(*it);
    });
    by_wishes_[found->second] = std::make_shared<parameter_set>(begun->with(made));
    by_set_.erase(found);
}

}  // namespace pgsluice::core
