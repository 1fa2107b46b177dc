// The ledger's view of servers: opening under all limits at once, handing on, making room, closing.
#include <algorithm>
#include <array>

#include "base/seeded_bug.hpp"
#include "core/ledger.hpp"
#include "core/pool.hpp"
#include "wire/startup.hpp"

namespace pgsluice::core {

using base::time_point;

namespace {

/// Without a descriptor for a connection it is tried again after this time, for as long as somebody waits.
constexpr base::milliseconds pause_when_short{100};

}  // namespace

// ---- limits ----

bool ledger::under_limits(const pool_entry &pool) const {
    const auto room = [](int limit, int count) { return limit <= 0 || count < limit; };
    return room(pool.settings->max_db_connections, pool.database->servers) &&
           room(pool.settings->max_user_connections, pool.user->servers);
}

/// More than there may be: a reload has lowered a limit.
bool ledger::surplus(const pool_entry &pool) {
    const auto over = [](int limit, int count) { return limit > 0 && count > limit; };
    const auto &settings = *pool.settings;
    const auto &database = *pool.database;
    const auto &user = *pool.user;
    return (settings.pool_size > 0 && pool.live() > settings.most_servers()) ||
           over(settings.max_db_connections, database.servers - database.closing) ||
           over(settings.max_user_connections, user.servers - user.closing);
}

bool ledger::paused(const pool_entry &pool) const {
    return paused_ || pool.database->paused;
}

/// The pool's servers may log in now, as far as no limit forbids it.
bool ledger::may_log_in(const pool_entry &pool, time_point now) const {
    if (paused(pool) || refuse_waiters_ || pool.removed || pool.asking || now < short_until_) return false;
    // While logins succeed they go in parallel; after a failure one at a time, no sooner than server_login_retry.
    if (pool.failing && (pool.opening > 0 || now < pool.failed_at + pool.settings->server_login_retry)) return false;
    return pool.greeting || pool.opening == 0;
}

/// Under the pool's own limits, the reserve included when `oldest` has waited for long enough.
bool ledger::has_room(const pool_entry &pool, const client_seat *oldest, time_point now) {
    const auto &settings = *pool.settings;
    if (settings.pool_size <= 0 || pool.total < settings.pool_size) return true;
    return oldest != nullptr && settings.reserve_pool_timeout > base::duration::zero() &&
           pool.total < settings.most_servers() && now >= oldest->waiting_since + settings.reserve_pool_timeout;
}

bool ledger::may_open(const pool_entry &pool, time_point now) const {
    return may_log_in(pool, now) && has_room(pool, first_waiter(pool), now);
}

/// With an `owner`: for that client alone.
void ledger::open(pool_entry &pool, base::worker_index worker, client_seat *owner, time_point now, orders &out) {
    auto seat = std::make_unique<server_seat>();
    seat->id = {++last_id_};
    seat->worker = worker;
    seat->at = &pool;
    seat->opened_at = now;
    ++pool.total;
    ++pool.opening;
    pool.coming += owner == nullptr ? 1 : 0;
    ++pool.database->servers;
    ++pool.user->servers;
    auto connect = std::make_shared<order::connection>();
    connect->settings = pool.settings;
    if (owner != nullptr) {
        cease_to_want_own(*owner);
        seat->own = true;
        seat->client = owner;
        owner->linked = seat.get();
        connect->settings = owner->route->settings;
    }
    connect->secret = pool.secret;
    connect->secret.derived = pool.derived;
    if (pool.found && pool.secret.credential.text.empty()) {
        connect->secret.credential = *pool.found;
        connect->secret.keys = pool.found_keys;
        seat->with = pool.found;
    }
    const auto learnt = pass_through_.find(pool.secret.user);
    if (learnt != pass_through_.end() && learnt->second.stored.equals(connect->secret.credential.text)) {
        connect->secret.keys = learnt->second.keys;
    }
    seat->host = connect->host = choose_host(pool, now);
    const bool newest = pool.settings->server_protocol == config::protocol_version::v3_2 && !pool.speaks_3_0;
    connect->protocol = newest ? wire::protocol_3_2 : wire::protocol_3_0;
    out.push_back({.what = order::kind::open,
                   .worker = worker,
                   .server = seat->id,
                   .seat = seat.get(),
                   .connect = std::move(connect)});
    servers_.emplace(seat->id, std::move(seat));
}

void ledger::serve_from_idle(pool_entry &pool, time_point now, orders &out) {
    // Idle beside a waiter are only servers that need a check first; each one that passes serves the first waiter.
    while (!paused(pool) && pool.idle_count > 0 && pool.waiting_count > 0) {
        auto *const client = first_waiter(pool);
        auto *const server = pick_idle(pool, client->worker, now);
        if (needs_check(*server, now)) {
            if (static_cast<int>(pool.waiting_count) <= pool.coming) break;
            order_check(*server, now, out);
            continue;
        }
        dequeue(*client);
        grant(*server, *client, now);
        order_move(*server, *client, out);
    }
}

/// Of those who wait for one of the pool's servers and those who wait for one of their own, the one that asked first.
client_seat *ledger::first_asker(const pool_entry &pool, client_seat *waiter) {
    auto *const owner = pool.owners.empty() ? nullptr : const_cast<client_seat *>(&pool.owners.front());
    if (owner == nullptr || waiter == nullptr) return owner != nullptr ? owner : waiter;
    return owner->ticket < waiter->ticket ? owner : waiter;
}

void ledger::serve(pool_entry &pool, time_point now, orders &out) {
    serve_from_idle(pool, now, out);
    for (;;) {
        const int joiner = pool.joining.empty() ? 0 : 1;
        const int more = std::max(static_cast<int>(pool.waiting_count), joiner) - pool.coming;
        // What keeps the pool's servers from logging in does not concern those of replication: they ask for other
        // things.
        const bool shared = more > 0 && may_log_in(pool, now);
        const bool owned =
            pool.owner_count > 0 && !paused(pool) && !refuse_waiters_ && !pool.removed && now >= short_until_;
        if ((shared ? more : 0) + (owned ? pool.owner_count : 0) <= pool.evicting) return;
        auto *client = shared ? first_waiter(pool) : nullptr;
        if (shared && client == nullptr) client = &pool.joining.front();
        if (owned) client = first_asker(pool, client);
        auto *const owner = client->wants_own ? client : nullptr;
        const bool room = has_room(pool, client->joining ? nullptr : client, now);
        if (!room || !under_limits(pool)) {
            if (room || owner != nullptr) evict_for(pool, owner, now, out);
            return;
        }
        open(pool, client->worker, owner, now, out);  // where it is wanted
        if (pool.settings->pool_size > 0 && pool.total > pool.settings->pool_size) out.back().client = client->id;
    }
}

/// A replication client asked before all others, and there is no slot for it, nor one that is about to be free.
bool ledger::owner_needs_room(const pool_entry &pool, time_point now) const {
    if (pool.owner_count <= pool.evicting) return false;
    const auto *const first = first_asker(pool, first_waiter(pool));
    return first->wants_own && !(has_room(pool, first, now) && under_limits(pool));
}

void ledger::evict(server_seat &victim, pool_entry &for_pool) {
    victim.evicted_for = &for_pool;
    ++for_pool.evicting;
}

server_seat *ledger::longest_idle(const pool_entry &pool) {
    server_seat *found = nullptr;
    for (const auto &list : pool.idle)
        if (!list.empty() && (found == nullptr || list.front()->idle_since < found->idle_since)) found = list.front();
    return found;
}

/// The longest idle servers of other pools go so that we may open one: of the same database or user where that limit
/// binds, one of each where both do. For a server of a client's own one of this pool may go as well, and must when the
/// pool is full. Nothing goes that would not make room.
void ledger::evict_for(pool_entry &pool, const client_seat *owner, time_point now, orders &out) {
    const auto binds = [](int limit, int servers) { return limit > 0 && servers >= limit; };
    const auto oldest_of = [&](auto &idle) -> server_seat * {
        for (auto &seat : idle)
            if (seat.at != &pool || owner != nullptr) return &seat;
        return nullptr;
    };
    const bool database_binds = binds(pool.settings->max_db_connections, pool.database->servers);
    const bool user_binds = binds(pool.settings->max_user_connections, pool.user->servers);
    const bool full = owner != nullptr && !has_room(pool, owner, now);
    server_seat *victim = nullptr, *second = nullptr;
    if (full || (owner != nullptr && database_binds && user_binds)) victim = longest_idle(pool);
    if (victim == nullptr && !full) {
        if (database_binds) victim = oldest_of(pool.database->idle);
        if (user_binds) second = oldest_of(pool.user->idle);
        if ((database_binds && victim == nullptr) || (user_binds && second == nullptr)) return;
        if (victim == nullptr) std::swap(victim, second);
    }
    if (victim == nullptr) return;
    evict(*victim, pool);
    order_close(*victim, "evicted", out);
    if (second == nullptr) return;
    victim->evicted_with = second;
    second->evicted_with = victim;
    order_close(*second, "evicted", out);
}

// ---- coming ----

void ledger::opened(server_seat &seat, const shared_welcome &greeting,
                    const std::optional<auth::scram_derived> &derived, time_point now, orders &out) {
    auto &pool = *seat.at;
    short_of_.clear();
    --pool.opening;
    pool.coming -= seat.own ? 0 : 1;
    seat.opened_at = now;
    seat.idle_since = now;
    seat.where = server_place::active;  // until give_back() decides
    if (seat.close_needed) return;      // opened under a configuration that is gone: its words do not count
    if (derived) pool.derived = derived;
    pool.doubted = nullptr;
    if (seat.host < pool.hosts.size()) pool.hosts[seat.host].worked();
    if (seat.own) return;  // what its client asked for is no other's
    pool.failing = false;
    // Where nothing changed the old one stays: clients and servers that share a set are known for equal at a look.
    const bool same = pool.greeting && *pool.greeting == *greeting;
    if (!same) pool.greeting = greeting;
    pool.greeted_at = now;
    welcome_joiners(pool, out);
}

void ledger::renew_greeting(const server_seat &seat, shared_welcome greeting) {
    if (!seat.close_needed && !seat.own && seat.at->greeting) seat.at->greeting = std::move(greeting);
}

void ledger::open_failed(server_seat &seat, const login_error &error, time_point now, orders &out) {
    auto &pool = *seat.at;
    short_of_ = error.ours ? error.text() : "";
    if (error.ours) short_until_ = now + pause_when_short;
    const bool other_words = error.protocol_refused && !pool.speaks_3_0;
    if (!seat.close_needed) pool.speaks_3_0 = pool.speaks_3_0 || error.protocol_refused;
    if (seat.own) return own_open_failed(seat, error, error.ours || (other_words && error.from_server), now, out);
    start_closing(seat);
    if (seat.close_needed || error.ours) return;
    if (other_words && error.from_server) return serve(pool, now, out);  // it is there, and is asked again at once
    pool.error = error;
    if (try_other_host(seat, error, now)) return serve(pool, now, out);
    pool.failing = true;
    pool.failed_at = now;
    if (pool.derived && error.sqlstate == "28P01") pool.derived.reset();
    const bool lacks_secret = seat.with && seat.with->text.empty() && error.sqlstate == "28P01";
    if (seat.with && (error.refuses_secret() || lacks_secret)) {
        // Another secret was found while this one was on its way: that one is tried at once.
        const bool outdated = pool.found && !pool.found->text.equals(seat.with->text);
        if (outdated) pool.failing = false;
        if (outdated) return serve(pool, now, out);
        if (ask_anew(seat, out)) return;
    }
    // Nobody should have to wait for auth_query, though: it is not the server that its client asked for.
    const bool looks_up = !pool.joining.empty() && pool.joining.front().looks_up;
    if (pool.working() || (!looks_up && !error.final())) return;
    refuse_joiners(pool, out);
}

/// By what the latest login met.
void ledger::refuse_joiners(pool_entry &pool, orders &out) {
    const auto shared = std::make_shared<const login_error>(pool.error);
    while (!pool.joining.empty()) {
        auto &client = pool.joining.front();
        pool.joining.pop_front();
        client.joining = false;
        out.push_back(
            {.what = order::kind::refuse_by_server, .worker = client.worker, .client = client.id, .error = shared});
    }
}

// ---- a server of a client's own ----

void ledger::want_own(client_seat &seat) {
    insert(seat.at->owners, seat);
    seat.wants_own = true;
    ++seat.at->owner_count;
}

void ledger::cease_to_want_own(client_seat &seat) {
    seat.at->owners.erase(seat.at->owners.iterator_to(seat));
    seat.wants_own = false;
    --seat.at->owner_count;
}

/// Its client hears why, as it would from the server itself, and comes again when it likes: for the pool it means
/// nothing.
void ledger::own_open_failed(server_seat &seat, const login_error &error, bool again, time_point now, orders &out) {
    auto &pool = *seat.at;
    auto *const client = seat.client;
    again = again || seat.close_needed || try_other_host(seat, error, now);
    start_closing(seat);
    if (client == nullptr) return;
    if (pool.derived && error.sqlstate == "28P01") pool.derived.reset();
    if (again) {
        want_own(*client);
        return serve(pool, now, out);
    }
    out.push_back({.what = order::kind::refuse_by_server,
                   .worker = client->worker,
                   .client = client->id,
                   .error = std::make_shared<const login_error>(error)});
}

/// It has logged in, or its client has left it.
handing_on ledger::to_owner(server_seat &seat) {
    auto *const client = seat.client;
    const bool fresh = !std::exchange(seat.used, true);
    const bool outdated = seat.close_needed || paused(*seat.at);
    if (fresh && client != nullptr && !outdated) return {.next = handing_on::step::grant, .client = client};
    start_closing(seat);
    if (fresh && client != nullptr) want_own(*client);  // another one is opened for it
    return {.next = handing_on::step::close, .why = outdated ? "close_needed" : "replication client was closed"};
}

// ---- handing on ----

void ledger::to_idle(server_seat &seat, time_point now) {
    seat.where = server_place::idle;
    seat.idle_since = now;
    seat.at->idle[seat.worker].push_back(&seat);
    seat.at->database->idle.push_back(seat);
    seat.at->user->idle.push_back(seat);
    ++seat.at->idle_count;
}

void ledger::from_idle(server_seat &seat) {
    auto &list = seat.at->idle[seat.worker];
    const auto at = list.back() == &seat ? std::prev(list.end()) : std::find(list.begin(), list.end(), &seat);
    list.erase(at);
    auto &of_database = seat.at->database->idle;
    of_database.erase(of_database.iterator_to(seat));
    auto &of_user = seat.at->user->idle;
    of_user.erase(of_user.iterator_to(seat));
    --seat.at->idle_count;
}

bool ledger::lifetime_over(pool_entry &pool, const server_seat &seat, time_point now) {
    const auto lifetime = pool.settings->server_lifetime;
    if (lifetime <= base::duration::zero()) return true;  // used once
    if (now < seat.opened_at + lifetime) return false;
    // One after the other over the lifetime, so that a pool opened in one go does not end in one go.
    const auto spacing = lifetime / std::max(1, pool.settings->pool_size);
    if (pool.last_lifetime_close != time_point::min() && now < pool.last_lifetime_close + spacing) return false;
    pool.last_lifetime_close = now;
    return true;
}

handing_on ledger::give_back(server_seat &seat, time_point now, orders &out) {
    auto &pool = *seat.at;
    if (seat.own && seat.where == server_place::active) return to_owner(seat);
    welcome_joiners(pool, out);
    const bool was_used = std::exchange(seat.used, false);
    unlink(seat);
    const auto close = [&](std::string_view why) {
        start_closing(seat);
        return handing_on{.next = handing_on::step::close, .why = why};
    };
    // Given back by nobody: a contradiction ends this server, and nothing else.
    if (seat.where == server_place::idle || seat.where == server_place::closing) return close("internal error");
    if (seat.close_needed) return close(pool.removed ? "database removed" : "close_needed");
    if (was_used && lifetime_over(pool, seat, now)) return close("server lifetime over");
    if (paused(pool)) return close("pause mode");
    if (surplus(pool)) return close("too many servers in the pool");
    if (pool.owner_count > 0 && owner_needs_room(pool, now)) {
        evict(seat, pool);
        return close("evicted");
    }
    if (seat.where == server_place::tested) --pool.coming;
    seat.where = server_place::active;
    auto *const client = next_waiter(pool, seat.worker);
    if (client == nullptr) {
        to_idle(seat, now);
        return {};
    }
    dequeue(*client);
    grant(seat, *client, now);
    if (client->worker == seat.worker) return {.next = handing_on::step::grant, .client = client};
    client->promised = &seat;
    return {.next = handing_on::step::move, .to = client->worker, .for_client = client->id};
}

handing_on ledger::arrived(server_seat &seat, base::worker_index to, void *owner, base::client_id for_client,
                           time_point now, orders &out) {
    seat.worker = to;
    seat.owner = owner;
    auto *const client = seat.client;
    if (client == nullptr && base::seeded(base::bug::lost_wakeup)) return to_idle(seat, now), handing_on{};
    if (client == nullptr || client->id != for_client) return give_back(seat, now, out);
    client->promised = nullptr;
    return {.next = handing_on::step::grant, .client = client};
}

// ---- going ----

void ledger::start_closing(server_seat &seat) {
    if (seat.where == server_place::closing) return;
    auto &pool = *seat.at;
    if (seat.where == server_place::idle) from_idle(seat);
    if (seat.where == server_place::opening) --pool.opening;
    const bool coming = seat.where == server_place::opening || seat.where == server_place::tested;
    if (coming && !seat.own) --pool.coming;
    seat.where = server_place::closing;
    ++pool.closing;
    ++pool.database->closing;
    ++pool.user->closing;
    unlink(seat);
}

void ledger::order_close(server_seat &seat, std::string_view why, orders &out) {
    start_closing(seat);
    out.push_back({.what = order::kind::close, .worker = seat.worker, .server = seat.id, .why = why});
}

/// Its check had no answer for so long that the connection must be dead.
bool ledger::was_silent(const server_seat &seat, time_point now) {
    const auto limit = seat.at->settings->server_connect_timeout;
    return seat.where == server_place::tested && limit > base::duration::zero() && now >= seat.granted_at + limit / 2;
}

/// Where one was silent, so are those to the same host that have been idle for as long, most likely: each would have a
/// waiter wait for its check in vain.
void ledger::close_likely_dead(pool_entry &pool, std::size_t host, time_point now, orders &out) {
    for (auto &list : pool.idle) {
        const auto all = list;
        for (auto *const it : all)
            if (it->host == host && needs_check(*it, now)) order_close(*it, "test query timeout of another", out);
    }
}

void ledger::closing(server_seat &seat, time_point now, orders &out) {
    auto &pool = *seat.at;
    auto *const client = seat.client;
    const bool never_arrived = client != nullptr && client->promised == &seat;
    const bool silent = was_silent(seat, now);
    start_closing(seat);
    if (silent) close_likely_dead(pool, seat.host, now, out);
    if (never_arrived) enqueue(pool, *client);
    serve(pool, now, out);
}

void ledger::closed(server_seat &seat, time_point now, orders &out) {
    if (seat.where != server_place::closing) closing(seat, now, out);
    auto *const other = seat.evicted_with;
    if (other != nullptr && !other->ended) {  // a slot of one limit alone would go to whoever asks next
        seat.ended = true;
        return;
    }
    auto *const gets_room = other != nullptr && other->evicted_for != nullptr ? other->evicted_for : seat.evicted_for;
    const std::array<pool_entry *, 2> freed{seat.at, other != nullptr ? other->at : nullptr};
    free_slot(seat);
    if (other != nullptr) free_slot(*other);
    if (gets_room != nullptr) serve(*gets_room, now, out);
    for (auto *const pool : freed) {
        if (pool == nullptr) continue;
        serve(*pool, now, out);
        retry_others(*pool, now, out);
    }
}

void ledger::free_slot(server_seat &seat) {
    const auto gone = [](auto &count, int &servers) {
        --count.closing;
        count.inherited = std::min(count.inherited, --servers);
    };
    gone(*seat.at, seat.at->total);
    gone(*seat.at->database, seat.at->database->servers);
    gone(*seat.at->user, seat.at->user->servers);
    if (seat.evicted_for != nullptr) --seat.evicted_for->evicting;
    lead_nowhere(seat);
    servers_.erase(seat.id);
}

/// A slot under max_db_connections or max_user_connections is free: the pool whose client waits longest goes first.
void ledger::retry_others(const pool_entry &freed, time_point now, orders &out) {
    if (freed.settings->max_db_connections <= 0 && freed.settings->max_user_connections <= 0) return;
    std::vector<pool_entry *> blocked;
    for (const auto &other : pools_) {
        const bool related = other->database == freed.database || other->user == freed.user;
        const bool wanted = other->waiting_count > 0 || other->owner_count > 0 || !other->joining.empty();
        if (related && other.get() != &freed && wanted) blocked.push_back(other.get());
    }
    const auto since = [&](const pool_entry *it) {
        const auto *first = first_asker(*it, first_waiter(*it));
        return first != nullptr ? first->waiting_since : it->joining.front().waiting_since;
    };
    std::sort(blocked.begin(), blocked.end(),
              [&](const pool_entry *a, const pool_entry *b) { return since(a) < since(b); });
    for (auto *other : blocked) serve(*other, now, out);
}

}  // namespace pgsluice::core
