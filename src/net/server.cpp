// The server driver: connect, read, run the machine, send, hand on, move, end.
#include "net/server.hpp"

#include <spdlog/fmt/fmt.h>

#include <cstring>

#include "base/seeded_bug.hpp"
#include "net/cancel_connection.hpp"
#include "net/client.hpp"
#include "net/late_watch.hpp"
#include "net/log.hpp"
#include "net/peer.hpp"
#include "wire/frontend.hpp"

namespace pgsluice::net {

server::server(worker &owner, const core::order &order)
    : worker_(owner),
      seat_(static_cast<core::server_seat *>(order.seat)),
      id_(order.server),
      session_(std::make_unique<core::server_session>(order.connect->settings, order.connect->secret,
                                                      owner.env().random->bytes(auth::scram_nonce_bytes))),
      connect_(order.connect),
      since_(owner.now()) {
    seat_->owner = this;
    session_->speak(connect_->protocol);
}

server::server(worker &owner, moving_server it)
    : worker_(owner),
      seat_(it.seat),
      id_(it.id),
      session_(std::move(it.session)),
      out_(std::move(it.out)),
      place_(std::move(it.place)),
      since_(it.since) {
    out_.departs_with(*this);
}

// ---- coming ----

void server::connect() {
    const auto limit = connect_->settings->server_connect_timeout;
    if (log::debugs()) log::debug("{} launching new connection to server", name());
    deadline_ = base::deadline_after(worker_.now(), limit);
    worker_.wheel().arm(*this, deadline_);
    // Of a list each host has its share of the time, so that a silent one does not take all of it.
    const auto share = limit / static_cast<int>(connect_->settings->hosts.size());
    // Told before it connects, and where names change: on the control thread. No server is overlooked.
    auto chosen = [&all = worker_.all(), id = id_](const place_to_dial &place) {
        all.with_ledger([&](core::ledger &ledger, core::orders &) { ledger.leads_to(id, place.host, place.address); });
    };
    dial(worker_.all(), connect_->settings->hosts[connect_->host], connect_->settings->port, share, std::move(chosen),
         [&here = worker_, id = id_](dialled result) {
             here.post([&here, id, result = std::move(result)]() mutable { here.dialled_to(id, std::move(result)); });
         });
}

void server::on_dialled(dialled result) {
    out_ = stream(result.fd);
    place_ = std::move(result.place);
    if (log::debugs()) log::debug("{} S: {}", name(), out_.is_open() ? "connect ok" : result.problem);
    if (closed_ || draining_) return;
    if (!out_.is_open()) {
        return login_failed({.sqlstate = result.ours ? "53000" : "08006",
                             .message = std::move(result.problem),
                             .detail = std::move(result.detail),
                             .ours = result.ours});
    }
    apply_socket_options(out_.fd(), place_.tcp, worker_.global());
    if (worker_.global().log_connections)
        log::info("{} new connection to server{}", name(),
                  place_.tcp ? fmt::format(" (from {})", own_place(out_.fd())) : std::string());
    worker::effects_lease effects(worker_);
    session_->on_connected(*effects, place_.tcp);
    if (!deliver(*effects)) return;
    if (effects->server == core::server_next::secure) return begin_handshake();
    watch();
}

void server::login_failed(core::login_error error) {
    if (out_.is_open() && session_->try_other_way(error, worker_.env().random->bytes(auth::scram_nonce_bytes))) {
        log::info("{} login failed ({}), trying again {} TLS", name(), error.text(),
                  session_->settings().server_tls.mode == config::sslmode::allow ? "with" : "without");
        // The slot is one backend's at a time: the next connection is made when PostgreSQL has closed this one.
        starting_over_ = true;
        handshake_ = handshake::none;
        starting_.reset();
        in_.clear();
        out_.drop_unsent();
        out_.finish_sending();
        return watch();
    }
    if (!error.ours) {
        log::warning("{} server login failed: {}", name(), error.text());
        log_end(error.reason());
    }
    worker_.all().with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { ledger.open_failed(*seat_, error, worker_.now(), orders); });
    end();
}

