// Finds users that auth_file lacks: runs auth_query (core/auth_query) over a client connection of the pooler's own, one
// end of a socket pair, the other end of which a worker serves like any client. So every limit, queue and timeout of
// the pools holds for it, and no client's session is ever under it. Questions that are alike are asked once; at most
// `at_once` are under way, the others wait in line; one takes at most `time_limit`; that a user is not there is
// remembered for `unknown_for`, and counts while there is a line. Lives on the control thread.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/auth_query.hpp"
#include "net/asio.hpp"
#include "net/random.hpp"
#include "net/shared.hpp"

namespace pgsluice::net {

class secret_lookups {
public:
    static constexpr std::size_t at_once = 32;
    static constexpr base::seconds time_limit{10}, unknown_for{1};
    /// Of users that are not there: a guesser's names must not fill the memory.
    static constexpr std::size_t unknown_max = 4096;

    using then = std::function<void(const core::secret_answer &)>;

    explicit secret_lookups(shared &all) : all_(all) {}
    ~secret_lookups();

    /// Any thread. `done` is called once, on the control thread, unless the process ends before.
    void find(core::secret_question, then done);

private:
    class conversation;
    friend class conversation;

    void answer_unknown(base::duration after, then done);
    void begin(const core::secret_question &);
    void next();
    void finished(const core::secret_question &, core::secret_answer);
    void derive(const core::secret_question &, auth::credential &);

    shared &all_;
    openssl_random random_;
    struct askers {
        std::vector<then> all;
        base::time_point since;
    };
    std::map<core::secret_question, askers> asked_;
    std::map<core::secret_question, std::shared_ptr<conversation>> under_way_;
    std::deque<core::secret_question> in_line_;
    struct unknown_user {
        base::time_point until;
        base::duration took;  ///< to find out, and to be told again: else a second look would tell them from known ones
    };
    std::map<core::secret_question, unknown_user> unknown_;
    std::map<core::secret_question, auth::credential> derived_;  ///< plain secrets with their verifiers: PBKDF2 is dear
};

}  // namespace pgsluice::net
