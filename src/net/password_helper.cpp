// Starting, talking to and ending the helper. See password_helper.hpp.
#include "net/password_helper.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <system_error>
#include <vector>

#include "net/password_checks.hpp"

namespace pgsluice::net {

namespace {

using verdict = auth::password_verdict;

constexpr std::chrono::milliseconds look_up_every{100};

verdict failed(std::string why) {
    return {verdict::kind::failed, std::move(why)};
}

/// A process and what it has started; stopped, so that it starts nothing more. Source: proc(5), children.
void stop_family(pid_t root, std::vector<pid_t> &into) {
    ::kill(root, SIGSTOP);
    into.push_back(root);
    const auto name = std::to_string(root);
    std::ifstream children("/proc/" + name + "/task/" + name + "/children");
    for (pid_t child = 0; children >> child;) stop_family(child, into);
}

/// What it is started with: our socket as its input, nothing else of ours; a group of its own, which no terminal
/// interrupts; and none of the signals blocked that our threads block. In the root folder: libldap
/// believes an ldaprc where it runs (ldap.conf(5)), which could switch the checks of TLS off.
class spawn_settings {
public:
    explicit spawn_settings(int input) {
        ::posix_spawn_file_actions_init(&files_);
        ::posix_spawnattr_init(&attributes_);
        sigset_t none, pipe;
        sigemptyset(&none);
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        good_ = ::posix_spawn_file_actions_addchdir_np(&files_, "/") == 0 &&
                ::posix_spawn_file_actions_adddup2(&files_, input, STDIN_FILENO) == 0 &&
                ::posix_spawn_file_actions_addopen(&files_, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
                ::posix_spawn_file_actions_addopen(&files_, STDERR_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
                ::posix_spawn_file_actions_addclosefrom_np(&files_, STDERR_FILENO + 1) == 0 &&
                ::posix_spawnattr_setpgroup(&attributes_, 0) == 0 &&
                ::posix_spawnattr_setsigmask(&attributes_, &none) == 0 &&
                ::posix_spawnattr_setsigdefault(&attributes_, &pipe) == 0 &&
                ::posix_spawnattr_setflags(&attributes_,
                                           POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF) == 0;
    }
    ~spawn_settings() {
        ::posix_spawn_file_actions_destroy(&files_);
        ::posix_spawnattr_destroy(&attributes_);
    }
    spawn_settings(const spawn_settings &) = delete;
    spawn_settings &operator=(const spawn_settings &) = delete;

    /// An error number.
    int spawn(std::string path, pid_t &pid) const {
        if (!good_) return EINVAL;
        const std::array<char *, 2> arguments{path.data(), nullptr};
        return ::posix_spawn(&pid, path.c_str(), &files_, &attributes_, arguments.data(), environ);
    }

private:
    posix_spawn_file_actions_t files_{};
    posix_spawnattr_t attributes_{};
    bool good_ = false;
};

}  // namespace

std::string password_helper::start() {
    const auto problem = [](int number) {
        return "cannot start " + password_checks::helper() + ": " + std::generic_category().message(number);
    };
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return problem(errno);
    const int number = spawn_settings(ends[1]).spawn(password_checks::helper(), pid_);
    ::close(ends[1]);
    if (number != 0) {
        ::close(ends[0]);
        return problem(number);
    }
    fd_ = ends[0];
    asked_ = 0;
    return {};
}

void password_helper::end() {
    if (fd_ < 0) return;
    ::close(fd_);
    fd_ = -1;
    // What a module of PAM has started (pam_exec: in a session of its own) is not to outlive it.
    std::vector<pid_t> family;
    stop_family(pid_, family);
    for (const auto it : family) ::kill(it, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
}

password_helper::waited password_helper::wait(short events, base::time_point deadline,
                                              const std::function<bool()> &given_up) const {
    for (;;) {
        if (given_up()) return waited::given_up;
        const auto now = std::chrono::steady_clock::now();
        if (now >= deadline) return waited::late;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now);
        pollfd it{fd_, events, 0};
        const int count = ::poll(&it, 1, static_cast<int>(std::min(left, look_up_every).count()));
        if (count > 0) return waited::ready;
        if (count < 0 && errno != EINTR) return waited::failed;
    }
}

password_helper::waited password_helper::send(std::string_view bytes, base::time_point deadline,
                                              const std::function<bool()> &given_up) const {
    while (!bytes.empty()) {
        const auto put = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put > 0) {
            bytes.remove_prefix(static_cast<std::size_t>(put));
        } else if (errno == EAGAIN) {
            if (const auto came = wait(POLLOUT, deadline, given_up); came != waited::ready) return came;
        } else if (errno != EINTR) {
            return waited::failed;
        }
    }
    return waited::ready;
}

password_helper::waited password_helper::receive(std::string &into, std::size_t count, base::time_point deadline,
                                                 const std::function<bool()> &given_up) const {
    into.assign(count, '\0');
    std::size_t have = 0;
    while (have < count) {
        if (const auto came = wait(POLLIN, deadline, given_up); came != waited::ready) return came;
        const auto got = ::recv(fd_, into.data() + have, count - have, MSG_DONTWAIT);
        if (got > 0)
            have += static_cast<std::size_t>(got);
        else if (got == 0 || (errno != EAGAIN && errno != EINTR))
            return waited::failed;
    }
    return waited::ready;
}

verdict password_helper::ask(const auth::password_check &check, base::time_point deadline,
                             const std::function<bool()> &given_up) {
    if (!runs())
        if (auto problem = start(); !problem.empty()) return failed(std::move(problem));
    auto question = auth::to_bytes(check);
    auto came = send(question, deadline, given_up);
    base::wipe(question);
    std::string answer;
    if (came == waited::ready) came = receive(answer, auth::message_length_bytes, deadline, given_up);
    if (came == waited::ready) {
        const auto length = auth::message_length(answer);
        came = length > auth::message_max_bytes ? waited::failed : receive(answer, length, deadline, given_up);
    }
    const auto said = came == waited::ready ? auth::parse_password_verdict(answer) : std::nullopt;
    if (!said || ++asked_ >= questions_max) end();
    if (said) return *said;
    if (came == waited::late) return failed("no answer in time");
    if (came == waited::given_up) return failed("given up");
    return failed("the helper has ended without an answer");
}

}  // namespace pgsluice::net
