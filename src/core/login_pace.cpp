// The count of failures by address and user.
#include "core/login_pace.hpp"

#include <algorithm>

namespace pgsluice::core {

base::duration login_pace::failed(const std::string &address_and_user, base::duration longest, base::time_point now) {
    if (longest <= base::duration::zero()) return base::duration::zero();
    const auto forgotten = [now](const entry &it) { return now >= it.last + memory; };
    if (known_.size() >= entries_max && !known_.contains(address_and_user)) {
        std::erase_if(known_, [&](const auto &it) { return forgotten(it.second); });
        // Then those that nothing is kept back from yet: names that were made up must not wipe what is known of one.
        if (known_.size() >= entries_max)
            std::erase_if(known_, [&](const auto &it) { return it.second.failures <= free_failures; });
        if (known_.size() >= entries_max) known_.clear();
    }
    auto &it = known_[address_and_user];
    if (forgotten(it)) it.failures = 0;
    it.last = now;
    if (++it.failures <= free_failures) return base::duration::zero();
    constexpr std::uint32_t doublings_max = 16;
    const auto doublings = std::min(it.failures - free_failures - 1, doublings_max);
    return std::min<base::duration>(first_delay * (1U << doublings), longest);
}

}  // namespace pgsluice::core
