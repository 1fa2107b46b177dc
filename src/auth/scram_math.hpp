// The formulas of SCRAM-SHA-256, in the words of RFC 5802 section 3. Inside auth only: called by the SCRAM sources and
// their tests. Not here: messages and states. Pure functions that throw std::runtime_error when OpenSSL fails.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "auth/scram.hpp"

namespace pgsluice::auth {

scram_key hmac_sha256(std::string_view key, std::string_view text);
/// ClientKey and ServerKey from SaltedPassword = Hi(SASLprep(password), salt, iterations).
scram_keys derive_scram_keys(std::string_view password, std::string_view salt, int iterations);
/// StoredKey = H(ClientKey).
scram_key stored_key_of(const scram_key &client_key);
/// ClientSignature = HMAC(StoredKey, AuthMessage), exclusive or `key`: the proof from ClientKey, and ClientKey again
/// from the proof.
scram_key xor_client_signature(const scram_key &key, const scram_key &stored_key, std::string_view auth_message);

/// A key from its base64; nothing unless it has a key's length.
std::optional<scram_key> decode_scram_key(std::string_view text);

}  // namespace pgsluice::auth
