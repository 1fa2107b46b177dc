// The simulated driver; see pooler.hpp. Each function mirrors the one of the same name in src/net.
#include "sim/pooler.hpp"

namespace pgsluice::sim {

using core::client_next;
using core::server_next;

// ---- sending ----

void sender::send(const core::outbox &box) {
    for (std::size_t i = 0; i < box.pieces(); ++i) {
        auto piece = box.piece(i);
        if (unsent_.empty()) piece.remove_prefix(wire_->send(piece));
        unsent_ += piece;
    }
}

bool sender::flush() {
    unsent_.erase(0, wire_->send(unsent_));
    return unsent_.empty();
}

// ---- a client ----

client_driver::client_driver(pooler &owner, base::worker_index worker, int number, std::string user,
                             std::string database, player::habits how)
    : app(link, owner.luck, number, std::move(user), std::move(database), how),
      pooler_(owner),
      worker_(worker),
      out_(link),
      seat_(owner.with_ledger(
          [&](core::ledger &ledger, core::orders &orders) { return ledger.connected(worker, this, orders); })),
      session_(seat_->id, owner.env, owner.now) {}

void client_driver::read(std::size_t most) {
    if (link.from_peer.empty()) {
        if (link.ended_by_peer) close(core::parting::vanished);
        return;
    }
    auto bytes = sim::take(link.from_peer, most);
    if (gone_) return;
    in_ += bytes;
    pump();
}

void client_driver::pump() {
    if (!gone_ && !blocked() && (server_ == nullptr || !server_->blocked())) feed(nullptr);
}

void client_driver::feed(server_driver *granted) {
    core::effects fx;
    std::size_t used = 0;
    bool go_on = true;
    const std::string bytes = in_;  // views must not outlive it; poisoned below
    if (granted != nullptr) go_on = joined(*granted, fx);
    while (go_on) {
        fx.client = client_next::none;
        used += session_.on_bytes(std::string_view(bytes).substr(used), pooler_.now, fx);
        go_on = step(fx);
    }
    const auto next = fx.client;
    if (server_ != nullptr && !server_->deliver(fx)) return;
    if (!deliver(fx)) return;
    in_.erase(0, used);
    if (next == client_next::close)
        return close(fx.why == core::client_left ? core::parting::vanished : core::parting::ended);
    if (server_ != nullptr && !server_->blocked() && server_->session().releasable()) server_->release();
}

bool client_driver::step(core::effects &fx) {
    switch (fx.client) {
        case client_next::resume:
            return true;
        case client_next::admit:
            return admit(fx);
        case client_next::join:
            return join(fx);
        case client_next::want:
            return want(fx);
        default:
            return false;
    }
}

bool client_driver::admit(core::effects &fx) {
    const auto why =
        pooler_.with_ledger([&](core::ledger &ledger, core::orders &orders) { return ledger.admit(*seat_, orders); });
    fx.client = client_next::none;
    if (why == core::refusal::none) {
        session_.on_admitted(fx);
        if (fx.client == client_next::join) return join(fx);
    } else {
        ++pooler_.refusals;
        session_.on_refused(why, {}, fx);
    }
    return false;
}

bool client_driver::join(core::effects &fx) {
    const auto &login = *session_.login();
    seat_->replicates = login.replicates();
    const auto outcome = pooler_.with_ledger([&](core::ledger &ledger, core::orders &orders) {
        return ledger.join(*seat_, login.database(), login.user(), login.found(), login.keys(), pooler_.now, orders);
    });
    fx.client = client_next::none;
    if (outcome.why != core::refusal::none) {
        ++pooler_.refusals;
        session_.on_refused(outcome.why, outcome.argument, fx);
        return false;
    }
    session_.on_joined(seat_->route, pooler_.now);
    if (!outcome.greeting) return false;
    greet(*outcome.greeting, fx);
    return true;
}

void client_driver::greet(const core::welcome &greeting, core::effects &fx) {
    core::cancel_key key;
    do {
        key = {static_cast<std::uint32_t>(1 + pooler_.luck.pick(1000)),
               pooler_.bytes(session_.login()->cancel_key_bytes())};
    } while (!pooler_.with_ledger([&](core::ledger &ledger, core::orders &) { return ledger.give_key(*seat_, key); }));
    session_.on_welcome(greeting, key, pooler_.now, fx);
}

bool client_driver::want(core::effects &fx) {
    auto *const seat = pooler_.with_ledger([&](core::ledger &ledger, core::orders &orders) {
        auto *const server = ledger.want(*seat_, pooler_.now, orders);
        pooler_.note_want(*seat_);
        return server;
    });
    fx.client = client_next::none;
    if (seat == nullptr) return false;
    return joined(*static_cast<server_driver *>(seat->owner), fx);
}

bool client_driver::joined(server_driver &it, core::effects &fx) {
    ++pooler_.grants;
    if (it.worker() != worker_) pooler_.fault = "granted a server of another worker";
    const auto &peer = *it.end->peer;
    if (!it.session().owed().settled() || it.session().state() != core::server_state::idle ||
        (!peer.ended() && (!peer.at_rest() || peer.status() != 'I')))
        pooler_.fault = "granted a server that is not clean";
    server_ = &it;
    it.link_to(*this);
    if (session_.state() == core::client_state::joining) {
        ++pooler_.own_servers;
        greet(*it.session().greeting(), fx);
    }
    session_.on_granted(it.session(), pooler_.now, fx);
    return fx.client == client_next::resume;
}

void client_driver::take(server_driver &it) {
    feed(&it);
}

void client_driver::let_go() {
    server_ = nullptr;
    session_.on_released(pooler_.now);
}

void client_driver::cancel(std::function<void()> done) {
    core::effects fx;
    std::size_t taken = 0;
    if (session_.on_cancel_unsent(in_, taken, pooler_.now, fx)) {
        pooler_.with_ledger([&](core::ledger &ledger, core::orders &) { ledger.stop_wanting(*seat_); });
        done();
        if (!deliver(fx)) return;
        in_.erase(0, taken);
        return pump();
    }
    server_ == nullptr ? done() : server_->cancel(std::move(done));
}

void client_driver::welcome(const core::welcome &greeting) {
    if (gone_ || session_.state() != core::client_state::joining) return;
    core::effects fx;
    greet(greeting, fx);
    if (deliver(fx)) pump();
}

void client_driver::refuse(core::refusal why, std::string_view argument) {
    if (gone_) return;
    core::effects fx;
    session_.on_refused(why, argument, fx);
    deliver(fx);
    close();
}

void client_driver::refuse_by_server(const core::login_error &error) {
    if (gone_) return;
    core::effects fx;
    session_.on_server_refused(error, fx);
    deliver(fx);
    close();
}

void client_driver::server_lost(bool told) {
    server_ = nullptr;
    if (gone_) return;
    core::effects fx;
    session_.on_server_lost(told, fx);
    deliver(fx);
    if (fx.client == client_next::close) close();
}

void client_driver::end_with_server() {
    server_ = nullptr;
    close();
}

void client_driver::on_time() {
    if (gone_ || pooler_.now < session_.deadline()) return;
    core::effects fx;
    session_.on_deadline(pooler_.now, fx);
    if (!deliver(fx)) return;
    if (fx.client == client_next::close) return close();
    if (session_.deadline() <= pooler_.now) pooler_.fault = "a deadline that passed stays due";
}

bool client_driver::deliver(const core::effects &fx) {
    if (link.ended_by_us) return false;
    if (fx.to_client.empty()) return true;
    if (link.reset) {
        close(core::parting::vanished);
        return false;
    }
    out_.send(fx.to_client);
    return true;
}

void client_driver::sendable() {
    if (out_.unsent_bytes() == 0 || !link.has_room()) return;
    if (!out_.flush()) return;
    if (gone_) {
        link.ended_by_us = true;
        return;
    }
    if (server_ != nullptr) server_->go_on();
    if (!gone_) pump();
}

void client_driver::close(core::parting how) {
    if (std::exchange(gone_, true)) return;
    if (auto *const it = std::exchange(server_, nullptr)) it->client_gone(how, "closed");
    pooler_.with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { ledger.leave(*std::exchange(seat_, nullptr), orders); });
    if (out_.unsent_bytes() == 0) link.ended_by_us = true;
}

