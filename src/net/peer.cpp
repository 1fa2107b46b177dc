// getpeername, SO_PEERCRED and what the system knows besides. See peer.hpp.
#include "net/peer.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <pwd.h>
#include <spdlog/fmt/fmt.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace pgsluice::net {

namespace {

auth::ip_address address_of(const sockaddr *from) {
    auth::ip_address result;
    if (from == nullptr) return result;
    if (from->sa_family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, from, sizeof v4);
        result.family = auth::ip_family::v4;
        std::memcpy(result.bytes.data(), &v4.sin_addr, sizeof v4.sin_addr);
    } else if (from->sa_family == AF_INET6) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, from, sizeof v6);
        result.family = auth::ip_family::v6;
        std::memcpy(result.bytes.data(), &v6.sin6_addr, sizeof v6.sin6_addr);
    }
    return result;
}

std::optional<ucred> credentials_of(int fd) {
    ucred credentials{};
    socklen_t length = sizeof credentials;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return std::nullopt;
    return credentials;
}

std::string text_of(const sockaddr_storage &address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (address.ss_family == AF_INET6) {
        const auto &v6 = reinterpret_cast<const sockaddr_in6 &>(address);
        ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
        return fmt::format("[{}]:{}", text.data(), ntohs(v6.sin6_port));
    }
    const auto &v4 = reinterpret_cast<const sockaddr_in &>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
    return fmt::format("{}:{}", text.data(), ntohs(v4.sin_port));
}

}  // namespace

std::string own_place(int fd) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    const bool known = ::getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length) == 0;
    return known ? text_of(address) : "?";
}

core::client_facts facts_of(int fd, bool tcp, int port) {
    core::client_facts facts;
    facts.tcp = tcp;
    if (tcp) {
        sockaddr_storage address{};
        socklen_t length = sizeof address;
        const bool known = ::getpeername(fd, reinterpret_cast<sockaddr *>(&address), &length) == 0;
        facts.place = known ? text_of(address) : "?";
        if (known) facts.address = address_of(reinterpret_cast<const sockaddr *>(&address));
    } else if (const auto credentials = credentials_of(fd)) {
        facts.place = fmt::format("unix({}):{}", credentials->pid, port);
        facts.peer_uid = credentials->uid;
        facts.own_user = credentials->uid == ::geteuid();
    } else {
        facts.place = fmt::format("unix(?):{}", port);
    }
    return facts;
}

std::optional<std::vector<auth::ip_network>> system_facts::interfaces() {
    ifaddrs *all = nullptr;
    if (::getifaddrs(&all) != 0) return std::nullopt;
    std::vector<auth::ip_network> found;
    for (const auto *it = all; it != nullptr; it = it->ifa_next) {
        const auth::ip_network network{address_of(it->ifa_addr), address_of(it->ifa_netmask)};
        if (network.address.family != auth::ip_family::none && network.mask.family == network.address.family)
            found.push_back(network);
    }
    ::freeifaddrs(all);
    return found;
}

std::optional<std::string> system_facts::user_name(std::uint32_t uid) {
    constexpr std::size_t text_max_bytes = 1024 * 1024;
    for (std::vector<char> text(1024); text.size() <= text_max_bytes; text.resize(text.size() * 4)) {
        passwd entry{};
        passwd *found = nullptr;
        const int problem = ::getpwuid_r(uid, &entry, text.data(), text.size(), &found);
        if (problem == ERANGE) continue;
        if (problem != 0 || found == nullptr) return std::nullopt;
        return std::string(found->pw_name);
    }
    return std::nullopt;
}

}  // namespace pgsluice::net
