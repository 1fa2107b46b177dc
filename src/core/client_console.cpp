// The part of client_session that is an admin's: from the login to the console on, its bytes are console_session's.
#include "core/client_session.hpp"

namespace pgsluice::core {

using base::time_point;

void client_session::on_console(const cancel_key &key, time_point now, effects &fx) {
    const auto rights = login_->rights();
    if (!rights) return close_with(refusal::console_not_allowed, fx);
    // A route that leads nowhere: it has the names.
    auto own = std::make_shared<route>();
    own->database = login_->database();
    own->user = login_->user();
    auto asked = std::make_shared<parameter_set>();
    for (const auto &[name, value] : login_->parameters())
        if (name == "application_name") asked->put({.name = name, .value = value});
    parameters_ = std::move(asked);
    route_ = std::move(own);
    if (env_->traffic != nullptr) traffic_ = &env_->traffic->console();
    count(figure::logins, 1);
    console_ = std::make_unique<console_session>(*rights, traffic_);
    console_session::welcome(key.pid, key.text(), login_->parameters(), fx);
    login_.reset();
    enter(client_state::console, now);
    fx.client = client_next::resume;
}

const char *client_session::activity() const {
    if (server_ == nullptr || phase_ == link_phase::quiet) return "idle";
    return phase_ == link_phase::running ? "active" : "idle in transaction";
}

void client_session::on_console_rows(const std::vector<console_row> &rows, effects &fx) {
    if (state_ == client_state::console) console_->on_rows(rows, fx);
}

void client_session::on_console_done(const console_outcome &outcome, effects &fx) {
    if (state_ != client_state::console) return;
    console_->on_done(outcome, fx);
    fx.client = client_next::resume;
}

}  // namespace pgsluice::core