// ---- a server ----

server_driver::server_driver(pooler &owner, const core::order &order)
    : end(std::make_shared<server_end>()),
      pooler_(owner),
      worker_(order.worker),
      seat_(static_cast<core::server_seat *>(order.seat)),
      id_(order.server),
      session_(std::make_unique<core::server_session>(order.connect->settings, order.connect->secret,
                                                      owner.bytes(auth::scram_nonce_bytes))),
      out_(end->link) {
    seat_->owner = this;
    session_->speak(order.connect->protocol);
    deadline_ = base::deadline_after(owner.now, order.connect->settings->server_connect_timeout);
}

server_driver::server_driver(server_driver &&from, base::worker_index to)
    : end(from.end),
      pooler_(from.pooler_),
      worker_(to),
      seat_(from.seat_),
      id_(from.id_),
      session_(std::move(from.session_)),
      out_(end->link),
      connected_(true) {}

void server_driver::connected() {
    connected_ = true;
    core::effects fx;
    session_->on_connected(fx);
    deliver(fx);
}

void server_driver::connect_failed(const core::login_error &error) {
    connected_ = true;
    login_failed(error);
}

void server_driver::login_failed(const core::login_error &error) {
    pooler_.with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { ledger.open_failed(*seat_, error, pooler_.now, orders); });
    session_->close();
    finish();
}

