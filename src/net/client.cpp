// The client driver: read, run the machine, send, do what it asks for.
#include "net/client.hpp"

#include <openssl/crypto.h>
#include <spdlog/fmt/fmt.h>

#include <cstring>

#include "net/late_watch.hpp"
#include "net/log.hpp"
#include "net/peer.hpp"
#include "net/secret_lookup.hpp"
#include "net/server.hpp"

namespace pgsluice::net {

namespace {

/// A refused client gets this long to read why before its socket is closed for good.
constexpr base::seconds linger{2};
/// A waiting client may send ahead this much; then we wait for its server first. More than a machine may want whole.
constexpr std::size_t ahead_max_bytes = 48 * 1024;
/// So much is read at a time of who has not logged in, and then is kept while the login waits: a record of TLS and
/// more.
constexpr std::size_t login_max_bytes = 20 * 1024;
/// The most bytes a machine may ask to have whole (a password, the names at the head of a message).
constexpr std::size_t held_max_bytes = 256 * 1024;

}  // namespace

client::client(worker &owner, base::worker_index home, stream socket, bool tcp)
    : client(owner, home, facts_of(socket.fd(), tcp, owner.global().listen_port), std::move(socket)) {}

client::client(worker &owner, base::worker_index home, core::client_facts facts, stream &&socket)
    : worker_(&owner),
      out_(std::move(socket)),
      seat_(owner.all().with_ledger(
          [&](core::ledger &ledger, core::orders &orders) { return ledger.connected(home, this, orders); })),
      id_(seat_->id),
      session_(id_, owner.env(), owner.now(), facts),
      since_(owner.now()),
      peer_(std::move(facts.place)),
      home_(home),
      tcp_(facts.tcp) {
    session_.on_channel({.may_encrypt = tcp_});
    out_.departs_with(*this);
}

void client::start() {
    apply_socket_options(out_.fd(), tcp_, worker_->global());
    if (log::debugs()) log::debug("{} P: got connection", name());
    arm();
    watch();
}

void client::start_as(std::string database, std::string user) {
    peer_ = "auth_query";
    seat_->looks_up = true;
    session_.begin_as(std::move(database), std::move(user));
    {
        worker::effects_lease effects(*worker_);
        join(*effects);
        if (!deliver(*effects)) return;
        if (effects->client == core::client_next::close) return close_after(*effects);
    }
    start();
}

bool client::at_rest() const {
    if (gone() || session_.console() != nullptr) return true;
    if (blocked() || session_.mid_message()) return false;
    return server_ == nullptr || !(server_->blocked() || server_->session().relaying_message());
}

// ---- reading ----

bool client::may_read() const {
    if (gone()) return true;
    if (handshake_ == handshake::computing) return false;
    // A cancel is under way: what follows the request is void, its end too. The sender waits for ours.
    if (session_.state() == core::client_state::closing) return false;
    if (login_waits_elsewhere()) return false;
    if (blocked() || (server_ != nullptr && server_->blocked())) return false;
    if (worker_->suspended() && session_.console() == nullptr && !session_.mid_message()) return false;
    const auto wanted = std::max(ahead_max_bytes, session_.needed_bytes());
    return in_.size_bytes() < wanted || session_.state() == core::client_state::login;
}

void client::watch() {
    if (life_ == life::closed || life_ == life::moving) return;
    // One that leaves a queue, or its login, must be noticed though its bytes can not be taken; one that uploads may
    // finish first.
    const bool queues = session_.state() == core::client_state::waiting || handshake_ == handshake::computing ||
                        login_waits_elsewhere();
    const std::uint32_t end = queues ? EPOLLRDHUP : 0U;
    const std::uint32_t interest = (may_read() ? EPOLLIN : end) | (blocked() ? EPOLLOUT : 0U);
    watch_or_later(*worker_, *this, *this, out_.fd(), interest);
}

void client::on_ready(std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) on_writable();
    if (life_ == life::closed || (events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0) return;
    if (may_read()) return receive();
    // It is gone while we could not take more from it: what it sent ahead is void.
    if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0) return gone() ? finish() : close_at_end_of_stream();
    watch();  // what keeps us from reading may have come after the last look at it
}

