// Opening listening sockets, and the bounded accept loop.
#include "net/listener.hpp"

#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "net/lobby.hpp"
#include "net/log.hpp"

namespace pgsluice::net {

namespace {

constexpr int accepts_per_turn = 64;
constexpr int most_in_a_queue = 65536;

/// accept(2), "Error handling": already pending on the new socket, and not the fault of the one that listens.
bool is_of_one_connection(int problem) {
    switch (problem) {
        case EINTR:
        case ECONNABORTED:
        case EPERM:  // by a firewall
        case EPROTO:
        case ENOPROTOOPT:
        case EOPNOTSUPP:
        case ENETDOWN:
        case ENETUNREACH:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case ENONET:
            return true;
        default:
            return false;
    }
}

struct opened {
    int fd = -1;
    std::string text;
    std::string path;
};

using outcome = boost::system::result<opened, std::string>;

outcome fail(const std::string &where, const char *what, int fd = -1) {
    const std::string reason = std::generic_category().message(errno);
    if (fd >= 0) ::close(fd);
    return {boost::system::in_place_error, "cannot listen on " + where + ": " + what + ": " + reason};
}

/// PgBouncer's: 0.0.0.0:6432, [::]:6432.
std::string text_of(const addrinfo &address) {
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> port{};
    ::getnameinfo(address.ai_addr, address.ai_addrlen, host.data(), host.size(), port.data(), port.size(),
                  NI_NUMERICHOST | NI_NUMERICSERV);
    const std::string name = host.data();
    return (address.ai_family == AF_INET6 ? "[" + name + "]" : name) + ":" + port.data();
}

outcome open_tcp(const addrinfo &address, const std::string &where, const config::global_settings &settings) {
    const int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail(where, "socket");
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (settings.so_reuseport) ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (settings.tcp_defer_accept) ::setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &on, sizeof on);
    if (address.ai_family == AF_INET6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (::bind(fd, address.ai_addr, address.ai_addrlen) != 0) return fail(where, "bind", fd);
    if (::listen(fd, settings.listen_backlog) != 0) return fail(where, "listen", fd);
    return opened{fd, text_of(address), {}};
}

/// A live socket of that name belongs to another process; a dead one is what a crash left behind. A process whose queue
/// is full is there too: EAGAIN, unix(7).
bool is_live(const sockaddr_un &address, socklen_t length) {
    const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const bool live =
        probe >= 0 && (::connect(probe, reinterpret_cast<const sockaddr *>(&address), length) == 0 || errno == EAGAIN);
    if (probe >= 0) ::close(probe);
    return live;
}

outcome open_unix(const config::global_settings &settings) {
    const bool abstract = settings.unix_socket_dir.starts_with('@');
    const std::string path = settings.unix_socket_dir + "/.s.PGSQL." + std::to_string(settings.listen_port);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return fail(path, "unix_socket_dir");
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    if (abstract) address.sun_path[0] = '\0';
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
    if (is_live(address, length)) {
        errno = EADDRINUSE;
        return fail(path, "another process answers there");
    }
    if (!abstract) {
        // What is locked is another's: that of a PostgreSQL on this port, even while it is down.
        if (struct stat lock{}; ::lstat((path + ".lock").c_str(), &lock) == 0) {
            errno = EADDRINUSE;
            return fail(path, "unix port is in use: there is a .lock beside it");
        }
        ::unlink(path.c_str());
    }
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail(path, "socket");
    if (::bind(fd, reinterpret_cast<const sockaddr *>(&address), length) != 0) return fail(path, "bind", fd);
    if (!abstract) {
        if (!settings.unix_socket_group.empty()) {
            // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs yet
            const auto *const group = ::getgrnam(settings.unix_socket_group.c_str());
            if (group == nullptr || ::chown(path.c_str(), static_cast<uid_t>(-1), group->gr_gid) != 0) {
                return fail(path, "unix_socket_group", fd);
            }
        }
        if (::chmod(path.c_str(), static_cast<mode_t>(settings.unix_socket_mode)) != 0)
            return fail(path, "unix_socket_mode", fd);
    }
    if (::listen(fd, settings.listen_backlog) != 0) return fail(path, "listen", fd);
    return opened{fd, "unix:" + path, abstract ? std::string() : path};
}

}  // namespace

boost::system::result<std::vector<std::unique_ptr<listener>>, std::string> listener::open_all(
    const config::global_settings &settings) {
    std::vector<std::unique_ptr<listener>> all;
    const auto add = [&](outcome it, bool tcp) -> std::string {
        if (it.has_error()) return it.error();
        all.push_back(std::make_unique<listener>(it->fd, tcp, it->text, it->path));
        return {};
    };
    for (const auto &name : settings.listen_addr) {
        addrinfo hints{};
        hints.ai_socktype = SOCK_STREAM;
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
        addrinfo *found = nullptr;
        const auto port = std::to_string(settings.listen_port);
        const int code = ::getaddrinfo(name == "*" ? nullptr : name.c_str(), port.c_str(), &hints, &found);
        if (code != 0) {
            return {boost::system::in_place_error, "cannot listen on " + name + ": " + ::gai_strerror(code)};
        }
        std::string problem;
        for (auto *it = found; it != nullptr && problem.empty(); it = it->ai_next) {
            const std::string where = name + (it->ai_family == AF_INET6 && name == "*" ? " (IPv6):" : ":") + port;
            auto made = open_tcp(*it, where, settings);
            // "*" means every family this machine has; one without IPv6 is no error.
            if (made.has_error() && name == "*" && it->ai_family == AF_INET6) continue;
            problem = add(std::move(made), true);
        }
        ::freeaddrinfo(found);
        if (!problem.empty()) return {boost::system::in_place_error, problem};
    }
    if (!settings.unix_socket_dir.empty()) {
        if (auto problem = add(open_unix(settings), false); !problem.empty())
            return {boost::system::in_place_error, problem};
    }
    if (all.empty()) return {boost::system::in_place_error, "nowhere to listen: set listen_addr or unix_socket_dir"};
    return {boost::system::in_place_value, std::move(all)};
}

std::vector<std::unique_ptr<listener>> listener::adopt(const std::vector<int> &passed) {
    std::vector<std::unique_ptr<listener>> all;
    for (const int fd : passed) {
        sockaddr_storage address{};
        socklen_t length = sizeof address;
        const int flags = ::fcntl(fd, F_GETFL);
        if (::getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length) != 0 ||
            ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
            ::close(fd);
            continue;
        }
        all.push_back(std::make_unique<listener>(fd, address.ss_family != AF_UNIX,
                                                 "a socket passed by systemd (descriptor " + std::to_string(fd) + ")",
                                                 ""));
    }
    return all;
}

