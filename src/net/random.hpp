// Unpredictable bytes for nonces, salts and cancel keys: OpenSSL's generator (RAND_bytes(3)), asked for many at a time,
// since a login needs three times a few. One a thread; bytes that were handed out are wiped here.
#pragma once

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <array>
#include <stdexcept>
#include <string>

#include "core/client_login.hpp"

namespace pgsluice::net {

class openssl_random : public core::random_source {
public:
    openssl_random() = default;
    ~openssl_random() override { OPENSSL_cleanse(store_.data(), store_.size()); }
    openssl_random(const openssl_random &) = delete;
    openssl_random &operator=(const openssl_random &) = delete;

    std::string bytes(std::size_t count) override {
        std::string out(count, '\0');
        if (count > store_.size()) {
            fill(out.data(), count);
            return out;
        }
        if (count > left_) {
            fill(store_.data(), store_.size());
            left_ = store_.size();
        }
        left_ -= count;
        out.assign(store_.data() + left_, count);
        OPENSSL_cleanse(store_.data() + left_, count);
        return out;
    }

private:
    static void fill(char *into, std::size_t count) {
        // Without randomness every key could be guessed: better no connection than such a one.
        if (RAND_bytes(reinterpret_cast<unsigned char *>(into), static_cast<int>(count)) != 1) {
            throw std::runtime_error("no random bytes to be had");
        }
    }

    std::array<char, 1024> store_{};
    std::size_t left_ = 0;  ///< at the front, not handed out yet
};

}  // namespace pgsluice::net
