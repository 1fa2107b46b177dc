// Which clients that did not get in have their lines in the log, when there are more in a second than anybody reads:
// the first of each kind have, the rest are counted. Decides and counts; knows no log and no clock. One a worker.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/time.hpp"

namespace pgsluice::core {

class login_lines {
public:
    static constexpr std::uint32_t most_a_second = 100;  ///< clients of one kind
    /// More have one count between them: some reasons are a server's, and of any number.
    static constexpr std::size_t kinds_max = 32;
    using counts = std::map<std::string, std::uint32_t, std::less<>>;

    /// One more that did not get in, and why. False: its lines are left out.
    bool tells(std::string_view why, base::time_point now);
    /// Whether the lines that come before it is known how a login ends are left out: they would tell of the same.
    bool are_too_many() const { return !left_out_.empty(); }
    /// How many of each kind were left out, once their second is over: for one line. Else nothing.
    counts left_out(base::time_point now);

private:
    base::time_point since_;
    counts told_, left_out_;
};

}  // namespace pgsluice::core
