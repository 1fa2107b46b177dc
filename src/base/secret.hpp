// A byte string that must not leak: wiped when destroyed or assigned, compared in constant time, never printable.
// It is not a container for anything but passwords, keys and proofs. Any thread may use one, one at a time.
#pragma once

#include <openssl/crypto.h>

#include <string>
#include <string_view>
#include <utility>

namespace pgsluice::base {

/// Wipes the bytes a string holds, so that freed memory does not keep a secret.
inline void wipe(std::string &text) {
    OPENSSL_cleanse(text.data(), text.size());
    text.clear();
}

/// True when both are equal; the time depends on the lengths only. Source: CRYPTO_memcmp(3).
inline bool equal_constant_time(std::string_view a, std::string_view b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

class secret {
public:
    secret() = default;
    explicit secret(std::string value) : value_(std::move(value)) {}
    explicit secret(std::string_view value) : value_(value) {}
    secret(const secret &) = default;
    secret(secret &&other) noexcept : value_(std::move(other.value_)) { wipe(other.value_); }
    secret &operator=(const secret &other) {
        if (this != &other) {
            wipe(value_);
            value_ = other.value_;
        }
        return *this;
    }
    secret &operator=(secret &&other) noexcept {
        if (this != &other) {
            wipe(value_);
            value_ = std::move(other.value_);
            wipe(other.value_);
        }
        return *this;
    }
    ~secret() { wipe(value_); }

    bool operator==(const secret &) const = delete;

    bool equals(const secret &other) const { return equal_constant_time(value_, other.value_); }
    bool equals(std::string_view other) const { return equal_constant_time(value_, other); }
    bool empty() const { return value_.empty(); }
    /// The bytes themselves; the view lives as long as this object is unchanged.
    std::string_view reveal() const { return value_; }

private:
    std::string value_;
};

}  // namespace pgsluice::base
