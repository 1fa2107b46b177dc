// Deadlines of one worker, in slots of one tick: arming and disarming are a few pointer moves, and a deadline that only
// moves later costs nothing (the hook fires early once, and is armed again). No timer per query.
// Belongs to one worker. A hook fires within one tick after its deadline, never before it unless it was moved later.
#pragma once

#include <array>
#include <boost/intrusive/list.hpp>

#include "base/time.hpp"
#include "net/each_its_turn.hpp"

namespace pgsluice::net {

class timer_hook : public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
public:
    virtual void on_timer(base::time_point now) = 0;

protected:
    timer_hook() = default;
    ~timer_hook() = default;

private:
    friend class timer_wheel;
    base::time_point due_ = base::never;
};

class timer_wheel {
public:
    static constexpr base::milliseconds tick{50};

    /// Makes `hook` fire at `due` or earlier. base::never leaves it as it is: it fires once more, or not at all.
    void arm(timer_hook &hook, base::time_point due) {
        if (due == base::never || (hook.is_linked() && hook.due_ <= due)) return;
        hook.unlink();
        hook.due_ = due;
        slots_[slot_of(due)].push_back(hook);
    }

    /// Fires what is due. Hooks may arm, disarm and destroy themselves and others meanwhile. What one of them throws is
    /// thrown when all have fired.
    void advance(base::time_point now) {
        const auto last = count_of(now);
        const auto turns = last - done_ < slots ? last - done_ : slots;
        if (last > done_) done_ = last;  // what is armed meanwhile goes behind
        each_its_turn each;
        for (auto i = turns; i > 0; --i) fire(slots_[static_cast<std::size_t>((last - i + 1) % slots)], now, each);
        each.tell();
    }
    explicit timer_wheel(base::time_point now) : done_(count_of(now)) {}

private:
    using list = boost::intrusive::list<timer_hook, boost::intrusive::constant_time_size<false>>;
    static constexpr std::int64_t slots = 1024;

    static std::int64_t count_of(base::time_point when) { return when.time_since_epoch() / tick; }
    /// The first tick that is not before `due`; what is overdue goes to the next one.
    std::size_t slot_of(base::time_point due) const {
        const auto wanted = count_of(due) + 1;
        return static_cast<std::size_t>((wanted > done_ ? wanted : done_ + 1) % slots);
    }
    static void fire(list &slot, base::time_point now, each_its_turn &each) {
        list round;
        round.swap(slot);
        while (!round.empty()) {
            auto &hook = round.front();
            hook.unlink();
            if (hook.due_ > now) {
                slot.push_back(hook);  // of a later turn of the wheel
            } else {
                each.run([&] { hook.on_timer(now); });
            }
        }
    }

    std::array<list, slots> slots_;
    std::int64_t done_;
};

}  // namespace pgsluice::net
