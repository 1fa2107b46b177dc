// The client driver: read, run the machine, send, do what it asks for.
#include "net/client.hpp"

#include <openssl/crypto.h>
#include <spdlog/fmt/fmt.h>

#include <cstring>

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
/// The most bytes a machine may ask to have whole (a password, the names at the head of a message).
constexpr std::size_t held_max_bytes = 256 * 1024;

}  // namespace

client::client(worker &owner, stream socket, bool tcp)
    : worker_(owner),
      out_(std::move(socket)),
      seat_(owner.all().with_ledger(
          [&](core::ledger &ledger, core::orders &orders) { return ledger.connected(owner.index(), this, orders); })),
      id_(seat_->id),
      session_(id_, owner.env(), owner.now(), facts_of(out_.fd(), tcp)),
      since_(owner.now()),
      peer_(peer_text(out_.fd(), tcp)),
      tcp_(tcp) {
    session_.on_channel({.may_encrypt = tcp});
}

std::string client::name() {
    return fmt::format("C-{}: {}/{}@{}", static_cast<void *>(this),
                       session_.database().empty() ? "(nodb)" : session_.database(),
                       session_.user().empty() ? "(nouser)" : session_.user(), peer_);
}

void client::start() {
    apply_socket_options(out_.fd(), tcp_, worker_.global());
    arm();
    watch();
}

void client::start_as(std::string database, std::string user) {
    peer_ = "auth_query";
    seat_->looks_up = true;
    session_.begin_as(std::move(database), std::move(user));
    {
        worker::effects_lease effects(worker_);
        join(*effects);
        if (!deliver(*effects)) return;
        if (effects->client == core::client_next::close) return close_after(*effects);
    }
    start();
}

// ---- reading ----

bool client::may_read() const {
    if (gone_) return true;
    if (handshake_ == handshake::computing) return false;
    // A cancel is under way: what follows the request is void, its end too. The sender waits for ours.
    if (session_.state() == core::client_state::closing) return false;
    if (blocked() || (server_ != nullptr && server_->blocked())) return false;
    if (worker_.suspended() && session_.console() == nullptr) return false;
    const auto wanted = std::max(ahead_max_bytes, session_.needed_bytes());
    return in_.size_bytes() < wanted || session_.state() == core::client_state::login;
}

void client::watch() {
    if (closed_) return;
    // One that leaves the queue must be noticed though its bytes can not be taken; one that uploads may finish first.
    const std::uint32_t end = session_.state() == core::client_state::waiting ? EPOLLRDHUP : 0U;
    const std::uint32_t interest = (may_read() ? EPOLLIN : end) | (blocked() ? EPOLLOUT : 0U);
    ready_set::has(*this) ? worker_.ready().change(*this, interest) : worker_.ready().add(*this, out_.fd(), interest);
}

void client::on_ready(std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) on_writable();
    if (closed_ || (events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0) return;
    if (may_read()) return receive();
    // It is gone while we could not take more from it: what it sent ahead is void.
    if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0) gone_ ? finish() : close_at_end_of_stream();
}

void client::receive() {
    char *const scratch = worker_.scratch();
    const auto have = in_.size_bytes();
    const bool behind = have <= worker::scratch_bytes / 2;  // what is left over goes ahead of what comes
    const auto offset = behind ? have : 0;
    const long count = out_.receive(scratch + offset, worker::scratch_bytes - offset);
    if (count == 0) return watch();  // TLS may have something to say of its own
    if (count < 0) {
        if (gone_) return finish();
        return close_at_end_of_stream();
    }
    if (gone_) return;
    session_.count(core::figure::received, static_cast<std::uint64_t>(count));
    if (handshake_ != handshake::none) return shake_hands({scratch + offset, static_cast<std::size_t>(count)});
    const bool secret = session_.state() == core::client_state::login;
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
    if (!gone_ && !blocked() && (server_ == nullptr || !server_->blocked())) feed(in_.view());
    watch();
}

