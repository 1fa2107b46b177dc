// The server's end of SCRAM-SHA-256. See scram.hpp; messages as in RFC 5802 section 7.
#include <utility>

#include "auth/base64.hpp"
#include "auth/scram.hpp"
#include "auth/scram_math.hpp"
#include "auth/scram_text.hpp"
#include "base/seeded_bug.hpp"

namespace pgsluice::auth {

scram_server::scram_server(scram_verifier verifier, std::string_view nonce, bool mock, std::string end_point)
    : verifier_(std::move(verifier)), nonce_(base64_encode(nonce)), end_point_(std::move(end_point)), mock_(mock) {}

std::nullopt_t scram_server::fail(scram_error why) {
    step_ = step::failed;
    error_ = why;
    return std::nullopt;
}

std::optional<std::string> scram_server::on_client_first(std::string_view message, bool plus) {
    // Failed until the end is reached, whichever way this function is left.
    if (std::exchange(step_, step::failed) != step::client_first || message.size() > scram_message_max_bytes)
        return fail(scram_error::malformed);

    // gs2-header. "p" belongs to the -PLUS mechanism and to it alone. "y" says that we did not offer that one: if we
    // did, somebody between us took it out of the list. No authzid: PostgreSQL refuses one, and the user is the startup
    // packet's.
    constexpr std::string_view bound = "p=tls-server-end-point,,";
    if (message.starts_with('p') != plus || (plus && end_point_.empty())) return fail(scram_error::channel_binding);
    if (message.starts_with('y') && !end_point_.empty() && !base::seeded(base::bug::downgrade_taken))
        return fail(scram_error::channel_binding);
    const std::string_view header = message.substr(0, plus ? bound.size() : 3);
    if (plus && header != bound) return fail(scram_error::channel_binding);
    if (!plus && header != "n,," && header != "y,,") return fail(scram_error::malformed);
    const std::string_view bare = message.substr(header.size());

    scram_reader reader(bare);
    const auto user = reader.take('n');
    const auto client_nonce = reader.take('r');
    if (!user || !client_nonce || !is_scram_nonce(*client_nonce) || !reader.finish())
        return fail(scram_error::malformed);

    client_first_bare_ = bare;
    channel_binding_ = base64_encode(std::string(header) + (plus ? end_point_ : std::string()));
    nonce_.insert(0, *client_nonce);
    server_first_ =
        "r=" + nonce_ + ",s=" + base64_encode(verifier_.salt) + ",i=" + std::to_string(verifier_.iterations);
    step_ = step::client_final;
    return server_first_;
}

std::optional<std::string> scram_server::on_client_final(std::string_view message) {
    if (!take_client_final(message)) return std::nullopt;
    return server_final();
}

bool scram_server::take_client_final(std::string_view message) {
    const auto refused = [this](scram_error why) {
        fail(why);
        return false;
    };
    if (std::exchange(step_, step::failed) != step::client_final) return refused(scram_error::malformed);

    scram_reader reader(message);
    const auto binding = reader.take('c');
    const auto nonce = reader.take('r');
    if (!binding || !nonce) return refused(scram_error::malformed);
    while (!reader.next_is('p'))
        if (!reader.skip_extension()) return refused(scram_error::malformed);
    const std::string_view without_proof = message.substr(0, message.size() - reader.rest().size() - 1);
    const auto proof = decode_scram_key(*reader.take('p'));
    if (!proof || !reader.at_end()) return refused(scram_error::malformed);
    if (*binding != channel_binding_) return refused(scram_error::channel_binding);
    if (*nonce != nonce_) return refused(scram_error::bad_nonce);

    auth_message_ = std::string(client_first_bare_).append(",").append(server_first_).append(",").append(without_proof);
    proof_ = *proof;
    step_ = step::server_final;
    return true;
}

bool scram_server::is_proof_of(const scram_keys &keys) const {
    const scram_key stored = stored_key_of(keys.client_key);
    const bool fits = stored_key_of(xor_client_signature(proof_, stored, auth_message_)).equals(stored);
    return fits && !mock_ && step_ == step::server_final;
}

std::optional<std::string> scram_server::server_final(const scram_keys &of_the_password) {
    // A derivation that failed leaves zeros: a key that everybody knows.
    mock_ = mock_ || of_the_password.client_key.equals({});
    verifier_.stored_key = stored_key_of(of_the_password.client_key);
    verifier_.server_key = of_the_password.server_key;
    return server_final();
}

std::optional<std::string> scram_server::server_final() {
    if (std::exchange(step_, step::failed) != step::server_final) return fail(scram_error::malformed);
    const scram_key client_key = xor_client_signature(proof_, verifier_.stored_key, auth_message_);
    const bool known = stored_key_of(client_key).equals(verifier_.stored_key);
    // Only here does a mock differ: the same work is behind it.
    if (!known || mock_) return fail(scram_error::bad_proof);

    keys_ = {client_key, verifier_.server_key};
    step_ = step::done;
    return "v=" + base64_encode(hmac_sha256(verifier_.server_key.reveal(), auth_message_).reveal());
}

}  // namespace pgsluice::auth
