// What the server driver does for a CancelRequest: one connection after the other to the same backend, and the answers
// to those who asked. On the server's worker; the rules are the machine's (core/server_cancel.cpp).
#include "net/cancel_connection.hpp"
#include "net/log.hpp"
#include "net/server.hpp"

namespace pgsluice::net {

void server::cancel(const cancel_watch &watch) {
    const auto answer = closed_ || draining_ ? core::cancel_answer::nothing : session_->on_cancel();
    if (answer == core::cancel_answer::nothing) return watch.over(core::cancel_of_idle);
    cancels_.emplace_back(session_->rounds(), watch);
    if (answer == core::cancel_answer::begin) return start_cancel();
    // One of many for the same query, whose request has gone out.
    if (cancel_sent_in_ == session_->rounds()) watch.sent();
}

void server::start_cancel() {
    if (!session_->begin_cancel()) return answer_cancels();
    if (log::debugs()) log::debug("{} started sending cancel request", name());
    tell_of_cancel();
    cancel_connection::start(
        worker_, whose(), place_, out_.secured(), *session_->key(), worker_.global().cancel_wait_timeout,
        [self = boost::intrusive_ptr(this)] {
            if (self->closed_ || self->draining_ || !self->session_->cancel_wanted()) return false;
            self->cancel_sent_in_ = self->session_->rounds();
            for (const auto &[round, watch] : self->cancels_)
                if (round == self->session_->rounds()) watch.sent();
            return true;
        },
        [self = boost::intrusive_ptr(this)](cancel_connection::outcome came_to) {
            self->cancel_over(came_to != cancel_connection::outcome::late);
        });
}

void server::cancel_over(bool in_time) {
    if (closed_) return;
    settle();
    worker::effects_lease effects(worker_);
    session_->on_cancel_over(in_time, *effects);
    tell_of_cancel();
    answer_cancels();
    if (draining_ || !deliver(*effects)) return;
    act(*effects);
    watch();
}

/// For SHOW POOLS: one is under way, and maybe it is all that keeps the server from the next client.
void server::tell_of_cancel() {
    const bool canceling = session_->canceling(), held = session_->held_by_cancel();
    if (canceling == canceling_ && held == held_) return;
    canceling_ = canceling;
    held_ = held;
    worker_.all().with_ledger([&](core::ledger &ledger, core::orders &) { ledger.canceling(*seat_, canceling, held); });
}

/// Tells those whose cancel is over, or has nothing left to cancel.
void server::answer_cancels() {
    if (cancels_.empty()) return;
    const bool ended = closed_ || draining_;
    auto all = std::exchange(cancels_, {});
    for (auto &it : all) {
        if (!ended && session_->cancel_waits(it.first)) {
            cancels_.push_back(std::move(it));
        } else {
            it.second.over(cancel_sent_in_ == it.first ? core::cancel_sent : core::cancel_of_idle);
        }
    }
}

}  // namespace pgsluice::net
