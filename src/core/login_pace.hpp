// How long it is kept from a client whether its password is right: nothing for the first few failures of an address and
// user, then longer with each, so that guessing is slow. Right ones wait like wrong ones, else silence would be an
// answer too; and those of one address and user are told one after the other, so that many connections guess hardly
// faster than one. What is right is told in its turn, and begins the count anew; beside a crowd of guessers of the very
// same address and user that turn may come behind client_login_timeout. Counts and forgets; knows no clock. One a
// worker; what waits may be let go of by another thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "base/time.hpp"

namespace pgsluice::core {

class login_pace {
public:
    /// As many may be mistakes.
    static constexpr std::uint32_t free_failures = 5;
    static constexpr base::milliseconds first_delay{100};
    /// So many are told within one delay, where they come at once.
    static constexpr int told_at_once = 5;
    /// Without a failure for so long, the count begins anew.
    static constexpr base::seconds memory{60};
    /// Of addresses and users; with more, those that are forgotten anyway go, then those that need not wait yet, then
    /// all.
    static constexpr std::size_t entries_max = 10'000;

    /// A time that is this attempt's as long as it is held: a client that has left without its answer holds up nobody.
    using turn = std::shared_ptr<const base::time_point>;
    /// A password was found right or wrong. When that may be told, null for at once: alone, after `longest` at most.
    turn judged(const std::string &address_and_user, bool right, base::duration longest, base::time_point now);
    /// A right one has been told.
    void let_in(const std::string &address_and_user) { known_.erase(address_and_user); }
    std::size_t size() const { return known_.size(); }

private:
    struct entry {
        std::uint32_t failures = 0;
        base::time_point last;
        std::map<base::time_point, std::weak_ptr<const base::time_point>> turns;
    };
    static turn next_turn(entry &, base::duration delay, base::time_point now);
    void make_room(base::time_point now);

    std::unordered_map<std::string, entry> known_;
};

}  // namespace pgsluice::core
