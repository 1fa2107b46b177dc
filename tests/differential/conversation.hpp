// Plays one pipeline against a server and keeps what came back, in a form that can be compared and read.
#pragma once

#include <string>
#include <vector>

#include "differential/pipeline.hpp"
#include "support/peer.hpp"

namespace pgsluice::differential {

/// What came back, one line a message.
struct transcript {
    std::vector<std::string> lines;
    std::vector<std::size_t> seen_at_wait;  ///< replies that had come when each wait was over
    std::string trouble;                    ///< why it has no proper end; empty when it has
    std::vector<std::string> kinds;         ///< type of each reply, of an error its SQLSTATE too
};

/// Against PostgreSQL itself: waits by what PostgreSQL's rules say is due.
transcript play_first(test::peer &, const pipeline &, const pipeline &ending);
/// Against the other: each wait is over when as much has come as the first had at that place.
transcript play_again(test::peer &, const pipeline &, const pipeline &ending, const transcript &first);

}  // namespace pgsluice::differential
