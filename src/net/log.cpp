// The log thread, its line format, and the places that lines go to.
#include "net/log.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/sinks/base_sink.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdlib>
#include <ctime>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

#include "net/thread_start.hpp"

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

/// A file or a pipe that lines go to. What nobody reads and disks that are full take no line, which is then lost: only
/// the first one is waited for, and not for long, so that the end of the process never hangs on it.
class outlet {
public:
    outlet() = default;
    ~outlet() { close(); }
    outlet(const outlet &) = delete;
    outlet &operator=(const outlet &) = delete;

    void use(int fd) { fd_ = fd; }
    void open(const std::string &path) {
        close();
        path_ = path;
        own_ = true;
        tried_at_ = 0;
        open_again();
    }
    void close() {
        if (own_ && fd_ >= 0) ::close(fd_);
        fd_ = -1;
        path_.clear();
        own_ = torn_ = stuck_ = false;
    }
    bool is_open() const { return fd_ >= 0 || own_; }
    /// False: the line is lost, or a part of it.
    bool write(std::string_view line) {
        if (fd_ < 0 && !(own_ && open_again())) return false;
        if (torn_ && !write_all("\n")) return false;  // what was cut off stays a line of its own
        torn_ = false;
        return write_all(line);
    }

private:
    static constexpr int patience_ms = 100;
    static constexpr std::time_t retry_seconds = 1;

    /// Not blocking: a FIFO without a reader can not be opened yet, and must not hold up whoever opens it.
    bool open_again() {
        const auto now = std::time(nullptr);
        if (now - tried_at_ < retry_seconds && fd_ < 0 && tried_at_ != 0 && now >= tried_at_) return false;
        tried_at_ = now;
        fd_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
        return fd_ >= 0;
    }
    bool is_writable() {
        pollfd it{fd_, POLLOUT, 0};
        const bool now = ::poll(&it, 1, stuck_ ? 0 : patience_ms) > 0 && (it.revents & (POLLERR | POLLNVAL)) == 0;
        stuck_ = !now;
        return now;
    }
    bool write_all(std::string_view text) {
        const auto whole = text.size();
        while (!text.empty()) {
            // A pipe that is writable takes so much without blocking (pipe(7)).
            const auto piece = text.substr(0, PIPE_BUF);
            if (!is_writable()) break;
            const auto count = ::write(fd_, piece.data(), piece.size());
            if (count > 0) text.remove_prefix(static_cast<std::size_t>(count));
            if (count <= 0 && errno != EINTR && errno != EAGAIN) break;
            if (count < 0 && errno == EAGAIN) stuck_ = true;
        }
        torn_ = torn_ || (!text.empty() && text.size() != whole);
        return text.empty();
    }

    int fd_ = -1;
    std::string path_;
    std::time_t tried_at_ = 0;
    bool own_ = false;    ///< opened by us, by path_
    bool stuck_ = false;  ///< took nothing the last time
    bool torn_ = false;   ///< ends in the middle of a line
};

/// Of the queue, while there is one; the log thread asks.
std::atomic<spdlog::details::thread_pool *> queue{nullptr};

/// All places that lines go to. A line that can not be written is lost and counted, and nothing else happens. Once
/// there is a log thread, all of it but the order for it is that thread's: it may be held up for long, by syslog(3)
/// above all.
class places : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
public:
    explicit places(options wanted) { turn_to(std::move(wanted)); }

    // ---- any thread: what the next line finds ----

    void use(options wanted) {
        const std::lock_guard lock(order_mutex_);
        ordered_ = std::move(wanted);
    }
    void reopen() {
        const std::lock_guard lock(order_mutex_);
        reopen_ordered_ = true;
    }

private:
    void take_order() {
        std::optional<options> wanted;
        bool reopens = false;
        {
            const std::lock_guard lock(order_mutex_);
            wanted = std::exchange(ordered_, std::nullopt);
            reopens = std::exchange(reopen_ordered_, false);
        }
        if (wanted)
            turn_to(std::move(*wanted));
        else if (reopens)
            open_file();
    }
    void turn_to(options wanted) {
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
        stderr_.use(STDERR_FILENO);
        if (wanted_.file.empty())
            file_.close();
        else
            file_.open(wanted_.file);
    }
    void write(std::string_view to_stderr, std::string_view to_file) {
        const bool told = !wanted_.to_stderr || stderr_.write(to_stderr);
        const bool kept = !file_.is_open() || file_.write(to_file);
        lost_ += told && kept ? 0 : 1;
        flows_ = told && kept;
    }
    /// Once lines are taken again.
    void tell_of_losses() {
        auto *const lines = queue.load();
        const auto lost = lost_ + (lines != nullptr ? lines->overrun_counter() : 0);
        if (lost == told_of_) return;
        const auto text =
            fmt::format("{} log lines were dropped: the log could not be written as fast as it came", lost - told_of_);
        const spdlog::details::log_msg message("", spdlog::level::warn, text);
        const auto line = dated(message, text);
        told_of_ = lost;
        write(journal_ ? fmt::format("<{}>{}\n", LOG_WARNING, text) : line, line);
    }
    void sink_it_(const spdlog::details::log_msg &message) override {
        take_order();
        const auto text = harmless({message.payload.data(), message.payload.size()});
        const auto line = dated(message, text);
        const int priority = syslog_priority(message.level);
        write(journal_ ? fmt::format("<{}>{}\n", priority, text) : line, line);
        if (flows_) tell_of_losses();
        if (wanted_.to_syslog) ::syslog(priority, "%s", text.c_str());
    }
    void flush_() override {}

    std::mutex order_mutex_;  ///< for the two behind it, never across input or output
    std::optional<options> ordered_;
    bool reopen_ordered_ = false;

    options wanted_;
    bool journal_ = false;
    outlet stderr_, file_;
    std::size_t lost_ = 0, told_of_ = 0;
    bool flows_ = true;  ///< the last line was taken
};

// The log thread is the last, so that a process that ends without stop() joins it before what it uses goes.
std::shared_ptr<places> all_places;
std::shared_ptr<spdlog::async_logger> logger;
std::shared_ptr<spdlog::details::thread_pool> pool;

void set_verbose(int level) {
    verbosity = level;
    get().set_level(level <= 0 ? spdlog::level::info : level == 1 ? spdlog::level::debug : spdlog::level::trace);
}

}  // namespace

std::string problem_of(const std::string &file) {
    if (file.empty()) return {};
    const int fd = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
    const int problem = fd < 0 && errno != ENXIO ? errno : 0;
    if (fd >= 0) ::close(fd);
    if (problem == 0) return {};
    return fmt::format("Cannot open logfile: '{}': {}", file, std::generic_category().message(problem));
}

void start(const options &wanted) {
    all_places = std::make_shared<places>(wanted);
    const signals_held_back signals;
    pool = std::make_shared<spdlog::details::thread_pool>(queue_lines, 1);
    queue = pool.get();
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
}

void stop() {
    queue = nullptr;
    // Joins the thread first: it may hold the last reference to the logger.
    pool.reset();
    logger.reset();
}

void last_words(options where, const std::string &why) {
    where.to_stderr = false;
    start(where);
    fatal("{}", why);
    stop();
}

spdlog::logger &get() {
    if (!logger) start({});
    return *logger;
}

}  // namespace pgsluice::net::log
