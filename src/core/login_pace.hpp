// How long a wrong password is kept from its sender: nothing for the first few of an address and user, then longer with
// each, so that guessing is slow. Right passwords never wait, and nobody is locked out. Counts and forgets; knows no
// clock. One a worker.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "base/time.hpp"

namespace pgsluice::core {

class login_pace {
public:
    /// As many may be mistakes.
    static constexpr std::uint32_t free_failures = 5;
    static constexpr base::milliseconds first_delay{100};
    /// Without a failure for so long, the count begins anew.
    static constexpr base::seconds memory{60};
    /// Of addresses and users; with more, those that are forgotten anyway go, then those that need not wait yet, then
    /// all.
    static constexpr std::size_t entries_max = 10'000;

    /// One more from there. What to wait before it is told: at most `longest`.
    base::duration failed(const std::string &address_and_user, base::duration longest, base::time_point now);
    std::size_t size() const { return known_.size(); }

private:
    struct entry {
        std::uint32_t failures = 0;
        base::time_point last;
    };
    std::unordered_map<std::string, entry> known_;
};

}  // namespace pgsluice::core
