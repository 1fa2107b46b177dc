// What earlier clients asked for at startup, and what a server made of it. One that asks for the same is welcomed with
// the server's own spelling, waits for no server to accept it, and shares the set with them: one set for all the
// clients of an application. It decides nothing about pools or SQL. Bounded. One thread's at a time:
// net/shared_starts.hpp puts a lock around it.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/parameters.hpp"

namespace pgsluice::core {

class known_starts {
public:
    virtual ~known_starts() = default;

    using asked = std::vector<std::pair<std::string, std::string>>;

    /// The set of a client of pool number `pool`, whose servers have `defaults`, that asks for `wishes`: of two by one
    /// name the later counts.
    virtual shared_parameters begin(std::uint32_t pool, const shared_parameters &defaults, const asked &wishes);
    /// A server has accepted what begin() gave: it has `now`.
    virtual void accepted(const shared_parameters &begun, const parameter_set &now);

    static constexpr std::size_t most = 256;         ///< more than these, and all are forgotten
    static constexpr std::size_t most_bytes = 4096;  ///< longer wishes are not remembered
    std::size_t size() const { return by_wishes_.size(); }

protected:
    // The steps of begin(): only find() and remember() touch what is shared.
    static std::string key_of(std::uint32_t pool, const parameter_set &defaults, const asked &wishes);
    static shared_parameters with_wishes(const shared_parameters &defaults, const asked &wishes);
    /// Null: not seen before.
    shared_parameters find(const std::string &key) const;
    /// `own`, or what was remembered for `key` meanwhile.
    shared_parameters remember(std::string key, const shared_parameters &own);

private:
    std::unordered_map<std::string, shared_parameters> by_wishes_;
    std::unordered_map<const parameter_set *, std::string> by_set_;  ///< the key of those not accepted yet
};

}  // namespace pgsluice::core