void server::dial_again() {
    starting_over_ = false;
    worker_.ready().remove(*this);
    out_.close();
    dial(worker_.all(), place_, connect_->settings->server_connect_timeout,
         [&here = worker_, id = id_](dialled result) {
             here.post([&here, id, result = std::move(result)]() mutable { here.dialled_to(id, std::move(result)); });
         });
}

// ---- TLS ----

void server::begin_handshake() {
    const auto &context = worker_.tls().servers;
    if (!context) return handshake_failed("it was switched off meanwhile");
    const bool direct = session_->settings().server_tls.negotiation == config::tls_negotiation::direct;
    starting_ = context->connect(place_.host, direct);
    shake_hands({});
}

void server::shake_hands(std::string from_peer) {
    handshake_ = handshake::computing;
    computed_ = worker_.all().crypto.run(
        worker_, {crypto_pool::side::server, {}}, std::move(starting_), std::move(from_peer),
        [&here = worker_, id = id_](handshake_step step) { here.on_handshake(id, std::move(step)); });
    computed_ ? watch() : not_computed("too many handshakes");
}

void server::on_handshake(handshake_step step) {
    if (closed_ || draining_ || handshake_ != handshake::computing) return;
    handshake_ = handshake::reading;
    core::outbox out;
    out.view(step.to_peer);
    if (out_.send(out) == sent::failed) return handshake_failed("server closed the connection");
    if (step.came_to == tls_session::progress::failed) return handshake_failed(step.session->problem());
    if (step.came_to == tls_session::progress::more) {
        starting_ = std::move(step.session);
        return watch();
    }
    handshake_ = handshake::none;
    auto channel = step.session->channel();
    out_.secure(std::move(step.session));
    if (worker_.global().log_connections) log::info("{} SSL established: {}", name(), channel.cipher);
    in_.append(step.plain);
    worker::effects_lease effects(worker_);
    session_->on_secured(std::move(channel), *effects);
    if (!deliver(*effects)) return;
    if (!in_.empty()) return feed(in_.view());
    watch();
}

void server::handshake_failed(std::string_view why) {
    handshake_ = handshake::failed;
    worker::effects_lease effects(worker_);
    session_->on_handshake_failed(why, *effects);
    act(*effects);
}

void server::derive() {
    auto &here = worker_;
    computed_ =
        here.all().crypto.derive(here, {crypto_pool::side::server, connect_->secret.user}, session_->work(),
                                 [&here, id = id_](const auth::scram_keys &keys) { here.on_derived(id, keys); });
    if (!computed_) not_computed("too many server logins at once");
}

/// Of the server nothing is known: its pool is not to count as failing. The log is told by the crypto_pool.
void server::not_computed(std::string why) {
    login_failed({.sqlstate = "53000", .message = std::move(why), .ours = true});
}

void server::on_derived(const auth::scram_keys &keys) {
    if (closed_ || draining_ || starting_over_) return;
    worker::effects_lease effects(worker_);
    session_->on_derived(keys, *effects);
    if (deliver(*effects)) act(*effects);
}

void server::logged_in() {
    deadline_ = base::never;
    if (log::debugs()) log::debug("{} server login ok, start accepting queries", name());
    connect_.reset();
    out_.departs_with(*this);
    const auto next = worker_.all().with_ledger([&](core::ledger &ledger, core::orders &orders) {
        ledger.opened(*seat_, session_->greeting(), session_->derived(), worker_.now(), orders);
        return ledger.give_back(*seat_, worker_.now(), orders);
    });
    hand_on(next);
}

void server::settle(base::client_id for_client) {
    watch();
    const auto next = worker_.all().with_ledger([&](core::ledger &ledger, core::orders &orders) {
        return ledger.arrived(*seat_, worker_.index(), this, for_client, worker_.now(), orders);
    });
    hand_on(next);
}

// ---- reading ----

void server::watch() {
    if (closed_ || !out_.is_open()) return;
    const bool may_read = draining_ || client_ == nullptr || !client_->blocked();
    const bool computing = handshake_ == handshake::computing && !draining_;
    const std::uint32_t interest = (may_read && !computing ? EPOLLIN : 0U) | (blocked() ? EPOLLOUT : 0U);
    watch_or_later(worker_, *this, *this, out_.fd(), interest);
}

