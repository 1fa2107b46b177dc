// Asks c-ares. See resolver.hpp.
#include "net/resolver.hpp"

#include <ares_nameser.h>
#include <arpa/inet.h>

#include <algorithm>
#include <array>

#include "config/settings.hpp"
#include "net/log.hpp"

namespace pgsluice::net {

namespace {

base::time_point clock_now() {
    return std::chrono::steady_clock::now();
}

std::string text_of(const sockaddr *from) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (from->sa_family == AF_INET6) {
        const auto *const v6 = reinterpret_cast<const sockaddr_in6 *>(from);
        ::inet_ntop(AF_INET6, &v6->sin6_addr, text.data(), text.size());
        const std::string zone = v6->sin6_scope_id != 0 ? "%" + std::to_string(v6->sin6_scope_id) : "";
        return text.data() + zone;
    }
    if (from->sa_family != AF_INET) return {};
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in *>(from)->sin_addr, text.data(), text.size());
    return text.data();
}

}  // namespace

struct resolver::query {
    resolver &of;
    std::string name;
};

resolver::resolver(asio::io_context &context, callbacks tell)
    : tell_(std::move(tell)), context_(context), dns_(context) {}

void resolver::use(const config::settings &settings) {
    const auto &global = settings.global;
    book_.use({global.dns_max_ttl, global.dns_nxdomain_ttl, global.dns_zone_check_period});
    if (!dns_.is_open()) dns_.open(global.resolv_conf);
    std::set<std::string, std::less<>> names;
    for (const auto &[name, entry] : settings.databases) names.insert(entry.hosts.begin(), entry.hosts.end());
    if (settings.wildcard) names.insert(settings.wildcard->hosts.begin(), settings.wildcard->hosts.end());
    for (const auto &[id, peer] : settings.peers) names.insert(peer.hosts.begin(), peer.hosts.end());
    book_.keep(names);
}

// ---- asking ----

void resolver::find(const std::string &name, std::function<void(const outcome &)> done) {
    using step = core::name_book::lookup::step;
    const auto now = clock_now();
    auto found = book_.find(name, now);
    if (found.next == step::known || found.next == step::failed)
        return done({std::move(found.addresses), std::move(found.problem)});
    waiting_[name].push_back({std::move(done), now + core::name_book::patience});
    if (found.next == step::ask) ask(name);
}

void resolver::ask(const std::string &name) {
    if (!dns_.is_open()) return on_answer(name, {{}, {}, "no name server is known"});
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_flags = ARES_AI_NOSORT;
    hints.ai_socktype = SOCK_STREAM;
    dns_.ask([&](ares_channel channel) {
        ares_getaddrinfo(
            channel, name.c_str(), nullptr, &hints,
            [](void *argument, int status, int, ares_addrinfo *found) {
                const std::unique_ptr<query> asked(static_cast<query *>(argument));
                const std::unique_ptr<ares_addrinfo, decltype(&ares_freeaddrinfo)> all(found, ares_freeaddrinfo);
                auto &self = asked->of;
                if (status == ARES_EDESTRUCTION) {
                    if (self.dns_.asks_again())
                        asio::post(self.context_, [&self, name = asked->name] { self.ask(name); });
                    return;
                }
                core::name_answer answer;
                if (status != ARES_SUCCESS) answer.problem = ares_strerror(status);
                for (const auto *it = all ? all->nodes : nullptr; it != nullptr; it = it->ai_next) {
                    auto text = text_of(it->ai_addr);
                    auto &list = answer.addresses;
                    if (!text.empty() && std::find(list.begin(), list.end(), text) == list.end())
                        list.push_back(std::move(text));
                    const base::duration ttl = base::seconds(std::max(0, it->ai_ttl));
                    // What is answered at once comes from /etc/hosts, which knows no times.
                    if (!self.dns_.starting()) answer.ttl = answer.ttl ? std::min(*answer.ttl, ttl) : ttl;
                }
                if (answer.addresses.empty() && answer.problem.empty()) answer.problem = "the name has no address";
                // Not from below a call that asks: who waits may ask for more.
                asio::post(self.context_, [&self, name = asked->name, answer] { self.on_answer(name, answer); });
            },
            new query{*this, name});
    });
}

void resolver::on_answer(const std::string &name, const core::name_answer &answer) {
    const bool changed = book_.answered(name, answer, clock_now());
    const auto addresses = book_.addresses(name);
    if (answer.addresses.empty()) {
        log::warning("DNS lookup of {} failed: {}{}", name, answer.problem,
                     addresses.empty() ? "" : "; the addresses known before stay in use");
    }
    if (changed) {
        log::info("DNS: {} has other addresses now", name);
        tell_.changed(name, addresses);
    }
    answer_waiting(name);
}

void resolver::answer_waiting(const std::string &name) {
    const auto found = waiting_.find(name);
    if (found == waiting_.end()) return;
    const auto all = std::move(found->second);
    waiting_.erase(found);
    for (const auto &it : all) {
        auto known = book_.latest(name, clock_now());
        it.done({std::move(known.addresses), std::move(known.problem)});
    }
}

void resolver::reached(const std::string &name, const std::string &address, bool worked) {
    book_.reached(name, address, worked, clock_now());
}

void resolver::tick() {
    if (dns_.look_at_resolv_conf()) book_.forget_failures();
    const auto now = clock_now();
    for (const auto &name : book_.refresh(now, tell_.in_use)) ask(name);
    for (const auto &zone : book_.zones_to_check(now)) ask_zone(zone);
    std::vector<std::string> impatient;
    for (const auto &[name, list] : waiting_)
        if (now >= list.front().until && !book_.addresses(name).empty()) impatient.push_back(name);
    for (const auto &name : impatient) answer_waiting(name);
}

void resolver::ask_zone(const std::string &zone) {
    if (!dns_.is_open()) return book_.zone_answered(zone, std::nullopt);
    dns_.ask([&](ares_channel channel) {
        ares_query(
            channel, zone.c_str(), ns_c_in, ns_t_soa,
            [](void *argument, int status, int, unsigned char *bytes, int length) {
                const std::unique_ptr<query> asked(static_cast<query *>(argument));
                auto &self = asked->of;
                if (status == ARES_EDESTRUCTION) {
                    if (self.dns_.asks_again())
                        asio::post(self.context_, [&self, zone = asked->name] { self.ask_zone(zone); });
                    return;
                }
                ares_soa_reply *soa = nullptr;
                if (status == ARES_SUCCESS) status = ares_parse_soa_reply(bytes, length, &soa);
                if (status != ARES_SUCCESS)
                    log::warning("DNS zone check of {}: {}", asked->name, ares_strerror(status));
                std::optional<std::uint32_t> serial;
                if (status == ARES_SUCCESS) serial = soa->serial;
                if (soa != nullptr) ares_free_data(soa);
                self.book_.zone_answered(asked->name, serial);
            },
            new query{*this, zone});
    });
}

core::dns_counts resolver::counts() const {
    auto all = book_.counts();
    for (const auto &[name, list] : waiting_) all.pending += list.size();
    return all;
}

}  // namespace pgsluice::net
