// The server machine: errands, and the relay of replies. Its login: server_login.cpp.
#include "core/server_session.hpp"

#include <algorithm>

#include "base/seeded_bug.hpp"
#include "core/client_session.hpp"
#include "core/errors.hpp"
#include "core/server_login.hpp"
#include "wire/backend.hpp"
#include "wire/error_response.hpp"
#include "wire/frontend.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;

namespace {

/// Bodies that must be whole before we look at them are refused beyond this; PostgreSQL's are far smaller.
constexpr std::uint32_t inspected_max_bytes = 1 << 20;

/// What is looked into beyond its type, so that it must be whole. Longer errors are never about a statement's name.
bool is_inspected(const wire::frame &message) {
    constexpr std::uint32_t error_max_bytes = 16 << 10;
    return message.type == backend::ready_for_query || message.type == backend::parameter_status ||
           message.type == backend::command_complete ||
           (message.type == backend::error_response && message.body_bytes <= error_max_bytes);
}

/// DISCARD ALL and DEALLOCATE ALL say so by their tags, however they were spelt or wrapped.
bool ends_all_statements(std::string_view body) {
    using namespace std::string_view_literals;
    return body == "DISCARD ALL\0"sv || body == "DEALLOCATE ALL\0"sv;
}

/// An error that the server closes the connection after.
bool ends_session(std::string_view error) {
    const auto fields = wire::parse_error_fields(error);
    return fields && (fields->severity == "FATAL" || fields->severity == "PANIC");
}

bool breaks_protocol(std::string_view error) {
    const auto fields = wire::parse_error_fields(error);
    return fields && fields->sqlstate == "08P01";
}

/// Notifications are for a LISTEN of a client that has gone: nobody may get them.
bool may_come_when_idle(char type) {
    return type == backend::parameter_status || type == backend::notification_response;
}

}  // namespace

const char *to_string(server_state state) {
    switch (state) {
        case server_state::connecting:
        case server_state::login:
            return "login";
        case server_state::idle:
            return "idle";
        case server_state::tested:
            return "tested";
        case server_state::active:
            return "active";
        case server_state::abandoned:
            return "being_canceled";
        case server_state::closing:
            return "closing";
    }
    return "?";
}

server_session::server_session(std::shared_ptr<const config::pool_settings> settings, server_secret secret,
                               std::string nonce)
    : settings_(std::move(settings)),
      login_(std::make_unique<server_login>()),
      parameters_(std::make_shared<parameter_set>()) {
    login_->secret = std::move(secret);
    login_->nonce = std::move(nonce);
}

server_session::~server_session() = default;

std::size_t server_session::on_bytes(std::string_view bytes, effects &fx) {
    if (state_ == server_state::connecting) return on_encryption_answer(bytes, fx);
    std::size_t used = 0;
    while (used < bytes.size() && state_ != server_state::closing) {
        const auto rest = bytes.substr(used);
        if (body_left_ > 0) {
            const auto part = rest.substr(0, body_left_);
            if (body_forward_) fx.to_client.view(part);
            body_left_ -= part.size();
            used += part.size();
            continue;
        }
        wire::frame message;
        const auto read = wire::read_frame(rest, message);
        if (read == wire::framing::need_header) {
            // An idle server that begins to say anything else must not be given to anybody meanwhile.
            if (state_ == server_state::idle && !may_come_when_idle(rest[0])) lose("idle server got dirty", fx);
            break;
        }
        if (read == wire::framing::bad_length) {
            lose("bad pkt header", fx);
            break;
        }
        if (!on_frame(message, rest.substr(0, message.here_bytes()), fx)) break;
        used += message.here_bytes();
        body_left_ = message.missing_bytes();
        if (base::seeded(base::bug::header_read_twice) && body_left_ > 0) body_left_ += wire::header_bytes;
    }
    if (state_ == server_state::closing) return bytes.size();
    frame_open_ = used < bytes.size() || body_left_ > 0;
    // Free, but not clean: half a message, of which the next client would get the rest, or an answer that came before
    // its question was sent.
    if (state_ == server_state::idle && !clean()) {
        lose("idle server got dirty", fx);
        return bytes.size();
    }
    see_what_is_next(fx);
    return used;
}

void server_session::on_sent(effects &fx) {
    unsent_ = false;
    see_what_is_next(fx);
}

/// After each event: what it has made possible.
void server_session::see_what_is_next(effects &fx) {
    go_on_leaving(fx);
    see_to_due_cancel(fx);
    // A client that may go on now is about to send: that was what its server had been made ready for.
    // One that is to leave takes its server along until it has left.
    const bool awaited = fx.client == client_next::resume || fx.client == client_next::close;
    if (fx.server == server_next::none && !awaited && releasable()) fx.server = server_next::release;
}

