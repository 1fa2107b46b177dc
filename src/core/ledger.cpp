// The ledger's view of clients: places, joining a pool, asking for servers, leaving.
#include "core/ledger.hpp"

#include <algorithm>

#include "base/seeded_bug.hpp"
#include "core/pool.hpp"

namespace pgsluice::core {

using base::time_point;

ledger::ledger(std::shared_ptr<const config::settings> settings, std::uint32_t workers)
    : settings_(std::move(settings)),
      workers_(workers),
      no_database_(std::make_unique<database_count>()),
      no_user_(std::make_unique<user_count>()) {
    orders none;
    cancels_.use(*settings_, none);
    make_forced_pools();
}

ledger::~ledger() {
    // Seats unhook themselves; the lists they are in must outlive them.
    unauthenticated_.clear();
    for (auto &it : pools_) {
        it->joining.clear();
        it->owners.clear();
        for (auto &list : it->waiting) list.clear();
    }
}

client_seat *ledger::connected(base::worker_index worker, void *owner, orders &out) {
    auto seat = std::make_unique<client_seat>();
    seat->id = {++last_id_};
    seat->worker = worker;
    seat->owner = owner;
    seat->late = shutting_down_;
    auto *const it = seat.get();
    clients_.emplace(it->id, std::move(seat));
    unauthenticated_.push_back(*it);
    const auto limit = static_cast<std::size_t>(settings_->global.max_unauthenticated_conn);
    if (++unauthenticated_count_ > limit && limit > 0) {
        end_login(unauthenticated_.front(), refusal::too_many_logins, out);
    }
    return it;
}

void ledger::end_login(client_seat &seat, refusal why, orders &out) {
    cease_to_log_in(seat);
    out.push_back({.what = order::kind::refuse, .worker = seat.worker, .client = seat.id, .refused = why});
}

/// It has logged in, or its place is another's.
void ledger::cease_to_log_in(client_seat &seat) {
    if (seat.at != nullptr || !seat.is_linked()) return;
    unauthenticated_.erase(unauthenticated_.iterator_to(seat));
    --unauthenticated_count_;
}

refusal ledger::admit(client_seat &seat, orders &out) {
    if (refuse_waiters_ || seat.late) return refusal::shutting_down;
    if (admitted_ >= static_cast<std::size_t>(settings_->global.max_client_conn)) {
        // Whoever only begins to log in must not keep out those who do: the oldest of them makes room.
        const auto oldest = std::find_if(unauthenticated_.begin(), unauthenticated_.end(),
                                         [](const client_seat &it) { return it.admitted; });
        if (oldest == unauthenticated_.end()) return refusal::too_many_clients;
        oldest->admitted = false;
        --admitted_;
        end_login(*oldest, refusal::too_many_clients, out);
    }
    seat.admitted = true;
    ++admitted_;
    return refusal::none;
}

void ledger::join_console(client_seat &seat) {
    cease_to_log_in(seat);
    seat.console = true;
    ++consoles_;
}

refusal ledger::check_client_limits(const client_seat &seat) const {
    const auto full = [](int limit, int count) { return limit > 0 && count >= limit; };
    const auto &limits = seat.route->limits;
    if (full(limits.max_db_client_connections, seat.database->clients)) return refusal::too_many_database_clients;
    if (full(limits.max_user_client_connections, seat.user->clients)) return refusal::too_many_user_clients;
    return refusal::none;
}

void ledger::learn_keys(const std::string &user, const auth::scram_keys &keys) {
    const auto credential = settings_->credentials.find(user);
    if (credential == settings_->credentials.end() || !credential->second.verifier) return;
    const auto &stored = credential->second.text;
    const auto learnt = pass_through_.find(user);
    if (learnt != pass_through_.end() && learnt->second.stored.equals(stored) &&
        learnt->second.keys.client_key.equals(keys.client_key))
        return;  // as the login before
    // One that began before a reload may have proved the secret that was then.
    if (auth::belongs_to(*credential->second.verifier, keys)) pass_through_[user] = {stored, keys};
}

ledger::joined ledger::join(client_seat &seat, const std::string &database, const std::string &user,
                            const shared_credential &found, const std::optional<auth::scram_keys> &keys, time_point now,
                            orders &out) {
    cease_to_log_in(seat);
    // What is refused to clients is not to our own look-ups: whom they look up is told, when the password was right.
    if (refuse_waiters_ || (seat.late && !seat.looks_up)) return {refusal::shutting_down, {}, {}, {}};
    // Its place is another's, and the order that says so is on its way.
    if (!seat.admitted && !seat.looks_up) return {refusal::too_many_clients, {}, {}, {}};
    const auto *entry = settings_->find_database(database);
    if (entry == nullptr) return {refusal::no_such_database, database, {}, {}};
    const auto known = databases_.find(database);
    if (known != databases_.end() && known->second->disabled && !seat.looks_up)
        return {refusal::database_disabled, database, {}, {}};
    if (settings_->global.auth_type == config::auth_type::any && !entry->user && !seat.looks_up)
        return {refusal::no_forced_user, {}, {}, {}};
    if (keys && !found) learn_keys(user, *keys);
    seat.route = route_of(*entry, {database, user, seat.looks_up && !base::seeded(base::bug::look_up_in_client_pool)});
    if (seat.replicates) seat.route = own_route(*seat.route, *seat.replicates);
    const auto count = [](auto &all, const std::string &name) {
        auto &it = all[name];
        if (!it) it = std::make_unique<typename std::decay_t<decltype(it)>::element_type>();
        return it.get();
    };
    seat.database = count(databases_, database);
    seat.user = count(users_, user);
    const auto &admins = settings_->global.admin_users;  // they are let in where others are too many
    const bool exempt = seat.looks_up || std::find(admins.begin(), admins.end(), user) != admins.end();
    const auto why = exempt ? refusal::none : check_client_limits(seat);
    if (why != refusal::none || seat.looks_up) {
        seat.database = nullptr;
        seat.user = nullptr;
        if (why != refusal::none) {
            drop_route(seat);
            drop_user(seat);
            return {why, {}, {}, {}};
        }
    } else {
        ++seat.database->clients;
        ++seat.user->clients;
    }
    seat.at = pools_[seat.route->pool].get();
    auto &pool = *seat.at;
    if (found && pool.settings->user == user && !pool.settings->forced_user) learn(pool, found, keys);
    ++pool.clients;
    seat.waiting_since = now;
    if (seat.replicates) {
        seat.ticket = pool.next_ticket++;
        want_own(seat);
        serve(pool, now, out);
        return {refusal::none, {}, {}, seat.route};
    }
    if (greeting_holds(pool, seat.worker, now, out)) return {refusal::none, {}, pool.greeting, seat.route};
    const bool too_early = pool.failing && now < pool.failed_at + pool.settings->server_login_retry;
    if (too_early && !pool.working() && !pool.asking) {
        if (!seat.looks_up) return {refusal::server_login_failing, pool.error.message, {}, {}, pool.error.detail};
        // It is told the error itself, which may mean that nobody is there.
        out.push_back({.what = order::kind::refuse_by_server,
                       .worker = seat.worker,
                       .client = seat.id,
                       .error = std::make_shared<const login_error>(pool.error)});
        return {refusal::none, {}, {}, seat.route};
    }
    seat.ticket = pool.next_ticket++;
    seat.joining = true;
    pool.joining.push_back(seat);
    serve(pool, now, out);
    return {refusal::none, {}, {}, seat.route};
}

/// PostgreSQL tells of a promotion with its answer to a query, and clients that look for a primary ask none of a
/// standby: before one is greeted as by a standby, a server that has been silent for a while is made to speak.
bool ledger::greeting_holds(pool_entry &pool, base::worker_index worker, time_point now, orders &out) {
    if (!pool.greeting) return false;
    if (!pool.greeting->of_standby() || paused(pool)) return true;
    if (!pool.joining.empty()) return false;  // for that very reason
    if (now < pool.greeted_at + standby_greeting_age) return true;
    pool.greeted_at = now;
    if (pool.live() == 0) {
        pool.greeting = nullptr;
        return false;
    }
    if (pool.idle_count == 0) return true;  // those at work speak
    auto *const server = pick_idle(pool, worker, now);
    order_check(*server, now, out);
    return false;
}

/// Those who came before the pool had a greeting, or while it was in doubt.
void ledger::welcome_joiners(pool_entry &pool, orders &out) {
    while (pool.greeting && !pool.joining.empty()) {
        auto &client = pool.joining.front();
        pool.joining.pop_front();
        client.joining = false;
        out.push_back(
            {.what = order::kind::welcome, .worker = client.worker, .client = client.id, .greeting = pool.greeting});
    }
}

void ledger::leave(client_seat &seat, orders &out) {
    cancels_.left(seat.id, out);
    cease_to_log_in(seat);
    if (seat.at != nullptr) {
        if (seat.waiting) dequeue(seat);
        if (seat.wants_own) cease_to_want_own(seat);
        if (seat.joining) seat.at->joining.erase(seat.at->joining.iterator_to(seat));
        // A server on its way to us will find nobody, and serve the next one. One of our own has no next one; the order
        // to open it may be on its way still, and then it is not opened.
        if (auto *const server = seat.linked; server != nullptr) {
            unlink(*server);
            if (server->own && server->where == server_place::opening) {
                server->close_needed = true;
                out.push_back({.what = order::kind::close,
                               .worker = server->worker,
                               .server = server->id,
                               .why = "replication client was closed"});
            }
        }
        --seat.at->clients;
        drop_route(seat);
    }
    if (seat.database != nullptr) --seat.database->clients;
    if (seat.user != nullptr && !base::seeded(base::bug::user_count_kept)) {
        --seat.user->clients;
        drop_user(seat);
    }
    if (seat.admitted) --admitted_;
    if (seat.console) --consoles_;
    drop_key(seat);
    clients_.erase(seat.id);
}

/// It has the route of its user no more. After a reload the last one may go before its client: then the next client
/// only gets a copy of its own.
void ledger::drop_route(const client_seat &seat) {
    const auto found = routes_.find({seat.route->database, seat.route->user, seat.looks_up});
    if (found != routes_.end() && --found->second.clients <= 0) routes_.erase(found);
}

/// A user who has no pool, since the database forces another one on its servers, is known for as long as it is there.
void ledger::drop_user(const client_seat &seat) {
    const auto found = users_.find(seat.route->user);
    if (found != users_.end() && found->second->clients == 0 && found->second->pools == 0) users_.erase(found);
}

// ---- the queue ----

void ledger::insert(client_queue &list, client_seat &seat) {
    // Nearly always at the end; one that lost the server promised to it takes up its old place.
    auto at = list.end();
    while (at != list.begin() && std::prev(at)->ticket > seat.ticket) --at;
    list.insert(at, seat);
}

void ledger::enqueue(pool_entry &pool, client_seat &seat) {
    insert(pool.waiting[seat.worker], seat);
    seat.waiting = true;
    ++pool.waiting_count;
}

void ledger::dequeue(client_seat &seat) {
    auto &list = seat.at->waiting[seat.worker];
    list.erase(list.iterator_to(seat));
    seat.waiting = false;
    --seat.at->waiting_count;
}

client_seat *ledger::first_waiter(const pool_entry &pool) const {
    const client_seat *first = nullptr;
    if (pool.waiting_count > 0) {
        for (const auto &list : pool.waiting) {
            if (!list.empty() && (first == nullptr || list.front().ticket < first->ticket)) first = &list.front();
        }
    }
    return const_cast<client_seat *>(first);
}

client_seat *ledger::next_waiter(const pool_entry &pool, base::worker_index worker) const {
    auto *const first = first_waiter(pool);
    if (first == nullptr || pool.waiting[worker].empty()) return first;
    const auto &own = pool.waiting[worker].front();
    return own.ticket - first->ticket <= locality_bound ? const_cast<client_seat *>(&own) : first;
}

/// True when it has been idle for so long that the server may have gone without a word.
bool ledger::needs_check(const server_seat &server, time_point now) {
    const auto &settings = *server.at->settings;
    return !settings.server_check_query.empty() && now >= server.idle_since + settings.server_check_delay;
}

/// The idle server for a client of `worker`: one of that worker if it can, and one that needs no check first if any
/// does not. Within a worker's list the last one used, so that a surplus grows old.
server_seat *ledger::pick_idle(const pool_entry &pool, base::worker_index worker, time_point now) const {
    const auto best_of = [&](const std::vector<server_seat *> &list) -> server_seat * {
        if (list.empty()) return nullptr;
        if (pool.settings->server_round_robin && !needs_check(*list.front(), now)) return list.front();
        return list.back();
    };
    auto *best = best_of(pool.idle[worker]);
    if (best != nullptr && !needs_check(*best, now)) return best;
    std::size_t most = 0;
    bool fresh = false;
    for (const auto &list : pool.idle) {
        auto *const other = best_of(list);
        if (other == nullptr) continue;
        const bool is_fresh = !needs_check(*other, now);
        const bool better = is_fresh != fresh ? is_fresh : list.size() > most && (fresh || pool.idle[worker].empty());
        if (!better) continue;
        best = other;
        fresh = is_fresh;
        most = list.size();
    }
    return best;
}

void ledger::grant(server_seat &server, client_seat &client, time_point now) {
    if (client.linked != nullptr) unlink(*client.linked);
    if (server.where == server_place::idle) from_idle(server);
    server.where = server_place::active;
    server.client = &client;
    server.used = true;
    server.granted_at = now;
    client.linked = &server;
}

void ledger::unlink(server_seat &server) {
    if (server.client == nullptr) return;
    server.client->linked = nullptr;
    server.client->promised = nullptr;
    server.client = nullptr;
}

void ledger::order_move(server_seat &server, client_seat &client, orders &out) {
    client.promised = &server;
    out.push_back({.what = order::kind::move,
                   .worker = server.worker,
                   .client = client.id,
                   .server = server.id,
                   .to = client.worker});
}

void ledger::order_check(server_seat &server, time_point now, orders &out) {
    server.granted_at = now;
    from_idle(server);
    server.where = server_place::tested;
    ++server.at->coming;
    out.push_back({.what = order::kind::check, .worker = server.worker, .server = server.id});
}

server_seat *ledger::want(client_seat &seat, time_point now, orders &out) {
    auto &pool = *seat.at;
    seat.ticket = pool.next_ticket++;
    seat.waiting_since = now;
    if (refuse_waiters_) {
        out.push_back({.what = order::kind::refuse,
                       .worker = seat.worker,
                       .client = seat.id,
                       .refused = refusal::server_shutting_down});
        return nullptr;
    }
    // An idle server while others wait can only be one that they can not have yet: then we wait too.
    auto *const server = paused(pool) || pool.waiting_count > 0 ? nullptr : pick_idle(pool, seat.worker, now);
    if (server == nullptr || needs_check(*server, now)) {
        enqueue(pool, seat);
        serve(pool, now, out);
        return nullptr;
    }
    grant(*server, seat, now);
    if (server->worker == seat.worker) return server;
    order_move(*server, seat, out);
    return nullptr;
}

void ledger::stop_wanting(client_seat &seat) {
    if (seat.waiting) dequeue(seat);
    if (seat.promised != nullptr) unlink(*seat.promised);
}

}  // namespace pgsluice::core
