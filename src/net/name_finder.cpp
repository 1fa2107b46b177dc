// From the address to its name, and back. See name_finder.hpp.
#include "net/name_finder.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

namespace pgsluice::net {

namespace {

base::time_point clock_now() {
    return std::chrono::steady_clock::now();
}

bool is_v6(const auth::ip_address &address) {
    return address.family == auth::ip_family::v6;
}

bool is(const sockaddr *from, const auth::ip_address &address) {
    if (is_v6(address) && from->sa_family == AF_INET6) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, from, sizeof v6);
        return std::memcmp(&v6.sin6_addr, address.bytes.data(), sizeof v6.sin6_addr) == 0;
    }
    if (!is_v6(address) && from->sa_family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, from, sizeof v4);
        return std::memcmp(&v4.sin_addr, address.bytes.data(), sizeof v4.sin_addr) == 0;
    }
    return false;
}

}  // namespace

struct name_finder::question {
    name_finder &of;
    auth::ip_address address;
    std::string name;
};

void name_finder::find(const auth::ip_address &asked, answer done) {
    asio::post(control_, [this, address = asked.unmapped(), done = std::move(done)]() mutable {
        look_up(address, std::move(done));
    });
}

void name_finder::look_up(const auth::ip_address &address, answer done) {
    using step = core::host_names::lookup::step;
    if (address.family == auth::ip_family::none) return done("");
    if (!dns_.is_open()) dns_.open(resolv_conf_);
    if (!dns_.is_open()) return done("");
    auto found = names_.find(address, clock_now());
    if (found.next == step::known) return done(std::move(found.name));
    if (found.next == step::too_many) return done(std::nullopt);
    waiting_[to_text(address)].push_back(std::move(done));
    if (found.next == step::ask) ask(address);
}

void name_finder::tick() {
    if (dns_.is_open() && dns_.look_at_resolv_conf()) names_.forget_nameless();
}

void name_finder::ask(const auth::ip_address &address) {
    dns_.ask([&](ares_channel channel) {
        ares_gethostbyaddr(
            channel, address.bytes.data(), address.bits() / 8, is_v6(address) ? AF_INET6 : AF_INET,
            [](void *argument, int status, int, hostent *found) {
                std::unique_ptr<question> asked(static_cast<question *>(argument));
                auto &self = asked->of;
                if (status == ARES_EDESTRUCTION) {
                    if (self.dns_.asks_again())
                        asio::post(self.control_, [&self, address = asked->address] { self.ask(address); });
                    return;
                }
                if (status == ARES_SUCCESS && found->h_name != nullptr) asked->name = found->h_name;
                // Not from below a call of c-ares's.
                asio::post(self.control_, [&self, asked = std::move(asked)]() mutable {
                    asked->name.empty() ? self.answered(asked->address, {}) : self.ask_back(std::move(asked));
                });
            },
            new question{*this, address, {}});
    });
}

/// Whoever runs the reverse zone may write any name there; its own zone must agree.
void name_finder::ask_back(std::unique_ptr<question> it) {
    ares_addrinfo_hints hints{};
    hints.ai_family = is_v6(it->address) ? AF_INET6 : AF_INET;
    hints.ai_flags = ARES_AI_NOSORT;
    hints.ai_socktype = SOCK_STREAM;
    const auto name = it->name;
    dns_.ask([&](ares_channel channel) {
        ares_getaddrinfo(
            channel, name.c_str(), nullptr, &hints,
            [](void *argument, int status, int, ares_addrinfo *found) {
                std::unique_ptr<question> asked(static_cast<question *>(argument));
                const std::unique_ptr<ares_addrinfo, decltype(&ares_freeaddrinfo)> all(found, ares_freeaddrinfo);
                auto &self = asked->of;
                if (status == ARES_EDESTRUCTION) {
                    if (self.dns_.asks_again())
                        asio::post(self.control_,
                                   [&self, asked = std::move(asked)]() mutable { self.ask_back(std::move(asked)); });
                    return;
                }
                bool agrees = false;
                for (const auto *node = all ? all->nodes : nullptr; node != nullptr; node = node->ai_next)
                    agrees = agrees || is(node->ai_addr, asked->address);
                if (!agrees) asked->name.clear();
                asio::post(self.control_,
                           [&self, asked = std::move(asked)] { self.answered(asked->address, asked->name); });
            },
            it.release());
    });
}

void name_finder::answered(const auth::ip_address &address, std::string name) {
    names_.answered(address, name, clock_now());
    const auto found = waiting_.extract(to_text(address));
    if (found.empty()) return;
    for (const auto &done : found.mapped()) done(name);
}

}  // namespace pgsluice::net
