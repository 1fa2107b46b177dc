// See seen_secrets.hpp.
#include "core/seen_secrets.hpp"

namespace pgsluice::core {

void seen_secrets::note(const secret_question &what, const auth::credential &found) {
    if (found.text.empty()) return;  // lets nobody in, and is shown what nobody is
    auto look = auth::look_of(found);
    // What it is shown with: a verifier of it is not made before somebody logs in by SCRAM.
    if (found.form == auth::secret_form::plain) look.iterations = what.scram_iterations;
    if (users_ >= users_max) places_.clear(), users_ = 0;
    auto &at = places_[what.database];
    const auto [known, fresh] = at.users.try_emplace(what.user, look);
    if (!fresh && known->second == look) return;
    auto mix = at.mix ? *at.mix : auth::secret_mix();
    if (!fresh) mix.remove(known->second);
    mix.add(look);
    known->second = look;
    users_ += fresh ? 1 : 0;
    at.mix = std::make_shared<const auth::secret_mix>(std::move(mix));
}

std::shared_ptr<const auth::secret_mix> seen_secrets::of(const std::string &database) const {
    const auto found = places_.find(database);
    return found == places_.end() ? nullptr : found->second.mix;
}

}  // namespace pgsluice::core
