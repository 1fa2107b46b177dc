// The client driver and cancels: the key it hands out, a CancelRequest that it is itself, and one that is meant for it.
#include "core/cancel_book.hpp"
#include "core/cancel_routing.hpp"
#include "net/cancel_connection.hpp"
#include "net/client.hpp"
#include "net/log.hpp"
#include "net/server.hpp"

namespace pgsluice::net {

namespace {

/// With peers the number has few random bits: after so many tries clients may have it in common.
constexpr int tries_alone = 8;

}  // namespace

core::cancel_key client::make_key() {
    core::cancel_key key;
    bool taken = false;
    for (int i = 0; !taken; ++i) {
        const auto bytes = worker_->env().random->bytes(4 + session_.login()->cancel_key_bytes());
        // Drivers read the number as a signed one.
        key = {wire::load_u32(bytes.data()) & 0x7fffffffU, std::string_view(bytes).substr(4)};
        key = core::cancel_routing::of_process(key, worker_->global().peer_id);
        taken = worker_->all().with_ledger(
            [&](core::ledger &ledger, core::orders &) { return ledger.give_key(*seat_, key, i >= tries_alone); });
    }
    return key;
}

/// This connection ends when the cancel has had its effect: that is what the canceling side waits for.
void client::forward_cancel() {
    const auto &shown = session_.login()->cancel();
    const auto found = worker_->all().with_ledger([&](core::ledger &ledger, core::orders &orders) {
        return ledger.cancel(*seat_, {shown.pid, shown.secret}, worker_->now(), orders);
    });
    if (found.forwarded) return;
    if (!found.owner) return close(core::cancel_failed, false);
    auto &here = *worker_;
    auto &there = *worker_->all().workers[found.owner->worker];
    cancel_watch watch{.sent = [&all = here.all(), id = id_] { cancel_sent(all, id); },
                       .over = [&here, id = id_](std::string_view why) { end_cancel(here, id, why); }};
    there.post([&there, id = found.owner->client, watch] { there.cancel(id, watch); });
}

void client::cancel_sent(shared &all, base::client_id id) {
    all.with_ledger([&](core::ledger &ledger, core::orders &) { ledger.cancels().sent(id); });
}

void client::end_cancel(worker &here, base::client_id id, std::string_view why) {
    here.post([&here, id, why] {
        here.order({.what = core::order::kind::drop, .worker = here.index(), .client = id, .why = why});
    });
}

void client::hand_to_peer(const core::order::peer_connection &to) {
    auto &all = worker_->all();
    const bool awaited =
        all.with_ledger([&](core::ledger &ledger, core::orders &) { return ledger.cancels().connecting(id_); });
    if (!awaited) return;
    if (worker_->global().verbose > 0) log::info("{} handing a cancel request to peer {}", name(), to.peer);
    cancel_connection::start_to_peer(
        *worker_, to.host, to.port, {to.key.pid, std::string(to.key.text())}, worker_->global().cancel_wait_timeout,
        [&all, id = id_] {
            cancel_sent(all, id);
            return true;
        },
        [&here = *worker_, &all, id = id_, peer = to.peer](cancel_connection::outcome came_to) {
            if (came_to == cancel_connection::outcome::late)
                log::warning("peer {} has not answered a cancel request within cancel_wait_timeout", peer);
            all.with_ledger([&](core::ledger &ledger, core::orders &orders) { ledger.cancels().over(id, orders); });
            const bool sent = came_to != cancel_connection::outcome::unsent;
            end_cancel(here, id, sent ? core::cancel_sent : core::cancel_failed);
        });
}

void client::cancel(const cancel_watch &watch) {
    if (session_.console() != nullptr) return cancel_console(watch);
    worker::effects_lease effects(*worker_);
    std::size_t taken = 0;
    if (session_.on_cancel_unsent(in_.view(), taken, worker_->now(), *effects)) {
        worker_->all().with_ledger([&](core::ledger &ledger, core::orders &) { ledger.stop_wanting(*seat_); });
        watch.over(core::cancel_of_waiting);
        if (!deliver(*effects)) return;
        in_.assign(in_.view().substr(taken));
        return pump();
    }
    server_ == nullptr ? watch.over(core::cancel_of_idle) : server_->cancel(watch);
}

}  // namespace pgsluice::net