/// Runs the machine over `bytes` until it takes no more, and sends everything it made of them at once.
void client::feed(std::string_view bytes, server *granted) {
    worker::effects_lease lease(worker_);
    auto &effects = *lease;
    std::size_t used = 0;
    const bool secret = session_.state() == core::client_state::login;
    bool go_on = granted == nullptr || link(*granted, effects);
    while (go_on) {
        effects.client = core::client_next::none;
        used += session_.on_bytes(bytes.substr(used), worker_.now(), effects);
        go_on = step(effects);
    }
    const auto next = effects.client;
    if (next == core::client_next::cancel) return forward_cancel();
    if (server_ != nullptr && !server_->deliver(effects)) return;
    if (!deliver(effects)) return;
    secret ? in_.assign_secret(bytes.substr(used)) : in_.assign(bytes.substr(used));
    if (next == core::client_next::secure) return begin_handshake(in_.view());
    if (next == core::client_next::close) return close_after(effects);
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

bool client::admit(core::effects &effects) {
    const bool console = session_.login()->console();  // needs no place
    const auto why =
        console ? core::refusal::none : worker_.all().with_ledger([&](core::ledger &ledger, core::orders &orders) {
            return ledger.admit(*seat_, orders);
        });
    effects.client = core::client_next::none;
    why == core::refusal::none ? session_.on_admitted(effects) : session_.on_refused(why, {}, effects);
    return effects.client == core::client_next::none || step(effects);
}

void client::find_secret() {
    auto &here = worker_;
    here.all().lookups->find(session_.login()->question(), [&here, id = id_](const core::secret_answer &answer) {
        here.post([&here, id, answer] { here.secret_for(id, answer); });
    });
}

void client::on_secret(const core::secret_answer &answer) {
    if (gone_ || session_.state() != core::client_state::login) return;
    {
        worker::effects_lease effects(worker_);
        session_.on_secret(answer, *effects);
        if (!go_on_with_login(*effects)) return;
    }
    arm();
    pump();
}

void client::check_password(core::effects &effects) {
    auto &here = worker_;
    auto question = session_.take_check();
    asked_ = question.what == auth::password_check::kind::pam ? &here.all().pam : &here.all().ldap;
    check_ = asked_->ask(std::move(question), session_.deadline(), [&here, id = id_](auth::password_verdict verdict) {
        here.post([&here, id, verdict = std::move(verdict)] { here.checked(id, verdict); });
    });
    effects.client = core::client_next::none;
    if (!check_) session_.on_refused(core::refusal::too_many_checks, {}, effects);
}

void client::on_checked(const auth::password_verdict &verdict) {
    check_ = nullptr;
    if (gone_ || session_.state() != core::client_state::login) return;
    {
        worker::effects_lease effects(worker_);
        session_.on_checked(verdict, worker_.now(), *effects);
        if (!go_on_with_login(*effects)) return;
    }
    arm();
    pump();
}

bool client::derive(core::effects &effects) {
    auto &here = worker_;
    const bool taken =
        here.all().crypto.derive(here, crypto_pool::whose::client, session_.work(),
                                 [&here, id = id_](const auth::scram_keys &keys) { here.on_derived(id, keys); });
    effects.client = core::client_next::none;
    if (!taken) session_.on_refused(core::refusal::too_many_passwords, {}, effects);
    return false;
}

void client::on_derived(const auth::scram_keys &keys) {
    if (gone_ || session_.state() != core::client_state::login) return;
    {
        worker::effects_lease effects(worker_);
        session_.on_derived(keys, worker_.now(), *effects);
        if (!go_on_with_login(*effects)) return;
    }
    arm();
    pump();
}

void client::find_name() {
    auto &here = worker_;
    here.all().names.find(facts_of(out_.fd(), tcp_).address, [&here, id = id_](std::optional<std::string> name) {
        here.post([&here, id, name = std::move(name)] { here.named(id, name); });
    });
}

void client::named(const std::optional<std::string> &name) {
    if (gone_ || session_.state() != core::client_state::login) return;
    {
        worker::effects_lease effects(worker_);
        name ? session_.on_named(*name, *effects) : session_.on_refused(core::refusal::login_rejected, {}, *effects);
        if (!go_on_with_login(*effects)) return;
    }
    arm();
    pump();
}

/// After what the login waited for outside of its worker. False: the client is gone, or going.
bool client::go_on_with_login(core::effects &effects) {
    step(effects);
    if (!deliver(effects)) return false;
    if (effects.client != core::client_next::close) return true;
    close_after(effects);
    return false;
}

bool client::join(core::effects &effects) {
    const auto &login = *session_.login();
    if (worker_.global().log_connections && !seat_->looks_up) {
        const auto kind = login.replicates() ? login.replicates()->kind : core::replication::none;
        log::info("{} login attempt: db={} user={} tls={} replication={}", name(), login.database(), login.user(),
                  login.security().encrypted ? login.security().cipher : "no", core::to_string(kind));
    }
    if (login.console()) return join_console(effects);
    seat_->replicates = login.replicates();
    const auto outcome = worker_.all().with_ledger([&](core::ledger &ledger, core::orders &orders) {
        return ledger.join(*seat_, login.database(), login.user(), login.found(), login.keys(), worker_.now(), orders);
    });
    effects.client = core::client_next::none;
    if (outcome.why != core::refusal::none) {
        session_.on_refused(outcome.why, outcome.argument, effects);
        return false;
    }
    session_.on_joined(outcome.route, worker_.now());
    if (!outcome.greeting) return false;
    greet(*outcome.greeting, effects);
    return true;
}

core::cancel_key client::make_key() {
    core::cancel_key key;
    bool taken = false;
    while (!taken) {
        const auto bytes = worker_.env().random->bytes(4 + session_.login()->cancel_key_bytes());
        // Drivers read the number as a signed one.
        key = {wire::load_u32(bytes.data()) & 0x7fffffffU, std::string_view(bytes).substr(4)};
        taken = worker_.all().with_ledger(
            [&](core::ledger &ledger, core::orders &) { return ledger.give_key(*seat_, key); });
    }
    return key;
}

void client::greet(const core::welcome &greeting, core::effects &effects) {
    session_.on_welcome(greeting, make_key(), worker_.now(), effects);
}

bool client::want(core::effects &effects) {
    auto *const seat = worker_.all().with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { return ledger.want(*seat_, worker_.now(), orders); });
    effects.client = core::client_next::none;
    if (seat == nullptr) return false;
    return link(*static_cast<server *>(seat->owner), effects);
}

