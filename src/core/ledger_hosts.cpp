// The ledger and where servers are: which host of a list is next, which server leads where by name, and which go when a
// name leads elsewhere. Source: PgBouncer documentation, [databases] host, load_balance_hosts; passing over those that
// can not be reached is ours.
#include <algorithm>

#include "core/ledger.hpp"
#include "core/pool.hpp"

namespace pgsluice::core {

using base::time_point;

// ---- lists of hosts ----

/// In turn, or with load_balance_hosts = disable the one in use; past those that could not be reached of late. Where
/// none can, it is the turn that counts.
std::size_t ledger::choose_host(pool_entry &pool, time_point now) {
    const auto count = pool.settings->hosts.size();
    pool.hosts.resize(count);
    auto chosen = pool.next_host % count;
    for (std::size_t i = 0; i < count; ++i) {
        const auto candidate = (pool.next_host + i) % count;
        if (pool.hosts[candidate].passed_over(now)) continue;
        chosen = candidate;
        break;
    }
    pool.hosts[chosen].tried(now);
    pool.next_host = chosen + (pool.settings->load_balance ? 1 : 0);
    return chosen;
}

/// A login has failed because of where it was tried; true: there is another host in the list that may do.
bool ledger::try_other_host(server_seat &seat, const login_error &error, time_point now) {
    auto &pool = *seat.at;
    if (seat.close_needed || seat.host >= pool.hosts.size()) return false;
    if (error.from_server && !error.starting_up()) return false;  // another would say the same
    pool.hosts[seat.host].failed(now);
    if (!pool.settings->load_balance && pool.next_host % pool.hosts.size() == seat.host) ++pool.next_host;
    return std::any_of(pool.hosts.begin(), pool.hosts.end(), [&](const auto &it) { return !it.passed_over(now); });
}

// ---- names ----

void ledger::leads_to(base::server_id id, const std::string &name, const std::string &address) {
    const auto found = servers_.find(id);
    if (found == servers_.end()) return;
    lead_nowhere(*found->second);
    if (!name.empty()) ++servers_by_name_[name];
    found->second->name = name;
    found->second->address = address;
}

void ledger::addresses_changed(const std::string &name, const std::vector<std::string> &addresses, time_point now,
                               orders &out) {
    for (const auto &[id, seat] : servers_) {
        if (seat->name != name || seat->where == server_place::closing) continue;
        if (std::find(addresses.begin(), addresses.end(), seat->address) != addresses.end()) continue;
        seat->close_needed = seat->at->outdated = true;
        // One that replicates would not be given back for as long as its client stays.
        const bool own = seat->own && seat->where == server_place::active;
        if (seat->where == server_place::idle || own) order_close(*seat, "obsolete connection", out);
    }
    // What lies behind the name is another server now: it may take logins where the last one did not.
    for (const auto &pool : pools_) {
        const auto &hosts = pool->settings->hosts;
        if (std::find(hosts.begin(), hosts.end(), name) == hosts.end()) continue;
        pool->failing = false;
        serve(*pool, now, out);
    }
}

void ledger::lead_nowhere(const server_seat &seat) {
    const auto counted = servers_by_name_.find(seat.name);
    if (counted != servers_by_name_.end() && --counted->second == 0) servers_by_name_.erase(counted);
}

}  // namespace pgsluice::core