bool server_session::on_frame(const wire::frame &message, std::string_view raw, effects &fx) {
    // Most of what servers say, so it goes no further: rows and what describes them.
    if (state_ == server_state::active && client_ != nullptr && retry_.now() == batch_retry::state::off &&
        owed_.passes(message.type)) {
        relay(raw, fx);
        return true;
    }
    body_forward_ = false;
    const bool relayed = state_ == server_state::active || state_ == server_state::tested || abandoned();
    if (state_ == server_state::idle && !may_come_when_idle(message.type)) {
        lose("idle server got dirty", fx);
        return true;
    }
    // What we look into must be here whole; the rest streams.
    if (!message.whole() && (!relayed || is_inspected(message) || describes_noted(message) ||
                             retry_.may_hold(message.type, message.body_bytes))) {
        if (message.body_bytes <= inspected_max_bytes) return false;
        lose("bad packet", fx);
        return false;
    }
    switch (state_) {
        case server_state::login:
            on_login(message, fx);
            break;
        case server_state::idle:
            if (message.type == backend::parameter_status && !record_parameter(message.body))
                lose("broken ParameterStatus packet", fx);
            break;
        case server_state::tested:
        case server_state::active:
            on_reply(message, raw, fx);
            break;
        case server_state::abandoned:
            on_reply(message, raw, fx);
            if (message.type == backend::copy_in_response && abandoned()) end_requests(fx);
            break;
        case server_state::connecting:
            lose("unknown pkt from server", fx);
            break;
        case server_state::closing:
            break;
    }
    return true;
}

// ---- in the pool ----

void server_session::lose(std::string_view why, effects &fx) {
    const bool nobody_knows_it = fx.server == server_next::logged_in;  // in these very bytes
    if (state_ == server_state::connecting || state_ == server_state::login || nobody_knows_it) {
        return fail_login(why, "08P01", fx);
    }
    fx.server = server_next::lose;
    fx.why = why;
    enter(server_state::closing);
}

void server_session::link(client_session &client) {
    client_ = &client;
    // A reload may have changed the pool's mode or queries since this server was opened.
    if (const auto &route = client.where(); route) {
        if (settings_ != route->settings) settings_ = route->settings;
        if (route->replicates != replication::none) owed_.never_sound();
    }
    doubted_ = set_ = false;
    error_last_ = farewell_ = false;  // others' words
    enter(server_state::active);
    ++links_;
}

void server_session::unlink() {
    link_over();
    client_ = nullptr;
    if (state_ == server_state::active) enter(server_state::idle);
}

void server_session::run(errand what, std::string_view sql, effects &fx) {
    errand_ = what;
    ++errand_queries_;
    errand_failed_ = false;
    fx.to_server.make([&](std::string &out) { frontend::append_query(out, sql); });
    if (what != errand::connect_query) owed_.sent(request::query, asker::pooler);
    forget_unnamed();  // every simple query ends it
    if (state_ == server_state::idle) enter(server_state::tested);
}

bool server_session::clean() const {
    using base::seeded;
    const bool reuse = seeded(base::bug::reuse_before_cancel_over) || seeded(base::bug::cancel_after_reuse);
    if (reuse && owed_.settled() && cancel_pending_) return true;
    if (seeded(base::bug::buffer_kept_on_release) && owed_.settled() && (frame_open_ || unsent_)) return true;
    return owed_.settled() && status_ == backend::status_idle && errand_ == errand::none && !upload_open_ &&
           !frame_open_ && body_left_ == 0 && !cancel_pending_ && !cancel_due_ && !unsent_ &&
           state_ != server_state::closing;
}

// ---- replies ----

void server_session::on_reply(const wire::frame &message, std::string_view raw, effects &fx) {
    if (may_come_any_time(message.type)) return on_unasked(message, raw, fx);
    const bool is_error = message.type == backend::error_response;
    if (is_error && message.whole() && on_error(message.body, fx)) return;
    if (owed_.next_noted() && (message.type == backend::row_description || message.type == backend::no_data ||
                               message.type == backend::parameter_description)) {
        note_shape(message);
    }
    const auto to = owed_.received(message.type);
    if (to == fate::violation || !settle_notes()) return lose("unknown pkt from server", fx);
    if (owed_.needs_sounding() && !upload_open_) sound(fx);
    if (retry_.now() == batch_retry::state::keeping && to == fate::to_client) {
        if (retry_.may_hold(message.type, message.body_bytes)) return retry_.hold(raw);
        retry_.clear();
    }
    if (retry_.holds()) give_held(fx);
    if (is_error && to == fate::swallow) on_errand_error(message.body);
    if (message.type == backend::command_complete) {
        if (ends_all_statements(message.body)) on_all_deallocated(to);
        if (to == fate::to_client) note_command(message.body);
    }
    if (message.type == backend::ready_for_query && !on_ready(message.body_bytes == 1 ? message.body[0] : '?', to, fx))
        return;
    if (client_ == nullptr) return;
    if (to == fate::parse_complete) fx.to_client.make([](std::string &out) { backend::append_parse_complete(out); });
    if (to != fate::to_client) return;
    relay(raw, fx);
    if (is_error) on_last_words(message);
}

