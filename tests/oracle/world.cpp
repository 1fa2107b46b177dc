// The books.
#include "world.hpp"

#include <iostream>
#include <utility>

namespace oracle {

std::string_view to_string(failure what) {
    constexpr std::array<std::string_view, static_cast<std::size_t>(failure::count)> names{
        "bleed",        "lost",        "doubled", "phantom", "torn",       "shared xid", "wrong identity",
        "stray cancel", "wrong reply", "stuck",   "late",    "over limit", "left behind"};
    return names[static_cast<std::size_t>(what)];
}

void world::fail(failure what, const std::string &detail) {
    constexpr std::uint64_t told = 10;  // of each kind
    const auto so_far = ++failures[static_cast<std::size_t>(what)];
    if (so_far <= told) std::cout << "FAILURE " << to_string(what) << ": " << detail << std::endl;
}

bool world::failed() const {
    for (const auto number : failures) {
        if (number > 0) return true;
    }
    return false;
}

std::uint32_t world::add_session(std::size_t where, std::string token) {
    sessions.push_back({.where = where});
    ++count.sessions;
    return tokens.add(std::move(token));
}

}  // namespace oracle
