// Which replies PostgreSQL still owes, so that a client of it knows how long to wait. Written apart from
// core/owed_replies on purpose: it is the second opinion. It follows what PostgreSQL itself has answered; where a COPY
// leaves that open it goes blind, and the test waits for the end of the pipeline instead.
// Source: PostgreSQL manual, "Message Flow".
#pragma once

#include <string>

namespace pgsluice::differential {

class due {
public:
    void sent(char type, bool fails_copy);
    void received(char type);
    /// More will come without more being sent.
    bool more() const;

private:
    static constexpr char bad_data = '!';
    void end_of_copy();
    void drop_ends();

    std::string asked_;  ///< types, in order; CopyFail counts as CopyDone
    bool skipping_ = false;
    bool copying_ = false;
    bool blind_ = false;
};

}  // namespace pgsluice::differential
