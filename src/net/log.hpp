// The log: spdlog behind one queue and one thread, so that no worker ever waits for a disk or a pipe. When the queue is
// full the oldest lines are dropped and counted. Line format and level names are PgBouncer's; what goes to syslog, or
// by stderr to systemd's journal (sd-daemon(3)), which have dates of their own, is the message alone with its priority.
// Any thread may log. start(), use(), reopen() and stop() belong to the control thread.
#pragma once

#include <spdlog/logger.h>

#include <memory>
#include <string>

namespace pgsluice::net::log {

struct options {
    std::string file;  ///< "" = none
    bool to_stderr = true;
    bool to_syslog = false;
    std::string syslog_ident = "pgsluice";
    std::string syslog_facility = "daemon";
    int verbose = 0;  ///< 0: LOG and above; 1: DEBUG; 2 and 3: NOISE
};

void start(const options &);
/// Other places to log to from now on; the file is opened anew.
void use(const options &);
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
