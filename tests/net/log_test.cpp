// The log's places: who orders others waits for nobody.
#include "net/log.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "net/faults.hpp"

namespace pgsluice::net {

namespace {

class folder {
public:
    folder() : path_(std::filesystem::temp_directory_path() / ("pgsluice-log." + std::to_string(::getpid()))) {
        std::filesystem::create_directory(path_);
    }
    ~folder() { std::filesystem::remove_all(path_); }
    folder(const folder &) = delete;
    folder &operator=(const folder &) = delete;
    std::string file(const std::string &name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

std::string text_of(const std::string &file) {
    std::ostringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
}

}  // namespace

TEST(log, syslog_that_is_stuck_keeps_nobody_from_ordering_other_places) {
    const folder here;
    const auto first = here.file("first"), second = here.file("second");
    log::options wanted{.file = first, .to_stderr = false, .to_syslog = true};
    log::start(wanted);
    {
        faults::syslog_stuck stuck;
        log::info("held up");
        stuck.wait_for_caller();
        // Each would wait until syslog goes on, which is only behind them.
        log::reopen();
        wanted.file = second;
        wanted.verbose = 1;
        log::use(wanted);
        EXPECT_TRUE(log::debugs()) << "at once";
        log::debug("into the second");
    }
    log::stop();
    EXPECT_NE(text_of(first).find("held up"), std::string::npos);
    EXPECT_EQ(text_of(first).find("into the second"), std::string::npos);
    EXPECT_NE(text_of(second).find("into the second"), std::string::npos);
    log::start({});
}

TEST(log, the_next_line_opens_the_file_again) {
    const folder here;
    const auto file = here.file("log");
    log::start({.file = file, .to_stderr = false});
    log::info("before");
    log::stop();
    log::start({.file = file, .to_stderr = false});
    std::filesystem::rename(file, here.file("old"));
    log::reopen();
    log::info("behind");
    log::stop();
    EXPECT_NE(text_of(here.file("old")).find("before"), std::string::npos);
    EXPECT_NE(text_of(file).find("behind"), std::string::npos);
    log::start({});
}

TEST(log, a_file_that_can_not_be_had_is_told_of_ahead) {
    EXPECT_EQ(log::problem_of("/nonexistent/log"),
              "Cannot open logfile: '/nonexistent/log': No such file or directory");
    EXPECT_EQ(log::problem_of(""), "");
}

}  // namespace pgsluice::net
