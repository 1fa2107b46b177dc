// The part of client_session that relays: each message of the client's, and what it needs of a server. What goes to
// that server in place of one that names a statement: client_statements.cpp. Source: PostgreSQL manual, "Message Flow",
// "Extended Query".
#include "core/client_session.hpp"
#include "wire/backend.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;
using base::time_point;
using note = server_session::note;

namespace {

/// A pipeline this deep stops reading from its client until the server has answered some of it.
constexpr std::size_t owed_max = 1 << 14;

request request_of(char type) {
    switch (type) {
        case frontend::query:
            return request::query;
        case frontend::function_call:
            return request::function_call;
        case frontend::parse:
            return request::parse;
        case frontend::bind:
            return request::bind;
        case frontend::describe:
            return request::describe;
        case frontend::close:
            return request::close;
        default:
            return request::execute;
    }
}

}  // namespace

// ---- the stream ----

std::size_t client_session::relay(std::string_view bytes, time_point now, effects &fx) {
    std::size_t used = 0;
    needed_bytes_ = 0;
    while (used < bytes.size()) {
        const auto rest = bytes.substr(used);
        if (body_left_ > 0) {
            const auto part = rest.substr(0, body_left_);
            if (body_forward_) send(part, fx);
            body_left_ -= part.size();
            used += part.size();
            if (body_forward_ && body_left_ == 0 && server_ != nullptr) server_->set_upload_open(false);
            continue;
        }
        if (server_ != nullptr && server_->holds_client_back()) stalled_ = true;
        if (stalled_) break;
        wire::frame message;
        const auto read = wire::read_frame(rest, message);
        if (read == wire::framing::need_header) break;
        if (read == wire::framing::bad_length) {
            close_with(refusal::bad_packet_header, fx, header_in_hex(rest));
            return bytes.size();
        }
        if (message.body_bytes > route_->max_packet_size) {
            close_with(refusal::message_too_long, fx, header_in_hex(rest));
            return bytes.size();
        }
        head_taken_ = 0;
        const auto decision = on_frame(message, now, fx);
        if (decision == verdict::need_more) break;
        if (decision == verdict::stop) return state_ == client_state::closing ? bytes.size() : used;
        body_forward_ = decision == verdict::forward;
        if (body_forward_) send(rest.substr(head_taken_, message.here_bytes() - head_taken_), fx);
        used += message.here_bytes();
        body_left_ = message.missing_bytes();
        if (body_forward_) server_->set_upload_open(body_left_ > 0);
    }
    if (server_ != nullptr && server_->owed().needs_sounding() && !server_->upload_open()) server_->sound(fx);
    // Late data of a COPY whose server has answered everything already was the last that kept it here.
    if (server_ != nullptr && fx.server == server_next::none && server_->releasable()) fx.server = server_next::release;
    return used;
}

client_session::verdict client_session::on_frame(const wire::frame &message, time_point now, effects &fx) {
    const auto stands = skip_to_sync_        ? frontend_state::skipping
                        : server_ != nullptr ? server_->owed().stands()
                                             : frontend_state::unlinked;
    switch (const auto what = disposition_of(message.type, stands)) {
        case disposition::request:
            return on_request(message, request_of(message.type), now, fx);
        case disposition::sync:
        case disposition::answer:
            return on_sync(what, now, fx);
        case disposition::forward:
            return verdict::forward;
        case disposition::drop:
            return verdict::drop;
        case disposition::copy_end:
            // Nothing is owed for these, so waiting would not help against a client that sends them without end.
            if (server_->owed().owed() >= owed_max) {
                close_with(refusal::protocol_violation, fx, "Too many ends of a COPY.");
                return verdict::stop;
            }
            return forwarded(request::copy_end, now);
        case disposition::terminate:
            fx.why = client_left;
            fx.client = client_next::close;
            state_ = client_state::closing;
            return verdict::stop;
        case disposition::refuse:
            break;
    }
    close_with(refusal::protocol_violation, fx, "The client sent a message of unknown type.");
    return verdict::stop;
}

