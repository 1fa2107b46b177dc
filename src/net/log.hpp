// The log: spdlog behind one queue and one thread, so that no other thread ever waits for a disk, a pipe or syslog.
// When the queue is full the oldest lines are dropped, and so are those that a full disk or a pipe that nobody reads
// does not take; how many is told when lines are taken again. Line format and level names are PgBouncer's; what goes to
// syslog, or by stderr to systemd's journal (sd-daemon(3)), which have dates of their own, is the message alone with
// its priority. Any thread may log. start(), use(), reopen() and stop() belong to the control thread. stop() alone
// waits for what is written.
#pragma once

#include <spdlog/logger.h>

#include <atomic>
#include <memory>
#include <string>

namespace pgsluice::net::log {

struct options {
    std::string file;  ///< "" = none
    bool to_stderr = true;
    bool to_syslog = false;
    std::string syslog_ident = "pgbouncer";
    std::string syslog_facility = "daemon";
    int verbose = 0;  ///< 0: LOG and above; 1: DEBUG; 2 and 3: NOISE
};

/// Why a file can not be logged to; "" where it can, and for a FIFO that nobody has opened yet. To be asked ahead of
/// use(), which does not tell.
std::string problem_of(const std::string &file);
void start(const options &);
/// Other places to log to from the next line on; with it the log thread opens the file anew.
void use(const options &);
/// Closes and opens the file again, likewise (SIGHUP, log rotation).
void reopen();
/// Writes what is queued and ends the thread.
void stop();

/// Why there is no start, where the log is looked for; not to stderr. In place of start().
void last_words(options, const std::string &why);

spdlog::logger &get();

/// As set by verbose, so that what nobody asked for costs a look at it and not even the making of its words.
inline std::atomic<int> verbosity{0};
inline bool debugs() {
    return verbosity.load(std::memory_order_relaxed) > 0;
}
inline bool noisy() {
    return verbosity.load(std::memory_order_relaxed) > 1;
}

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
template <class... Args>
void noise(spdlog::format_string_t<Args...> text, Args &&...args) {
    get().trace(text, std::forward<Args>(args)...);
}

}  // namespace pgsluice::net::log
