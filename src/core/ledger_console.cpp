// The ledger as the admin console sees it, and what an admin may do to it: pause, disable, reconnect, kill.
// Source: PgBouncer documentation, "Process controlling commands".
#include <algorithm>

#include "config/values.hpp"
#include "core/ledger.hpp"
#include "core/pool.hpp"

namespace pgsluice::core {

using base::time_point;

namespace {

bool is_of(const server_seat &seat, const database_count *database) {
    return database == nullptr || seat.at->database == database;
}

}  // namespace

bool ledger::has_database(const std::string &name) const {
    return settings_->find_database(name) != nullptr;
}

bool ledger::knows_database(const std::string &name) const {
    return has_database(name) && (settings_->databases.contains(name) || databases_.contains(name));
}

/// Null for "", which is all of them.
database_count *ledger::count_of(const std::string &name) {
    if (name.empty()) return nullptr;
    auto &it = databases_[name];
    if (!it) it = std::make_unique<database_count>();
    return it.get();
}

// ---- pause and stop ----

refusal ledger::pause(const std::string &name, orders &out) {
    if (shutting_down_) return refusal::console_shutting_down;
    if (paused_) return refusal::console_already_paused;
    auto *const database = count_of(name);
    (database != nullptr ? database->paused : paused_) = true;
    close_unused(database, "pause mode", out);
    return refusal::none;
}

void ledger::close_unused(const database_count *database, std::string_view why, orders &out) {
    for (const auto &[id, seat] : servers_) {
        if (!is_of(*seat, database)) continue;
        if (seat->where == server_place::idle) order_close(*seat, why, out);
        if (seat->where != server_place::opening || seat->own) continue;
        // One that does not answer would take its time. If it has logged in meanwhile, it goes for close_needed.
        seat->close_needed = true;
        out.push_back({.what = order::kind::close, .worker = seat->worker, .server = id, .why = why});
    }
}

refusal ledger::resume(const std::string &name, time_point now, orders &out) {
    if (refuse_waiters_) return refusal::console_shutting_down;  // while shutting down RESUME is ignored
    if (name.empty()) {
        if (!std::exchange(paused_, false)) return refusal::console_not_paused;
    } else {
        const auto found = databases_.find(name);
        const bool was = found != databases_.end() && std::exchange(found->second->paused, false);
        if (!was) return refusal::console_database_not_paused;
    }
    for (const auto &pool : pools_) serve(*pool, now, out);
    return refusal::none;
}

void ledger::take_back_pause(const std::string &name, time_point now, orders &out) {
    if (refuse_waiters_) return;
    auto *const database = count_of(name);
    (database != nullptr ? database->paused : paused_) = false;
    for (const auto &pool : pools_) serve(*pool, now, out);
}

bool ledger::drained(const std::string &name) const {
    const auto found = databases_.find(name);
    if (name.empty()) return servers_.empty();
    return found == databases_.end() || found->second->servers == 0;
}

bool ledger::is_paused(const std::string &name) const {
    const auto found = databases_.find(name);
    return paused_ || (found != databases_.end() && found->second->paused);
}

refusal ledger::may_suspend() const {
    if (shutting_down_) return refusal::console_shutting_down;
    if (paused_) return refusal::console_already_paused;
    const bool any = std::any_of(databases_.begin(), databases_.end(), [](auto &it) { return it.second->paused; });
    return any ? refusal::console_suspend_while_paused : refusal::none;
}

void ledger::shut_down(bool wait_for_servers, orders &out) {
    shutting_down_ = true;
    if (!wait_for_servers) return;
    refuse_waiters_ = true;
    paused_ = true;
    close_unused(nullptr, "pause mode", out);
    for (const auto &[id, seat] : clients_) {
        const bool own_coming = seat->linked != nullptr && seat->linked->where == server_place::opening;
        if (!seat->waiting && !seat->joining && !seat->wants_own && !own_coming) continue;
        out.push_back({.what = order::kind::refuse,
                       .worker = seat->worker,
                       .client = id,
                       .refused = refusal::server_shutting_down});
    }
}

// ---- one database, or all ----

void ledger::disable(const std::string &name, bool disabled) {
    count_of(name)->disabled = disabled;
}

void ledger::reconnect(const std::string &name, time_point now, orders &out) {
    const auto *const database = count_of(name);
    for (const auto &pool : pools_) {
        if (database != nullptr && pool->database != database) continue;
        pool->greeting = nullptr;  // the next login waits for a new server
        pool->failing = false;
    }
    for (const auto &[id, seat] : servers_) {
        if (!is_of(*seat, database) || seat->where == server_place::closing) continue;
        seat->close_needed = seat->at->outdated = true;
        // One that replicates would not be given back for as long as its client stays.
        const bool own = seat->own && seat->where == server_place::active;
        if (seat->where == server_place::idle || own) order_close(*seat, "database configuration changed", out);
    }
    for (const auto &pool : pools_) serve(*pool, now, out);
}

bool ledger::reconnected(const std::string &name) const {
    const auto found = databases_.find(name);
    const auto *const database = found == databases_.end() ? nullptr : found->second.get();
    if (!name.empty() && database == nullptr) return true;
    return std::none_of(servers_.begin(), servers_.end(),
                        [&](const auto &it) { return it.second->close_needed && is_of(*it.second, database); });
}

refusal ledger::kill(const std::string &name, orders &out) {
    if (paused_) return refusal::console_already_paused;
    auto *const database = count_of(name);
    (database != nullptr ? database->paused : paused_) = true;
    for (const auto &[id, seat] : clients_) {
        if (seat->console || seat->at == nullptr || (database != nullptr && seat->at->database != database)) continue;
        out.push_back(
            {.what = order::kind::refuse, .worker = seat->worker, .client = id, .refused = refusal::database_killed});
    }
    for (const auto &[id, seat] : servers_) {
        if (!is_of(*seat, database) || seat->where == server_place::closing) continue;
        seat->close_needed = true;
        if (seat->where == server_place::idle) {
            order_close(*seat, "database removed", out);
        } else {
            // Its driver tells us, after its client was told.
            out.push_back(
                {.what = order::kind::close, .worker = seat->worker, .server = id, .why = "database removed"});
        }
    }
    return refusal::none;
}

bool ledger::close_needed(base::server_id id) const {
    const auto found = servers_.find(id);
    return found != servers_.end() && found->second->close_needed;
}

bool ledger::kill_client(base::client_id id, orders &out) const {
    const auto found = clients_.find(id);
    if (found == clients_.end()) return false;
    out.push_back({.what = order::kind::refuse,
                   .worker = found->second->worker,
                   .client = id,
                   .refused = refusal::client_killed});
    return true;
}

// ---- the picture ----

console_view ledger::view(time_point now) const {
    console_view all;
    all.clients = clients_.size();
    all.logging_in = unauthenticated_count_;
    all.consoles = consoles_;
    all.servers = servers_.size();
    all.paused = paused_;
    for (const auto &[name, count] : databases_)
        all.databases[name] = {count->servers, count->clients, count->paused, count->disabled};
    for (const auto &[name, count] : users_) all.users[name] = {count->servers, count->clients, false, false};
    std::vector<std::size_t> row_of(pools_.size());
    all.database_of_pool.resize(pools_.size());
    for (const auto &[index, database] : unsettled_) all.database_of_pool[index] = database;
    for (const auto &[key, pool] : pool_by_name_) {  // in the order of the names
        all.database_of_pool[pool->index] = key.database;
        const bool same = !all.pools.empty() && all.pools.back().database == key.database &&
                          all.pools.back().user == key.user;  // those of auth_query
        if (!same) all.pools.push_back({.database = key.database, .user = key.user, .settings = pool->settings});
        row_of[pool->index] = all.pools.size() - 1;
        auto &row = all.pools.back();
        const int waiting = static_cast<int>(pool->waiting_count + pool->joining.size()) + pool->owner_count;
        row.clients_waiting += waiting;
        row.clients_active += pool->clients - waiting;
        auto since = now;
        if (const auto *first = first_asker(*pool, first_waiter(*pool))) since = first->waiting_since;
        if (!pool->joining.empty()) since = std::min(since, pool->joining.front().waiting_since);
        row.longest_wait = std::max(row.longest_wait, std::chrono::duration_cast<base::duration>(now - since));
    }
    for (const auto &[id, seat] : servers_) {
        auto &row = all.pools[row_of[seat->at->index]];
        switch (seat->where) {
            case server_place::opening:
                ++row.login;
                break;
            case server_place::idle:
                ++(needs_check(*seat, now) ? row.used : row.idle);
                break;
            case server_place::active:
                row.canceling += seat->canceling ? 1 : 0;
                if (seat->held_by_cancel) {
                    ++row.being_canceled;
                    break;
                }
                // Without a client: its reset query runs, or what a client left is ended.
                ++(seat->client != nullptr ? row.active : row.tested);
                break;
            case server_place::tested:
                ++row.tested;
                break;
            case server_place::closing:
                ++row.closing;
                break;
        }
    }
    all.peers = cancels_.peers();
    for (const auto &[from, it] : cancels_.all()) {
        const auto whom = clients_.find(it.whom);
        if (whom == clients_.end() || whom->second->at == nullptr) continue;
        auto &row = all.pools[row_of[whom->second->at->index]];
        ++(it.phase == cancel_phase::sent ? row.clients_canceling : row.clients_canceling_later);
    }
    return all;
}

// ---- SHOW WHY ----

/// What keeps the first in line of this pool waiting; for the others it is that, and those ahead of them.
wait_view ledger::reason_of(const pool_entry &pool, const client_seat &seat, time_point now) const {
    wait_view it;
    it.client = seat.id;
    it.worker = seat.worker;
    it.database = seat.route->database;
    it.user = seat.route->user;
    it.waits = std::chrono::duration_cast<base::duration>(now - seat.waiting_since);
    const auto &settings = *pool.settings;
    const auto full = [](int limit, int servers) { return limit > 0 && servers >= limit; };
    const auto because = [&](std::string_view limit, std::string reason) {
        it.limit = limit;
        it.reason = std::move(reason);
    };
    const auto all_in_use = [](int servers, std::string_view whose) {
        return "all " + std::to_string(servers) + " servers of " + std::string(whose) + " are in use";
    };
    if (paused(pool)) {
        because("PAUSE", "the database is paused: RESUME " + (paused_ ? std::string() : it.database + " ") + "ends it");
    } else if (pool.failing) {
        because("server_login_retry", "no server can be logged in to: " + pool.error.text());
    } else if (full(settings.pool_size, pool.total)) {
        because("pool_size", all_in_use(pool.total, "the pool"));
    } else if (full(settings.max_db_connections, pool.database->servers)) {
        because("max_db_connections", all_in_use(pool.database->servers, "the database"));
    } else if (full(settings.max_user_connections, pool.user->servers)) {
        because("max_user_connections", all_in_use(pool.user->servers, "the user"));
    } else if (!short_of_.empty()) {
        because("open files", "no connection to a server can be opened: " + short_of_);
    } else {
        because("", "a server is being opened or checked");
    }
    const server_seat *longest = nullptr;
    for (const auto &[id, server] : servers_) {
        if (server->client == nullptr || server->where != server_place::active) continue;
        const bool counts = it.limit == "max_db_connections"     ? server->at->database == pool.database
                            : it.limit == "max_user_connections" ? server->at->user == pool.user
                                                                 : server->at == &pool;
        if (counts && (longest == nullptr || server->granted_at < longest->granted_at)) longest = server.get();
    }
    if (longest == nullptr) return it;
    it.holder = longest->client->id;
    it.holder_worker = longest->client->worker;
    it.held = std::chrono::duration_cast<base::duration>(now - longest->granted_at);
    return it;
}

std::string ledger::why_waiting(const client_seat &seat, time_point now) const {
    if (seat.at == nullptr || !(seat.waiting || seat.joining || seat.wants_own)) return {};
    const auto it = reason_of(*seat.at, seat, now);
    auto text = ": " + it.reason;
    if (!it.limit.empty()) text += " (" + std::string(it.limit) + ")";
    if (!it.holder) return text;
    const auto found = clients_.find(it.holder);
    text += "; the longest, for " + config::seconds_text(std::chrono::round<base::milliseconds>(it.held)) +
            " s, by client " + std::to_string(it.holder.value);
    if (found != clients_.end()) text += " of user " + found->second->route->user;
    return text + " (SHOW WHY, SHOW CLIENTS)";
}

std::vector<wait_view> ledger::waits(base::client_id only, std::size_t most, time_point now) const {
    std::vector<wait_view> rows;
    for (const auto &pool : pools_) {
        std::vector<const client_seat *> line;
        for (const auto &list : pool->waiting)
            for (const auto &seat : list) line.push_back(&seat);
        for (const auto &seat : pool->joining) line.push_back(&seat);
        for (const auto &seat : pool->owners) line.push_back(&seat);
        if (line.empty()) continue;
        std::sort(line.begin(), line.end(), [](const auto *a, const auto *b) { return a->ticket < b->ticket; });
        const auto first = reason_of(*pool, *line.front(), now);
        for (std::size_t i = 0; i < line.size(); ++i) {
            if (only ? line[i]->id != only : i >= most) continue;
            auto row = first;
            row.client = line[i]->id;
            row.worker = line[i]->worker;
            row.user = line[i]->route->user;
            row.waits = std::chrono::duration_cast<base::duration>(now - line[i]->waiting_since);
            row.place = static_cast<int>(i) + 1;
            rows.push_back(std::move(row));
        }
    }
    return rows;
}

}  // namespace pgsluice::core
