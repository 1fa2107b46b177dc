// The log thread, its line format, and the sink that can be reopened.
#include "net/log.hpp"

#include <fcntl.h>
#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/uio.h>
#include <unistd.h>

#include <ctime>

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

/// YYYY-MM-DD HH:MM:SS.mmm TZ [pid] LEVEL message (PgBouncer's log format).
class line_formatter : public spdlog::formatter {
public:
    void format(const spdlog::details::log_msg &message, spdlog::memory_buf_t &out) override {
        const auto seconds = std::chrono::time_point_cast<std::chrono::seconds>(message.time);
        const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(message.time - seconds).count();
        const std::time_t when = std::chrono::system_clock::to_time_t(seconds);
        std::tm local{};
        localtime_r(&when, &local);
        char date[32], zone[16];
        std::strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &local);
        std::strftime(zone, sizeof zone, "%Z", &local);
        fmt::format_to(std::back_inserter(out), "{}.{:03} {} [{}] {} ", date, millis, zone, getpid(),
                       level_name(message.level));
        // Names and texts of strangers are in it: nothing of them may end the line or reach a terminal.
        for (const char c : message.payload) {
            const auto byte = static_cast<unsigned char>(c);
            if (byte < 0x20 || byte == 0x7f) {
                fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
            } else {
                out.push_back(c);
            }
        }
        out.push_back('\n');
    }
    std::unique_ptr<spdlog::formatter> clone() const override { return std::make_unique<line_formatter>(); }
};

/// Appends whole lines to one descriptor. A line that can not be written is lost, and nothing else happens.
class descriptor_sink : public spdlog::sinks::base_sink<std::mutex> {
public:
    explicit descriptor_sink(std::string path) : path_(std::move(path)) { open_file(); }
    ~descriptor_sink() override { close_file(); }

    void reopen() {
        const std::lock_guard lock(mutex_);
        close_file();
        open_file();
    }

private:
    void open_file() {
        fd_ = path_.empty() ? STDERR_FILENO : ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    }
    void close_file() {
        if (!path_.empty() && fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }
    void sink_it_(const spdlog::details::log_msg &message) override {
        spdlog::memory_buf_t line;
        formatter_->format(message, line);
        for (std::size_t done = 0; done < line.size();) {
            const auto written = ::write(fd_, line.data() + done, line.size() - done);
            if (written <= 0 && errno != EINTR) return;
            if (written > 0) done += static_cast<std::size_t>(written);
        }
    }
    void flush_() override {}

    std::string path_;
    int fd_ = -1;
};

std::shared_ptr<spdlog::details::thread_pool> pool;
std::shared_ptr<spdlog::async_logger> logger;
std::vector<std::shared_ptr<descriptor_sink>> files;

}  // namespace

void start(const options &wanted) {
    std::vector<spdlog::sink_ptr> sinks;
    files.clear();
    if (wanted.to_stderr) files.push_back(std::make_shared<descriptor_sink>(""));
    if (!wanted.file.empty()) files.push_back(std::make_shared<descriptor_sink>(wanted.file));
    for (const auto &file : files) {
        file->set_formatter(std::make_unique<line_formatter>());
        sinks.push_back(file);
    }
    pool = std::make_shared<spdlog::details::thread_pool>(queue_lines, 1);
    logger = std::make_shared<spdlog::async_logger>("pgsluice", sinks.begin(), sinks.end(), pool,
                                                    spdlog::async_overflow_policy::overrun_oldest);
    set_verbose(wanted.verbose);
}

void set_verbose(int level) {
    get().set_level(level <= 0 ? spdlog::level::info : level == 1 ? spdlog::level::debug : spdlog::level::trace);
}

void reopen() {
    for (const auto &file : files) file->reopen();
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
