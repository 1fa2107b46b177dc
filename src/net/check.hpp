// pgsluice --check: says all that is wrong or doubtful in a configuration, and with --connect what is wrong on the way
// to each server. It starts nothing and changes nothing. docs/operations.md says what to do about each.
#pragma once

#include <iosfwd>
#include <string>

namespace pgsluice::net {

/// Prints a line for each finding and one with their number; returns the exit status: 0 nothing was found, 1 errors,
/// 2 warnings only. `connect`: logs in to each server as well.
int check(const std::string &file, bool connect, std::ostream &out);

}  // namespace pgsluice::net
