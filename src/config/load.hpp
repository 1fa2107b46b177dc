// The whole configuration: reads pgsluice.ini, what it includes and auth_file through the given reader, checks all of
// it, and answers one immutable settings, or the first fault with its file and line. All or nothing, so a reload that
// fails changes nothing. No sockets, clocks, logs or random here: the caller logs the warnings.
#pragma once

#include <cstddef>
#include <functional>
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
    std::string tls_gap{};        ///< of load_one(): what keeps TLS from being put to work; "" = nothing
};

/// All that is to be said of a configuration, for pgsluice --check.
struct findings {
    std::vector<error> errors;              ///< load() gives the first
    std::vector<error> warnings;            ///< those of load(), and more
    std::shared_ptr<const settings> value;  ///< as far as it could be read, without SCRAM verifiers of plain passwords
};
findings check(const std::string &path, const file_reader &, built_in with = this_build());

/// Calls `one` for each number below `count`, in any order, on as many threads as it likes, and returns when all is
/// done. No two of them touch the same, and each takes long.
using spreader = std::function<void(std::size_t count, const std::function<void(std::size_t)> &one)>;
void one_by_one(std::size_t count, const std::function<void(std::size_t)> &one);

/// `salt_key`: random bytes that stay the same while the process runs; salts of the SCRAM verifiers made from plain
/// passwords come from it. `previous`: the running settings at a reload, whose verifiers are used again where the
/// password is the same, since each costs scram_iterations HMACs; the others are made by `spread`. `with`: what else is
/// asked for is refused.
boost::system::result<loaded, error> load(const std::string &path, const file_reader &, std::string_view salt_key,
                                          const settings *previous = nullptr, built_in with = this_build(),
                                          const spreader &spread = one_by_one);

/// `running` with one setting changed: SET on the console. The file is not read. Checked as a whole, but for what
/// another SET may bring: then TLS has a gap, or nobody gets in by auth_type = hba or cert until it has come.
boost::system::result<loaded, error> load_one(const settings &running, const std::string &name,
                                              const std::string &value, const file_reader &, std::string_view salt_key,
                                              const spreader &spread = one_by_one);

}  // namespace pgsluice::config
