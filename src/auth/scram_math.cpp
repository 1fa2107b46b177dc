// The formulas of SCRAM-SHA-256 by OpenSSL. See scram_math.hpp.
#include "auth/scram_math.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <stdexcept>

#include "auth/base64.hpp"
#include "auth/saslprep.hpp"

namespace pgsluice::auth {

namespace {

const unsigned char *octets(std::string_view text) {
    return reinterpret_cast<const unsigned char *>(text.data());
}

}  // namespace

scram_key hmac_sha256(std::string_view key, std::string_view text) {
    scram_key result{};
    if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), octets(text), text.size(), result.data(),
             nullptr) == nullptr)
        throw std::runtime_error("OpenSSL: HMAC-SHA-256 failed");
    return result;
}

scram_keys derive_scram_keys(std::string_view password, std::string_view salt, int iterations) {
    const base::secret prepared = saslprep(password);
    const std::string_view text = prepared.reveal();
    // Hi() of RFC 5802 section 2.2 is PBKDF2 with HMAC as its function and one block of output.
    scram_key salted{};
    if (PKCS5_PBKDF2_HMAC(text.data(), static_cast<int>(text.size()), octets(salt), static_cast<int>(salt.size()),
                          iterations, EVP_sha256(), static_cast<int>(salted.size()), salted.data()) != 1)
        throw std::runtime_error("OpenSSL: PBKDF2 failed");
    return {hmac_sha256(salted.reveal(), "Client Key"), hmac_sha256(salted.reveal(), "Server Key")};
}

scram_key stored_key_of(const scram_key &client_key) {
    scram_key result{};
    if (EVP_Digest(client_key.data(), client_key.size(), result.data(), nullptr, EVP_sha256(), nullptr) != 1)
        throw std::runtime_error("OpenSSL: SHA-256 failed");
    return result;
}

scram_key xor_client_signature(const scram_key &key, const scram_key &stored_key, std::string_view auth_message) {
    scram_key result = hmac_sha256(stored_key.reveal(), auth_message);
    for (std::size_t i = 0; i < result.size(); ++i) result[i] ^= key[i];
    return result;
}

std::optional<scram_key> decode_scram_key(std::string_view text) {
    std::optional<scram_key> key;
    if (auto bytes = base64_decode(text)) {
        if (bytes->size() == scram_key_bytes) std::ranges::copy(*bytes, key.emplace().begin());
        base::wipe(*bytes);
    }
    return key;
}

}  // namespace pgsluice::auth
