// The count of failures by address and user, and the turns of those that wait.
#include "core/login_pace.hpp"

#include <algorithm>

namespace pgsluice::core {

login_pace::turn login_pace::judged(const std::string &address_and_user, bool right, base::duration longest,
                                    base::time_point now) {
    if (longest <= base::duration::zero()) return nullptr;
    auto found = known_.find(address_and_user);
    if (found == known_.end()) {
        if (right) return nullptr;
        make_room(now);
        found = known_.try_emplace(address_and_user).first;
        found->second.last = now;
    }
    auto &it = found->second;
    if (now >= it.last + memory) it.failures = 0;
    // Until it is told a right one is like a wrong one, for those that come after it too.
    it.last = now;
    if (++it.failures <= free_failures) return nullptr;
    constexpr std::uint32_t doublings_max = 16;
    const auto doublings = std::min(it.failures - free_failures - 1, doublings_max);
    return next_turn(it, std::min<base::duration>(first_delay * (1U << doublings), longest), now);
}

/// The first time after `delay` that is far enough from those of others.
login_pace::turn login_pace::next_turn(entry &it, base::duration delay, base::time_point now) {
    const auto apart = delay / told_at_once;
    auto time = now + delay;
    it.turns.erase(it.turns.begin(), it.turns.lower_bound(now - apart));
    for (auto other = it.turns.upper_bound(time - apart); other != it.turns.end() && other->first < time + apart;) {
        if (other->second.expired()) {
            other = it.turns.erase(other);
        } else {
            time = other->first + apart;
            ++other;
        }
    }
    auto mine = std::make_shared<const base::time_point>(time);
    it.turns[time] = mine;
    return mine;
}

void login_pace::make_room(base::time_point now) {
    if (known_.size() < entries_max) return;
    std::erase_if(known_, [now](const auto &it) { return now >= it.second.last + memory; });
    // Then those that nothing is kept back from yet: names that were made up must not wipe what is known of one.
    if (known_.size() >= entries_max)
        std::erase_if(known_, [](const auto &it) { return it.second.failures <= free_failures; });
    if (known_.size() >= entries_max) known_.clear();
}

}  // namespace pgsluice::core
