// See secret_mix.hpp.
#include "auth/secret_mix.hpp"

#include <algorithm>
#include <cstdint>
#include <string>

#include "auth/scram_math.hpp"

namespace pgsluice::auth {

secret_look look_of(const credential &it) {
    return {it.form == secret_form::scram, it.verifier ? it.verifier->iterations : 0};
}

void secret_mix::remove(const secret_look &it) {
    const auto found = counts_.find(it);
    if (found != counts_.end() && --found->second == 0) counts_.erase(found);
}

bool secret_mix::has_verifiers() const {
    return std::any_of(counts_.begin(), counts_.end(), [](const auto &it) { return it.first.scram; });
}

secret_look secret_mix::of_all(const secret_look &otherwise) const {
    if (counts_.empty()) return otherwise;
    const auto &look = counts_.begin()->first;
    return {look.scram, look.iterations > 0 ? look.iterations : otherwise.iterations};
}

secret_look secret_mix::shown_to(std::string_view process_key, std::string_view user,
                                 const secret_look &otherwise) const {
    // Made for everybody, so that it takes as long. Keyed, so that nobody else can tell what a name would be shown.
    const auto made = hmac_sha256(process_key, std::string("mock secret of ").append(user));
    if (counts_.empty()) return otherwise;
    std::size_t all = 0, most = 0;
    int usual = otherwise.iterations;
    for (const auto &[look, count] : counts_) {
        all += count;
        if (look.iterations > 0 && count > most) most = count, usual = look.iterations;
    }
    std::uint64_t number = 0;
    for (const char c : made.reveal().substr(0, sizeof number)) number = number << 8 | static_cast<unsigned char>(c);
    auto left = number % all;
    auto it = counts_.begin();
    for (; left >= it->second; ++it) left -= it->second;
    return {it->first.scram, it->first.iterations > 0 ? it->first.iterations : usual};
}

}  // namespace pgsluice::auth
