// Comparing names without regard to case, as PostgreSQL compares those of parameters: ASCII letters alone are folded,
// whatever the locale. Any thread.
#pragma once

#include <algorithm>
#include <iterator>
#include <string_view>

namespace pgsluice::base {

constexpr char to_lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

constexpr bool equal_nocase(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return to_lower(x) == to_lower(y); });
}

/// `names`: a range of texts.
template <class Names>
constexpr bool is_among(const Names &names, std::string_view name) {
    return std::any_of(std::begin(names), std::end(names), [&](const auto &own) { return equal_nocase(own, name); });
}

/// Below, at or above 0 as `a` sorts before, with or behind `b`.
inline int compare_nocase(std::string_view a, std::string_view b) {
    const auto shorter = std::min(a.size(), b.size());
    for (std::size_t i = 0; i < shorter; ++i) {
        const int difference = to_lower(a[i]) - to_lower(b[i]);
        if (difference != 0) return difference;
    }
    return a.size() == b.size() ? 0 : a.size() < b.size() ? -1 : 1;
}

}  // namespace pgsluice::base
