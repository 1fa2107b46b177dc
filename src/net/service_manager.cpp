// Datagrams and variables of the environment.
#include "net/service_manager.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

namespace pgsluice::net::service_manager {

namespace {

constexpr int first_passed = 3;  // SD_LISTEN_FDS_START
constexpr long most_passed = 64;

const char *variable(const char *name) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment while threads run
    return std::getenv(name);
}

}  // namespace

void tell(std::string_view what) {
    const char *const path = variable("NOTIFY_SOCKET");
    if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    const auto length = std::strlen(path);
    if (length >= sizeof to.sun_path) return;
    std::memcpy(to.sun_path, path, length);
    if (path[0] == '@') to.sun_path[0] = '\0';
    const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    ::sendto(fd, what.data(), what.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr *>(&to),
             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
    ::close(fd);
}

void ready() {
    tell("READY=1");
}

void reloading() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    tell("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(now.tv_sec * 1'000'000 + now.tv_nsec / 1000));
}

void stopping() {
    tell("STOPPING=1");
}

void status(std::string_view line) {
    if (variable("NOTIFY_SOCKET") != nullptr) tell("STATUS=" + std::string(line));
}

std::vector<int> passed_sockets() {
    const char *const pid = variable("LISTEN_PID"), *const count = variable("LISTEN_FDS");
    std::vector<int> passed;
    if (pid != nullptr && count != nullptr && std::strtol(pid, nullptr, 10) == ::getpid()) {
        const long many = std::strtol(count, nullptr, 10);
        for (long i = 0; i < many && i < most_passed; ++i) {
            const int fd = first_passed + static_cast<int>(i);
            if (::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) passed.push_back(fd);
        }
    }
    for (const auto *const name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"})
        ::unsetenv(name);  // NOLINT(concurrency-mt-unsafe): no other thread runs yet
    return passed;
}

}  // namespace pgsluice::net::service_manager
