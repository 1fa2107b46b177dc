// The whole configuration: reads pgsluice.ini, what it includes and auth_file through the given reader, checks all of
// it, and answers one immutable settings, or the first fault with its file and line. All or nothing, so a reload that
// fails changes nothing. No sockets, clocks, logs or random here: the caller logs the warnings.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/built_in.hpp"
#include "config/settings.hpp"
#include "config/source.hpp"

namespace pgsluice::config {

struct loaded {
    std::shared_ptr<const settings> value;
    std::vector<error> warnings;  ///< in the order of the file
};

/// `salt_key`: random bytes that stay the same while the process runs; salts of the SCRAM verifiers made from plain
/// passwords come from it. `previous`: the running settings at a reload, whose verifiers are used again where the
/// password is the same, since each costs scram_iterations HMACs. `with`: what else is asked for is refused.
boost::system::result<loaded, error> load(const std::string &path, const file_reader &, std::string_view salt_key,
                                          const settings *previous = nullptr, built_in with = this_build());

/// `running` with one setting changed, checked as a whole: SET on the console. The file is not read.
boost::system::result<loaded, error> load_one(const settings &running, const std::string &name,
                                              const std::string &value, const file_reader &, std::string_view salt_key);

}  // namespace pgsluice::config
