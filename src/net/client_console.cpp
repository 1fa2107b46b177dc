// The part of the client driver that is an admin's: commands go to the desk, rows and outcomes come back.
#include <utility>

#include "core/cancel_book.hpp"
#include "net/client.hpp"
#include "net/console_desk.hpp"
#include "net/log.hpp"

namespace pgsluice::net {

bool client::join_console(core::effects &effects) {
    worker_->all().with_ledger([&](core::ledger &ledger, core::orders &) { ledger.join_console(*seat_); });
    effects.client = core::client_next::none;
    session_.on_console(make_key(), worker_->now(), effects);
    return effects.client == core::client_next::resume;
}

void client::ask_console() {
    const auto &console = *session_.console();
    if (log::debugs()) log::debug("{} got admin query: {}", name(), core::text_of(console.command()));
    worker_->all().console->ask({worker_->index(), id_, console.command()});
}

void client::on_console_rows(const core::console_rows &rows, std::shared_ptr<connection_cursor> next) {
    if (gone()) return;
    {
        worker::effects_lease effects(*worker_);
        session_.on_console_rows(rows, *effects);
        if (!deliver(*effects)) return;
    }
    more_ = std::move(next);
    if (!blocked()) ask_for_more();
}

void client::ask_for_more() {
    if (auto it = std::exchange(more_, nullptr)) continue_table(worker_->all(), std::move(it));
}

void client::on_console_done(const core::console_outcome &outcome) {
    if (gone()) return;
    {
        worker::effects_lease effects(*worker_);
        session_.on_console_done(outcome, *effects);
        log_console_errors();
        if (!deliver(*effects)) return;
    }
    pump();
}

void client::log_console_errors() {
    for (const auto &error : session_.take_console_errors())
        if (worker_->global().log_pooler_errors) log::warning("{} pooler error: {}", name(), error);
}

/// As in PgBouncer, a cancel of an admin's is RESUME: so it needs the right to RESUME.
void client::cancel_console(const cancel_watch &watch) {
    if (session_.console()->rights() != core::console_rights::admin) return watch.over(core::cancel_of_idle);
    worker_->all().console->canceled(id_);
    watch.over(core::cancel_sent);
}

worker::description worker::describe(base::client_id id) const {
    const auto found = clients_.find(id);
    if (found == clients_.end()) return {};
    const auto &session = found->second->session();
    const auto *const parameters = session.parameters().get();
    return {session.user(), parameters == nullptr ? std::string() : std::string(parameters->value("application_name")),
            session.activity()};
}

void client::leave_console() {
    worker_->all().console->gone(id_);
}

}  // namespace pgsluice::net