/// The client gets `raw`, and what is still to come of the message.
void server_session::relay(std::string_view raw, effects &fx) {
    fx.to_client.view(raw);
    body_forward_ = true;
    error_last_ = farewell_ = out_of_step_ = false;
}

/// The client got an error.
void server_session::on_last_words(const wire::frame &error) {
    error_last_ = true;
    farewell_ = error.whole() && ends_session(error.body);
    out_of_step_ = owed_.doubtful() && error.whole() && breaks_protocol(error.body);
}

/// NoticeResponse, ParameterStatus and NotificationResponse.
void server_session::on_unasked(const wire::frame &message, std::string_view raw, effects &fx) {
    const bool ours = owed_.next_asker() == asker::pooler || client_ == nullptr;
    if (message.type == backend::parameter_status) {
        const auto before = parameters_;
        if (!record_parameter(message.body)) return lose("broken ParameterStatus packet", fx);
        if (errand_ != errand::parameters && !same_meaning(*before, *parameters_)) {
            statements_.meaning_changed(rounds_);
            unnamed_meaning_changed();
        }
        // What our own queries made of the client's parameters it is told when they are over.
        body_forward_ = client_ != nullptr && errand_ == errand::none;
        // By the next link, as must_relink() says; in session mode there is none.
        const bool brings_back = reset_ && settings_->pool_mode != config::pool_mode::session;
        const auto *const own = brings_back ? greeting_->parameters.get() : nullptr;
        if (body_forward_ && client_->on_parameter_report(before, parameters_, own, fx)) {
            body_forward_ = false;
            doubted_ = true;
        }
    } else if (message.type == backend::notice_response) {
        body_forward_ = !ours;
    } else {
        // Outside session mode a LISTEN may be another client's: its notifications are not for this one.
        body_forward_ = !ours && (settings_->pool_mode == config::pool_mode::session ||
                                  base::seeded(base::bug::notification_to_anyone));
    }
    if (body_forward_) fx.to_client.view(raw);
}

/// Errors that concern prepared statements. True: all is done; the client got other words, or none.
bool server_session::on_error(std::string_view body, effects &fx) {
    if (refuses_statement(body)) {
        if (begin_retry(fx)) return true;
        if (retry_.holds()) give_held(fx);
        statements_.all_stale();  // one of them was
        if (client_ != nullptr) client_->on_rows_changed();
    }
    if (!replaces_error(body, fx) && !renames_error(body, fx)) return false;
    owed_.received(backend::error_response);
    settle_notes();
    retry_.clear();
    error_last_ = true;
    return true;
}

/// False: the client does not get it.
bool server_session::on_ready(char status, fate to, effects &fx) {
    if (status != backend::status_idle && status != backend::status_in_transaction &&
        status != backend::status_failed) {
        lose("bad packet", fx);
        return false;
    }
    status_ = status;
    reset_ = false;
    ++rounds_;
    if (to == fate::hold) {
        // The one that was held is the client's: another Sync was read after it.
        if (const char held = std::exchange(held_status_, status); held != '\0' && client_ != nullptr) {
            ++answered_;
            fx.to_client.make([held](std::string &out) { backend::append_ready_for_query(out, held); });
        }
        return false;
    }
    if (to == fate::swallow) {
        held_status_ = '\0';
        if (retrying()) {
            retry(fx);
            return false;
        }
        if (errand_queries_ > 0 && --errand_queries_ == 0) on_errand_over(fx);
        return false;
    }
    if (settings_->pool_mode == config::pool_mode::statement && status != backend::status_idle && client_ != nullptr) {
        fx.to_client.make([&](std::string &out) {
            append_refusal(out, refusal::statement_mode_transaction, {}, settings_->error_sqlstate);
        });
        fx.client = client_next::close;
        lose("transaction blocks not allowed in statement pooling mode", fx);
        return false;
    }
    if (base::seeded(base::bug::release_at_first_ready) && status == backend::status_idle && client_ != nullptr)
        fx.server = server_next::release;
    ++answered_;
    ended_ += status == backend::status_idle ? 1 : 0;
    return true;
}

void server_session::on_errand_over(effects &fx) {
    const errand was = errand_;
    errand_ = errand::none;
    switch (was) {
        case errand::parameters:
            on_adapted(fx);
            break;
        case errand::check:
        case errand::reset:
            if (errand_failed_ || status_ != backend::status_idle) {
                return lose(was == errand::reset ? "reset query failed" : "test query failed", fx);
            }
            if (was == errand::reset) doubt_unreported();
            enter(server_state::idle);
            fx.server = server_next::errand_done;
            break;
        case errand::rollback:
            if (errand_failed_ || status_ != backend::status_idle) lose("rollback failed", fx);
            break;
        case errand::connect_query:
        case errand::none:
            break;
    }
}

}  // namespace pgsluice::core
