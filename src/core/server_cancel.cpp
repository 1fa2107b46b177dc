// The server machine and cancels: when one may be sent, for which query, and that the server is nobody else's until it
// has had its effect. A cancel never meets a query that it was not meant for, nor an errand of the pooler's.
// The connection that carries it is the driver's. Source: PostgreSQL manual, "Canceling Requests in Progress".
#include "base/seeded_bug.hpp"
#include "core/server_session.hpp"

namespace pgsluice::core {

/// Something of a client's runs, and PostgreSQL has told how to cancel it.
bool server_session::may_cancel() const {
    return key_ && !running_errand() && owed_.owed() > 0 &&
           (state_ == server_state::active || state_ == server_state::abandoned);
}

cancel_answer server_session::on_cancel() {
    if (!key_ || state_ != server_state::active || owed_.owed() == 0) return cancel_answer::nothing;
    if (cancel_pending_) {
        // Many cancels of one query are one; a cancel of the next query is another.
        if (cancel_round_ != rounds_) wait_with_cancel();
        return cancel_answer::wait;
    }
    if (may_cancel()) return cancel_answer::begin;
    wait_with_cancel();
    return cancel_answer::wait;
}

void server_session::wait_with_cancel() {
    cancel_due_ = true;
    cancel_due_round_ = rounds_ + errand_queries_;
}

bool server_session::begin_cancel() {
    if (cancel_pending_ || !may_cancel()) return false;
    cancel_due_ = false;
    cancel_pending_ = true;
    pressed_ = true;
    cancel_round_ = rounds_;
    return true;
}

bool server_session::cancel_wanted() const {
    if (base::seeded(base::bug::cancel_after_reuse)) return cancel_pending_;
    return cancel_pending_ && cancel_round_ == rounds_ && may_cancel();
}

void server_session::on_cancel_over(bool in_time, effects &fx) {
    cancel_pending_ = false;
    if (state_ == server_state::closing) return;
    if (!in_time) return lose("cancel_wait_timeout", fx);
    see_what_is_next(fx);
}

/// A cancel that had to wait: its turn has come, or there is nothing left to cancel.
void server_session::see_to_due_cancel(effects &fx) {
    if (cancel_due_ && rounds_ > cancel_due_round_) cancel_due_ = false;  // what it was meant for is over
    if (!cancel_due_ || cancel_pending_ || fx.server != server_next::none) return;
    if (may_cancel()) {
        fx.server = server_next::cancel;
    } else if (owed_.owed() == 0) {
        cancel_due_ = false;
    }
}

}  // namespace pgsluice::core
