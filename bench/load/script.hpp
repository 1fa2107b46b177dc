// What a client of the load does in one transaction, over and over: what it sends, and what must come back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "../shared/value.hpp"

namespace pgsluice::bench {

/// Sent at once; over when its answers are whole.
struct step {
    std::string request;            ///< with room for the tags
    std::vector<std::size_t> tags;  ///< where they stand in it; each belongs to a request of its own
    std::string_view block;         ///< sent behind it
    std::string tail;               ///< and behind that
    std::string answers;            ///< the types of the messages that come back
    char status = 'I';              ///< of each ReadyForQuery
    std::size_t pieces = 0;         ///< CopyData of one answer 'd'
    bool new_request = true;        ///< false: the step before had the same tag
};

struct script {
    std::vector<step> preparation;  ///< once, before anything is counted
    std::vector<step> steps;
    std::size_t transactions = 1;  ///< in one go through the steps
    std::size_t bytes = 0;         ///< of values, in one go
    std::size_t value_bytes = 0;   ///< of each row
};

/// names of scenarios: simple, extended, prepared, transaction, pipeline, copyout, copyin, slow (microseconds in
/// `size`), long (a query text of `size` bytes). `size`: of each row, or of the whole COPY, in bytes.
script make_script(std::string_view name, std::size_t size);

}  // namespace pgsluice::bench
