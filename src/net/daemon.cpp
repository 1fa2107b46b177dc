// System calls of a daemon's start, each with its error worded.
#include "net/daemon.hpp"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <system_error>

namespace pgsluice::net {

namespace {

std::string because(const std::string &what) {
    return what + ": " + std::generic_category().message(errno);
}

long pid_in(const std::string &path) {
    std::ifstream in(path);
    long pid = 0;
    return in >> pid ? pid : 0;
}

}  // namespace

std::string become_user(const std::string &name) {
    if (name.empty()) return {};
    // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs yet
    const auto *const user = ::getpwnam(name.c_str());
    if (user == nullptr) return "user " + name + " does not exist";
    if (::geteuid() == user->pw_uid) return {};
    if (::geteuid() != 0) return "only root may switch to user " + name;
    if (::initgroups(name.c_str(), user->pw_gid) != 0 || ::setgid(user->pw_gid) != 0 || ::setuid(user->pw_uid) != 0) {
        return because("cannot become user " + name);
    }
    return {};
}

std::string check_pidfile(const std::string &path) {
    if (path.empty()) return {};
    const long pid = pid_in(path);
    if (pid > 0 && pid != ::getpid() && (::kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM)) {
        return "pidfile " + path + " exists, and process " + std::to_string(pid) +
               " lives: is pgsluice running already?";
    }
    return {};
}

std::string write_pidfile(const std::string &path) {
    if (path.empty()) return {};
    // Written beside and renamed: whoever reads it finds a whole number or nothing.
    const std::string fresh = path + ".new";
    const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return because("cannot write pidfile " + path);
    const std::string text = std::to_string(::getpid()) + "\n";
    const bool good = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::close(fd);
    if (!good || ::rename(fresh.c_str(), path.c_str()) != 0) return because("cannot write pidfile " + path);
    return {};
}

void remove_pidfile(const std::string &path) {
    if (!path.empty() && pid_in(path) == ::getpid()) ::unlink(path.c_str());
}

void go_to_background() {
    if (::fork() != 0) ::_exit(0);
    ::setsid();
    if (::fork() != 0) ::_exit(0);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, fd);
    ::close(null);
}

descriptor_limit raise_descriptor_limit(std::uint64_t wanted) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};
    if (limit.rlim_max < wanted) {
        const rlimit more{wanted, wanted};
        if (::setrlimit(RLIMIT_NOFILE, &more) == 0) limit = more;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        const rlimit all{limit.rlim_max, limit.rlim_max};
        if (::setrlimit(RLIMIT_NOFILE, &all) == 0) limit = all;
    }
    return {limit.rlim_cur, limit.rlim_max};
}

}  // namespace pgsluice::net
