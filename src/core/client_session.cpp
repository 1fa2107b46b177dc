// The client machine: welcome, the link to a server, and every deadline. What it relays: client_requests.cpp.
#include "core/client_session.hpp"

#include <algorithm>

#include "base/memory.hpp"
#include "base/seeded_bug.hpp"
#include "wire/backend.hpp"
#include "wire/error_response.hpp"
#include "wire/frontend.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;
using base::deadline_after;
using base::time_point;

const char *to_string(client_state state) {
    switch (state) {
        case client_state::login:
            return "login";
        case client_state::joining:
            return "login";
        case client_state::idle:
            return "idle";
        case client_state::waiting:
            return "waiting";
        case client_state::preparing:
        case client_state::active:
            return "active";
        case client_state::console:
            return "active";
        case client_state::closing:
            return "closing";
    }
    return "?";
}

client_session::client_session(base::client_id id, const environment &env, time_point now, client_facts facts)
    : env_(&env), id_(id), login_(std::make_unique<client_login>(env, std::move(facts))), since_(now) {}

// ---- from the first byte to the welcome ----

std::size_t client_session::on_bytes(std::string_view bytes, time_point now, effects &fx) {
    switch (state_) {
        case client_state::login: {
            if (login_->keeping()) return 0;
            const auto used = login_->on_bytes(bytes, fx);
            if (login_->keeps_back(now, fx)) return used;
            if (fx.client == client_next::close || fx.client == client_next::cancel) state_ = client_state::closing;
            return used;
        }
        case client_state::idle:
        case client_state::active:
            return relay(bytes, now, fx);
        case client_state::joining:
        case client_state::waiting:
        case client_state::preparing:
            return 0;
        case client_state::console: {
            const auto used = console_->on_bytes(bytes, fx);
            if (console_->running()) asked_at_ = now;
            if (fx.client == client_next::close) state_ = client_state::closing;
            return used;
        }
        case client_state::closing:
            return bytes.size();
    }
    return bytes.size();
}

void client_session::on_named(const std::string &host_name, effects &fx) {
    if (state_ != client_state::login) return;
    login_->on_named(host_name, fx);
    if (fx.client == client_next::close) state_ = client_state::closing;
}

void client_session::on_secret(const secret_answer &answer, effects &fx) {
    if (state_ != client_state::login) return;
    login_->on_secret(answer, fx);
    if (fx.client == client_next::close) state_ = client_state::closing;
}

void client_session::on_checked(const auth::password_verdict &answer, time_point now, effects &fx) {
    if (state_ != client_state::login) return;
    login_->on_checked(answer, fx);
    if (!login_->keeps_back(now, fx) && fx.client == client_next::close) state_ = client_state::closing;
}

void client_session::on_derived(const auth::scram_keys &keys, time_point now, effects &fx) {
    if (state_ != client_state::login) return;
    login_->on_derived(keys, fx);
    if (!login_->keeps_back(now, fx) && fx.client == client_next::close) state_ = client_state::closing;
}

void client_session::on_joined(shared_route route, time_point now) {
    route_ = std::move(route);
    if (env_->traffic != nullptr) traffic_ = &env_->traffic->of(route_->pool);
    state_ = client_state::joining;
    // Else since_ stays: client_login_timeout covers the wait for the pool's first server.
    if (replicates()) since_ = now;
    asked_at_ = now;
}

namespace {

/// In PgBouncer's order: what nobody can set as the server has it, then what is kept for each client.
void append_parameters(std::string &out, const parameter_set &all, const std::vector<std::string> &extra) {
    for (const auto it : all)
        if (it.reported && !base::is_among(always_tracked, it.name) && !base::is_among(extra, it.name))
            backend::append_parameter_status(out, it.name, it.value);
    const auto append = [&](std::string_view name) {
        if (const auto it = all.find(name); it && it->reported)
            backend::append_parameter_status(out, it->name, it->value);
    };
    for (const auto &name : always_tracked) append(name);
    for (const auto &name : extra)
        if (!base::is_among(always_tracked, name)) append(name);
}

}  // namespace

client_session::~client_session() {
    const auto names = statements();
    if (names == 0) return;
    statements_.reset();
    env_->statements->let_go(names);
}

void client_session::move_to(const environment &env) {
    env_ = &env;
    if (login_) login_->move_to(env);
    if (traffic_ != nullptr) traffic_ = &env_->traffic->of(route_->pool);
}