void client::receive() {
    char *const scratch = worker_->scratch();
    const auto have = in_.size_bytes();
    const bool behind = have <= worker::scratch_bytes / 2;  // what is left over goes ahead of what comes
    const auto offset = behind ? have : 0;
    const bool secret = session_.state() == core::client_state::login;
    const auto room = worker::scratch_bytes - offset;
    const long count = out_.receive(scratch + offset, secret ? std::min(room, login_max_bytes) : room);
    if (count == 0) return watch();  // TLS may have something to say of its own
    if (count < 0) {
        if (gone()) return finish();
        return close_at_end_of_stream();
    }
    if (gone()) return;
    session_.count(core::figure::received, static_cast<std::uint64_t>(count));
    if (handshake_ != handshake::none) return shake_hands({scratch + offset, static_cast<std::size_t>(count)});
    if (behind) {
        const auto all = have + static_cast<std::size_t>(count);
        std::memcpy(scratch, in_.view().data(), have);
        feed({scratch, all});
        if (secret) OPENSSL_cleanse(scratch, all);  // there may have been a password
    } else {
        const std::string_view came(scratch, static_cast<std::size_t>(count));
        secret ? in_.append_secret(came) : in_.append(came);
        if (secret) OPENSSL_cleanse(scratch, came.size());
        feed(in_.view());
    }
    watch();
}

void client::pump() {
    if (life_ == life::open && !blocked() && (server_ == nullptr || !server_->blocked())) feed(in_.view());
    watch();
}

/// Runs the machine over `bytes` until it takes no more, and sends everything it made of them at once.
void client::feed(std::string_view bytes, server *granted) {
    worker::effects_lease lease(*worker_);
    auto &effects = *lease;
    std::size_t used = 0;
    const bool secret = session_.state() == core::client_state::login;
    bool go_on = granted == nullptr || link(*granted, effects);
    while (go_on && !must_move(bytes.substr(used))) {
        effects.client = core::client_next::none;
        const auto rest = bytes.substr(used);
        used += log::noisy() ? take_noisily(rest, effects) : session_.on_bytes(rest, worker_->now(), effects);
        go_on = step(effects);
    }
    if (session_.console() != nullptr) log_console_errors();
    const auto next = effects.client;
    if (next == core::client_next::cancel) return forward_cancel();
    if (server_ != nullptr && !server_->deliver(effects)) return;
    if (!deliver(effects)) return;
    secret ? in_.assign_secret(bytes.substr(used)) : in_.assign(bytes.substr(used));
    if (next == core::client_next::secure) return begin_handshake(in_.view());
    if (next == core::client_next::close) return close_after(effects);
    if (must_move(in_.view())) return move_home();
    const bool waits =
        session_.state() == core::client_state::waiting || session_.state() == core::client_state::joining;
    const auto held_max = std::max(held_max_bytes, session_.needed_bytes());
    if (in_.size_bytes() > held_max && !waits) return close("bad packet", false);
    arm();
    // The end of what it sent may be what kept the link: the rest of a COPY whose error has been answered.
    if (server_ != nullptr) server_->release_if_done();
}

// ---- what the machine asks for ----

bool client::step(core::effects &effects) {
    switch (effects.client) {
        case core::client_next::resume:
            return true;
        case core::client_next::admit:
            return admit(effects);
        case core::client_next::find_name:
            find_name();
            return false;
        case core::client_next::find_secret:
            find_secret();
            return false;
        case core::client_next::check_password:
            check_password(effects);
            return false;
        case core::client_next::derive:
            return derive(effects);
        case core::client_next::join:
            return join(effects);
        case core::client_next::want:
            return want(effects);
        case core::client_next::command:
            ask_console();
            return false;
        default:
            return false;
    }
}

