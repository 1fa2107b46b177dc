// The life of one CancelRequest.
#include "net/cancel_connection.hpp"

#include "core/cancel_book.hpp"
#include "net/late_watch.hpp"
#include "net/log.hpp"
#include "wire/startup.hpp"

namespace pgsluice::net {

cancel_connection::cancel_connection(worker &owner, encryption how, const core::backend_key &key,
                                     std::function<bool()> wanted, std::function<void(outcome)> done)
    : worker_(owner), encryption_(how), wanted_(std::move(wanted)), done_(std::move(done)), since_(owner.now()) {
    wire::append_cancel_request(request_, key.pid, key.secret);
}

void cancel_connection::start(worker &owner, std::string whose, const place_to_dial &place, bool encrypted,
                              const core::backend_key &key, base::duration limit, std::function<bool()> still_wanted,
                              std::function<void(outcome)> done) {
    const auto how = encrypted ? encryption::needed : encryption::none;
    auto it = std::make_shared<cancel_connection>(owner, how, key, std::move(still_wanted), std::move(done));
    it->whose_ = std::move(whose);
    owner.keep(it);
    if (limit > base::duration::zero()) it->deadline_ = owner.now() + limit;
    dial(owner.all(), place, limit,
         [it, &owner](dialled result) { owner.post([it, result = std::move(result)] { it->on_dialled(result); }); });
}

void cancel_connection::start_to_peer(worker &owner, const std::string &host, int port, const core::backend_key &key,
                                      base::duration limit, std::function<bool()> still_wanted,
                                      std::function<void(outcome)> done) {
    const auto mode = owner.global().server_tls_sslmode;
    const auto how = mode >= config::sslmode::require  ? encryption::needed
                     : mode == config::sslmode::prefer ? encryption::wanted
                                                       : encryption::none;
    auto it = std::make_shared<cancel_connection>(owner, how, key, std::move(still_wanted), std::move(done));
    it->to_peer_ = true;
    owner.keep(it);
    if (limit > base::duration::zero()) it->deadline_ = owner.now() + limit;
    dial(owner.all(), host, port, limit, nullptr,
         [it, &owner](dialled result) { owner.post([it, result = std::move(result)] { it->on_dialled(result); }); });
}

/// Without asking first; other poolers are asked.
bool cancel_connection::starts_with_tls() const {
    const auto &context = worker_.tls().servers;
    return !to_peer_ && context->settings().negotiation == config::tls_negotiation::direct;
}

void cancel_connection::on_dialled(const dialled &result) {
    out_ = stream(result.fd);
    host_ = result.place.host;
    if (result.fd < 0 && to_peer_)
        log::warning("no cancel request can be handed to {}: {}: {}", host_, result.problem, result.detail);
    // Nothing was sent, so nothing can be cancelled by mistake.
    if (result.fd < 0 || !done_) return finish(true);
    worker_.wheel().arm(*this, deadline_);
    if (!result.place.tcp) encryption_ = encryption::none;
    if (encryption_ == encryption::none) return send_request();
    const auto &context = worker_.tls().servers;
    if (!context) return finish(true);
    if (starts_with_tls()) return begin_handshake();
    core::outbox request;
    request.make([](std::string &out) { wire::append_ssl_request(out); });
    if (out_.send(request) != sent::all) return finish(true);
    asked_ = true;
    watch();
}

void cancel_connection::watch() {
    watch_or_later(worker_, *this, *this, out_.fd(), EPOLLIN);
}

void cancel_connection::send_request() {
    if (!wanted_()) return finish(true);
    core::outbox request;
    request.view(request_);
    sent_ = true;
    if (out_.send(request) != sent::all) return finish(true);
    watch();
}

void cancel_connection::on_ready(std::uint32_t) {
    const auto self = shared_from_this();
    const bool computing = encryption_ != encryption::none && !asked_ && !sent_ && !starting_;
    if (computing) return finish(true);  // an end of the connection: nothing else is watched for
    const long count = out_.receive(worker_.scratch(), worker::scratch_bytes);
    if (count < 0) return finish(true);
    if (count == 0 || sent_) return;
    const std::string_view bytes(worker_.scratch(), static_cast<std::size_t>(count));
    if (!asked_) return shake_hands(std::string(bytes));
    asked_ = false;
    if (bytes == "S") return begin_handshake();
    if (bytes != "N" || encryption_ == encryption::needed) return finish(true);
    encryption_ = encryption::none;
    send_request();
}

// ---- TLS ----

void cancel_connection::begin_handshake() {
    const auto &context = worker_.tls().servers;
    if (!context) return finish(true);
    starting_ = context->connect(host_, starts_with_tls());
    shake_hands({});
}

void cancel_connection::shake_hands(std::string from_peer) {
    if (ready_set::has(*this)) worker_.ready().change(*this, 0);
    const auto taken = worker_.all().crypto.run(
        worker_, {crypto_pool::side::server, {}}, std::move(starting_), std::move(from_peer),
        [self = shared_from_this()](handshake_step step) { self->on_handshake(std::move(step)); });
    if (!taken) finish(true);
}

void cancel_connection::on_handshake(handshake_step step) {
    if (!done_) return;
    core::outbox out;
    out.view(step.to_peer);
    if (out_.send(out) != sent::all || step.came_to == tls_session::progress::failed) return finish(true);
    if (step.came_to == tls_session::progress::done) {
        out_.secure(std::move(step.session));
        return send_request();
    }
    starting_ = std::move(step.session);
    watch();
}

void cancel_connection::on_timer(base::time_point now) {
    if (now >= deadline_) return finish(!sent_);
    if (!ready_set::has(*this) && (asked_ || sent_ || starting_)) watch();  // an answer is awaited
    worker_.wheel().arm(*this, deadline_);
}

void cancel_connection::finish(bool in_time) {
    if (!done_) return;
    worker_.ready().remove(*this);
    timer_hook::unlink();
    out_.close();
    wanted_ = nullptr;
    worker_.remove(*this);
    const auto came_to = !sent_ ? outcome::unsent : in_time ? outcome::sent : outcome::late;
    if (!whose_.empty() && sent_) log_end(came_to);
    std::exchange(done_, nullptr)(came_to);
}

/// As PgBouncer, to whom it is one of the servers.
void cancel_connection::log_end(outcome came_to) const {
    log::info("S-{}: {} closing because: {} (age={}s)", static_cast<const void *>(this), whose_,
              came_to == outcome::late ? "cancel_wait_timeout" : core::cancel_sent,
              std::chrono::duration_cast<base::seconds>(worker_.now() - since_).count());
}

}  // namespace pgsluice::net
