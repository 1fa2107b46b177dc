// Strings that give their memory back: an assignment from an empty or short string keeps it (libstdc++ copies the
// characters into what is there), and clear() does too.
#pragma once

#include <string>

namespace pgsluice::base {

inline void give_back(std::string &it) {
    std::string().swap(it);
}

}  // namespace pgsluice::base
