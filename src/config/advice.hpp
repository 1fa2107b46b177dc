// What is allowed, and yet hardly meant: settings without effect, pool sizes that can not be reached, weak
// authentication. Only pgsluice --check asks; a start says nothing of it. Pure: looks at a loaded configuration, reads
// no file. docs/operations.md tells what to do about each.
#pragma once

#include <cstdint>
#include <vector>

#include "config/settings.hpp"
#include "config/source.hpp"

namespace pgsluice::config {

/// In the order of settings.set_at's names, then of the entries. Each says why.
std::vector<error> advice(const settings &);

/// At most so many servers may be open at the place (host and port) of `entry`, by its pools of the users in sight: the
/// forced one, else those of auth_file that may use it. 0: no limit.
int most_servers(const settings &, const database &entry);

/// So many descriptors are open at most, when all limits are reached; pools without a limit count as one server for
/// each client. For a start's line in the log, and to raise the limit of the process.
std::uint64_t most_descriptors(const settings &);

}  // namespace pgsluice::config
