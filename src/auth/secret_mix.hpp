// What the secrets of users look like from outside: what they are asked for, and how many iterations they are shown. A
// user that does not exist is taken for one of them, so that neither tells who exists: each kind as often as it is
// among the others, and of one name always the same. Pure values.
#pragma once

#include <cstddef>
#include <map>
#include <string_view>
#include <tuple>

#include "auth/userlist.hpp"

namespace pgsluice::auth {

struct secret_look {
    bool scram = false;  ///< stored as a SCRAM verifier: auth_type md5 asks for SCRAM
    int iterations = 0;  ///< of its verifier; 0: it has none
    bool operator==(const secret_look &) const = default;
    bool operator<(const secret_look &other) const {
        return std::tie(scram, iterations) < std::tie(other.scram, other.iterations);
    }
};
secret_look look_of(const credential &);

class secret_mix {
public:
    void add(const secret_look &it) { ++counts_[it]; }
    void remove(const secret_look &);
    bool empty() const { return counts_.empty(); }
    /// There is one look, or none.
    bool alike() const { return counts_.size() <= 1; }
    /// Where they are alike: that of all. `otherwise`: where there is none.
    secret_look of_all(const secret_look &otherwise) const;
    /// Some are stored as SCRAM verifiers.
    bool has_verifiers() const;
    /// What `user`, who is none of them, is taken for; its iterations are always those of a verifier. `otherwise`:
    /// where there are none.
    secret_look shown_to(std::string_view process_key, std::string_view user, const secret_look &otherwise) const;

private:
    std::map<secret_look, std::size_t> counts_;
};

}  // namespace pgsluice::auth
