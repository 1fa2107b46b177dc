// Strings and vectors that give their memory back: an assignment from an empty or short string keeps it (libstdc++
// copies the characters into what is there), and clear() does too.
#pragma once

#include <cstddef>
#include <string>

namespace pgsluice::base {

inline void give_back(std::string &it) {
    std::string().swap(it);
}

/// What a place that is filled and cleared again and again keeps, so that ordinary use takes nothing from the heap.
inline constexpr std::size_t kept_bytes = 64 << 10;

/// Clears it; a large one goes back.
template <class Container>
void clear(Container &it, std::size_t most_bytes = kept_bytes) {
    it.clear();
    if (it.capacity() * sizeof(typename Container::value_type) > most_bytes) [[unlikely]]
        Container().swap(it);
}

}  // namespace pgsluice::base