void client::greet(const core::welcome &greeting, core::effects &effects) {
    session_.on_welcome(greeting, make_key(), worker_->now(), effects);
    if (log::debugs()) log::debug("{} logged in", name());
}

bool client::want(core::effects &effects) {
    auto *const seat = worker_->all().with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { return ledger.want(*seat_, worker_->now(), orders); });
    effects.client = core::client_next::none;
    if (seat == nullptr && log::debugs()) log::debug("{} pause_client: it waits for a server", name());
    if (seat == nullptr) return false;
    return link(*static_cast<server *>(seat->owner), effects);
}

bool client::link(server &it, core::effects &effects) {
    server_ = &it;
    it.link(*this);
    // A replication client has its welcome from its own server.
    if (session_.state() == core::client_state::joining) greet(*it.session().greeting(), effects);
    session_.on_granted(it.session(), worker_->now(), effects);
    return effects.client == core::client_next::resume;
}

void client::take(server &it) {
    if (log::debugs()) log::debug("{} activate_client: it has {}", name(), it.name());
    feed(in_.view(), &it);
    watch();
}

void client::progress(core::effects &effects) {
    session_.on_progress(worker_->now(), effects);
    arm();
}

/// Of two such orders the first may come last, since one that is in the lobby is looked for twice: what the ledger has
/// now is what counts.
void client::reroute() {
    if (gone()) return;
    session_.on_rerouted(worker_->all().with_ledger([this](core::ledger &, core::orders &) { return seat_->route; }));
    arm();
}

void client::let_go() {
    server_ = nullptr;
    session_.on_released(worker_->now());
    arm();
}

// ---- events from outside ----

void client::welcome(const core::welcome &greeting) {
    if (gone() || session_.state() != core::client_state::joining) return;
    {
        worker::effects_lease effects(*worker_);
        greet(greeting, *effects);
        if (!deliver(*effects)) return;
    }
    arm();
    pump();
}

void client::refuse(core::refusal why, std::string_view argument) {
    if (gone()) return;
    // In the middle of a handshake our words would be neither TLS nor understood.
    if (handshake_ != handshake::none) return close(core::words(why, argument).message, false);
    worker::effects_lease effects(*worker_);
    session_.on_refused(why, argument, *effects);
    if (deliver(*effects)) close_after(*effects);
}

void client::refuse_by_server(const core::login_error &error) {
    if (gone()) return;
    worker::effects_lease effects(*worker_);
    session_.on_server_refused(error, *effects);
    if (deliver(*effects)) close_after(*effects);
}

void client::server_lost(bool mid_message) {
    server_ = nullptr;
    if (gone()) return;
    worker::effects_lease effects(*worker_);
    session_.on_server_lost(mid_message, *effects);
    if (deliver(*effects)) close_after(*effects);
}

void client::end_with_server(const core::effects &effects) {
    server_ = nullptr;
    close(effects.why, true, core::parting::ended, !effects.to_client.empty());
}

void client::on_timer(base::time_point now) {
    if (life_ == life::closed) return;
    if (gone()) return finish();
    if (!ready_set::has(*this)) watch();
    if (handshake_ != handshake::none && now >= session_.deadline()) return close("client_login_timeout", false);
    std::string why;
    if (session_.waits() && now >= session_.deadline()) {
        why = worker_->all().with_ledger(
            [&](core::ledger &ledger, core::orders &) { return ledger.why_waiting(*seat_, now); });
    }
    const bool login = session_.state() == core::client_state::login;
    {
        worker::effects_lease effects(*worker_);
        session_.on_deadline(now, *effects, why);
        if (!go_on_with_login(*effects)) return;
    }
    arm();
    if (login) pump();  // it may be in
}

