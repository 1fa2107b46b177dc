// Whether a place (an address of a name, a host of a list) is worth a try now. One that could not be reached is passed
// over for a while, then one connection probes it; while that fails the pause doubles. Pure; belongs to who holds it.
#pragma once

#include <algorithm>

#include "base/time.hpp"

namespace pgsluice::core {

class reachability {
public:
    static constexpr base::duration first_pause = base::seconds(1), longest_pause = base::seconds(15);

    void worked() { pause_ = base::duration::zero(); }
    void failed(base::time_point now) {
        pause_ = pause_ == base::duration::zero() ? first_pause : std::min(2 * pause_, longest_pause);
        probe_at_ = now + pause_;
    }
    /// It could not be reached when it was last tried.
    bool dead() const { return pause_ > base::duration::zero(); }
    bool passed_over(base::time_point now) const { return dead() && now < probe_at_; }
    /// It is tried now: nobody else need do so until that has come to something, or the pause is over again.
    void tried(base::time_point now) {
        if (dead()) probe_at_ = now + pause_;
    }

private:
    base::duration pause_{0};
    base::time_point probe_at_;
};

}  // namespace pgsluice::core
