// The formulas of SCRAM-SHA-256 by OpenSSL. See scram_math.hpp.
#include "auth/scram_math.hpp"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "auth/base64.hpp"
#include "auth/saslprep.hpp"

namespace pgsluice::auth {

namespace {

const unsigned char *octets(std::string_view text) {
    return reinterpret_cast<const unsigned char *>(text.data());
}

/// Looked up once for the process: by name it costs more than the hash itself.
const EVP_MD *sha256() {
    static const EVP_MD *const found = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return found;
}

struct mac_free {
    void operator()(EVP_MAC_CTX *it) const { EVP_MAC_CTX_free(it); }
};
using mac_context = std::unique_ptr<EVP_MAC_CTX, mac_free>;

/// HMAC with SHA-256 and no key yet: what each computation starts from a copy of.
const EVP_MAC_CTX *hmac_template() {
    static const mac_context made = [] {
        EVP_MAC *const mac = EVP_MAC_fetch(nullptr, OSSL_MAC_NAME_HMAC, nullptr);
        mac_context fresh(mac == nullptr ? nullptr : EVP_MAC_CTX_new(mac));
        EVP_MAC_free(mac);
        std::string digest = "SHA256";
        const OSSL_PARAM wanted[] = {
            OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest.data(), digest.size()),
            OSSL_PARAM_construct_end()};
        if (fresh && EVP_MAC_CTX_set_params(fresh.get(), wanted) != 1) fresh.reset();
        return fresh;
    }();
    return made.get();
}

}  // namespace

scram_key hmac_sha256(std::string_view key, std::string_view text) {
    scram_key result{};
    const auto *const fresh = hmac_template();
    const mac_context it(fresh == nullptr ? nullptr : EVP_MAC_CTX_dup(fresh));
    std::size_t size = 0;
    if (!it || EVP_MAC_init(it.get(), octets(key), key.size(), nullptr) != 1 ||
        EVP_MAC_update(it.get(), octets(text), text.size()) != 1 ||
        EVP_MAC_final(it.get(), result.data(), &size, result.size()) != 1)
        throw std::runtime_error("OpenSSL: HMAC-SHA-256 failed");
    return result;
}

scram_keys derive_scram_keys(std::string_view password, std::string_view salt, int iterations) {
    const base::secret prepared = saslprep(password);
    const std::string_view text = prepared.reveal();
    // Hi() of RFC 5802 section 2.2 is PBKDF2 with HMAC as its function and one block of output.
    scram_key salted{};
    if (PKCS5_PBKDF2_HMAC(text.data(), static_cast<int>(text.size()), octets(salt), static_cast<int>(salt.size()),
                          iterations, sha256(), static_cast<int>(salted.size()), salted.data()) != 1)
        throw std::runtime_error("OpenSSL: PBKDF2 failed");
    return {hmac_sha256(salted.reveal(), "Client Key"), hmac_sha256(salted.reveal(), "Server Key")};
}

scram_key stored_key_of(const scram_key &client_key) {
    scram_key result{};
    if (EVP_Digest(client_key.data(), client_key.size(), result.data(), nullptr, sha256(), nullptr) != 1)
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
