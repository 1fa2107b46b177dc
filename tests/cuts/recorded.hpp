// A recorded conversation of a driver: what it sent after its login, and how many replies it had before each next part.
// Read from recorded/*.conversation, which `record` writes.
#pragma once

#include <string>
#include <vector>

namespace pgsluice::cuts {

/// What the driver sent at once, and the types of the replies that it then waited for.
struct turn {
    std::string bytes;
    std::string replies;
};

struct recorded {
    std::string name;
    std::vector<turn> turns;
    std::string statement;  ///< name of the first named statement it made; empty: none

    std::size_t bytes() const;
    std::string replies() const;
};

/// Throws std::runtime_error when it can not be read.
recorded load(const std::string &path);

}  // namespace pgsluice::cuts
