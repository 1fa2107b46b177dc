// Opening listening sockets, and the bounded accept loop.
#include "net/listener.hpp"

#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "net/log.hpp"

namespace pgsluice::net {

namespace {

constexpr int accepts_per_turn = 64;
constexpr std::chrono::milliseconds pause_without_descriptors{50};

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
    return opened{fd, where, {}};
}

/// A live socket of that name belongs to another process; a dead one is what a crash left behind.
bool is_live(const sockaddr_un &address, socklen_t length) {
    const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool live = probe >= 0 && ::connect(probe, reinterpret_cast<const sockaddr *>(&address), length) == 0;
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
    if (!abstract) ::unlink(path.c_str());
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
    asio::io_context &context, const config::global_settings &settings, const accepted &on_accept) {
    std::vector<std::unique_ptr<listener>> all;
    const auto add = [&](outcome it, bool tcp) -> std::string {
        if (it.has_error()) return it.error();
        auto made = std::make_unique<listener>(context, it->fd, tcp, it->path, on_accept);
        made->text_ = it->text;
        all.push_back(std::move(made));
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

listener::listener(asio::io_context &context, int fd, bool tcp, std::string path, accepted on_accept)
    : socket_(context, asio::generic::stream_protocol(tcp ? AF_INET : AF_UNIX, 0), fd),
      pause_(context),
      path_(std::move(path)),
      accepted_(std::move(on_accept)),
      tcp_(tcp) {}

listener::~listener() {
    *alive_ = false;
    if (!path_.empty()) ::unlink(path_.c_str());
}

void listener::start() {
    socket_.async_wait(stream_socket::wait_read, [this, alive = alive_](error_code ec) {
        if (!*alive || ec) return;
        accept_some();
    });
}

void listener::accept_some() {
    for (int i = 0; i < accepts_per_turn; ++i) {
        const int fd = ::accept4(socket_.native_handle(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accepted_(fd, tcp_);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) break;
        log::warning("accept on {} failed: {}", text_, std::generic_category().message(errno));
        return wait_a_moment();
    }
    start();
}

void listener::wait_a_moment() {
    pause_.expires_after(pause_without_descriptors);
    pause_.async_wait([this, alive = alive_](error_code ec) {
        if (*alive && !ec) accept_some();
    });
}

}  // namespace pgsluice::net
