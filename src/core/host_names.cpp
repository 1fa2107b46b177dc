// Answers and questions, by address. See host_names.hpp.
#include "core/host_names.hpp"

#include <utility>

namespace pgsluice::core {

host_names::lookup host_names::find(const auth::ip_address &address, base::time_point now) {
    using step = lookup::step;
    const auto key = to_text(address);
    if (const auto found = known_.find(key); found != known_.end()) {
        auto &it = found->second;
        if (it.waiting >= waiting_max) return {step::too_many, {}};
        if (it.waiting > 0) return ++it.waiting, lookup{step::wait, {}};
        if (now < it.until) return {step::known, it.name};
    }
    if (asking_ >= asking_max) return {step::too_many, {}};
    auto &share = shares_[address.share()];
    if (share >= share_max) return {step::too_many, {}};
    ++share;
    ++asking_;
    make_room(now);
    known_[key].waiting = 1;
    return {step::ask, {}};
}

void host_names::answered(const auth::ip_address &address, std::string name, base::time_point now) {
    const auto found = known_.find(to_text(address));
    if (found == known_.end() || found->second.waiting == 0) return;
    --asking_;
    if (const auto share = shares_.find(address.share()); --share->second == 0) shares_.erase(share);
    const base::duration memory = name.empty() ? nothing_memory : name_memory;
    found->second = {0, std::move(name), now + memory};
}

void host_names::forget_nameless() {
    std::erase_if(known_, [](const auto &it) { return it.second.waiting == 0 && it.second.name.empty(); });
}

void host_names::make_room(base::time_point now) {
    if (known_.size() < known_max) return;
    std::erase_if(known_, [now](const auto &it) { return it.second.waiting == 0 && now >= it.second.until; });
    if (known_.size() < known_max) return;
    std::erase_if(known_, [](const auto &it) { return it.second.waiting == 0; });
}

}  // namespace pgsluice::core