bool client::link(server &it, core::effects &effects) {
    server_ = &it;
    it.link(*this);
    // A replication client has its welcome from its own server.
    if (session_.state() == core::client_state::joining) greet(*it.session().greeting(), effects);
    session_.on_granted(it.session(), worker_.now(), effects);
    return effects.client == core::client_next::resume;
}

void client::take(server &it) {
    feed(in_.view(), &it);
    watch();
}

void client::progress(core::effects &effects) {
    session_.on_progress(worker_.now(), effects);
    arm();
}

void client::reroute(core::shared_route route) {
    session_.on_rerouted(std::move(route));
    arm();
}

void client::let_go() {
    server_ = nullptr;
    session_.on_released(worker_.now());
    arm();
}

void client::forward_cancel() {
    const auto &shown = session_.login()->cancel();
    const core::cancel_key key(shown.pid, shown.secret);
    const auto owner =
        worker_.all().with_ledger([&](core::ledger &ledger, core::orders &) { return ledger.find_key(key); });
    if (!owner) return close("cancel request", false);
    // This connection ends when the cancel has had its effect: that is what the canceling side waits for.
    auto &here = worker_;
    auto &there = *worker_.all().workers[owner->worker];
    auto answer = [&here, id = id_] {
        here.post([&here, id] { here.order({.what = core::order::kind::drop, .worker = here.index(), .client = id}); });
    };
    there.post([&there, id = owner->client, answer] { there.cancel(id, answer); });
}

void client::cancel(std::function<void()> done) {
    if (session_.console() != nullptr) return cancel_console(done);
    worker::effects_lease effects(worker_);
    std::size_t taken = 0;
    if (session_.on_cancel_unsent(in_.view(), taken, worker_.now(), *effects)) {
        worker_.all().with_ledger([&](core::ledger &ledger, core::orders &) { ledger.stop_wanting(*seat_); });
        done();
        if (!deliver(*effects)) return;
        in_.assign(in_.view().substr(taken));
        return pump();
    }
    server_ == nullptr ? done() : server_->cancel(std::move(done));
}

// ---- TLS ----

void client::begin_handshake(std::string_view begun) {
    const auto &context = worker_.tls().clients;
    if (!context) return close("TLS startup failed", false);
    constexpr char handshake_record = 0x16;
    const bool direct = begun.starts_with(handshake_record);
    starting_ = context->accept(direct);
    handshake_ = handshake::reading;
    if (!direct) return;
    std::string first(begun);
    in_.clear();
    shake_hands(std::move(first));
}

void client::shake_hands(std::string from_peer) {
    handshake_ = handshake::computing;
    const bool taken = worker_.all().crypto.run(
        worker_, crypto_pool::whose::client, std::move(starting_), std::move(from_peer),
        [&here = worker_, id = id_](handshake_step step) { here.on_handshake(id, std::move(step)); });
    if (!taken) return close("TLS startup failed: too many handshakes", false);
    watch();
}