void server_driver::settle(base::client_id for_client) {
    const auto next = pooler_.with_ledger([&](core::ledger &ledger, core::orders &orders) {
        return ledger.arrived(*seat_, worker_, this, for_client, pooler_.now, orders);
    });
    hand_on(next);
}

void server_driver::read(std::size_t most) {
    if (closed_ || !connected_ || (client_ != nullptr && client_->blocked())) return;
    auto &link = end->link;
    if (link.from_peer.empty()) {
        if (!link.ended_by_peer) return;
        if (draining_) return finish();
        const auto state = session_->state();
        if (state == core::server_state::connecting || state == core::server_state::login)
            return login_failed(
                session_->login_lost("server conn crashed?", "server closed the connection during login"));
        return lose();
    }
    const auto bytes = sim::take(link.from_peer, most);
    if (draining_) return;
    in_ += bytes;
    feed();
}

void server_driver::feed() {
    if (closed_ || draining_) return;
    if (client_ != nullptr && client_->blocked()) return;
    core::effects fx;
    const std::string bytes = in_;
    const auto *const linked = client_;
    const auto used = session_->on_bytes(bytes, fx);
    if (auto news = session_->take_news()) {
        pooler_.with_ledger(
            [&](core::ledger &ledger, core::orders &) { ledger.renew_greeting(*seat_, std::move(news)); });
    }
    if (client_ != nullptr) client_->session().on_progress(pooler_.now, fx);
    if (!deliver(fx)) return;
    if (client_ != nullptr) client_->deliver(fx);
    if (closed_ || draining_) return;
    in_.erase(0, used);
    answer_cancels();
    // A client that can not be sent to has left meanwhile, and the server may be another's already.
    if (client_ == linked || fx.server == server_next::lose) act(fx);
}

void server_driver::act(core::effects &fx) {
    const auto next = fx.client;
    switch (fx.server) {
        case server_next::none:
        case server_next::secure:
            break;
        case server_next::derive: {
            core::effects more;
            session_->on_derived(auth::do_work(session_->work()), more);
            if (deliver(more)) act(more);
            return;
        }
        case server_next::logged_in: {
            deadline_ = base::never;
            return hand_on(pooler_.with_ledger([&](core::ledger &ledger, core::orders &orders) {
                ledger.opened(*seat_, session_->greeting(), session_->derived(), pooler_.now, orders);
                return ledger.give_back(*seat_, pooler_.now, orders);
            }));
        }
        case server_next::login_failed:
            return login_failed(session_->error());
        case server_next::cancel:
            start_cancel();
            break;
        case server_next::errand_done:
        case server_next::release:
            return release();
        case server_next::lose:
            if (next == client_next::close && client_ != nullptr) {
                auto *const it = std::exchange(client_, nullptr);
                lose();
                return it->end_with_server();
            }
            return lose();
    }
    if (client_ == nullptr) return;
    if (next == client_next::resume) client_->pump();
    if (next == client_next::close) client_->close();
}

void server_driver::release() {
    if (!session_->clean()) pooler_.fault = "released a server that is not clean";
    if (end->peer && (!end->peer->at_rest() || end->peer->status() != 'I') && !end->peer->ended())
        pooler_.fault = "released a server whose backend is not at rest";
    auto *const former = std::exchange(client_, nullptr);
    if (deadline_ != base::never) ++pooler_.kept;
    deadline_ = base::never;
    if (former != nullptr) {
        session_->unlink();
        former->let_go();
        if (session_->settings().server_reset_query_always && !session_->settings().server_reset_query.empty()) {
            run(core::errand::reset, session_->settings().server_reset_query);
            return former->pump();
        }
    }
    if (session_->same_identity()) {
        hand_on(pooler_.with_ledger(
            [&](core::ledger &ledger, core::orders &orders) { return ledger.give_back(*seat_, pooler_.now, orders); }));
    } else {
        lose();
    }
    if (former != nullptr) former->pump();
}