client_session::verdict client_session::on_sync(disposition what, time_point now, effects &fx) {
    if (what == disposition::answer || server_ == nullptr || skip_to_sync_) {
        // Nothing of this batch went to a server: what PostgreSQL would answer is known.
        skip_to_sync_ = false;
        fx.to_client.make([](std::string &out) { backend::append_ready_for_query(out, backend::status_idle); });
        return verdict::drop;
    }
    if (server_->owed().owed() >= owed_max) return stall();
    return forwarded(request::sync, now);
}

client_session::verdict client_session::forwarded(request what, time_point now) {
    auto &kept = server_->kept_batch();
    const bool leaves_a_trace = what == request::query || what == request::parse || what == request::function_call;
    leaves_a_trace ? kept.clear() : kept.add(what);
    server_->owed().sent(what, asker::client);
    return runs(what, now);
}

client_session::verdict client_session::forwarded(request what, time_point now, note &&about) {
    auto &kept = server_->kept_batch();
    about.what != note::kind::told ? kept.clear() : kept.add(what, about.name);  // a Describe leaves no trace
    server_->send_noted(what, asker::client, std::move(about));
    return runs(what, now);
}

client_session::verdict client_session::runs(request what, time_point now) {
    only_known_ = false;
    if (what == request::parse || what == request::known_parse) count(figure::client_parses, 1);
    if (what == request::bind) count(figure::binds, 1);
    if (what != request::copy_end && phase_ != link_phase::running) {
        if (transaction_since_ == base::never) transaction_since_ = now;
        phase_ = link_phase::running;
        since_ = now;
    }
    return verdict::forward;
}

/// Outside a transaction, and nothing of this batch has done anything on the server yet.
bool client_session::begins_batch() const {
    if (only_known_) return true;
    return phase_ == link_phase::quiet && !server_->owed().batch_open() && server_->status() == backend::status_idle;
}

/// The message can be judged only when it is here whole.
client_session::verdict client_session::need(const wire::frame &message) {
    needed_bytes_ = wire::header_bytes + message.body_bytes;
    return verdict::need_more;
}

client_session::verdict client_session::stall() {
    stalled_ = true;
    return verdict::stop;
}

/// The end of a batch brings its answers; without one they must be asked for.
client_session::verdict client_session::stall_for_answers(effects &fx) {
    if (!server_->owed().end_owed()) fx.to_server.make(frontend::append_flush);
    return stall();
}

// ---- requests ----

client_session::verdict client_session::on_request(const wire::frame &message, request what, time_point now,
                                                   effects &fx) {
    if (what == request::query && env_->settings->global.disable_pqexec) {
        close_with(refusal::pqexec_disallowed, fx);
        return verdict::stop;
    }
    // Nothing of it can be judged before a server is here, but for a Close, and whether it fits.
    if (server_ == nullptr && message.whole() && what != request::close) return want_server(now, fx);
    if (session_mode()) return may_send(now, fx) ? forwarded(what, now) : verdict::stop;
    switch (what) {
        case request::parse:
        case request::bind:
        case request::describe:
        case request::close:
            return on_named(message, what, now, fx);
        case request::query:
            // Before a server is asked for: it would have nothing to do.
            if (!message.whole() && message.body_bytes <= deallocate_max_bytes) return need(message);
            return may_send(now, fx) ? on_query(message, now, fx) : verdict::stop;
        default:
            if (!may_send(now, fx)) return verdict::stop;
            return bound_drop_ && what == request::execute ? on_dropping_execute(message, now, fx)
                                                           : forwarded(what, now);
    }
}

client_session::verdict client_session::want_server(time_point now, effects &fx) {
    enter(client_state::waiting, now);
    fx.client = client_next::want;
    return verdict::stop;
}

/// A server is ours, and takes requests. Else it is asked for, or waited for.
bool client_session::may_send(time_point now, effects &fx) {
    if (server_ == nullptr) return want_server(now, fx) == verdict::forward;
    stalled_ = server_->owed().owed() >= owed_max || server_->must_relink();
    return !stalled_;
}

