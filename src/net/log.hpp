// The log: spdlog behind one queue and one thread, so that no worker ever waits for a disk or a pipe. When the queue is
// full the oldest lines are dropped and counted. Line format and level names are PgBouncer's.
// Any thread may log. start(), reopen() and stop() belong to the control thread.
#pragma once

#include <spdlog/logger.h>

#include <memory>
#include <string>

namespace pgsluice::net::log {

struct options {
    std::string file;  ///< "" = none
    bool to_stderr = true;
    int verbose = 0;  ///< 0: LOG and above; 1: DEBUG; 2 and 3: NOISE
};

void start(const options &);
void set_verbose(int level);
/// Closes and opens the file again (SIGHUP, log rotation).
void reopen();
/// Writes what is queued and ends the thread.
void stop();

spdlog::logger &get();

template <class... Args>
void fatal(spdlog::format_string_t<Args...> text, Args &&...args) {
    get().critical(text, std::forward<Args>(args)...);
}
template <class... Args>
void error(spdlog::format_string_t<Args...> text, Args &&...args) {
    get().error(text, std::forward<Args>(args)...);
}
template <class... Args>
void warning(spdlog::format_string_t<Args...> text, Args &&...args) {
    get().warn(text, std::forward<Args>(args)...);
}
template <class... Args>
void info(spdlog::format_string_t<Args...> text, Args &&...args) {
    get().info(text, std::forward<Args>(args)...);
}
template <class... Args>
void debug(spdlog::format_string_t<Args...> text, Args &&...args) {
    get().debug(text, std::forward<Args>(args)...);
}

}  // namespace pgsluice::net::log
