// The part of the client driver that is an admin's: commands go to the desk, rows and outcomes come back.
#include <utility>

#include "net/client.hpp"
#include "net/console_desk.hpp"

namespace pgsluice::net {

bool client::join_console(core::effects &effects) {
    worker_.all().with_ledger([&](core::ledger &ledger, core::orders &) { ledger.join_console(*seat_); });
    effects.client = core::client_next::none;
    session_.on_console(make_key(), worker_.now(), effects);
    return effects.client == core::client_next::resume;
}

void client::ask_console() {
    const auto &console = *session_.console();
    worker_.all().console->ask({worker_.index(), id_, console.command()});
}

void client::on_console_rows(const core::console_rows &rows, std::shared_ptr<connection_cursor> next) {
    if (gone_) return;
    {
        worker::effects_lease effects(worker_);
        session_.on_console_rows(rows, *effects);
        if (!deliver(*effects)) return;
    }
    more_ = std::move(next);
    if (!blocked()) ask_for_more();
}

void client::ask_for_more() {
    if (auto it = std::exchange(more_, nullptr)) continue_table(worker_.all(), std::move(it));
}

void client::on_console_done(const core::console_outcome &outcome) {
    if (gone_) return;
    {
        worker::effects_lease effects(worker_);
        session_.on_console_done(outcome, *effects);
        if (!deliver(*effects)) return;
    }
    pump();
}

/// As in PgBouncer, a cancel of an admin's is RESUME.
void client::cancel_console(const std::function<void()> &done) {
    worker_.all().console->canceled();
    done();
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
    worker_.all().console->gone(id_);
}

}  // namespace pgsluice::net