client_session::verdict client_session::on_named(const wire::frame &message, request what, time_point now,
                                                 effects &fx) {
    head names;
    if (const auto other = read_head(message, what, names, fx)) return *other;
    if (server_ == nullptr && what == request::close && names.readable && names.of_statement) {
        forget_closed(names.name);
        fx.to_client.make([](std::string &out) { backend::append_close_complete(out); });
        return verdict::drop;
    }
    if (!may_send(now, fx)) return verdict::stop;
    // PostgreSQL says what is wrong with it, and does nothing of it.
    if (!names.readable) return forwarded(what, now);
    if (names.of_statement) return on_statement(message, what, names, now, fx);
    if (what == request::close && !deallocating_.empty()) {
        const auto ended = deallocating_.find(names.name);
        if (ended != deallocating_.end()) deallocating_.erase(ended);
    }
    // A portal's rows are its statement's.
    if (what == request::describe && bound_.known && names.given == bound_.portal) {
        return forwarded(what, now, learns_rows(bound_.name, bound_.what, bound_.number, bound_.generation));
    }
    return forwarded(what, now);
}

std::optional<client_session::verdict> client_session::read_head(const wire::frame &message, request what, head &out,
                                                                 effects &fx) {
    wire::reader in(message.body);
    if (what == request::bind) out.portal = in.cstring();
    if (what == request::describe || what == request::close) out.of_statement = in.byte() == 'S';
    out.given = in.cstring();
    out.name = out.given.substr(0, name_max_bytes);
    out.rest = in.rest();
    out.bytes = wire::header_bytes + message.body.size() - out.rest.size();
    if (!in.ok()) {
        out.readable = !message.whole();
        if (!out.readable) return std::nullopt;
        if (message.body.size() <= names_max_bytes) return verdict::need_more;
        close_with(refusal::head_too_long, fx);
        return verdict::stop;
    }
    // What has more behind its names is PostgreSQL's to refuse.
    if ((what == request::close || what == request::describe) && message.whole()) out.readable = out.rest.empty();
    if (what != request::parse) {
        if (message.whole() || what == request::bind) return std::nullopt;
        if (message.body_bytes <= names_max_bytes) return need(message);
        close_with(refusal::head_too_long, fx);  // PostgreSQL refuses it too
        return verdict::stop;
    }
    const auto whole_to = out.name.empty() ? unnamed_statement_max_bytes : named_statement_max_bytes;
    if (!message.whole() && message.body_bytes <= whole_to) return need(message);
    return std::nullopt;
}

/// Names outside session mode. What the client's book says counts only when it can not change any more by what an
/// earlier batch is still to be answered; within a batch, messages stand or fall together.
client_session::verdict client_session::on_statement(const wire::frame &message, request what, const head &names,
                                                     time_point now, effects &fx) {
    if (server_->owed().doubtful()) {
        if (server_->leaving()) return verdict::drop;  // it has said why
        if (names.name.empty()) return forwarded(what, now);
        close_with(refusal::statement_in_doubt, fx);
        return verdict::stop;
    }
    const auto decision = on_name(message, what, names, now, fx);
    if (!stalled_ || !server_->owed().copy_open()) return decision;
    // The server waits for data, and answers nothing before this has broken the COPY; then it breaks the connection.
    stalled_ = false;
    return forwarded(what, now);
}

client_session::verdict client_session::on_name(const wire::frame &message, request what, const head &names,
                                                time_point now, effects &fx) {
    if (!names.name.empty() && server_->drops_under_way()) return stall_for_answers(fx);
    switch (what) {
        case request::parse:
            return names.name.empty() ? on_unnamed_parse(message, names, now) : on_parse(message, names, now, fx);
        case request::close:
            return on_close(message, names, now, fx);
        default:
            return on_use(message, what, names, now, fx);
    }
}

}  // namespace pgsluice::core
