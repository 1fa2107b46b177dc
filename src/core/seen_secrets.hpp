// What the secrets that auth_query has found look like, by the database that was asked: whoever is not there is taken
// for one of those (auth/secret_mix). Kept where the look-ups are; what it gives away is a value that others may keep.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "auth/secret_mix.hpp"
#include "core/auth_query.hpp"

namespace pgsluice::core {

class seen_secrets {
public:
    /// Of all databases. One more, and what was seen is forgotten: it comes again with the next logins.
    static constexpr std::size_t users_max = 4096;

    void note(const secret_question &, const auth::credential &);
    /// Null: nobody has been found there.
    std::shared_ptr<const auth::secret_mix> of(const std::string &database) const;

private:
    struct place {
        std::map<std::string, auth::secret_look> users;
        std::shared_ptr<const auth::secret_mix> mix;
    };
    std::map<std::string, place> places_;
    std::size_t users_ = 0;
};

}  // namespace pgsluice::core
