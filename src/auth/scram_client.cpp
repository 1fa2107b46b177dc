// The client's end of SCRAM-SHA-256. See scram.hpp; messages as in RFC 5802 section 7. The server is not trusted: all
// it says is checked before a key is derived or a proof given.
#include <charconv>
#include <limits>
#include <utility>

#include "auth/base64.hpp"
#include "auth/scram.hpp"
#include "auth/scram_math.hpp"
#include "auth/scram_text.hpp"

namespace pgsluice::auth {

namespace {

// No authzid; PostgreSQL takes the user from the startup packet, and libpq leaves it out here.
constexpr std::string_view gs2_header(scram_channel::binding how) {
    switch (how) {
        case scram_channel::binding::none:
            return "n,,";
        case scram_channel::binding::not_offered:
            return "y,,";
        case scram_channel::binding::bound:
            return "p=tls-server-end-point,,";
    }
    return "n,,";
}

std::string client_first_bare(std::string_view nonce) {
    return std::string("n=,r=").append(nonce);
}

/// RFC 5802 section 7, `posit-number`: digits without sign or leading zero. A number too big for int is the biggest.
std::optional<int> parse_iterations(std::string_view text) {
    if (text.empty() || text.front() == '0' || text.find_first_not_of("0123456789") != std::string_view::npos)
        return std::nullopt;
    int value = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
    return result.ec == std::errc() ? value : std::numeric_limits<int>::max();
}

}  // namespace

scram_client::scram_client(base::secret password, std::string_view nonce, std::optional<scram_derived> cached,
                           scram_channel channel)
    : password_(std::move(password)), channel_(std::move(channel)), nonce_(base64_encode(nonce)) {
    if (cached) derived_ = std::move(*cached);
}

scram_client::scram_client(const scram_keys &keys, std::string_view nonce, scram_channel channel)
    : derived_{{}, 0, keys}, channel_(std::move(channel)), nonce_(base64_encode(nonce)) {}

std::nullopt_t scram_client::fail(scram_error why) {
    step_ = step::failed;
    error_ = why;
    return std::nullopt;
}

std::string scram_client::client_first() const {
    return std::string(gs2_header(channel_.how)) + client_first_bare(nonce_);
}

bool scram_client::take_server_first(std::string_view message) {
    const auto fail = [this](scram_error why) {
        this->fail(why);
        return false;
    };
    // Failed until the end is reached, whichever way this function is left.
    if (std::exchange(step_, step::failed) != step::server_first) return fail(scram_error::malformed);

    scram_reader reader(message);
    const auto nonce = reader.take('r');
    const auto salt_text = reader.take('s');
    const auto count = reader.take('i');
    if (!nonce || !salt_text || !count || !reader.finish() || !is_scram_nonce(*nonce))
        return fail(scram_error::malformed);
    auto salt = base64_decode(*salt_text);
    const auto iterations = parse_iterations(*count);
    if (!salt || salt->empty() || !iterations) return fail(scram_error::malformed);
    if (!nonce->starts_with(nonce_) || nonce->size() == nonce_.size()) return fail(scram_error::bad_nonce);
    if (*iterations < scram_iterations_min || *iterations > scram_iterations_max) return fail(scram_error::iterations);

    keys_due_ = password_ && (derived_.iterations != *iterations || derived_.salt != *salt);
    derived_.salt = std::move(*salt);
    derived_.iterations = *iterations;

    std::string binding(gs2_header(channel_.how));
    if (channel_.how == scram_channel::binding::bound) binding += channel_.end_point;
    without_proof_ = "c=" + base64_encode(binding) + ",r=" + std::string(*nonce);
    auth_message_ = client_first_bare(nonce_).append(",").append(message).append(",").append(without_proof_);
    step_ = step::client_final;
    return true;
}

std::optional<scram_work> scram_client::work() {
    auto password = std::exchange(password_, std::nullopt);
    if (step_ != step::client_final || !keys_due_ || !password) return std::nullopt;
    return scram_work{*std::move(password), derived_.salt, derived_.iterations};
}

std::optional<std::string> scram_client::client_final(const scram_keys &made_of_work) {
    derived_.keys = made_of_work;
    keys_due_ = false;
    return client_final();
}

std::optional<std::string> scram_client::client_final() {
    if (std::exchange(step_, step::failed) != step::client_final || keys_due_) return fail(scram_error::malformed);
    password_.reset();
    const scram_key &client_key = derived_.keys.client_key;
    const scram_key proof = xor_client_signature(client_key, stored_key_of(client_key), auth_message_);
    step_ = step::server_final;
    return without_proof_ + ",p=" + base64_encode(proof.reveal());
}

std::optional<std::string> scram_client::on_server_first(std::string_view message) {
    if (!take_server_first(message)) return std::nullopt;
    const auto long_one = work();
    return long_one ? client_final(do_work(*long_one)) : client_final();
}

bool scram_client::on_server_final(std::string_view message) {
    if (std::exchange(step_, step::failed) != step::server_final) {
        fail(scram_error::malformed);
        return false;
    }
    scram_reader reader(message);
    const bool refused = reader.next_is('e');
    const auto value = reader.take(refused ? 'e' : 'v');
    const auto signature = !refused && value ? decode_scram_key(*value) : std::nullopt;
    if (!value || value->empty() || !reader.finish() || (!refused && !signature))
        fail(scram_error::malformed);
    else if (refused)
        fail(scram_error::server_error);
    else if (!hmac_sha256(derived_.keys.server_key.reveal(), auth_message_).equals(*signature))
        fail(scram_error::bad_signature);
    else
        step_ = step::done;
    return step_ == step::done;
}

}  // namespace pgsluice::auth