void client_session::on_welcome(const welcome &greeting, const cancel_key &key, time_point now, effects &fx) {
    // A server that was opened for it alone has its parameters from the start.
    parameters_ = replicates() ? greeting.parameters
                               : env_->starts->begin(route_->pool, greeting.parameters, login_->parameters());
    at_startup_ = parameters_;
    fx.to_client.make([&](std::string &out) {
        backend::append_authentication(out, backend::authentication_code::ok);
        append_parameters(out, *parameters_, env_->settings->global.track_extra_parameters);
        backend::append_backend_key_data(out, key.pid, key.text());
        const auto &message = env_->settings->global.login_notify_message;
        if (!message.empty()) append_login_notice(out, message);
        backend::append_ready_for_query(out, backend::status_idle);
    });
    login_.reset();
    count(figure::logins, 1);
    // For the pool's first server, or for one of its own.
    if (traffic_ != nullptr)
        traffic_->add(figure::wait_time, std::chrono::duration_cast<base::duration>(now - asked_at_));
    enter(client_state::idle, now);
    fx.client = client_next::resume;
}

void client_session::close_with(refusal why, effects &fx, std::string_view argument, std::string_view detail) {
    // In the middle of a server's message a text of ours would be read as part of it; after its FATAL nobody reads on.
    fx.untold = server_ != nullptr && (server_->relaying_message() || server_->said_farewell());
    if (!fx.untold) {
        fx.to_client.make([&](std::string &out) {
            append_refusal(out, why, argument, env_->settings->global.error_sqlstate, detail);
        });
    }
    if (fx.why.empty()) fx.why = words(why, argument).message;
    fx.client = client_next::close;
    state_ = client_state::closing;
}

void client_session::on_refused(refusal why, std::string_view argument, effects &fx, std::string_view detail) {
    close_with(why, fx, argument, detail);
}

void client_session::on_server_refused(const login_error &error, effects &fx) {
    fx.to_client.make([&](std::string &out) {
        wire::append_error_response(out, {"FATAL", error.sqlstate, error.message, error.detail, ""});
    });
    fx.why = error.message;
    fx.client = client_next::close;
    state_ = client_state::closing;
}

// ---- the link ----

void client_session::on_granted(server_session &server, time_point now, effects &fx) {
    server_ = &server;
    server.link(*this);
    phase_ = link_phase::quiet;
    rounds_ = server.rounds();
    begin_count(now);
    transaction_since_ = now;
    bound_drop_ = false;
    bound_.known = uses_ = false;  // what they hold mostly is what comes next
    notified_ = false;
    enter(client_state::active, now);
    fx.client = client_next::resume;
    if (server.has(parameters_)) return;
    switch (server.adapt(parameters_, fx)) {
        case adaptation::none:
            return adopt(server.parameters(), fx);
        case adaptation::on_its_way:
            return;
        case adaptation::awaited:
            enter(client_state::preparing, now);
            fx.client = client_next::none;
            return;
    }
}

/// What the server makes of our values is what the client has: it may spell them in its own way (utc, UTC).
void client_session::adopt(const shared_parameters &theirs, effects &fx) {
    match(*parameters_, *theirs, [&](const parameter *told, const parameter *it) {
        if (it == nullptr || !it->reported || (told != nullptr && told->value == it->value)) return;
        fx.to_client.make([&](std::string &out) { backend::append_parameter_status(out, it->name, it->value); });
    });
    env_->starts->accepted(parameters_, *theirs);
    parameters_ = theirs;
}

void client_session::on_parameters_applied(const server_session &server, effects &fx) {
    adopt(server.parameters(), fx);
    if (state_ == client_state::preparing) {
        state_ = client_state::active;
        fx.client = client_next::resume;
    }
}

void client_session::on_parameters_refused(std::string_view error_response, effects &fx) {
    fx.to_client.make([&](std::string &out) { out += error_response; });
    fx.why = words(refusal::invalid_server_parameter).message;
    fx.client = client_next::close;
    state_ = client_state::closing;
}

