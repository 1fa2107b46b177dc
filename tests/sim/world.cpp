// What happens next in the simulated world; see world.hpp.
#include "sim/world.hpp"

namespace pgsluice::sim {

namespace {

constexpr int databases = 4;

base::duration ms(int count) {
    return base::milliseconds(count);
}

}  // namespace

simulation::simulation(std::uint64_t seed) : dice_(seed), calm_(dice_.once_in(3)), crowded_(dice_.once_in(6)) {
    settings_ = make_settings();
    pooler_ = std::make_unique<pooler>(settings_, static_cast<std::uint32_t>(1 + dice_.pick(4)), dice_);
    players_wanted_ = crowded_ ? 150 : 4 + dice_.pick(std::size_t{24});
    next_tick_ = pooler_->now;
}

/// Small pools, tight limits, short times: each on or off by the dice.
std::shared_ptr<config::settings> simulation::make_settings() {
    auto all = std::make_shared<config::settings>();
    auto &global = all->global;
    const auto maybe = [&](int most) { return dice_.once_in(2) ? 1 + dice_.pick(most) : 0; };
    const auto maybe_ms = [&](int most) { return ms(dice_.once_in(2) ? 1 + dice_.pick(most) : 0); };
    global.auth_type = config::auth_type::trust;
    global.pool_mode = config::pool_mode::transaction;
    global.max_client_conn = dice_.once_in(4) ? 6 : 1000;
    global.default_pool_size = 1 + dice_.pick(5);
    global.min_pool_size = maybe(3);
    global.reserve_pool_size = maybe(2);
    global.reserve_pool_timeout = ms(200);
    global.max_db_connections = maybe(5);
    global.max_user_connections = maybe(7);
    global.max_db_client_connections = dice_.once_in(4) ? 5 : 0;
    global.max_user_client_connections = dice_.once_in(4) ? 7 : 0;
    global.server_round_robin = dice_.once_in(4);
    global.server_reset_query_always = dice_.once_in(5);
    global.server_check_delay = ms(dice_.once_in(2) ? dice_.pick(2000) : 30000);
    global.server_check_query = dice_.once_in(4) ? "" : "<empty>";
    global.server_lifetime = ms(dice_.once_in(4) ? 0 : dice_.once_in(2) ? 3000 : 3'600'000);
    global.server_idle_timeout = maybe_ms(5000);
    global.server_connect_timeout = ms(1000);
    global.server_login_retry = ms(300);
    global.client_login_timeout = ms(20000);
    global.client_idle_timeout = maybe_ms(30000);
    global.query_wait_timeout = ms(dice_.once_in(2) ? 500 + dice_.pick(5000) : 60000);
    global.query_timeout = dice_.once_in(3) ? ms(2000) : ms(0);
    global.idle_transaction_timeout = maybe_ms(5000);
    global.transaction_timeout = dice_.once_in(3) ? ms(5000) : ms(0);
    global.query_wait_notify = maybe_ms(1000);
    global.client_disconnect_action =
        dice_.once_in(3) ? config::disconnect_action::close : config::disconnect_action::cancel;
    if (calm_) {
        global.client_login_timeout = global.query_wait_timeout = global.query_timeout = ms(0);
        global.idle_transaction_timeout = global.transaction_timeout = ms(0);
    }
    if (crowded_) {
        global.max_client_conn = 1000;
        global.max_db_client_connections = global.max_user_client_connections = 0;
    }
    for (int i = 0; i < databases; ++i) {
        config::database entry;
        entry.name = "d" + std::to_string(i);
        entry.hosts = {"a", "b"};
        if (i == 1) entry.user = "owner";
        if (i == 2) entry.pool_mode = config::pool_mode::session;
        if (i == 3) entry.pool_mode = config::pool_mode::statement;
        if (dice_.once_in(2)) entry.pool_size = 1 + dice_.pick(4);
        if (crowded_ && i == 0) entry.pool_size = 2;
        all->databases.emplace(entry.name, entry);
    }
    for (const auto *name : {"u0", "u1", "u2"}) all->credentials.emplace(name, auth::parse_secret("secret"));
    return all;
}

// ---- what happens ----

client_driver *simulation::any_client() {
    if (std::exchange(pooler_->changed, false)) {
        clients_.clear();
        servers_.clear();
        for (const auto &[id, it] : pooler_->clients) clients_.push_back(it.get());
        for (const auto &[id, it] : pooler_->servers) servers_.push_back(it.get());
        // The same order in every run, whatever the addresses are.
        std::sort(clients_.begin(), clients_.end(),
                  [](auto *a, auto *b) { return a->session().id() < b->session().id(); });
        std::sort(servers_.begin(), servers_.end(), [](auto *a, auto *b) { return a->id() < b->id(); });
    }
    return clients_.empty() ? nullptr : clients_[dice_.pick(clients_.size())];
}

server_driver *simulation::any_server() {
    static_cast<void>(any_client());
    return servers_.empty() ? nullptr : servers_[dice_.pick(servers_.size())];
}

void simulation::step() {
    for (int tries = 0; tries < 64; ++tries) {
        if (happen()) break;
        if (tries == 16) pass_time();
    }
    ++steps_;
    look();
}

bool simulation::happen() {
    switch (dice_.pick(16)) {
        case 0:
        case 1:
        case 2:
            return client_event();
        case 3:
        case 4:
        case 5:
            return server_event();
        case 6:
        case 7:
        case 8:
            return player_event();
        case 9:
        case 10:
        case 11:
        case 12:
            return backend_event();
        case 13:
            return pooler_->deliver_message();
        case 14:
            dial();
            return dice_.once_in(3) && pooler_->deliver_cancel();
        default:
            if (dice_.once_in(12)) chaos();
            if (dice_.once_in(paused_databases_.empty() ? 400 : 20)) admin();
            if (dice_.once_in(4)) pass_time();
            return true;
    }
}

bool simulation::client_event() {
    auto *const it = any_client();
    if (it == nullptr) return false;
    const bool something = !it->link.from_peer.empty() || it->link.ended_by_peer || it->blocked();
    if (!something) return false;
    pooler_->on(it->worker(), [&] {
        if (it->blocked() && dice_.once_in(2)) return it->sendable();
        it->read(dice_.once_in(2) ? ~std::size_t{0} : 1 + dice_.pick(std::size_t{60}));
    });
    return true;
}

bool simulation::server_event() {
    auto *const it = any_server();
    if (it == nullptr || it->connecting() || !it->end->peer) return false;
    const bool something = !it->end->link.from_peer.empty() || it->end->link.ended_by_peer || it->blocked();
    if (!something) return false;
    pooler_->on(it->worker(), [&] {
        if (it->blocked() && dice_.once_in(2)) return it->sendable();
        it->read(dice_.once_in(2) ? ~std::size_t{0} : 1 + dice_.pick(std::size_t{200}));
    });
    return true;
}

bool simulation::player_event() {
    auto *const it = any_client();
    if (it == nullptr) return false;
    auto &link = it->link;
    if (!link.to_peer.empty()) {
        const auto bytes = take(link.to_peer, dice_.once_in(2) ? ~std::size_t{0} : 1 + dice_.pick(std::size_t{200}));
        if (link.ended_by_peer) return true;
        if (auto wrong = it->app.hear(bytes); !wrong.empty()) pooler_->fault = wrong;
        return true;
    }
    if (link.ended_by_us) {
        it->app.leave(false);
        forget_gone();
        return true;
    }
    const auto before = link.from_peer.size();
    it->app.act(closing_time_);
    return link.from_peer.size() != before || link.ended_by_peer;
}

bool simulation::backend_event() {
    auto *const it = any_server();
    if (it == nullptr || !it->end->peer) return false;
    auto &end = *it->end;
    if (!end.link.to_peer.empty() && dice_.once_in(2)) {
        const auto bytes =
            take(end.link.to_peer, dice_.once_in(2) ? ~std::size_t{0} : 1 + dice_.pick(std::size_t{100}));
        end.peer->receive(bytes);
        return true;
    }
    if (end.peer->disturbed()) pooler_->fault = "a replication client's server was told something of ours";
    if (end.link.ended_by_us && end.link.to_peer.empty()) {
        if (end.peer->ended()) return false;
        end.peer->hear_end();
        return true;
    }
    return end.peer->step();
}

/// Connections that are being opened come to be, or do not.
void simulation::dial() {
    if (pooler_->dialing.empty()) return;
    auto *const it = pooler_->dialing[dice_.pick(pooler_->dialing.size())];
    if (!closing_time_ && !calm_ && dice_.once_in(60)) return;  // until server_connect_timeout
    std::erase(pooler_->dialing, it);
    pooler_->on(it->worker(), [&] {
        using mood = backend::mood;
        if (!closing_time_ && dice_.once_in(30))
            return it->connect_failed({.sqlstate = "53000", .message = "no socket", .ours = true});
        if (!closing_time_ && !calm_ && dice_.once_in(20))
            return it->connect_failed({.sqlstate = "08006", .message = "connection refused"});
        constexpr mood moods[] = {mood::refuses, mood::starts_up, mood::closes_early, mood::full};
        const auto now = !closing_time_ && !calm_ && dice_.once_in(15) ? moods[dice_.pick(4)] : mood::good;
        it->end->peer = std::make_unique<backend>(it->end->link, dice_, now, next_pid_++);
        it->connected();
    });
}

void simulation::new_player() {
    const int database = crowded_ && !dice_.once_in(10) ? 0 : dice_.pick(databases);
    player::habits how;
    how.replicates = dice_.once_in(12);
    how.session_mode = database == 2 || how.replicates;
    how.statement_mode = database == 3 && !how.replicates;
    how.may_fail = !calm_;
    const auto name = "d" + std::to_string(dice_.once_in(60) ? 9 : database);
    pooler_->on(0, [&] { pooler_->connect(next_player_++, "u" + std::to_string(dice_.pick(3)), name, how); });
}

void simulation::chaos() {
    if (closing_time_) return;
    if (pooler_->clients.size() < players_wanted_) {
        for (int i = 0; i < (crowded_ ? 10 : 1); ++i) new_player();
        return;
    }
    const int usual = calm_ ? 20 : 4;
    if (!dice_.once_in(usual)) return;
    switch (dice_.pick(20)) {
        case 0:
        case 1:
        case 2:
        case 3:
            if (auto *const it = any_server(); it != nullptr && it->end->peer && !calm_)
                it->end->peer->die(dice_.once_in(2));
            return;
        case 4:
        case 5:
        case 6:
            if (auto *const it = any_client(); it != nullptr && !calm_) it->app.leave(dice_.once_in(2));
            return;
        case 7:
            if (!dice_.once_in(6)) return;
            settings_ = make_settings();
            if (dice_.once_in(5) && !calm_) settings_->databases.erase("d" + std::to_string(dice_.pick(databases)));
            return pooler_->reload(settings_);
        case 8:
            paused_ = !paused_;
            return pooler_->on(0, [&] {
                pooler_->with_ledger([&](core::ledger &it, core::orders &out) {
                    paused_ ? it.pause("", out) : it.resume("", pooler_->now, out);
                });
            });
        case 9:
            if (paused_) {
                paused_ = false;
                pooler_->on(0, [&] {
                    pooler_->with_ledger(
                        [&](core::ledger &it, core::orders &out) { it.resume("", pooler_->now, out); });
                });
            }
            return;
        default:
            if (auto *const it = any_client(); it != nullptr && it->app.welcomed() && !it->app.gone()) {
                it->app.note_cancel();
                pooler_->cancel_by_key(it->app.key_pid(), it->app.key_secret());
            }
    }
}

void simulation::resume(const std::string &database) {
    pooler_->on(0, [&] {
        pooler_->with_ledger([&](core::ledger &it, core::orders &out) { it.resume(database, pooler_->now, out); });
    });
    paused_databases_.erase(database);  // last: the name may be the one in there
}

/// What the console's commands come to. Those that end clients are for worlds where clients may be ended.
void simulation::admin() {
    if (closing_time_) return;
    ++commands_;
    if (!paused_databases_.empty() && !dice_.once_in(3)) return resume(*paused_databases_.begin());
    const auto name = "d" + std::to_string(dice_.pick(databases));
    const auto do_it = [&](auto use) { pooler_->on(0, [&] { pooler_->with_ledger(use); }); };
    switch (dice_.pick(calm_ ? 3 : 6)) {
        case 0:
            paused_databases_.insert(name);
            return do_it([&](core::ledger &it, core::orders &out) { it.pause(name, out); });
        case 1:
            return do_it([&](core::ledger &it, core::orders &out) { it.reconnect(name, pooler_->now, out); });
        case 2:
            return do_it([&](core::ledger &it, core::orders &out) { it.reconnect("", pooler_->now, out); });
        case 3:
            paused_databases_.insert(name);
            return do_it([&](core::ledger &it, core::orders &out) { it.kill(name, out); });
        case 4:
            return do_it([&](core::ledger &it, core::orders &) { it.disable(name, dice_.once_in(3)); });
        default:
            if (auto *const it = any_client(); it != nullptr)
                do_it([&](core::ledger &ledger, core::orders &out) { ledger.kill_client(it->session().id(), out); });
    }
}

void simulation::pass_time() {
    pooler_->now += dice_.once_in(200) ? ms(dice_.pick(3000)) : base::microseconds(dice_.pick(20'000));
    timers();
}

void simulation::timers() {
    if (pooler_->now >= next_tick_) {
        next_tick_ = pooler_->now + ms(100);
        pooler_->tick();
    }
    static_cast<void>(any_client());
    const auto clients = clients_;
    for (auto *const it : clients) {
        if (it->session().deadline() <= pooler_->now) pooler_->on(it->worker(), [&] { it->on_time(); });
    }
    static_cast<void>(any_client());
    for (std::size_t i = 0; i < servers_.size(); ++i) {
        auto *const it = servers_[i];
        pooler_->on(it->worker(), [&] { it->on_time(); });
        if (pooler_->changed) {
            static_cast<void>(any_client());
            i = 0;
        }
    }
    forget_gone();
}

void simulation::forget_gone() {
    static_cast<void>(any_client());
    for (auto *const it : clients_) {
        const bool heard_all = it->link.to_peer.empty() && it->link.ended_by_us;
        if (!it->gone() || (!heard_all && !it->link.ended_by_peer)) continue;
        answered_ += it->app.answered();
        pooler_->forget(*it);
    }
    pooler_->on(0, [] {});
}

// ---- what must hold ----

void simulation::look() {
    if (!std::exchange(pooler_->touched, false) || !pooler_->fault.empty()) return;
    if (auto wrong = pooler_->ledger.check(); !wrong.empty()) pooler_->fault = wrong;
    static_cast<void>(any_client());
    for (auto *const it : clients_) {
        const auto *const seat = it->seat();
        const auto *const server = it->server();
        if (server != nullptr && seat != nullptr && seat->linked != nullptr &&
            (seat->linked->own != it->session().replicates() || seat->linked->id != server->id()))
            pooler_->fault = "a client has a server of the wrong kind";
        if (it->gone() || it->session().state() != core::client_state::waiting) continue;
        if (!seat->waiting && seat->linked == nullptr) pooler_->fault = "a client waits that the ledger has forgotten";
    }
}

std::string simulation::run(std::uint64_t steps) {
    while (steps_ < steps && pooler_->fault.empty()) step();
    if (pooler_->fault.empty()) settle();
    return pooler_->fault;
}

/// Everybody finishes and leaves; nothing may be left over.
void simulation::settle() {
    closing_time_ = true;
    while (!paused_databases_.empty()) resume(std::string(*paused_databases_.begin()));
    pooler_->on(0, [&] {
        pooler_->with_ledger([&](core::ledger &it, core::orders &out) { it.resume("", pooler_->now, out); });
    });
    for (int i = 0; i < 400'000 && !pooler_->clients.empty() && pooler_->fault.empty(); ++i) {
        step();
        if (i % 64 == 0) forget_gone();
    }
    if (!pooler_->fault.empty()) return;
    if (!pooler_->clients.empty()) {
        pooler_->fault = "somebody never got an answer";
        return;
    }
    if (pooler_->ledger.clients() != 0) pooler_->fault = "clients are left in the ledger";
    auto none = std::make_shared<config::settings>(*settings_);
    none->databases.clear();
    pooler_->reload(none);
    for (int i = 0;
         i < 100'000 && pooler_->fault.empty() && (pooler_->ledger.servers() > 0 || !pooler_->servers.empty()); ++i)
        step();
    if (pooler_->ledger.servers() != 0) pooler_->fault = "servers are left in the ledger";
    // Every place is free again.
    const auto most = none->global.max_client_conn;
    for (int i = 0; i <= most && pooler_->fault.empty(); ++i) {
        core::orders ends;
        pooler_->ledger.admit(*pooler_->ledger.connected(0, nullptr, ends), ends);
        if (ends.empty() != (i < most)) pooler_->fault = "places under max_client_conn were lost";
    }
}

std::string simulation::describe() const {
    std::string all;
    for (const auto &[id, it] : pooler_->clients) {
        all += "  client " + std::to_string(id.value) + " " + it->app.describe() + " " +
               core::to_string(it->session().state()) +
               (it->server() != nullptr ? " with " + std::to_string(it->server()->id().value) : "") +
               (it->seat() != nullptr && it->seat()->waiting ? " waiting" : "") + (it->gone() ? " gone" : "") +
               (it->blocked() ? " blocked" : "") + " unread " + std::to_string(it->link.from_peer.size()) + "\n";
    }
    for (const auto &[id, it] : pooler_->servers) {
        all += "  server " + std::to_string(id.value) + " " + core::to_string(it->session().state()) + " owed " +
               std::to_string(it->session().owed().owed()) + (it->session().clean() ? " clean" : "") +
               (it->blocked() ? " blocked" : "") + (it->connecting() ? " connecting" : "") +
               (it->end->peer ? " " + it->end->peer->describe() : "") + "\n";
    }
    return all;
}

}  // namespace pgsluice::sim