void client::arm() {
    if (!gone()) worker_->wheel().arm(*this, session_.deadline());
}

// ---- sending ----

bool client::deliver(const core::effects &effects) {
    if (life_ == life::closed) return false;
    if (effects.to_client.empty()) return true;
    switch (out_.send(effects.to_client)) {
        case sent::all:
            return true;
        case sent::some:
            watch();
            return true;
        case sent::failed:
            close_at_end_of_stream();
            return false;
    }
    return false;
}

void client::on_departed(sent how) {
    if (life_ == life::closed) return;
    if (how == sent::failed || out_.broken()) return gone() ? finish() : close_at_end_of_stream();
    if (!blocked()) return on_writable();  // what was said next has taken the rest along
    if (server_ != nullptr) server_->watch();
    watch();
}

void client::on_writable() {
    const auto state = out_.flush();
    if (state == sent::some) return;
    if (state == sent::failed) return gone() ? finish() : close_at_end_of_stream();
    if (gone()) {
        out_.finish_sending();
        return watch();
    }
    if (server_ != nullptr) server_->go_on();
    if (more_) ask_for_more();
    if (life_ != life::closed) pump();
}

// ---- the end ----

void client::close_after(const core::effects &effects) {
    out_.settle();  // whether all has been said
    if (effects.why == core::client_left) return close(effects.why, blocked(), core::parting::vanished);
    const bool said_why = !effects.to_client.empty();
    close(effects.why, said_why || blocked(), core::parting::ended, said_why || effects.untold);
}

void client::log_end(std::string_view why, bool vanished, bool said) {
    const auto &global = worker_->global();
    // A health check that connects and goes has said nothing: told only to those who want to know more.
    const bool silent = session_.user().empty() && in_.empty() && vanished;
    const bool tells_error = said && global.log_pooler_errors,
               tells_end = global.log_disconnections && !seat_->looks_up;
    if (!tells_error && !tells_end) return;
    const bool refused = session_.login() != nullptr && session_.login()->cancel().secret.empty() && !silent;
    if (refused && !worker_->refused().tells(why, worker_->now())) return;
    if (tells_error) log::warning("{} pooler error: {}", name(), why);
    if (!tells_end) return;
    const auto age = std::chrono::duration_cast<base::seconds>(worker_->now() - since_).count();
    log::get().log(silent ? spdlog::level::debug : spdlog::level::info, "{} closing because: {} (age={}s)", name(), why,
                   age);
}

void client::close(std::string_view why, bool linger_for_peer, core::parting how, bool said) {
    if (gone()) return;
    life_ = life::gone;
    if (auto asked = std::exchange(check_, nullptr)) asked_->forget(asked);
    if (auto asked = std::exchange(lookup_, nullptr)) worker_->all().lookups->forget(std::move(asked));
    worker_->all().crypto.forget(computed_);
    log_end(why, how == core::parting::vanished, said);
    if (auto *const it = std::exchange(server_, nullptr)) it->client_gone(how, why);
    if (session_.console() != nullptr) leave_console();
    worker_->all().with_ledger([&](core::ledger &ledger, core::orders &orders) { ledger.leave(*seat_, orders); });
    seat_ = nullptr;
    if (!linger_for_peer) return finish();
    // Closing now could reset the connection under the text that says why. The peer may read it, and close first.
    out_.settle();
    if (out_.unsent_bytes() == 0) out_.finish_sending();
    unlink();  // it may be armed for an earlier deadline, which would cut this short
    worker_->wheel().arm(*this, worker_->now() + linger);
    in_.assign_secret({});
    watch();
}

void client::finish() {
    if (life_ == life::closed) return;
    life_ = life::closed;
    // Before it is closed: a helper that is being started may hold a copy, and then closing takes nothing out of the
    // set.
    worker_->ready().remove(*this);
    unlink();
    in_.assign_secret({});
    out_.close();
    worker_->remove(*this);
}

}  // namespace pgsluice::net