void server::on_ready(std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) on_writable();
    if (closed_ || (events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0) return;
    // What is there can not be read now, and nobody will answer to what is being computed.
    if (handshake_ == handshake::computing && !draining_) return handshake_failed("server closed the connection");
    // Its end can wait until the client has taken what came before; watch() finds it again.
    if (!draining_ && client_ != nullptr && client_->blocked()) return worker_.ready().remove(*this);
    receive();
}

void server::receive() {
    char *const scratch = worker_.scratch();
    const auto have = in_.size_bytes();
    const bool behind = have <= worker::scratch_bytes / 2;
    const auto offset = behind ? have : 0;
    const long count = out_.receive(scratch + offset, worker::scratch_bytes - offset);
    if (count == 0) return watch();  // TLS may have something to say of its own
    if (count < 0) {
        if (draining_) return finish();
        if (starting_over_) return dial_again();
        if (handshake_ != handshake::none) return handshake_failed("server closed the connection");
        if (session_->logs_in()) {
            return login_failed(
                session_->login_lost("server conn crashed?", "server closed the connection during login"));
        }
        return lose(client_ != nullptr ? "server conn crashed?" : "server connection closed");
    }
    if (draining_ || starting_over_) return;
    if (client_ != nullptr) client_->session().count(core::figure::sent, static_cast<std::uint64_t>(count));
    if (handshake_ != handshake::none) return shake_hands({scratch + offset, static_cast<std::size_t>(count)});
    if (behind) {
        std::memcpy(scratch, in_.view().data(), have);
        return feed({scratch, have + static_cast<std::size_t>(count)});
    }
    in_.append({scratch, static_cast<std::size_t>(count)});
    feed(in_.view());
}

void server::feed(std::string_view bytes) {
    settle();
    worker::effects_lease lease(worker_);
    auto &effects = *lease;
    const auto *const linked = client_;
    const auto used = log::noisy() ? take_noisily(bytes, effects) : session_->on_bytes(bytes, effects);
    if (auto news = session_->take_news()) {
        worker_.all().with_ledger(
            [&](core::ledger &ledger, core::orders &) { ledger.renew_greeting(*seat_, std::move(news)); });
    }
    if (canceling_) tell_of_cancel();
    if (client_ != nullptr) client_->progress(effects);
    send_now(effects);
    if (closed_ || draining_) return;
    in_.assign(bytes.substr(used));
    answer_cancels();
    // A client that can not be sent to has left meanwhile, and the server may be another's already.
    if (client_ == linked || effects.server == core::server_next::lose) act(effects);
    if (ending_ != core::refusal::none) end_session(ending_);
    watch();
}

void server::end_session(core::refusal why) {
    if (closed_ || draining_ || client_ == nullptr) return;
    ending_ = why;
    settle();
    if (blocked() || client_->session().mid_message() || !session_->clean()) return;
    ending_ = core::refusal::none;
    auto *const it = std::exchange(client_, nullptr);
    lose(core::words(why).message);  // for the same reason
    it->refuse(why, {});
}

/// Sends both ways. A side that can not be sent to is closed, and the other is seen to.
void server::send_now(core::effects &effects) {
    if (!deliver(effects)) return;
    if (client_ != nullptr) client_->deliver(effects);
}

bool server::deliver(const core::effects &effects) {
    if (closed_ || draining_) return false;
    if (effects.to_server.empty()) return true;
    const auto state = out_.send(effects.to_server);
    session_->set_unsent(state == sent::some);
    if (state == sent::some) watch();
    if (state == sent::failed) lose("server conn crashed?");
    return state != sent::failed;
}

void server::go_on() {
    if (closed_ || draining_) return;
    if (!in_.empty()) return feed(in_.view());
    watch();
}

// ---- what the machine asks for ----