void server_driver::hand_on(const core::handing_on &next) {
    switch (next.next) {
        case core::handing_on::step::idle:
            return;
        case core::handing_on::step::grant:
            return static_cast<client_driver *>(next.client->owner)->take(*this);
        case core::handing_on::step::move:
            return move_to(next.to, next.for_client);
        case core::handing_on::step::close:
            return lose();
    }
}

bool server_driver::deliver(const core::effects &fx) {
    if (closed_ || draining_) return false;
    if (fx.to_server.empty()) return true;
    if (end->link.reset) {
        lose();
        return false;
    }
    out_.send(fx.to_server);
    session_->set_unsent(blocked());
    return true;
}

void server_driver::sendable() {
    if (closed_ || draining_ || out_.unsent_bytes() == 0 || !end->link.has_room() || !out_.flush()) return;
    core::effects fx;
    session_->on_sent(fx);
    if (!deliver(fx)) return;
    act(fx);
    if (!closed_ && !draining_ && client_ != nullptr) client_->pump();
}

void server_driver::run(core::errand what, const std::string &sql) {
    core::effects fx;
    session_->run(what, sql, fx);
    deliver(fx);
}

void server_driver::check() {
    ++pooler_.checks;
    if (!closed_ && !draining_) run(core::errand::check, session_->settings().server_check_query);
}

void server_driver::client_gone(core::parting how, std::string_view why) {
    client_ = nullptr;
    if (closed_ || draining_) return;
    core::effects fx;
    session_->farewell(how, why, fx);
    if (fx.server == server_next::lose) return lose();
    pooler_.with_ledger([&](core::ledger &ledger, core::orders &) { ledger.unlinked(*seat_); });
    if (fx.server != server_next::release) {
        ++pooler_.farewells;
        deadline_ = pooler_.now + base::seconds(3);
        insist_at_ = pooler_.now + base::milliseconds(200);
    }
    if (deliver(fx)) act(fx);
}

void server_driver::cancel(std::function<void()> done) {
    const auto answer = closed_ || draining_ ? core::cancel_answer::nothing : session_->on_cancel();
    if (answer == core::cancel_answer::nothing) return done();
    cancels_.emplace_back(session_->rounds(), std::move(done));
    if (answer == core::cancel_answer::begin) start_cancel();
}

void server_driver::start_cancel() {
    if (!session_->begin_cancel()) return answer_cancels();
    pooler_.start_cancel(end, id_, [this] { return !closed_ && !draining_ && session_->cancel_wanted(); });
}

void server_driver::cancel_over(bool in_time) {
    if (closed_) return;
    core::effects fx;
    session_->on_cancel_over(in_time, fx);
    answer_cancels();
    if (!draining_ && deliver(fx)) act(fx);
}

void server_driver::answer_cancels() {
    if (cancels_.empty()) return;
    const bool ended = closed_ || draining_;
    auto all = std::exchange(cancels_, {});
    for (auto &it : all) {
        if (!ended && session_->cancel_waits(it.first)) {
            cancels_.push_back(std::move(it));
        } else {
            it.second();
        }
    }
}

void server_driver::move_to(base::worker_index to, base::client_id for_client) {
    if (closed_ || draining_) return;
    if (!in_.empty() || !session_->clean()) return lose();
    ++pooler_.moves;
    auto self = std::shared_ptr<server_driver>(pooler_.lift(*this));
    pooler_.post(to, [self, to, for_client, &pool = pooler_] {
        auto fresh = std::make_unique<server_driver>(std::move(*self), to);
        auto &it = *fresh;
        pool.servers.emplace(it.id(), std::move(fresh));
        pool.changed = true;
        it.settle(for_client);
    });
}

void server_driver::on_time() {
    if (closed_) return;
    if (pooler_.now < deadline_) {
        if (draining_ || !session_->abandoned() || pooler_.now < insist_at_) return;
        insist_at_ = pooler_.now + base::milliseconds(200);
        core::effects fx;
        session_->on_farewell_slow(fx);
        if (deliver(fx)) act(fx);
        return;
    }
    if (draining_) return finish();
    const auto state = session_->state();
    if (state != core::server_state::connecting && state != core::server_state::login) return lose();
    connected_ = true;
    login_failed(session_->login_lost("connect timeout"));
}

