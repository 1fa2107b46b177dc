// The log thread, its line format, and the places that lines go to.
#include "net/log.hpp"

#include <fcntl.h>
#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <map>

namespace pgsluice::net::log {

namespace {

constexpr std::size_t queue_lines = 8192;

std::string_view level_name(spdlog::level::level_enum level) {
    switch (level) {
        case spdlog::level::critical:
            return "FATAL";
        case spdlog::level::err:
            return "ERROR";
        case spdlog::level::warn:
            return "WARNING";
        case spdlog::level::debug:
            return "DEBUG";
        case spdlog::level::trace:
            return "NOISE";
        default:
            return "LOG";
    }
}

int syslog_priority(spdlog::level::level_enum level) {
    switch (level) {
        case spdlog::level::critical:
            return LOG_CRIT;
        case spdlog::level::err:
            return LOG_ERR;
        case spdlog::level::warn:
            return LOG_WARNING;
        case spdlog::level::debug:
        case spdlog::level::trace:
            return LOG_DEBUG;
        default:
            return LOG_INFO;
    }
}

const std::map<std::string_view, int> facilities{
    {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"daemon", LOG_DAEMON}, {"user", LOG_USER},
    {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},     {"local2", LOG_LOCAL2}, {"local3", LOG_LOCAL3},
    {"local4", LOG_LOCAL4}, {"local5", LOG_LOCAL5},     {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7}};

/// Names and texts of strangers are in it: nothing of them may end the line or reach a terminal.
std::string harmless(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const auto byte = static_cast<unsigned char>(c);
        const auto next = i + 1 < text.size() ? static_cast<unsigned char>(text[i + 1]) : 0;
        const bool c1_control = byte == 0xc2 && next >= 0x80 && next < 0xa0;  // in UTF-8
        if (byte < 0x20 || byte == 0x7f || c1_control)
            fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
        else
            out.push_back(c);
    }
    return out;
}

/// YYYY-MM-DD HH:MM:SS.mmm TZ [pid] LEVEL message (PgBouncer's log format).
std::string dated(const spdlog::details::log_msg &message, std::string_view text) {
    const auto seconds = std::chrono::time_point_cast<std::chrono::seconds>(message.time);
    const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(message.time - seconds).count();
    const std::time_t when = std::chrono::system_clock::to_time_t(seconds);
    std::tm local{};
    localtime_r(&when, &local);
    char date[32], zone[16];
    std::strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &local);
    std::strftime(zone, sizeof zone, "%Z", &local);
    return fmt::format("{}.{:03} {} [{}] {} {}\n", date, millis, zone, getpid(), level_name(message.level), text);
}

/// systemd says by JOURNAL_STREAM=device:inode which descriptor leads to its journal (systemd.exec(5)).
bool stderr_is_journal() {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment
    const char *const stream = std::getenv("JOURNAL_STREAM");
    struct stat own {};
    return stream != nullptr && ::fstat(STDERR_FILENO, &own) == 0 &&
           fmt::format("{}:{}", own.st_dev, own.st_ino) == stream;
}

/// All places that lines go to. A line that can not be written is lost, and nothing else happens.
class places : public spdlog::sinks::base_sink<std::mutex> {
public:
    explicit places(options wanted) { use_locked(std::move(wanted)); }
    ~places() override { close_file(); }

    void use(options wanted) {
        const std::lock_guard lock(mutex_);
        use_locked(std::move(wanted));
    }
    void reopen() {
        const std::lock_guard lock(mutex_);
        open_file();
    }

private:
    void use_locked(options wanted) {
        ::closelog();
        wanted_ = std::move(wanted);
        journal_ = stderr_is_journal();
        open_file();
        if (!wanted_.to_syslog) return;
        const auto facility = facilities.find(wanted_.syslog_facility);
        // syslog(3) keeps the pointer.
        ::openlog(wanted_.syslog_ident.c_str(), LOG_PID | LOG_NDELAY,
                  facility == facilities.end() ? LOG_DAEMON : facility->second);
    }
    void open_file() {
        close_file();
        if (!wanted_.file.empty()) fd_ = ::open(wanted_.file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    }
    void close_file() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }
    static void write_line(int fd, std::string_view line) {
        while (!line.empty()) {
            const auto written = ::write(fd, line.data(), line.size());
            if (written <= 0 && errno != EINTR) return;
            if (written > 0) line.remove_prefix(static_cast<std::size_t>(written));
        }
    }
    void sink_it_(const spdlog::details::log_msg &message) override {
        const auto text = harmless({message.payload.data(), message.payload.size()});
        const auto line = dated(message, text);
        const int priority = syslog_priority(message.level);
        if (wanted_.to_stderr) write_line(STDERR_FILENO, journal_ ? fmt::format("<{}>{}\n", priority, text) : line);
        if (fd_ >= 0) write_line(fd_, line);
        if (wanted_.to_syslog) ::syslog(priority, "%s", text.c_str());
    }
    void flush_() override {}

    options wanted_;
    bool journal_ = false;
    int fd_ = -1;
};

std::shared_ptr<spdlog::details::thread_pool> pool;
std::shared_ptr<spdlog::async_logger> logger;
std::shared_ptr<places> all_places;

void set_verbose(int level) {
    get().set_level(level <= 0 ? spdlog::level::info : level == 1 ? spdlog::level::debug : spdlog::level::trace);
}

}  // namespace

void start(const options &wanted) {
    all_places = std::make_shared<places>(wanted);
    pool = std::make_shared<spdlog::details::thread_pool>(queue_lines, 1);
    logger = std::make_shared<spdlog::async_logger>("pgsluice", all_places, pool,
                                                    spdlog::async_overflow_policy::overrun_oldest);
    set_verbose(wanted.verbose);
}

void use(const options &wanted) {
    all_places->use(wanted);
    set_verbose(wanted.verbose);
}

void reopen() {
    if (all_places) all_places->reopen();
    if (const auto lost = pool ? pool->overrun_counter() : 0; lost > 0) warning("{} log lines were dropped", lost);
}

void stop() {
    // Joins the thread first: it may hold the last reference to the logger.
    pool.reset();
    logger.reset();
}

spdlog::logger &get() {
    if (!logger) start({});
    return *logger;
}

}  // namespace pgsluice::net::log
