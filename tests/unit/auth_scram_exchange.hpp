// One SCRAM login that was computed elsewhere (Python's hashlib), and ends of ours that take part in it: what the three
// auth_scram tests share. Password "pencil", salt and iterations of RFC 7677 section 3.
#pragma once

#include <string>
#include <string_view>

#include "auth/base64.hpp"
#include "auth/scram.hpp"
#include "auth/scram_math.hpp"

namespace pgsluice::auth::exchange {

using namespace std::string_literals;
using namespace std::string_view_literals;

inline constexpr auto client_raw = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11"sv;
inline constexpr auto server_raw = "defghijklmnopqrstu"sv;

inline const std::string client_nonce = "AAECAwQFBgcICQoLDA0ODxAR";
inline const std::string both_nonces = client_nonce + "ZGVmZ2hpamtsbW5vcHFyc3R1";
inline const std::string client_first = "n,,n=,r=" + client_nonce;
inline const std::string server_first = "r=" + both_nonces + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
inline const std::string without_proof = "c=biws,r=" + both_nonces;
inline const std::string proof = "nrnVPkQMLXJasGz15WbFFudBkytpCKmRXTY3sjhzWB4=";
inline const std::string client_final = without_proof + ",p=" + proof;
inline const std::string server_final = "v=p1u2TEqUm1LYJx5uI5zOZlyfh0G/FBNzbpHgU99gM1U=";

inline const scram_verifier &pencil() {
    static const scram_verifier it = make_scram_verifier("pencil", *base64_decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096);
    return it;
}

inline scram_keys pencil_keys() {
    return derive_scram_keys("pencil", pencil().salt, 4096);
}

inline scram_server new_server(bool mock = false) {
    return {pencil(), server_raw, mock};
}

/// By keys, so that a table of refusals costs nothing.
inline scram_client new_client() {
    static const scram_keys keys = pencil_keys();
    return {keys, client_raw};
}

inline bool is_zero(const scram_keys &keys) {
    return keys.client_key.equals({}) && keys.server_key.equals({});
}

}  // namespace pgsluice::auth::exchange
