// PostgreSQL's MD5 password scheme by OpenSSL's digest. See md5.hpp.
#include "auth/md5.hpp"

#include <openssl/evp.h>

#include <array>
#include <memory>
#include <stdexcept>

namespace pgsluice::auth {

namespace {

constexpr std::string_view prefix = "md5";
constexpr std::string_view hex_digits = "0123456789abcdef";
constexpr std::size_t digest_bytes = 16;

// Takes two parts so that a password is not copied merely to be joined.
std::string prefixed_md5(std::string_view first, std::string_view second) {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    if (!context || EVP_DigestInit_ex(context.get(), EVP_md5(), nullptr) != 1 ||
        EVP_DigestUpdate(context.get(), first.data(), first.size()) != 1 ||
        EVP_DigestUpdate(context.get(), second.data(), second.size()) != 1 ||
        EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1)
        throw std::runtime_error("OpenSSL refuses MD5");
    std::string text(prefix);
    for (std::size_t i = 0; i < digest_bytes; ++i) {
        text += hex_digits[digest[i] >> 4];
        text += hex_digits[digest[i] & 15];
    }
    return text;
}

}  // namespace

bool is_md5_secret(std::string_view stored) {
    return stored.size() == prefix.size() + 2 * digest_bytes && stored.starts_with(prefix) &&
           stored.find_first_not_of(hex_digits, prefix.size()) == std::string_view::npos;
}

std::string md5_secret(std::string_view password, std::string_view user) {
    return prefixed_md5(password, user);
}

std::string md5_response(std::string_view stored, std::string_view salt) {
    if (!is_md5_secret(stored)) throw std::invalid_argument("md5_response: not an md5 secret");
    return prefixed_md5(stored.substr(prefix.size()), salt);
}

}  // namespace pgsluice::auth