void server::act(core::effects &effects) {
    const auto next = effects.client;
    switch (effects.server) {
        case core::server_next::none:
            break;
        case core::server_next::logged_in:
            return logged_in();
        case core::server_next::login_failed:
            return login_failed(session_->error());
        case core::server_next::cancel:
            start_cancel();
            break;
        case core::server_next::secure:
            return begin_handshake();
        case core::server_next::derive:
            return derive();
        case core::server_next::errand_done:
        case core::server_next::release:
            return release();
        case core::server_next::lose:
            if (next == core::client_next::close && client_ != nullptr) {
                auto *const it = std::exchange(client_, nullptr);
                lose(effects.why);
                return it->end_with_server(effects);
            }
            return lose(effects.why);
    }
    if (client_ == nullptr) return;
    if (next == core::client_next::resume) client_->pump();
    if (next == core::client_next::close) client_->close_after(effects);
}

/// The proof holds: the server goes to the next client, or into the pool.
void server::release() {
    auto *const former = std::exchange(client_, nullptr);
    deadline_ = base::never;
    watch();  // the former client may have kept us from reading
    if (former != nullptr) {
        session_->unlink();
        former->let_go();
        if (session_->settings().server_reset_query_always && !session_->settings().server_reset_query.empty()) {
            run(core::errand::reset, session_->settings().server_reset_query);
            return former->go_on();
        }
    }
    if (session_->same_identity()) {
        hand_on(worker_.all().with_ledger([&](core::ledger &ledger, core::orders &orders) {
            return ledger.give_back(*seat_, worker_.now(), orders);
        }));
    } else {
        lose("session user changed");
    }
    if (former != nullptr) former->go_on();  // after the ones that waited longer
}

void server::hand_on(const core::handing_on &next) {
    switch (next.next) {
        case core::handing_on::step::idle:
            since_idle_ = worker_.now();
            if (log::noisy()) log::noise("{} release_server: idle", name());
            return;
        case core::handing_on::step::grant:
            return static_cast<client *>(next.client->owner)->take(*this);
        case core::handing_on::step::move:
            return move_to(next.to, next.for_client);
        case core::handing_on::step::close:
            return lose(next.why);
    }
}

void server::link(client &it) {
    client_ = &it;
    ending_ = core::refusal::none;
    since_link_ = worker_.now();
}

void server::run(core::errand what, const std::string &sql) {
    if (log::debugs()) log::debug("{} {}: {}", name(), what == core::errand::reset ? "resetting" : "testing", sql);
    // Its connection may be dead without a word, and somebody waits for the answer.
    overdue_ = what == core::errand::reset ? "reset query timeout" : "test query timeout";
    deadline_ = base::deadline_after(worker_.now(), session_->settings().server_connect_timeout);
    worker_.wheel().arm(*this, deadline_);
    worker::effects_lease effects(worker_);
    session_->run(what, sql, *effects);
    deliver(*effects);
}

void server::check() {
    if (!closed_ && !draining_) run(core::errand::check, session_->settings().server_check_query);
}

void server::client_gone(core::parting how, std::string_view why) {
    client_ = nullptr;
    if (closed_ || draining_) return;
    settle();
    worker::effects_lease effects(worker_);
    session_->farewell(how, why, *effects);
    if (effects->server == core::server_next::lose) return lose(effects->why);
    worker_.all().with_ledger([&](core::ledger &ledger, core::orders &) { ledger.unlinked(*seat_); });
    if (effects->server != core::server_next::release) {
        overdue_ = "client disconnected with query in progress";
        deadline_ = worker_.now() + farewell_grace;
        worker_.wheel().arm(*this, worker_.now() + farewell_pause);
    }
    if (!deliver(*effects)) return;
    watch();  // the client may have kept us from reading
    act(*effects);
}

/// What a client left behind takes long.
void server::insist() {
    settle();
    worker_.wheel().arm(*this, std::min(deadline_, worker_.now() + farewell_pause));
    worker::effects_lease effects(worker_);
    session_->on_farewell_slow(*effects);
    if (deliver(*effects)) act(*effects);
}

// ---- moving ----

void server::move_to(base::worker_index to, base::client_id for_client) {
    if (closed_ || draining_) return;
    settle();
    if (!in_.empty() || !session_->clean()) return lose("idle server got dirty");
    // What is unread stays in the socket, and is the next worker's to read.
    worker_.ready().remove(*this);
    moving_server it{.seat = seat_,
                     .id = id_,
                     .session = std::move(session_),
                     .out = std::move(out_),
                     .place = std::move(place_),
                     .since = since_,
                     .for_client = for_client};
    closed_ = true;
    unlink();
    worker_.remove(*this);
    auto &there = *worker_.all().workers[to];
    there.post([&there, it = std::move(it)]() mutable { there.receive(std::move(it)); });
}