void server_driver::lose() {
    if (closed_ || draining_) return;
    draining_ = true;
    auto *const it = std::exchange(client_, nullptr);
    const bool told = session_->relaying_message() || session_->said_last_words();
    pooler_.with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { ledger.closing(*seat_, pooler_.now, orders); });
    session_->close();
    if (it != nullptr) it->server_lost(told);
    end->link.ended_by_us = true;
    if (!connected_) return finish();
    deadline_ = pooler_.now + base::seconds(5);
}

void server_driver::finish() {
    if (closed_) return;
    closed_ = true;
    end->link.ended_by_us = true;
    answer_cancels();
    pooler_.with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { ledger.closed(*seat_, pooler_.now, orders); });
    pooler_.bury(*this);
}

// ---- the whole ----

pooler::pooler(std::shared_ptr<const config::settings> settings, std::uint32_t count, dice &chance)
    : ledger(settings, count), luck(chance), workers(count), queues_(count * count) {
    env.settings = settings;
    env.random = this;
    env.statements = &statements;
    env.starts = &starts;
    env.mock_key = "mock";
}

std::string pooler::bytes(std::size_t count) {
    std::string all(count, '\0');
    for (auto &it : all) it = static_cast<char>(luck.next());
    return all;
}

client_driver &pooler::connect(int number, const std::string &user, const std::string &database, player::habits how) {
    const auto worker = static_cast<base::worker_index>(luck.pick(static_cast<int>(workers)));
    auto fresh = std::make_unique<client_driver>(*this, worker, number, user, database, how);
    auto &it = *fresh;
    clients.emplace(it.session().id(), std::move(fresh));
    changed = true;
    return it;
}

void pooler::post(base::worker_index to, std::function<void()> task) {
    queues_[here_ * workers + to].push_back(std::move(task));
}

bool pooler::deliver_message() {
    const auto first = luck.pick(queues_.size());
    for (std::size_t i = 0; i < queues_.size(); ++i) {
        const auto index = (first + i) % queues_.size();
        auto &queue = queues_[index];
        if (queue.empty()) continue;
        const auto task = std::move(queue.front());
        queue.pop_front();
        on(static_cast<base::worker_index>(index % workers), task);
        return true;
    }
    return false;
}

void pooler::hand_out(core::orders &out) {
    for (auto &it : out) order(std::move(it));
}

void pooler::order(core::order it) {
    const bool of_server = it.what == core::order::kind::open || it.what == core::order::kind::close ||
                           it.what == core::order::kind::check || it.what == core::order::kind::move;
    if (of_server && it.worker == here_) return carry_out(it);
    const auto to = it.worker;
    post(to, [this, shared = std::make_shared<core::order>(std::move(it))] { carry_out(*shared); });
}

void pooler::carry_out(core::order &it) {
    if (it.what == core::order::kind::open) {
        auto fresh = std::make_unique<server_driver>(*this, it);
        dialing.push_back(fresh.get());
        servers.emplace(it.server, std::move(fresh));
        changed = true;
        return;
    }
    if (!it.server) return carry_out_for_client(it);
    const auto found = servers.find(it.server);
    if (found == servers.end() || found->second->worker() != it.worker) return;
    switch (it.what) {
        case core::order::kind::close:
            return found->second->lose();
        case core::order::kind::check:
            return found->second->check();
        case core::order::kind::move:
            return found->second->move_to(it.to, it.client);
        default:
            return;
    }
}

void pooler::carry_out_for_client(core::order &it) {
    const auto found = clients.find(it.client);
    if (found == clients.end()) return;
    switch (it.what) {
        case core::order::kind::welcome:
            return found->second->welcome(*it.greeting);
        case core::order::kind::refuse:
            return found->second->refuse(it.refused, it.argument);
        case core::order::kind::refuse_by_server:
            return found->second->refuse_by_server(*it.error);
        case core::order::kind::reroute:
            return found->second->reroute();
        default:
            return;
    }
}

void pooler::tick() {
    on(workers - 1, [&] {
        with_ledger([&](core::ledger &it, core::orders &out) {
            it.tick(now, out);
            if (auto wrong = it.check_ticked(now); !wrong.empty()) fault = wrong;
        });
    });
}

