// The life of one CancelRequest.
#include "net/cancel_connection.hpp"

#include "wire/startup.hpp"

namespace pgsluice::net {

cancel_connection::cancel_connection(worker &owner, bool encrypted, const core::backend_key &key,
                                     std::function<bool()> wanted, std::function<void(bool)> done)
    : worker_(owner), encrypted_(encrypted), wanted_(std::move(wanted)), done_(std::move(done)) {
    wire::append_cancel_request(request_, key.pid, key.secret);
}

void cancel_connection::start(worker &owner, const place_to_dial &place, bool encrypted, const core::backend_key &key,
                              base::duration limit, std::function<bool()> still_wanted,
                              std::function<void(bool)> done) {
    auto it = std::make_shared<cancel_connection>(owner, encrypted, key, std::move(still_wanted), std::move(done));
    owner.keep(it);
    if (limit > base::duration::zero()) it->deadline_ = owner.now() + limit;
    dial(owner.all().control, place, limit,
         [it, &owner](dialled result) { owner.post([it, result = std::move(result)] { it->on_dialled(result); }); });
}

void cancel_connection::on_dialled(const dialled &result) {
    out_ = stream(result.fd);
    host_ = result.place.host;
    // Nothing was sent, so nothing can be cancelled by mistake.
    if (result.fd < 0 || !done_) return finish(true);
    worker_.wheel().arm(*this, deadline_);
    if (!encrypted_) return send_request();
    const auto &context = worker_.tls().servers;
    if (!context) return finish(true);
    if (context->settings().negotiation == config::tls_negotiation::direct) return begin_handshake();
    core::outbox request;
    request.make([](std::string &out) { wire::append_ssl_request(out); });
    if (out_.send(request) != sent::all) return finish(true);
    asked_ = true;
    worker_.ready().add(*this, out_.fd(), EPOLLIN);
}

void cancel_connection::send_request() {
    if (!wanted_()) return finish(true);
    core::outbox request;
    request.view(request_);
    sent_ = true;
    if (out_.send(request) != sent::all) return finish(true);
    ready_set::has(*this) ? worker_.ready().change(*this, EPOLLIN) : worker_.ready().add(*this, out_.fd(), EPOLLIN);
}

void cancel_connection::on_ready(std::uint32_t) {
    const auto self = shared_from_this();
    const bool computing = encrypted_ && !asked_ && !sent_ && !starting_;
    if (computing) return finish(true);  // an end of the connection: nothing else is watched for
    const long count = out_.receive(worker_.scratch(), worker::scratch_bytes);
    if (count < 0) return finish(true);
    if (count == 0 || sent_) return;
    const std::string_view bytes(worker_.scratch(), static_cast<std::size_t>(count));
    if (!asked_) return shake_hands(std::string(bytes));
    asked_ = false;
    bytes == "S" ? begin_handshake() : finish(true);
}

// ---- TLS ----

void cancel_connection::begin_handshake() {
    const auto &context = worker_.tls().servers;
    if (!context) return finish(true);
    starting_ = context->connect(host_, context->settings().negotiation == config::tls_negotiation::direct);
    shake_hands({});
}

void cancel_connection::shake_hands(std::string from_peer) {
    if (ready_set::has(*this)) worker_.ready().change(*this, 0);
    const bool taken = worker_.all().crypto.run(
        worker_, crypto_pool::whose::server, std::move(starting_), std::move(from_peer),
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
    ready_set::has(*this) ? worker_.ready().change(*this, EPOLLIN) : worker_.ready().add(*this, out_.fd(), EPOLLIN);
}

void cancel_connection::on_timer(base::time_point now) {
    now < deadline_ ? worker_.wheel().arm(*this, deadline_) : finish(!sent_);
}

void cancel_connection::finish(bool in_time) {
    if (!done_) return;
    worker_.ready().remove(*this);
    timer_hook::unlink();
    out_.close();
    wanted_ = nullptr;
    worker_.remove(*this);
    std::exchange(done_, nullptr)(in_time);
}

}  // namespace pgsluice::net