listener::listener(int fd, bool tcp, std::string text, std::string path)
    : fd_(fd), tcp_(tcp), text_(std::move(text)), path_(std::move(path)) {}

listener::~listener() {
    leave();
    if (!path_.empty()) ::unlink(path_.c_str());
}

void listener::open(lobby &where) {
    lobby_ = &where;
    watch();
}

/// Short of memory, or of what epoll may watch, it is tried again at each tick: else nobody would ever come in again.
void listener::watch() {
    auto &desk = lobby_->desk();
    try {
        desk.ready().add(*this, fd_, EPOLLIN);
    } catch (const std::system_error &problem) {
        lobby_->complain(text_, problem.code().value());
        desk.wheel().arm(*this, desk.now());
    }
}

void listener::close() {
    lobby_->desk().ready().remove(*this);
    unlink();
}

void listener::defer(bool on) {
    const int value = on ? 1 : 0;
    if (tcp_) ::setsockopt(fd_, IPPROTO_TCP, TCP_DEFER_ACCEPT, &value, sizeof value);
}

listener::accepted listener::accept_one() {
    for (;;) {
        const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) return lobby_->take_in(fd, tcp_), accepted::one;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return accepted::none;
        if (is_of_one_connection(errno)) continue;
        lobby_->complain(text_, errno);
        return accepted::no_descriptor;
    }
}

void listener::leave() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void listener::on_ready(std::uint32_t) {
    for (int i = 0; i < accepts_per_turn; ++i) {
        const auto what = accept_one();
        if (what == accepted::one) continue;
        if (what == accepted::none) return;
        // Over the Unix socket one more gets in, so that an admin can see what is the matter.
        if (!tcp_ && lobby_->give_up_spare() && accept_one() == accepted::one) return;
        auto &desk = lobby_->desk();
        desk.ready().remove(*this);
        return desk.wheel().arm(*this, desk.now());  // the next tick
    }
}

void listener::drain() {
    for (int i = 0; i < most_in_a_queue && accept_one() == accepted::one; ++i) {
    }
}

void listener::on_timer(base::time_point) {
    lobby_->take_spare();
    watch();
}

}  // namespace pgsluice::net
