// What --version, SHOW VERSION and the log say this is, and in brackets the PgBouncer whose columns and words it has:
// that is what exporters and scripts look for.
#pragma once

#include <string_view>

namespace pgsluice::net {

inline constexpr std::string_view version_text = "pgsluice " PGSLUICE_VERSION " (PgBouncer 1.25.2)";

}  // namespace pgsluice::net
