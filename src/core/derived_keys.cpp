// See derived_keys.hpp.
#include "core/derived_keys.hpp"

#include <algorithm>

namespace pgsluice::core {

const auth::scram_keys *derived_keys::find(const secret_question &whose, const base::secret &text) {
    const auto found = known_.find(whose);
    if (found == known_.end() || !found->second.text.equals(text.reveal())) return nullptr;
    found->second.used = ++uses_;
    return &found->second.keys;
}

void derived_keys::keep(const secret_question &whose, const base::secret &text, const auth::scram_keys &keys) {
    known_.insert_or_assign(whose, entry{text, keys, ++uses_});
    if (known_.size() <= users_max) return;
    // A look at all of them is little beside the derivation that brought this one.
    known_.erase(std::min_element(known_.begin(), known_.end(),
                                  [](const auto &a, const auto &b) { return a.second.used < b.second.used; }));
}

}  // namespace pgsluice::core
