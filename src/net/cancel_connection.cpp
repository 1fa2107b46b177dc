// The life of one CancelRequest.
#include "net/cancel_connection.hpp"

#include <array>

#include "wire/startup.hpp"

namespace pgsluice::net {

cancel_connection::cancel_connection(worker &owner, const core::backend_key &key, std::function<bool()> wanted,
                                     std::function<void(bool)> done)
    : worker_(owner), wanted_(std::move(wanted)), done_(std::move(done)) {
    wire::append_cancel_request(request_, key.pid, key.secret);
}

void cancel_connection::start(worker &owner, const place_to_dial &place, const core::backend_key &key,
                              base::duration limit, std::function<bool()> still_wanted,
                              std::function<void(bool)> done) {
    auto it = std::make_shared<cancel_connection>(owner, key, std::move(still_wanted), std::move(done));
    owner.keep(it);
    if (limit > base::duration::zero()) it->deadline_ = owner.now() + limit;
    dial(owner.all().control, place, limit,
         [it, &owner](dialled result) { owner.post([it, result = std::move(result)] { it->on_dialled(result); }); });
}

void cancel_connection::on_dialled(const dialled &result) {
    out_ = stream(result.fd);
    // Nothing was sent, so nothing can be cancelled by mistake.
    if (result.fd < 0 || !wanted_()) return finish(true);
    core::outbox request;
    request.view(request_);
    if (out_.send(request) != sent::all) return finish(true);
    worker_.ready().add(*this, out_.fd(), EPOLLIN);
    worker_.wheel().arm(*this, deadline_);
}

void cancel_connection::on_ready(std::uint32_t) {
    std::array<char, 64> ignored;
    if (out_.receive(ignored.data(), ignored.size()) < 0) finish(true);
}

void cancel_connection::on_timer(base::time_point now) {
    now < deadline_ ? worker_.wheel().arm(*this, deadline_) : finish(false);
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
