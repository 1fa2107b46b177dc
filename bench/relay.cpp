// What the pure floors cost on the way of a reply: cutting messages out of a buffer and asking whose each one is.
// No sockets: the whole pooler is measured by bench/run. Run it by hand: build/PRESET/bench/microbench.
#include <benchmark/benchmark.h>

#include <string>

#include "core/owed_replies.hpp"
#include "wire/backend.hpp"
#include "wire/frame.hpp"
#include "wire/writer.hpp"

namespace {

using namespace pgsluice;

/// The replies to a simple query with `rows` rows of 32 bytes.
std::string replies(std::size_t rows) {
    std::string out;
    wire::writer(out, wire::backend::row_description).bytes(std::string(28, 'x')).finish();
    for (std::size_t row = 0; row < rows; ++row)
        wire::writer(out, wire::backend::data_row).bytes(std::string(32, 'x')).finish();
    wire::writer(out, wire::backend::command_complete).cstring("SELECT 1").finish();
    wire::backend::append_ready_for_query(out, wire::backend::status_idle);
    return out;
}

/// Argument: rows of the result.
void relay_simple_query(benchmark::State &state) {
    const std::string buffer = replies(static_cast<std::size_t>(state.range(0)));
    core::owed_replies owed;
    for (auto _ : state) {
        owed.sent(core::request::query, core::asker::client);
        std::string_view rest = buffer;
        wire::frame message;
        while (wire::read_frame(rest, message) == wire::framing::ok) {
            benchmark::DoNotOptimize(owed.received(message.type));
            rest.remove_prefix(message.here_bytes());
        }
        if (!owed.settled()) state.SkipWithError("replies are still owed");
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * static_cast<std::int64_t>(buffer.size()));
}
BENCHMARK(relay_simple_query)->Arg(1)->Arg(100);

}  // namespace