// ---- going ----

void server::on_timer(base::time_point now) {
    if (closed_) return;
    if (!ready_set::has(*this)) watch();
    if (now < deadline_) {
        if (!draining_ && session_->abandoned()) return insist();
        return worker_.wheel().arm(*this, deadline_);
    }
    if (draining_) return finish();
    if (!session_->logs_in()) return lose(overdue_);
    login_failed(session_->login_lost("connect timeout"));
}

void server::lose(std::string_view why) {
    if (closed_ || draining_) return;
    if (session_->logs_in()) return login_failed({"08006", std::string(why), false});
    draining_ = true;
    auto *const it = std::exchange(client_, nullptr);
    const bool told = session_->relaying_message() || session_->said_last_words();
    log_end(why);
    worker_.all().with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { ledger.closing(*seat_, worker_.now(), orders); });
    if (it != nullptr) it->server_lost(told);
    end();
}

void server::drop(std::string_view why) {
    if (!session_->logs_in()) return lose(why);
    if (closed_ || draining_) return;
    log_end(why);
    worker_.all().with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { ledger.closing(*seat_, worker_.now(), orders); });
    if (session_->authenticated()) return end();  // it may run connect_query
    worker_.all().crypto.forget(computed_);
    session_->close();
    finish();
}

/// The ledger knows that it is closing; now PostgreSQL is told.
void server::end() {
    draining_ = true;
    worker_.all().crypto.forget(computed_);
    answer_cancels();
    const bool running = session_->owed().owed() > 0 || session_->running_errand();
    session_->close();
    if (!out_.is_open()) return finish();
    // A query that runs on would hold its slot: PostgreSQL is told to stop it.
    if (const auto &key = session_->key(); running && key && session_->owed().may_be_cut_short()) {
        cancel_connection::start(
            worker_, whose(), place_, out_.secured(), *key, worker_.global().cancel_wait_timeout, [] { return true; },
            [](cancel_connection::outcome) {});
    }
    drain();
}

/// The slot is free when PostgreSQL has ended the backend, which it says by closing the connection.
void server::drain() {
    out_.settle();
    if (out_.unsent_bytes() == 0 && !session_->upload_open() && handshake_ == handshake::none) {
        core::outbox goodbye;
        goodbye.make([](std::string &out) { wire::frontend::append_terminate(out); });
        if (out_.send(goodbye) == sent::failed) return finish();
    }
    out_.drop_unsent();
    out_.finish_sending();
    deadline_ = worker_.now() + closing_grace;
    worker_.wheel().arm(*this, deadline_);
    in_.clear();
    watch();
}

void server::finish() {
    if (closed_) return;
    closed_ = true;
    worker_.ready().remove(*this);
    unlink();
    out_.close();
    answer_cancels();
    if (base::seeded(base::bug::slot_not_returned) && connect_) return worker_.remove(*this);  // it never logged in
    worker_.all().with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { ledger.closed(*seat_, worker_.now(), orders); });
    worker_.remove(*this);
}

// ---- sending what the kernel did not take ----

/// The machine knows whether all that it has said is with the kernel: so before it decides anything by that.
void server::settle() {
    out_.settle();
    session_->set_unsent(blocked() || out_.broken());
}

void server::on_departed(sent how) {
    if (closed_ || draining_) return;
    if (how == sent::failed || out_.broken()) return lose("server conn crashed?");
    if (!blocked()) return on_writable();  // what was said next has taken the rest along
    session_->set_unsent(true);
    if (client_ != nullptr) client_->watch();
    watch();
}

void server::on_writable() {
    const auto state = out_.flush();
    if (state == sent::some) return;
    if (draining_) return watch();
    if (state == sent::failed) return lose("server conn crashed?");
    worker::effects_lease effects(worker_);
    session_->on_sent(*effects);
    if (!deliver(*effects)) return;
    act(*effects);
    if (closed_ || draining_) return;
    if (client_ != nullptr) client_->pump();
    watch();
}

}  // namespace pgsluice::net
