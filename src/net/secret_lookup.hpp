// Finds users that auth_file lacks: runs auth_query (core/auth_query) over a client connection of the pooler's own, one
// end of a socket pair, the other end of which a worker serves like any client. So every limit, queue and timeout of
// the pools holds for it, and no client's session is ever under it. Questions that are alike are asked once; at most
// `at_once` are under way, up to `line_max` others wait in line; each is answered `time_limit` after it was asked at
// the latest; one that nobody waits for any more leaves the line. While the database that would be asked is paused its
// questions stand aside, where they keep nobody out, and that time does not count: their clients wait, as those do who
// have logged in, of whom there are so many at most. That a user is not there is remembered for `unknown_for`, and
// counts while there is a line. Lives on the control thread.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <vector>

#include "core/auth_query.hpp"
#include "core/seen_secrets.hpp"
#include "net/asio.hpp"
#include "net/shared.hpp"

namespace pgsluice::net {

class secret_lookups {
public:
    static constexpr std::size_t at_once = 32, line_max = 1000;
    static constexpr base::seconds time_limit{10}, unknown_for{1};
    /// Of users that are not there: a guesser's names must not fill the memory.
    static constexpr std::size_t unknown_max = 4096;

    using then = std::function<void(const core::secret_answer &)>;
    /// Held by who asked: the question, this very one.
    using ticket = std::shared_ptr<const core::secret_question>;

    explicit secret_lookups(shared &all) : all_(all) {}
    ~secret_lookups();

    /// Any thread. `done` is called once, on the control thread, unless the ticket is given back or the process ends
    /// before.
    ticket find(core::secret_question, then done);
    /// Any thread. Who asked is gone. What is under way goes on: it has its connection already, and to cancel it would
    /// cost the server more than to answer.
    void forget(ticket);
    /// Some twenty times a second, on the control thread: a pause may be over.
    void tick();

private:
    class conversation;
    friend class conversation;

    void ask(const ticket &, then done);
    void answer_unknown(const core::secret_question &, base::duration after, then done);
    void begin(const core::secret_question &, base::time_point until);
    void next();
    bool held_up(const std::string &database);
    void put_back(const core::secret_question &);
    void finished(const core::secret_question &, core::secret_answer);
    void tell(const core::secret_question &, core::secret_answer);

    shared &all_;
    struct asker {
        ticket wanted;
        then done;
    };
    using line = std::list<core::secret_question>;
    struct askers {
        std::vector<asker> all;
        base::time_point since;
        line *in = nullptr;  ///< until it is under way
        line::iterator place;
    };
    static void stand(askers &, line &at_end_of, line &from);
    std::map<core::secret_question, askers> asked_;  ///< in line, aside, or under way
    std::map<core::secret_question, std::shared_ptr<conversation>> under_way_;
    line in_line_;                         ///< in the order of asking
    std::map<std::string, line> held_up_;  ///< by paused database
    struct unknown_user {
        base::time_point until;
        base::duration took;  ///< to find out, and to be told again: else a second look would tell them from known ones
    };
    std::map<core::secret_question, unknown_user> unknown_;
    core::seen_secrets seen_;
};

}  // namespace pgsluice::net
