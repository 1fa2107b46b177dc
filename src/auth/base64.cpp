// Base64 by OpenSSL's block functions, made strict. See base64.hpp.
#include "auth/base64.hpp"

#include <openssl/evp.h>

#include <climits>
#include <stdexcept>

#include "base/secret.hpp"

namespace pgsluice::auth {

namespace {

// OpenSSL counts in int; a quarter leaves room for the growth by a third.
constexpr std::size_t longest_input = INT_MAX / 4;

const unsigned char *octets(std::string_view text) {
    return reinterpret_cast<const unsigned char *>(text.data());
}

}  // namespace

std::string base64_encode(std::string_view bytes) {
    if (bytes.size() > longest_input) throw std::length_error("base64: input too long");
    // One byte more than the text: EVP_EncodeBlock ends it with a NUL, see EVP_EncodeInit(3).
    std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
    EVP_EncodeBlock(reinterpret_cast<unsigned char *>(text.data()), octets(bytes), static_cast<int>(bytes.size()));
    text.pop_back();
    return text;
}

std::optional<std::string> base64_decode(std::string_view text) {
    if (text.size() % 4 != 0 || text.size() > longest_input) return std::nullopt;
    if (text.empty()) return std::string();
    std::string bytes(text.size() / 4 * 3, '\0');
    const bool decoded = EVP_DecodeBlock(reinterpret_cast<unsigned char *>(bytes.data()), octets(text),
                                         static_cast<int>(text.size())) == static_cast<int>(bytes.size());
    // EVP_DecodeBlock counts the padding as bytes.
    const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
    bytes.resize(bytes.size() - padding);
    // It also skips white space at both ends and takes '=' and stray bits where none may be. There is one right
    // spelling, so writing the bytes again finds every wrong one. In constant time, since the bytes may be a key.
    std::string again = base64_encode(bytes);
    const bool same = decoded && base::equal_constant_time(again, text);
    base::wipe(again);
    if (same) return bytes;
    base::wipe(bytes);
    return std::nullopt;
}

}  // namespace pgsluice::auth
