// Times to live, turns, changes, zones. See name_book.hpp.
#include "core/name_book.hpp"

#include <algorithm>
#include <utility>

namespace pgsluice::core {

namespace {

/// Everything behind the first dot; "" for a name without one.
std::string_view zone_of(std::string_view name) {
    const auto dot = name.find('.');
    return dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
}

/// As sets; neither repeats anything.
bool same(const std::vector<std::string> &a, const std::vector<std::string> &b) {
    return a.size() == b.size() && std::is_permutation(a.begin(), a.end(), b.begin());
}

}  // namespace

void name_book::keep(const std::set<std::string, std::less<>> &names) {
    std::erase_if(names_, [&](const auto &it) { return !it.second.asking && !names.contains(it.first); });
}

/// In turn, from one connection to the next; those that can not be reached at the end, for want of better ones.
name_book::lookup name_book::in_order(entry &it, base::time_point now) {
    lookup result{lookup::step::known, it.addresses, {}};
    auto &list = result.addresses;
    std::rotate(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(it.turn++ % list.size()), list.end());
    std::stable_partition(list.begin(), list.end(), [&](const std::string &address) {
        const auto health = it.health.find(address);
        return health == it.health.end() || !health->second.passed_over(now);
    });
    if (const auto health = it.health.find(list.front()); health != it.health.end()) health->second.tried(now);
    return result;
}

name_book::lookup name_book::latest(const std::string &name, base::time_point now) {
    auto &it = names_[name];
    if (it.addresses.empty()) return {lookup::step::failed, {}, it.problem};
    return in_order(it, now);
}

name_book::lookup name_book::find(const std::string &name, base::time_point now) {
    auto &it = names_[name];
    if (now < it.expires) return latest(name, now);
    if (it.asking) {
        if (!it.addresses.empty() && now >= it.asked_at + patience) return in_order(it, now);
        return {lookup::step::wait, {}, {}};
    }
    it.asking = true;
    it.asked_at = now;
    return {lookup::step::ask, {}, {}};
}

bool name_book::answered(const std::string &name, const name_answer &answer, base::time_point now) {
    auto &it = names_[name];
    it.asking = false;
    it.problem = answer.problem;
    if (answer.addresses.empty()) {
        it.expires = now + limits_.nxdomain_ttl;  // what was known before is better than nothing
        return false;
    }
    // A time to live of none at all is a second: that of many connections made at once.
    const auto told = std::max<base::duration>(answer.ttl.value_or(limits_.max_ttl), base::seconds(1));
    it.expires = now + std::min(told, limits_.max_ttl);
    const bool changed = !it.addresses.empty() && !same(it.addresses, answer.addresses);
    it.addresses = answer.addresses;
    std::erase_if(it.health, [&](const auto &health) {
        return std::find(it.addresses.begin(), it.addresses.end(), health.first) == it.addresses.end();
    });
    return changed;
}

void name_book::forget_failures() {
    for (auto &[name, it] : names_) {
        if (it.asking || it.problem.empty()) continue;
        it.expires = base::time_point::min();
        it.asked_at = base::time_point::min();
    }
}

std::vector<std::string> name_book::addresses(const std::string &name) const {
    const auto found = names_.find(name);
    return found == names_.end() ? std::vector<std::string>() : found->second.addresses;
}

void name_book::reached(const std::string &name, const std::string &address, bool worked, base::time_point now) {
    const auto found = names_.find(name);
    if (found == names_.end()) return;
    auto &health = found->second.health;
    if (worked) {
        health.erase(address);
    } else if (std::find(found->second.addresses.begin(), found->second.addresses.end(), address) !=
               found->second.addresses.end()) {
        health[address].failed(now);
    }
}

// ---- zones ----

void name_book::find_zones() {
    std::set<std::string, std::less<>> wanted;
    for (const auto &[name, it] : names_)
        if (const auto zone = zone_of(name); !zone.empty()) wanted.emplace(zone);
    std::erase_if(zones_, [&](const auto &it) { return !it.second.asking && !wanted.contains(it.first); });
    for (const auto &zone : wanted) zones_.try_emplace(zone);
}

std::vector<std::string> name_book::zones_to_check(base::time_point now) {
    if (limits_.zone_check_period <= base::duration::zero()) {
        std::erase_if(zones_, [](const auto &it) { return !it.second.asking; });
        return {};
    }
    if (zones_checked_ != base::time_point::min() && now < zones_checked_ + limits_.zone_check_period) return {};
    zones_checked_ = now;
    find_zones();
    std::vector<std::string> due;
    for (auto &[name, it] : zones_) {
        if (std::exchange(it.asking, true)) continue;
        due.push_back(name);
    }
    return due;
}

void name_book::zone_answered(const std::string &zone, std::optional<std::uint32_t> serial) {
    const auto found = zones_.find(zone);
    if (found == zones_.end()) return;
    found->second.asking = false;
    if (!serial) return;
    const auto before = std::exchange(found->second.serial, serial);
    if (!before || before == serial) return;
    for (auto &[name, it] : names_) {
        if (zone_of(name) != zone) continue;
        it.expires = base::time_point::min();
        it.asked_at = base::time_point::min();
    }
}

// ---- to look at ----

std::vector<name_book::host_view> name_book::hosts(base::time_point now) const {
    std::vector<host_view> rows;
    for (const auto &[name, it] : names_) {
        const auto left = it.expires > now ? std::chrono::ceil<base::seconds>(it.expires - now).count() : 0;
        rows.push_back({name, left, it.addresses});
    }
    return rows;
}

std::vector<name_book::zone_view> name_book::zones() const {
    std::vector<zone_view> rows;
    for (const auto &it : zones_) {
        const auto names = std::count_if(names_.begin(), names_.end(),
                                         [&](const auto &each) { return zone_of(each.first) == it.first; });
        rows.push_back({it.first, it.second.serial.value_or(0), static_cast<int>(names)});
    }
    return rows;
}

dns_counts name_book::counts() const {
    const auto asking = [](const auto &it) { return it.second.asking; };
    return {names_.size(), zones_.size(),
            static_cast<std::size_t>(std::count_if(names_.begin(), names_.end(), asking) +
                                     std::count_if(zones_.begin(), zones_.end(), asking)),
            0};
}

// ---- resolv.conf ----

std::string nameservers_with_ports(std::string_view text) {
    constexpr std::string_view blank = " \t\r";
    std::string all;
    bool any = false;
    while (!text.empty()) {
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        constexpr std::string_view word = "nameserver";
        if (!line.starts_with(word)) continue;
        line.remove_prefix(word.size());
        const auto begin = line.find_first_not_of(blank);
        if (begin == 0 || begin == std::string_view::npos) continue;
        line.remove_prefix(begin);
        line = line.substr(0, line.find_first_of(blank));
        // "::1" has no port; "[::1]:53" and "127.0.0.1:53" have one.
        const bool bracketed = line.starts_with('[');
        const bool has_port = bracketed ? line.find("]:") != std::string_view::npos
                                        : line.find(':') != std::string_view::npos && line.find(':') == line.rfind(':');
        any = any || has_port;
        const bool bare_v6 = !bracketed && !has_port && line.find(':') != std::string_view::npos;
        if (!all.empty()) all += ",";
        all += bare_v6 ? "[" + std::string(line) + "]" : std::string(line);
    }
    return any ? all : std::string();
}

}  // namespace pgsluice::core
