// SASLprep (RFC 4013), the form in which SCRAM hashes a password, with PostgreSQL's reading of it: what can not be
// prepared is used as it is. Called by the SCRAM code only. Not here: the tables of RFC 3454 (saslprep_tables.hpp).
// A pure function; any thread.
#pragma once

#include <string_view>

#include "base/secret.hpp"

namespace pgsluice::auth {

/// The prepared password, or the password itself when it is ASCII (even with control characters), not UTF-8, empty
/// once mapped, or holds what RFC 4013 prohibits. Both sides do so, so such a password works byte by byte.
base::secret saslprep(std::string_view password);

}  // namespace pgsluice::auth
