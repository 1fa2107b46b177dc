// PostgreSQL's main loop in small, written from PostgresMain and CopyGetData, not from src/core: reads messages in
// order and says the types of its replies. What a request does is a plan that comes with it. Knows no bytes.
// Used by the tests of owed_replies. One thread.
#pragma once

#include <deque>
#include <random>
#include <string>

namespace pgsluice::test {

/// A message on its way to the model.
struct told {
    char type;         ///< as on the wire
    std::string plan;  ///< reply types of a run that succeeds; 'G' in it waits for the end of a COPY
    bool pooler = false;
    int fails = -1;  ///< an error comes in place of plan[fails]; -1: none
};

/// A reply on its way back.
struct heard {
    char type;
    bool pooler;  ///< it answers a request of the pooler's
};

class backend_model {
public:
    std::deque<told> in;
    std::deque<heard> out;
    bool dead = false;

    /// Nothing runs and no batch is open. Unread messages are another matter.
    bool at_rest() const { return !running_ && !skip_ && !extended_open_; }
    bool in_copy() const { return running_ && in_copy_; }
    bool running() const { return running_; }

    /// Reads one message or gives one reply; false when it waits. `hit`: an interrupt strikes now if anything runs.
    bool step(bool hit) {
        if (dead) return false;
        if (running_ && !in_copy_) {
            if (hit) return fail();
            return next_reply();
        }
        if (in_copy_) return hit ? fail() : read_in_copy();
        if (in.empty()) return false;
        read();
        return true;
    }

private:
    void say(char type) { out.push_back({type, now_.pooler}); }

    void read() {
        now_ = in.front();
        in.pop_front();
        switch (now_.type) {
            case 'S':
                if (skip_ || !extended_open_) {  // nothing to commit: nothing that could fail
                    skip_ = extended_ = extended_open_ = false;
                    return say('Z');
                }
                extended_ = extended_open_ = false;
                break;
            case 'd':
            case 'c':
            case 'f':  // late data of a COPY that failed
            case 'H':
                return;
            case 'Q':
            case 'F':
                if (skip_) return;
                extended_ = extended_open_ = false;
                break;
            default:
                if (skip_) return;
                extended_ = extended_open_ = true;
                break;
        }
        running_ = true;
        at_ = 0;
    }

    bool next_reply() {
        if (at_ == now_.fails) return fail();
        const char type = now_.plan[static_cast<std::size_t>(at_++)];
        say(type);
        if (type == 'G') in_copy_ = true;
        running_ = at_ < static_cast<int>(now_.plan.size());
        return true;
    }

    bool read_in_copy() {
        if (in.empty()) return false;
        const auto got = in.front();
        in.pop_front();
        switch (got.type) {
            case 'd':
                if (at_ == now_.fails) return fail();  // bad data
                return true;
            case 'H':
            case 'S':
                return true;  // ignored
            case 'c':
                in_copy_ = false;
                return true;
            case 'f':
                return fail();
            default:  // "unexpected message type during COPY from stdin", then "protocol synchronization was lost"
                say('E');
                say('E');
                dead = true;
                return true;
        }
    }

    bool fail() {
        say('E');
        in_copy_ = false;
        running_ = false;
        if (extended_) {
            skip_ = true;
        } else {
            say('Z');
        }
        return true;
    }

    told now_{};
    int at_ = 0;
    bool running_ = false, in_copy_ = false, skip_ = false;
    bool extended_ = false, extended_open_ = false;
};

}  // namespace pgsluice::test
