// What a server keeps of a password: read, made, and invented for users who do not exist. See scram.hpp.
#include <charconv>

#include "auth/base64.hpp"
#include "auth/scram.hpp"
#include "auth/scram_math.hpp"

namespace pgsluice::auth {

namespace {

/// The text up to `separator`, which goes too; nothing if there is none.
std::optional<std::string_view> cut(std::string_view &rest, char separator) {
    const std::size_t at = rest.find(separator);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string_view part = rest.substr(0, at);
    rest.remove_prefix(at + 1);
    return part;
}

}  // namespace

std::optional<scram_verifier> parse_scram_verifier(std::string_view stored) {
    const auto scheme = cut(stored, '$');
    const auto iterations = cut(stored, ':');
    const auto salt = cut(stored, '$');
    const auto stored_key = cut(stored, ':');
    if (scheme != scram_sha_256 || !iterations || !salt || !stored_key) return std::nullopt;

    scram_verifier verifier;
    const char *end = iterations->data() + iterations->size();
    const auto number = std::from_chars(iterations->data(), end, verifier.iterations);
    if (number.ec != std::errc() || number.ptr != end || verifier.iterations <= 0) return std::nullopt;
    auto salt_bytes = base64_decode(*salt);
    const auto first = decode_scram_key(*stored_key);
    const auto second = decode_scram_key(stored);
    if (!salt_bytes || salt_bytes->empty() || !first || !second) return std::nullopt;
    verifier.salt = std::move(*salt_bytes);
    verifier.stored_key = *first;
    verifier.server_key = *second;
    return verifier;
}

scram_keys do_work(const scram_work &it) {
    return derive_scram_keys(it.password.reveal(), it.salt, it.iterations);
}

scram_work work_for(const scram_verifier &stored, std::string_view password) {
    return {base::secret(password), stored.salt, stored.iterations};
}

bool belongs_to(const scram_verifier &stored, const scram_keys &keys) {
    return stored_key_of(keys.client_key).equals(stored.stored_key);
}

scram_verifier make_scram_verifier(std::string_view password, std::string_view salt, int iterations) {
    const scram_keys keys = derive_scram_keys(password, salt, iterations);
    return {iterations, std::string(salt), stored_key_of(keys.client_key), keys.server_key};
}

scram_verifier mock_scram_verifier(std::string_view process_key, std::string_view user, int iterations) {
    // Stable, so that asking twice does not tell an invented user from a real one; keyed, so that nobody else can tell
    // what salt a user would be given. One HMAC for all of it, since every login pays for it. StoredKey is one for
    // which nobody knows a ClientKey.
    const scram_key made = hmac_sha256(process_key, std::string("mock salt of ").append(user));
    return {iterations, std::string(made.reveal().substr(0, scram_salt_bytes)), stored_key_of(made), made};
}

const char *to_string(scram_error error) {
    switch (error) {
        case scram_error::none:
            return "none";
        case scram_error::malformed:
            return "malformed SCRAM message";
        case scram_error::channel_binding:
            return "SCRAM channel binding is not supported or does not match";
        case scram_error::bad_nonce:
            return "SCRAM nonce does not match";
        case scram_error::bad_proof:
            return "SCRAM proof is wrong";
        case scram_error::iterations:
            return "SCRAM iteration count is out of range";
        case scram_error::bad_signature:
            return "SCRAM server signature is wrong";
        case scram_error::server_error:
            return "SCRAM server reported an error";
    }
    return "unknown SCRAM error";
}

}  // namespace pgsluice::auth