bool client_session::on_parameter_report(const shared_parameters &before, const shared_parameters &now,
                                         const parameter_set *reset_to, effects &fx) {
    if (parameters_ == before && reset_to == nullptr) {
        parameters_ = now;
        return false;
    }
    bool brought_back = false;
    std::vector<parameter> changes;
    match(*before, *now, [&](const parameter *old, const parameter *it) {
        if (it == nullptr || (old != nullptr && *old == *it)) return;
        const bool reset = reset_to != nullptr && !is_fixed(it->name) && it->value == reset_to->value(it->name);
        const auto asked = reset ? at_startup_->find(it->name) : std::nullopt;
        brought_back = asked && asked->value != it->value;
        changes.push_back(brought_back ? *asked : *it);
        if (!brought_back) return;
        fx.to_client.make([&](std::string &out) { backend::append_parameter_status(out, asked->name, asked->value); });
    });
    parameters_ = std::make_shared<parameter_set>(parameters_->with(changes));
    return brought_back;
}

void client_session::on_released(time_point now) {
    if (server_ != nullptr) server_->has(parameters_);
    server_ = nullptr;
    deallocating_.clear();
    if (uses_) {
        if (bound_.portal.capacity() > name_max_bytes) base::give_back(bound_.portal);
        if (bound_.name.capacity() > name_max_bytes) base::give_back(bound_.name);
    }
    phase_ = link_phase::quiet;
    transaction_since_ = base::never;
    stalled_ = false;
    enter(client_state::idle, now);
}

void client_session::on_statements_settled(std::string_view outcomes) {
    book().settle(outcomes);
}

void client_session::on_rows_changed() {
    if (uses_ && used_->known) env_->statements->renew(used_);
}

void client_session::on_all_deallocated() {
    if (!statements_) return;
    const auto names = statements_->count();
    statements_->drop_all_named();
    env_->statements->let_go(names);
}

void client_session::on_server_lost(bool mid_message, effects &fx) {
    server_ = nullptr;
    if (state_ == client_state::closing) return;
    if (mid_message) {
        fx.why = words(refusal::server_gone).message;
        fx.untold = true;
        fx.client = client_next::close;
        state_ = client_state::closing;
    } else {
        close_with(refusal::server_gone, fx);
    }
}

void client_session::on_progress(time_point now, effects &fx) {
    if (server_ == nullptr || state_ != client_state::active) return;
    const auto &owed = server_->owed();
    const auto next = owed.owed() > 0 || owed.batch_open()        ? link_phase::running
                      : server_->status() != backend::status_idle ? link_phase::in_transaction
                                                                  : link_phase::quiet;
    const bool answered = server_->rounds() != rounds_;
    if (answered) count_answers(now);
    rounds_ = server_->rounds();
    if (next != phase_ || answered) {
        phase_ = next;
        since_ = now;
    }
    // In a pipeline one transaction follows the other without a pause.
    if (answered && server_->status() == backend::status_idle) {
        transaction_since_ = now;
        if (!deallocating_.empty()) forget_ended_portals();
    }
    if (next == link_phase::quiet) transaction_since_ = base::never;
    if (stalled_ && fx.client == client_next::none) {  // tries again; it stalls again when it must
        stalled_ = false;
        fx.client = client_next::resume;
    }
}

// ---- what is counted ----

void client_session::begin_count(time_point now) {
    asked_at_ = state_ == client_state::waiting ? since_ : now;
    answered_ = server_->answered();
    ended_ = server_->ended();
    parsed_ = server_->owed().parses();
    if (traffic_ == nullptr) return;
    ++(*traffic_)[figure::assignments];
    traffic_->add(figure::wait_time, std::chrono::duration_cast<base::duration>(now - asked_at_));
}

/// Before the times of the answered requests give way to those of the next ones.
void client_session::count_answers(time_point now) {
    const auto answered = server_->answered(), ended = server_->ended(), parsed = server_->owed().parses();
    if (traffic_ != nullptr && answered != answered_) {
        auto &sum = *traffic_;
        sum[figure::queries] += answered - answered_;
        sum[figure::transactions] += ended - ended_;
        sum[figure::server_parses] += parsed - parsed_;
        if (phase_ == link_phase::running)
            sum.add(figure::query_time, std::chrono::duration_cast<base::duration>(now - since_));
        if (ended != ended_ && transaction_since_ != base::never)
            sum.add(figure::transaction_time, std::chrono::duration_cast<base::duration>(now - transaction_since_));
    }
    answered_ = answered;
    ended_ = ended;
    parsed_ = parsed;
}

// ---- a cancel before the request has gone out ----