void client::on_handshake(handshake_step step) {
    if (gone_) return;
    handshake_ = step.came_to == tls_session::progress::done ? handshake::none : handshake::reading;
    core::outbox out;
    out.view(step.to_peer);
    if (out_.send(out) == sent::failed) return close_at_end_of_stream();
    if (step.came_to == tls_session::progress::failed) {
        handshake_ = handshake::failed;
        return close("TLS startup failed: " + step.session->problem(), true);
    }
    if (step.came_to == tls_session::progress::more) {
        starting_ = std::move(step.session);
        return watch();
    }
    session_.on_channel(step.session->channel());
    out_.secure(std::move(step.session));
    in_.append(step.plain);
    pump();
}

// ---- events from outside ----

void client::welcome(const core::welcome &greeting) {
    if (gone_ || session_.state() != core::client_state::joining) return;
    {
        worker::effects_lease effects(worker_);
        greet(greeting, *effects);
        if (!deliver(*effects)) return;
    }
    arm();
    pump();
}

void client::refuse(core::refusal why, std::string_view argument) {
    if (gone_) return;
    worker::effects_lease effects(worker_);
    session_.on_refused(why, argument, *effects);
    if (deliver(*effects)) close_after(*effects);
}

void client::refuse_by_server(const core::login_error &error) {
    if (gone_) return;
    worker::effects_lease effects(worker_);
    session_.on_server_refused(error, *effects);
    if (deliver(*effects)) close_after(*effects);
}

void client::server_lost(bool mid_message) {
    server_ = nullptr;
    if (gone_) return;
    worker::effects_lease effects(worker_);
    session_.on_server_lost(mid_message, *effects);
    if (deliver(*effects)) close_after(*effects);
}

void client::end_with_server(std::string_view why) {
    server_ = nullptr;
    close(why, true);
}

void client::on_timer(base::time_point now) {
    if (closed_) return;
    if (gone_) return finish();
    if (handshake_ != handshake::none && now >= session_.deadline()) return close("client_login_timeout", false);
    worker::effects_lease effects(worker_);
    session_.on_deadline(now, *effects);
    if (!deliver(*effects)) return;
    if (effects->client == core::client_next::close) return close_after(*effects);
    arm();
}

void client::arm() {
    if (!gone_) worker_.wheel().arm(*this, session_.deadline());
}

// ---- sending ----

bool client::deliver(const core::effects &effects) {
    if (closed_) return false;
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

void client::on_writable() {
    const auto state = out_.flush();
    if (state == sent::some) return;
    if (state == sent::failed) return gone_ ? finish() : close_at_end_of_stream();
    if (gone_) {
        out_.finish_sending();
        return watch();
    }
    if (server_ != nullptr) server_->go_on();
    if (more_) ask_for_more();
    if (!closed_) pump();
}

// ---- the end ----

void client::close_after(const core::effects &effects) {
    if (effects.why == core::client_left) return close(effects.why, blocked(), core::parting::vanished);
    const bool said_why = !effects.to_client.empty();
    if (said_why && worker_.global().log_pooler_errors) log::warning("{} pooler error: {}", name(), effects.why);
    close(effects.why, said_why || blocked());
}

void client::close(std::string_view why, bool linger_for_peer, core::parting how) {
    if (gone_) return;
    gone_ = true;
    if (auto asked = std::exchange(check_, nullptr)) asked_->forget(asked);
    if (worker_.global().log_disconnections && !seat_->looks_up) {
        log::info("{} closing because: {} (age={}s)", name(), why,
                  std::chrono::duration_cast<base::seconds>(worker_.now() - since_).count());
    }
    if (auto *const it = std::exchange(server_, nullptr)) it->client_gone(how, why);
    if (session_.console() != nullptr) leave_console();
    worker_.all().with_ledger([&](core::ledger &ledger, core::orders &orders) { ledger.leave(*seat_, orders); });
    seat_ = nullptr;
    if (!linger_for_peer) return finish();
    // Closing now could reset the connection under the text that says why. The peer may read it, and close first.
    if (out_.unsent_bytes() == 0) out_.finish_sending();
    worker_.wheel().arm(*this, worker_.now() + linger);
    in_.assign_secret({});
    watch();
}

void client::finish() {
    if (closed_) return;
    closed_ = true;
    worker_.ready().remove(*this);
    unlink();
    in_.assign_secret({});
    out_.close();
    worker_.remove(*this);
}

}  // namespace pgsluice::net
