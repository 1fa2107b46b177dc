// Fuzz target: SCRAM as the server's end. The first byte decides how the client lies: its own bytes throughout, or a
// right exchange whose final message is changed at one place. Only an exchange left as it is may be accepted.
#include "auth/base64.hpp"
#include "auth/scram.hpp"
#include "fuzz/fuzz.hpp"

using namespace pgsluice;

namespace {

constexpr std::string_view nonce = "defghijklmnopqrstu";

const auth::scram_verifier &verifier() {
    static const auto it = auth::make_scram_verifier("pencil", "0123456789abcdef", 4096);
    return it;
}

/// What a client that knows the password says; its keys are derived once.
const auth::scram_derived &derived() {
    static const auth::scram_derived it = [] {
        auth::scram_client client(base::secret(std::string_view("pencil")), nonce);
        auth::scram_server server(verifier(), nonce, false);
        client.on_server_first(*server.on_client_first(client.client_first()));
        return client.derived();
    }();
    return it;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    static_cast<void>(derived());
    fuzz::input in(data, size);
    const fuzz::memory_watch watch(size);
    const auto how = in.byte();
    const bool mock = (how & 1) != 0;
    auth::scram_server server(verifier(), nonce, mock);
    if ((how & 2) == 0) {
        // Two messages, a length before the first.
        const auto first = server.on_client_first(in.bytes(in.byte()));
        const auto proof = server.on_client_final(in.rest());
        fuzz::require(!proof, "logged in without the password");
        fuzz::require(server.error() != auth::scram_error::none, "refused without a reason");
        fuzz::require(server.keys().client_key.equals({}), "keys without a login");
        static_cast<void>(first);
        return 0;
    }
    auth::scram_client client(base::secret(std::string_view("pencil")), nonce, derived());
    const auto first = server.on_client_first(client.client_first());
    fuzz::require(first.has_value(), "a right client-first is refused");
    auto final = *client.on_server_first(*first);
    const auto right = final;
    if ((how & 4) != 0 && !in.empty()) {
        const auto at = in.byte() % final.size();
        const auto cut = in.byte() % 4;
        final.replace(at, cut, in.bytes(in.byte() % 8));
    }
    const auto answer = server.on_client_final(final);
    fuzz::require(!answer || !mock, "a user who does not exist has logged in");
    // Extensions before the proof are part of what is signed, so that any change breaks the proof.
    fuzz::require(!answer || final == right, "a changed message was accepted");
    fuzz::require(answer || mock || final != right, "a right login is refused");
    if (answer) fuzz::require(client.on_server_final(*answer), "the two ends do not agree");
    fuzz::require(!server.on_client_final(right), "a login was accepted twice");
    return 0;
}
