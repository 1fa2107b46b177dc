// Base64 as RFC 4648 section 4 has it: padded, one spelling for each byte string. Not here: URL alphabets, line breaks.
// Called by the SCRAM code and whoever reads verifiers. Pure functions; any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace pgsluice::auth {

std::string base64_encode(std::string_view bytes);
/// Nothing unless `text` is exactly what base64_encode would have written: no white space, no missing or surplus
/// padding, no stray bits before it. The result may be a key: whoever decodes secrets wipes it.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace pgsluice::auth
