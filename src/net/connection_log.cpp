// What the log calls a client and a server, as PgBouncer does, and what verbose = 2 tells of their messages.
#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "net/client.hpp"
#include "net/log.hpp"
#include "net/server.hpp"
#include "wire/frame.hpp"
#include "wire/frontend.hpp"

namespace pgsluice::net {

namespace {

/// The messages that begin in `bytes`, which follow on `streams` bytes still to come of an earlier one: type and
/// length, and never what they hold. Of a password not even the length.
void log_each(std::string_view name, std::string_view bytes, std::size_t streams, bool of_client) {
    for (auto at = std::min(streams, bytes.size()); at < bytes.size();) {
        wire::frame message;
        if (wire::read_frame(bytes.substr(at), message) != wire::framing::ok) return;
        const auto whole = wire::header_bytes + message.body_bytes;
        const char type = message.type >= ' ' && message.type <= '~' ? message.type : '?';
        if (of_client && message.type == wire::frontend::password)
            log::noise("{} read pkt='{}'", name, type);
        else
            log::noise("{} read pkt='{}' len={}", name, type, whole);
        at += std::min<std::size_t>(whole, bytes.size() - at);
    }
}

}  // namespace

std::string client::name() {
    return fmt::format("C-{}: {}/{}@{}", static_cast<void *>(this),
                       session_.database().empty() ? "(nodb)" : session_.database(),
                       session_.user().empty() ? "(nouser)" : session_.user(), peer_);
}

std::size_t client::take_noisily(std::string_view bytes, core::effects &effects) {
    const auto streams = session_.streams();
    const auto taken = session_.on_bytes(bytes, worker_->now(), effects);
    // What opens a connection has no type; PgBouncer's sign for it.
    if (streams == 0 && taken > 0 && bytes[0] == '\0')
        log::noise("{} read pkt='!' len={}", name(), taken);
    else
        log_each(name(), bytes.substr(0, taken), streams, true);
    return taken;
}

std::string server::name() {
    return fmt::format("S-{}: {}", static_cast<void *>(this), whose());
}

void server::log_end(std::string_view why) {
    const auto age = std::chrono::duration_cast<base::seconds>(worker_.now() - since_).count();
    log::info("{} closing because: {} (age={}s)", name(), why, age);
}

/// Its name without its number: a connection that cancels its query has one of its own.
std::string server::whose() {
    const auto &settings = session_->settings();
    const bool local = settings.hosts.front().starts_with('/') || settings.hosts.front().starts_with('@');
    // As PgBouncer has it; of a list it is known when a host is chosen.
    const auto where = place_.tcp && !place_.text.empty() ? place_.text
                       : local                            ? fmt::format("unix:{}", settings.port)
                                                          : fmt::format("{}:{}", settings.hosts.front(), settings.port);
    return fmt::format("{}/{}@{}", settings.database, settings.user, where);
}

std::size_t server::take_noisily(std::string_view bytes, core::effects &effects) {
    const auto streams = session_->streams();
    const auto taken = session_->on_bytes(bytes, effects);
    // The answer to an SSLRequest is a byte alone, and no message.
    log_each(name(), bytes.substr(0, taken), streams, false);
    return taken;
}

}  // namespace pgsluice::net
