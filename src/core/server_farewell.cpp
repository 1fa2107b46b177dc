// The server machine when its client goes in the middle of something: what the client left behind is ended in an
// orderly way and answered to nobody, so that the server can be kept. Whatever is in doubt is closed instead. Source:
// PostgreSQL manual, "Message Flow" (COPY Operations, Extended Query, Canceling Requests in Progress).
#include "base/seeded_bug.hpp"
#include "core/server_session.hpp"
#include "wire/backend.hpp"
#include "wire/frontend.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;

void server_session::farewell(parting how, std::string_view why, effects &fx) {
    link_over();
    client_ = nullptr;
    if (clean() || (base::seeded(base::bug::pooled_mid_row) && body_left_ > 0)) return leave_cleanly(fx);
    const bool keep =
        how == parting::vanished && settings_->client_disconnect_action == config::disconnect_action::cancel;
    if (how == parting::vanished) {
        why = owed_.owed() > 0 ? "client disconnected with query in progress"
                               : "client disconnect while server was not ready";
    }
    // Half a message can not be taken back, and what can not be told for sure can not be ended for sure.
    const bool in_doubt = owed_.doubtful() && !owed_.sounding();
    if (!keep || state_ != server_state::active || upload_open_ || in_doubt) return lose(why, fx);
    enter(server_state::abandoned);
    body_forward_ = false;
    pressed_ = false;
    if (!running_errand()) errand_failed_ = false;
    forget_unnamed();
    retry_.clear();  // nothing is sent again for nobody
    cancel_due_ = false;
    end_requests(fx);
    go_on_leaving(fx);
}

/// Nothing more will come from the client: a COPY from it fails, and a batch without an end says how far it has come.
void server_session::end_requests(effects &fx) {
    if (owed_.copying_in()) {
        fx.to_server.make([](std::string &out) { frontend::append_copy_fail(out, "the client has gone"); });
        owed_.sent(request::copy_end, asker::pooler);
        pressed_ = true;  // it ends as by a cancel
        cancel_round_ = rounds_;
    }
    if (owed_.batch_open() && owed_.owed() > 0) fx.to_server.make(frontend::append_flush);
}

void server_session::go_on_leaving(effects &fx) {
    if (!abandoned() || fx.server != server_next::none) return;
    if (owed_.sounding()) return;
    if (owed_.doubtful() || errand_failed_) return lose("client disconnected with query in progress", fx);
    // A cancel that is still under way could strike what we say next.
    if (cancel_pending_) return;
    if (owed_.owed() > 0) {
        const bool only_sync = owed_.owed() == 1 && owed_.next_asker() == asker::pooler;
        if (may_cancel() && owed_.may_be_cut_short() && !only_sync && !(pressed_ && cancel_round_ == rounds_))
            fx.server = server_next::cancel;
        return;
    }
    if (unsent_ || frame_open_ || body_left_ > 0) return;
    const bool batch = owed_.batch_open(), failed = owed_.skipping();
    // A Sync alone would commit what the client never committed.
    if (!failed && (batch || status_ != backend::status_idle)) run(errand::rollback, "ROLLBACK", fx);
    if (batch || failed) {
        fx.to_server.make(frontend::append_sync);
        owed_.sent(request::sync, asker::pooler);
    }
    if (owed_.owed() == 0) leave_cleanly(fx);
}

void server_session::on_farewell_slow(effects &fx) {
    pressed_ = false;  // the last one may have come before the query had begun
    go_on_leaving(fx);
}

/// The proof holds, except that in session mode the next client wants a session as good as new.
void server_session::leave_cleanly(effects &fx) {
    enter(server_state::idle);
    const auto &settings = *settings_;
    bool reset = settings.pool_mode == config::pool_mode::session || settings.server_reset_query_always;
    if (base::seeded(base::bug::no_reset)) reset = false;
    if (reset && !settings.server_reset_query.empty()) return run(errand::reset, settings.server_reset_query, fx);
    fx.server = server_next::release;
}

}  // namespace pgsluice::core
