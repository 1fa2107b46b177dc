// Fuzz target: SCRAM as the client's end, against a server that lies. It may never take a server that does not know the
// verifier for the right one, and never derive keys for an iteration count out of range.
#include "auth/scram.hpp"
#include "fuzz/fuzz.hpp"

using namespace pgsluice;

namespace {

constexpr std::string_view nonce = "abcdefghijklmnopqr";

/// Logs in by keys: a password would cost 4096 HMACs a run.
const auth::scram_keys &keys() {
    static const auto it = [] {
        const auto verifier = auth::make_scram_verifier("pencil", "0123456789abcdef", 1);
        return auth::scram_keys{verifier.stored_key, verifier.server_key};
    }();
    return it;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    static_cast<void>(keys());
    fuzz::input in(data, size);
    const fuzz::memory_watch watch(size);
    const auto how = in.byte();
    auth::scram_client client(keys(), nonce);
    const auto own = client.client_first().substr(sizeof("n,,n=,r=") - 1);
    std::string first;
    if ((how & 1) != 0) first = "r=" + own;  // the fuzzer need not guess our nonce
    first += in.bytes(in.byte());
    const auto answer = client.on_server_first(first);
    fuzz::require(answer.has_value() == (client.error() == auth::scram_error::none), "failed without a reason");
    if (answer) {
        fuzz::require(client.derived().iterations >= auth::scram_iterations_min &&
                          client.derived().iterations <= auth::scram_iterations_max && !client.derived().salt.empty(),
                      "an iteration count out of range");
        fuzz::require(answer->starts_with("c=biws,r=" + own), "the answer does not repeat the nonce");
    }
    fuzz::require(!client.on_server_final(in.rest()), "a server that knows nothing was believed");
    fuzz::require(client.error() != auth::scram_error::none, "refused without a reason");
    fuzz::require(!client.on_server_first(first), "a login that failed goes on");
    return 0;
}
