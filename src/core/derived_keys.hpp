// Keys of SCRAM that were derived from plain secrets which auth_query has found, for those who have logged in with
// them: the next login of such a user is spared the derivation. Who has not shown the password is not: how soon a
// refusal comes must not tell who is known here. Bounded; the one longest unused goes. Belongs to one thread.
#pragma once

#include <cstdint>
#include <map>

#include "auth/scram.hpp"
#include "base/secret.hpp"
#include "core/auth_query.hpp"

namespace pgsluice::core {

class derived_keys {
public:
    static constexpr std::size_t users_max = 1024;

    /// Null: none are known, or those of another secret.
    const auth::scram_keys *find(const secret_question &, const base::secret &text);
    void keep(const secret_question &, const base::secret &text, const auth::scram_keys &);
    std::size_t size() const { return known_.size(); }

private:
    struct entry {
        base::secret text;
        auth::scram_keys keys;
        std::uint64_t used = 0;
    };
    std::map<secret_question, entry> known_;
    std::uint64_t uses_ = 0;
};

}  // namespace pgsluice::core
