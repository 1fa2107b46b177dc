// The ledger as a whole: pools come and change with the configuration, time passes, the pooler pauses and stops.
#include <algorithm>

#include "base/text.hpp"
#include "core/ledger.hpp"
#include "core/pool.hpp"

namespace pgsluice::core {

using base::time_point;

// ---- configuration ----

server_secret ledger::secret_of(const pool_entry &pool, const config::database &entry) const {
    server_secret secret;
    secret.user = pool.settings->user;
    if (entry.password) {
        secret.credential = auth::parse_secret(entry.password->reveal());
        return secret;
    }
    const auto it = settings_->credentials.find(secret.user);
    if (it != settings_->credentials.end()) secret.credential = it->second;
    return secret;
}

void ledger::configure(pool_entry &pool, const config::database &entry) {
    pool.secret = secret_of(pool, entry);
    // A user of the entry's without a password there or in auth_file: auth_query is asked when a server wants one.
    const bool lacks = pool.settings->forced_user && pool.secret.credential.text.empty();
    if (lacks && !pool.found) pool.found = std::make_shared<const auth::credential>();
}

namespace {

/// auth_user logs in as itself, also where the database forces a user on clients.
config::database for_look_ups(config::database entry) {
    entry.user.reset();
    entry.password.reset();
    entry.min_pool_size = 0;
    entry.pool_mode = config::pool_mode::transaction;
    return entry;
}

}  // namespace

pool_entry &ledger::pool_of(const config::database &configured, const pool_key &asked) {
    auto key = asked;
    if (!asked.looks_up && configured.user) key.user = *configured.user;
    if (const auto it = pool_by_name_.find(key); it != pool_by_name_.end()) return *it->second;
    const auto own = asked.looks_up ? for_look_ups(configured) : config::database();
    const auto &entry = asked.looks_up ? own : configured;
    auto fresh = std::make_unique<pool_entry>();
    fresh->looks_up = asked.looks_up;
    fresh->index = reusable_.empty() ? static_cast<pool_index>(pools_.size()) : reusable_.back();
    fresh->settings =
        std::make_shared<const config::pool_settings>(config::resolve_pool(*settings_, entry, key.database, key.user));
    fresh->idle.resize(workers_);
    fresh->waiting.resize(workers_);
    auto &count = databases_[key.database];
    if (!count) count = std::make_unique<database_count>();
    fresh->database = count.get();
    auto &users = users_[key.user];
    if (!users) users = std::make_unique<user_count>();
    fresh->user = users.get();
    ++fresh->database->pools;
    ++fresh->user->pools;
    configure(*fresh, entry);
    auto &it = *fresh;
    if (reusable_.empty()) {
        pools_.push_back(std::move(fresh));
    } else {
        pools_[reusable_.back()] = std::move(fresh);
        reusable_.pop_back();
    }
    pool_by_name_.emplace(key, &it);
    return it;
}

shared_route ledger::route_of(const config::database &entry, const pool_key &key) {
    auto &[known, clients] = routes_[key];
    ++clients;
    if (known) return known;
    auto &pool = pool_of(entry, key);
    auto fresh = std::make_shared<route>();
    fresh->pool = pool.index;
    fresh->database = key.database;
    fresh->user = key.user;
    fresh->settings = pool.settings;
    fresh->limits = config::resolve_client(*settings_, entry, key.user);
    fresh->query_wait_notify = settings_->global.query_wait_notify;
    fresh->client_login_timeout = settings_->global.client_login_timeout;
    fresh->max_packet_size = settings_->global.max_packet_size;
    known = std::move(fresh);
    return known;
}

/// As usual, but: a server of the client's own, started in the client's words and told nothing of ours, for as long as
/// the client stays; and no limit on how long what it asks for may take, which may be for ever.
shared_route ledger::own_route(const route &usual, const replication_start &start) {
    auto own = std::make_shared<route>(usual);
    own->replicates = start.kind;
    auto settings = std::make_shared<config::pool_settings>(*usual.settings);
    settings->pool_mode = config::pool_mode::session;
    settings->connect_query.clear();
    settings->server_reset_query.clear();
    settings->client_disconnect_action = config::disconnect_action::close;
    auto &sent = settings->startup_parameters;
    std::erase_if(sent, [&](const auto &ours) {
        return std::any_of(start.parameters.begin(), start.parameters.end(),
                           [&](const auto &theirs) { return base::equal_nocase(ours.first, theirs.first); });
    });
    sent.emplace_back("replication", start.kind == replication::logical ? "database" : "true");
    sent.insert(sent.end(), start.parameters.begin(), start.parameters.end());
    own->settings = std::move(settings);
    auto &limits = own->limits;
    limits.query_timeout = limits.idle_transaction_timeout = limits.transaction_timeout = base::duration::zero();
    return own;
}

void ledger::apply(std::shared_ptr<const config::settings> fresh, time_point now, orders &out) {
    // PAUSE and DISABLE were of the entry that goes, not of one that may come back under its name.
    for (const auto &[name, count] : databases_) {
        const bool gone = settings_->databases.contains(name) && !fresh->databases.contains(name);
        if (gone || fresh->find_database(name) == nullptr) count->paused = count->disabled = false;
    }
    settings_ = std::move(fresh);
    cancels_.use(*settings_, out);
    routes_.clear();
    for (const auto &[key, pool] : pool_by_name_) {
        const auto *entry = settings_->find_database(key.database);
        const auto adapted = entry != nullptr && key.looks_up ? for_look_ups(*entry) : config::database();
        if (entry != nullptr && key.looks_up) entry = &adapted;
        // A forced user that came, went or changed makes this pool nobody's; clients that are in it keep it.
        pool->removed = entry == nullptr;
        bool renew = pool->removed;
        if (entry != nullptr) {
            auto next = std::make_shared<const config::pool_settings>(
                config::resolve_pool(*settings_, *entry, key.database, key.user));
            const auto secret_before = pool->secret;
            renew = !next->same_connection(*pool->settings);
            pool->settings = std::move(next);
            configure(*pool, *entry);
            renew = renew || !pool->secret.credential.text.equals(secret_before.credential.text);
        }
        if (!renew) continue;
        pool->failing = pool->speaks_3_0 = false;
        pool->hosts.clear();
        pool->next_host = 0;
        pool->derived.reset();
        if (!pool->removed) pool->greeting = nullptr;
        for (const auto &[id, seat] : servers_) {
            if (seat->at != pool || seat->where == server_place::closing) continue;
            seat->close_needed = pool->outdated = true;
            // One that replicates would not be given back for as long as its client stays.
            const bool own = seat->own && seat->where == server_place::active && !pool->removed;
            if (seat->where != server_place::idle && !own) continue;
            order_close(*seat, pool->removed ? "database removed" : "database configuration changed", out);
        }
    }
    for (const auto &pool : pools_) {
        pool->inherited = pool->total;
        pool->database->inherited = pool->database->servers;
        pool->user->inherited = pool->user->servers;
    }
    make_forced_pools();
    for (const auto &[id, seat] : clients_) {
        if (seat->at == nullptr) continue;
        const auto *entry = settings_->find_database(seat->route->database);
        if (entry == nullptr) {
            out.push_back({.what = order::kind::refuse,
                           .worker = seat->worker,
                           .client = id,
                           .refused = refusal::database_removed});
            continue;
        }
        auto next =
            std::make_shared<route>(*route_of(*entry, {seat->route->database, seat->route->user, seat->looks_up}));
        next->pool = seat->at->index;  // for life: its servers know the client's parameters
        next->settings = seat->at->settings;
        seat->route = seat->replicates ? own_route(*next, *seat->replicates) : std::move(next);
        out.push_back({.what = order::kind::reroute, .worker = seat->worker, .client = id});
    }
    for (const auto &pool : pools_) serve(*pool, now, out);
}

/// A pool of a forced user keeps min_pool_size from the start, without waiting for its first client. Where there is
/// nothing to keep it comes with that client, as every other.
void ledger::make_forced_pools() {
    for (const auto &[name, entry] : settings_->databases) {
        const bool keeps = entry.min_pool_size.value_or(settings_->global.min_pool_size) > 0;
        if (entry.user && keeps) pool_of(entry, {name, *entry.user});
    }
}

// ---- time ----

void ledger::tick(time_point now, orders &out) {
    cancels_.tick(now, out);
    bool vacated = false;
    for (const auto &pool : pools_) {
        if (pool->vacant || (pool->quiet() && now < pool->next_look)) continue;
        const auto before = out.size();
        if (pool->total > 0 || pool->clients > 0 || pool->settings->forced_user) tick_pool(*pool, now, out);
        const bool at_rest = pool->quiet() && out.size() == before;
        pool->next_look = at_rest ? now + between_quiet_looks : now;
        if (in_use(*pool)) {
            pool->empty_since = base::never;
        } else {
            pool->vacant = unused_for_long(*pool, now);
            vacated = vacated || pool->vacant;
        }
    }
    if (vacated) forget_vacant();
}

// ---- pools that nobody uses ----

bool ledger::in_use(const pool_entry &pool) const {
    // A pool that keeps min_pool_size without clients is wanted, though no server can be had for now.
    const bool kept = pool.settings->forced_user && pool.settings->min_pool_size > 0 && !pool.removed;
    return pool.total > 0 || pool.clients > 0 || pool.evicting > 0 || pool.asking || kept || paused(pool) ||
           pool.database->disabled;
}

bool ledger::unused_for_long(pool_entry &pool, time_point now) const {
    // Whoever may not log in names databases as they like, and each would be kept.
    if (pool.looks_up && pool.settings->from_wildcard && pool.failing && pool.error.sqlstate == "3D000") return true;
    if (pool.empty_since == base::never) pool.empty_since = now;
    const auto &global = settings_->global;
    const auto limit = pool.settings->from_wildcard ? global.autodb_idle_timeout : global.pool_idle_timeout;
    return limit > base::duration::zero() && now >= pool.empty_since + limit;
}

/// Nobody knows them: what has an index or a pointer is a client, a server or a route, and there are none.
void ledger::forget_vacant() {
    auto *const no_database = no_database_.get();
    auto *const no_user = no_user_.get();
    std::erase_if(routes_, [&](const auto &it) { return pools_[it.second.it->pool]->vacant; });
    std::erase_if(pool_by_name_, [&](const auto &it) {
        const auto &[key, pool] = it;
        if (!pool->vacant) return false;
        forgotten_.push_back({pool->index, key.database});
        unsettled_.emplace(pool->index, key.database);
        --std::exchange(pool->database, no_database)->pools;
        --std::exchange(pool->user, no_user)->pools;
        pool->greeting = nullptr;
        pool->found = pool->doubted = nullptr;
        return true;
    });
    const auto of_nobody = [](const auto &it) { return it.second->pools == 0 && it.second->clients == 0; };
    std::erase_if(databases_,
                  [&](const auto &it) { return of_nobody(it) && !it.second->paused && !it.second->disabled; });
    std::erase_if(users_, of_nobody);
}

void ledger::reuse(pool_index index) {
    unsettled_.erase(index);
    reusable_.push_back(index);
}

/// server_fast_close: those that have to go are closed between two transactions, and their clients with them. Said
/// again and again, since a server may be on its way between two workers, or at work.
void ledger::end_sessions(pool_entry &pool, orders &out) {
    pool.outdated = false;
    for (const auto &[id, seat] : servers_) {
        if (seat->at != &pool || !seat->close_needed || seat->own || seat->client == nullptr) continue;
        if (seat->where != server_place::active) continue;
        pool.outdated = true;
        out.push_back({.what = order::kind::end_session,
                       .worker = seat->worker,
                       .server = id,
                       .refused = refusal::configuration_changed});
    }
}

void ledger::tick_pool(pool_entry &pool, time_point now, orders &out) {
    const auto &settings = *pool.settings;
    for (auto &list : pool.idle) {
        for (std::size_t i = 0; i < list.size();) {
            auto &seat = *list[i];
            std::string_view why;
            if (surplus(pool)) {
                why = "too many servers in the pool";
            } else if (settings.server_idle_timeout > base::duration::zero() &&
                       now >= seat.idle_since + settings.server_idle_timeout && pool.live() > settings.min_pool_size) {
                why = "server idle timeout";
            } else if (settings.server_lifetime > base::duration::zero() && lifetime_over(pool, seat, now)) {
                why = "server lifetime over";
            }
            if (why.empty()) {
                ++i;
                continue;
            }
            order_close(seat, why, out);
        }
    }
    serve(pool, now, out);
    if (pool.outdated && settings.server_fast_close && settings.pool_mode == config::pool_mode::session)
        end_sessions(pool, out);
    const bool keeps_minimum = settings.forced_user || pool.clients > 0;
    while (keeps_minimum && pool.total < settings.min_pool_size && may_open(pool, now) && under_limits(pool)) {
        open(pool, static_cast<base::worker_index>(static_cast<std::uint32_t>(pool.total) % workers_), nullptr, now,
             out);
    }
}

// ---- invariants ----

std::string ledger::check() const {
    // What is counted over pools, by the same fields of seats and pools.
    const auto counts = [&](const auto &count, auto of_client, auto of_pool) {
        int clients = 0, servers = 0, closing = 0;
        std::size_t idle = 0;
        for (const auto &[id, seat] : clients_) clients += (*seat).*of_client == &count ? 1 : 0;
        for (const auto &[id, seat] : servers_) {
            if ((*seat->at).*of_pool != &count) continue;
            ++servers;
            closing += seat->where == server_place::closing ? 1 : 0;
            idle += seat->where == server_place::idle ? 1 : 0;
        }
        return idle == count.idle.size() && clients == count.clients && servers == count.servers &&
               closing == count.closing;
    };
    for (const auto &[name, count] : databases_) {
        if (!counts(*count, &client_seat::database, &pool_entry::database)) return "a database's counts differ";
    }
    for (const auto &[name, count] : users_) {
        if (!counts(*count, &client_seat::user, &pool_entry::user)) return "a user's counts differ";
        if (count->clients == 0 && count->pools == 0) return "a user is remembered that nobody is";
    }
    for (const auto &it : routes_) {
        const auto has = [&key = it.first](const auto &client) {
            const auto &seat = *client.second;
            return seat.at != nullptr && seat.route->database == key.database && seat.route->user == key.user;
        };
        if (std::count_if(clients_.begin(), clients_.end(), has) < it.second.clients)
            return "a route is remembered that no client has";
    }
    std::unordered_map<std::string, int> by_name;
    for (const auto &[id, seat] : servers_) {
        if (!seat->name.empty()) ++by_name[seat->name];
    }
    if (by_name != servers_by_name_) return "servers by name are miscounted";
    std::size_t admitted = 0;
    for (const auto &[id, seat] : clients_) admitted += seat->admitted ? 1 : 0;
    if (admitted != admitted_) return "admitted clients are miscounted";
    for (const auto &pool : pools_) {
        int total = 0, idle = 0, coming = 0, closing = 0, opening = 0, owners = 0;
        for (const auto &[id, seat] : servers_) {
            if (seat->at != pool.get()) continue;
            ++total;
            idle += seat->where == server_place::idle ? 1 : 0;
            opening += seat->where == server_place::opening ? 1 : 0;
            closing += seat->where == server_place::closing ? 1 : 0;
            if (seat->client != nullptr && seat->client->linked != seat.get()) return "a server's client is not linked";
            const bool comes = seat->where == server_place::opening || seat->where == server_place::tested;
            coming += comes && !seat->own ? 1 : 0;
            if (seat->own && (seat->where == server_place::idle || seat->where == server_place::tested))
                return "a replication client's server is in the pool";
            if (seat->client != nullptr && seat->own != (seat->client->replicates != nullptr))
                return "a client and its server do not both replicate";
        }
        std::size_t waiting = 0;
        for (const auto &[id, seat] : clients_) waiting += seat->at == pool.get() && seat->waiting ? 1 : 0;
        for (const auto &[id, seat] : clients_) owners += seat->at == pool.get() && seat->wants_own ? 1 : 0;
        if (owners != pool->owner_count) return "owner count differs from clients that want a server of their own";
        if (total != pool->total) return "pool total differs from its servers";
        if (idle != pool->idle_count) return "idle count differs from idle servers";
        if (coming != pool->coming) return "coming differs from opening and tested servers";
        if (waiting != pool->waiting_count) return "waiting count differs from waiting clients";
        if (opening != pool->opening) return "opening count differs from opening servers";
        if (closing != pool->closing) return "closing count differs from closing servers";
        if (static_cast<int>(waiting) > coming && idle > 0 && !paused(*pool))
            return "a client waits beside an idle server";
        if (pool->removed) continue;  // what it knows of limits is from an old configuration
        const auto &settings = *pool->settings;
        const auto over = [](int limit, const auto &count, int servers) {
            return limit > 0 && servers > std::max(limit, count.inherited);
        };
        if (settings.pool_size > 0 && total > std::max<std::int64_t>(settings.most_servers(), pool->inherited))
            return "more servers than pool_size";
        if (over(settings.max_db_connections, *pool->database, pool->database->servers))
            return "more servers than max_db_connections";
        if (over(settings.max_user_connections, *pool->user, pool->user->servers))
            return "more servers than max_user_connections";
    }
    return {};
}

std::string ledger::check_ticked(time_point now) const {
    for (const auto &pool : pools_) {
        if (pool->waiting_count == 0 || pool->coming > 0 || pool->evicting > 0 || !may_open(*pool, now)) continue;
        const auto stuck = [&](int limit, const auto &count) {
            return limit > 0 && count.servers >= limit &&
                   std::none_of(count.idle.begin(), count.idle.end(),
                                [&](auto &seat) { return seat.at != pool.get(); });
        };
        const auto &settings = *pool->settings;
        if (!stuck(settings.max_db_connections, *pool->database) && !stuck(settings.max_user_connections, *pool->user))
            return "a client waits though idle servers could make room";
    }
    return {};
}

}  // namespace pgsluice::core