bool client_session::on_cancel_unsent(std::string_view bytes, std::size_t &taken, time_point now, effects &fx) {
    wire::frame message;
    const bool unsent = state_ == client_state::waiting || state_ == client_state::preparing;
    // The rest of a message whose beginning has been answered so is no header.
    if (!unsent || body_left_ > 0 || wire::read_frame(bytes, message) != wire::framing::ok) return false;
    fx.to_client.make([&](std::string &out) {
        append_refusal(out, refusal::canceled);
        if (message.type == frontend::query || message.type == frontend::function_call) {
            backend::append_ready_for_query(out, backend::status_idle);
        }
    });
    skip_to_sync_ = message.type != frontend::query && message.type != frontend::function_call;
    taken = message.here_bytes();
    body_left_ = message.missing_bytes();
    body_forward_ = false;
    if (state_ == client_state::preparing) return true;  // its server is released when it is ready
    enter(client_state::idle, now);
    fx.client = client_next::resume;
    return true;
}

// ---- time ----

time_point client_session::deadline() const {
    // One of replication waits for a slot of the pool here.
    if (state_ == client_state::joining && replicates())
        return deadline_after(since_, route_->limits.query_wait_timeout);
    if (state_ == client_state::login || state_ == client_state::joining) {
        const auto timeout = route_ ? route_->client_login_timeout : env_->settings->global.client_login_timeout;
        const auto due = deadline_after(since_, timeout);
        return login_ && login_->keeping() ? std::min(due, login_->kept_until()) : due;
    }
    if (!route_) return base::never;
    const auto &limits = route_->limits;
    switch (state_) {
        case client_state::idle:
            return deadline_after(since_, limits.client_idle_timeout);
        case client_state::waiting: {
            auto due = std::min(deadline_after(since_, limits.query_wait_timeout),
                                deadline_after(since_, limits.query_timeout));
            if (!notified_) due = std::min(due, deadline_after(since_, route_->query_wait_notify));
            return due;
        }
        case client_state::preparing:
            return deadline_after(since_, limits.query_timeout);
        case client_state::active: {
            auto due = transaction_since_ == base::never
                           ? base::never
                           : deadline_after(transaction_since_, limits.transaction_timeout);
            switch (phase_) {
                case link_phase::running:
                    return std::min(due, deadline_after(since_, limits.query_timeout));
                case link_phase::in_transaction:
                    return std::min(due, deadline_after(since_, limits.idle_transaction_timeout));
                case link_phase::quiet:
                    return deadline_after(since_, limits.client_idle_timeout);
            }
            return due;
        }
        default:
            return base::never;
    }
}

void client_session::on_deadline(time_point now, effects &fx, std::string_view why_waiting) {
    if (now < deadline()) return;
    const auto passed = [&](time_point start, base::duration length) { return now >= deadline_after(start, length); };
    switch (state_) {
        case client_state::login:
            if (!login_->keeping() || now < login_->kept_until()) return close_with(refusal::login_timeout, fx);
            login_->tell_kept(fx);
            if (fx.client == client_next::close) state_ = client_state::closing;
            return;
        case client_state::joining:
            return replicates() ? close_with(refusal::query_wait_timeout, fx, why_waiting)
                                : close_with(refusal::login_timeout_server_down, fx, why_waiting);
        case client_state::idle:
            return close_with(refusal::client_idle_timeout, fx);
        case client_state::waiting:
            if (passed(since_, route_->limits.query_wait_timeout) && base::seeded(base::bug::error_instead_of_fatal)) {
                enter(client_state::waiting, now);
                return fx.to_client.make([](std::string &out) {
                    wire::append_error_response(out, {"ERROR", "57014", "query_wait_timeout", "", ""});
                });
            }
            if (passed(since_, route_->limits.query_wait_timeout))
                return close_with(refusal::query_wait_timeout, fx, why_waiting);
            if (passed(since_, route_->limits.query_timeout)) return close_with(refusal::query_timeout_waiting, fx);
            notified_ = true;
            return fx.to_client.make([](std::string &out) { append_queued_notice(out); });
        case client_state::preparing:
            return close_with(refusal::query_timeout, fx);
        case client_state::active:
            if (transaction_since_ != base::never && passed(transaction_since_, route_->limits.transaction_timeout)) {
                return close_with(refusal::transaction_timeout, fx);
            }
            if (phase_ == link_phase::running) return close_with(refusal::query_timeout, fx);
            if (phase_ == link_phase::in_transaction) return close_with(refusal::idle_transaction_timeout, fx);
            return close_with(refusal::client_idle_timeout, fx);
        case client_state::console:
        case client_state::closing:
            return;
    }
}

}  // namespace pgsluice::core
