// Unpredictable bytes for nonces, salts and cancel keys: OpenSSL's generator (RAND_bytes(3)). Any thread.
#pragma once

#include <openssl/rand.h>

#include <stdexcept>
#include <string>

#include "core/client_login.hpp"

namespace pgsluice::net {

class openssl_random : public core::random_source {
public:
    std::string bytes(std::size_t count) override {
        std::string out(count, '\0');
        // Without randomness every key could be guessed: better no connection than such a one.
        if (RAND_bytes(reinterpret_cast<unsigned char *>(out.data()), static_cast<int>(count)) != 1) {
            throw std::runtime_error("no random bytes to be had");
        }
        return out;
    }
};

}  // namespace pgsluice::net
