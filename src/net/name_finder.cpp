// Blocking look-ups on threads of their own. See name_finder.hpp.
#include "net/name_finder.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/post.hpp>
#include <cstring>

namespace pgsluice::net {

namespace {

struct socket_address {
    sockaddr_storage storage{};
    socklen_t length = 0;
};

socket_address made_of(const auth::ip_address &address) {
    socket_address result;
    if (address.family == auth::ip_family::v4) {
        sockaddr_in v4{};
        v4.sin_family = AF_INET;
        std::memcpy(&v4.sin_addr, address.bytes.data(), sizeof v4.sin_addr);
        std::memcpy(&result.storage, &v4, sizeof v4);
        result.length = sizeof v4;
    } else if (address.family == auth::ip_family::v6) {
        sockaddr_in6 v6{};
        v6.sin6_family = AF_INET6;
        std::memcpy(&v6.sin6_addr, address.bytes.data(), sizeof v6.sin6_addr);
        std::memcpy(&result.storage, &v6, sizeof v6);
        result.length = sizeof v6;
    }
    return result;
}

bool has_address(const addrinfo &found, const auth::ip_address &address) {
    if (address.family == auth::ip_family::v4 && found.ai_family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, found.ai_addr, sizeof v4);
        return std::memcmp(&v4.sin_addr, address.bytes.data(), sizeof v4.sin_addr) == 0;
    }
    if (address.family == auth::ip_family::v6 && found.ai_family == AF_INET6) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, found.ai_addr, sizeof v6);
        return std::memcmp(&v6.sin6_addr, address.bytes.data(), sizeof v6.sin6_addr) == 0;
    }
    return false;
}

std::string name_of(const auth::ip_address &asked) {
    const auto address = asked.unmapped();
    const auto from = made_of(address);
    std::array<char, NI_MAXHOST> name{};
    if (from.length == 0 || ::getnameinfo(reinterpret_cast<const sockaddr *>(&from.storage), from.length, name.data(),
                                          name.size(), nullptr, 0, NI_NAMEREQD) != 0)
        return {};
    // Whoever runs the reverse zone may write any name there; its own zone must agree.
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo *found = nullptr;
    if (::getaddrinfo(name.data(), nullptr, &hints, &found) != 0) return {};
    bool agrees = false;
    for (const auto *it = found; it != nullptr && !agrees; it = it->ai_next) agrees = has_address(*it, address);
    ::freeaddrinfo(found);
    return agrees ? name.data() : std::string();
}

}  // namespace

void name_finder::find(const auth::ip_address &address, answer done) {
    std::call_once(made_, [this] { threads_.emplace(2); });
    if (waiting_.fetch_add(1) >= waiting_max) {
        waiting_.fetch_sub(1);
        return done(std::nullopt);
    }
    boost::asio::post(*threads_, [this, address, done = std::move(done)] {
        auto name = name_of(address);
        waiting_.fetch_sub(1);
        done(std::move(name));
    });
}

}  // namespace pgsluice::net