void pooler::reload(std::shared_ptr<const config::settings> fresh) {
    on(0, [&] {
        env.settings = fresh;
        with_ledger([&](core::ledger &it, core::orders &out) { it.apply(fresh, now, out); });
    });
}

void pooler::cancel_by_key(std::uint32_t pid, const std::string &secret) {
    on(static_cast<base::worker_index>(luck.pick(static_cast<int>(workers))), [&] {
        const core::cancel_key key(pid, secret);
        const auto owner = with_ledger([&](core::ledger &it, core::orders &) { return it.find_key(key); });
        if (!owner) return;
        post(owner->worker, [this, id = owner->client] {
            if (const auto it = clients.find(id); it != clients.end() && !it->second->gone()) it->second->cancel([] {});
        });
    });
}

void pooler::start_cancel(std::shared_ptr<server_end> at, base::server_id server, std::function<bool()> still) {
    cancels_.push_back({.at = std::move(at), .server = server, .still = std::move(still)});
}

bool pooler::deliver_cancel() {
    if (cancels_.empty()) return false;
    const auto index = luck.pick(cancels_.size());
    auto &it = cancels_[index];
    if (!it.sent) {
        // The last look before the bytes are out; it does not move while a cancel is pending.
        it.sent = true;
        it.strikes = servers.contains(it.server) && it.still();
        return true;
    }
    const bool in_time = !it.given_up && !luck.once_in(10);
    if (in_time || it.given_up) {
        const auto here = std::move(it);
        cancels_.erase(cancels_.begin() + static_cast<std::ptrdiff_t>(index));
        if (here.strikes && here.at->peer) {
            ++cancels_sent;
            here.at->peer->cancel();
        }
        if (in_time) end_cancel(here.server, true);
    } else {
        // cancel_wait_timeout: it is still on its way, and strikes when it comes.
        it.given_up = true;
        end_cancel(it.server, false);
    }
    return true;
}

void pooler::end_cancel(base::server_id id, bool in_time) {
    const auto found = servers.find(id);
    if (found != servers.end()) on(found->second->worker(), [&] { found->second->cancel_over(in_time); });
}

// ---- who is overtaken ----

void pooler::note_want(const core::client_seat &seat) {
    if (!seat.waiting) {
        for (const auto &it : waiters_) {
            const auto found = clients.find(it.id);
            const bool waits =
                found != clients.end() && found->second->seat() != nullptr && found->second->seat()->waiting;
            if (waits && it.pool == seat.at && seat.linked != nullptr)
                fault = "a newcomer got a server before those who wait";
        }
        return;
    }
    waiters_.push_back({seat.id, seat.at, seat.ticket, 0});
}

void pooler::note_waiters() {
    for (std::size_t i = 0; i < waiters_.size();) {
        const auto found = clients.find(waiters_[i].id);
        const auto *const seat = found == clients.end() ? nullptr : found->second->seat();
        const bool waits = seat != nullptr && seat->waiting && seat->ticket == waiters_[i].ticket;
        if (waits) {
            ++i;
            continue;
        }
        const auto gone = waiters_[i];
        waiters_.erase(waiters_.begin() + static_cast<std::ptrdiff_t>(i));
        if (seat == nullptr || seat->linked == nullptr || seat->ticket != gone.ticket) continue;
        for (auto &it : waiters_) {
            if (it.pool != gone.pool || it.ticket > gone.ticket) continue;
            if (++it.overtaken > core::ledger::locality_bound) fault = "a waiter was overtaken too often";
        }
    }
}

// ---- objects ----

void pooler::bury(server_driver &it) {
    std::erase(dialing, &it);
    const auto found = servers.find(it.id());
    if (found == servers.end() || found->second.get() != &it) return;
    dead_servers_.push_back(std::move(found->second));
    servers.erase(found);
    changed = true;
}

void pooler::forget(client_driver &it) {
    const auto found = clients.find(it.session().id());
    dead_clients_.push_back(std::move(found->second));
    clients.erase(found);
    changed = true;
}

std::unique_ptr<server_driver> pooler::lift(server_driver &it) {
    const auto found = servers.find(it.id());
    auto self = std::move(found->second);
    servers.erase(found);
    changed = true;
    return self;
}

void pooler::clean_up() {
    dead_servers_.clear();
    dead_clients_.clear();
}

}  // namespace pgsluice::sim
