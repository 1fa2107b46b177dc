// The part of client_session that relays: each message of the client's, what it needs of a server, and what goes to
// that server in its place. Prepared statements keep the client's names here and have names of ours there. Source:
// PostgreSQL manual, "Message Flow", "Extended Query".
#include <algorithm>

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

/// Names at the head of Parse, Bind, Describe and Close; PostgreSQL cuts at 63 bytes what SQL can reach.
constexpr std::size_t names_max_bytes = 32 * 1024;
/// What PostgreSQL looks at of a statement's name (NAMEDATALEN).
constexpr std::size_t name_max_bytes = 63;
/// A simple query that may be a DEALLOCATE of one name is not longer than this.
constexpr std::size_t deallocate_max_bytes = 1024;
/// A pipeline this deep stops reading from its client until the server has answered some of it.
constexpr std::size_t owed_max = 1 << 14;
/// Of a message that gets another name: the protocol's limit, and room for that name.
constexpr std::uint32_t body_max_bytes = 0x7fffffff - 64;
/// A name that no statement has, but for a moment: see make_deallocatable().
constexpr std::string_view nothing_name = "PGSLUICE_0";
constexpr std::string_view deallocate_nothing = "DEALLOCATE \"PGSLUICE_0\"";

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
            close_with(refusal::protocol_violation, fx, "A message has an impossible length.");
            return bytes.size();
        }
        if (message.body_bytes > route_->max_packet_size) {
            close_with(refusal::message_too_long, fx);
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

/// Sends `bytes` in place of the whole message, which is here.
client_session::verdict client_session::instead(const wire::frame &message, std::string_view bytes, effects &fx) {
    fx.to_server.make([&](std::string &out) { out += bytes; });
    server_->kept_batch().add(bytes);
    head_taken_ = message.here_bytes();
    return verdict::forward;
}

// ---- requests ----

client_session::verdict client_session::on_request(const wire::frame &message, request what, time_point now,
                                                   effects &fx) {
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
            if (!message.whole() && message.body_bytes <= deallocate_max_bytes && may_have_statements()) {
                return need(message);
            }
            return may_send(now, fx) ? on_query(message, now, fx) : verdict::stop;
        default:
            if (!may_send(now, fx)) return verdict::stop;
            if (!bound_drop_ || what != request::execute) return forwarded(what, now);
            return forwarded(what, now, {.what = note::kind::client, .may_drop = true});
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
    // A portal's rows are its statement's.
    if (what == request::describe && bound_.known && names.given == bound_.portal) {
        return forwarded(what, now, learns_rows(bound_.name, bound_.what, bound_.number));
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
    if (what != request::parse)
        return message.whole() || what == request::bind ? std::nullopt : std::optional(need(message));
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
            return names.name.empty() ? on_unnamed_parse(message, names, now, fx) : on_parse(message, names, now, fx);
        case request::close:
            return on_close(message, names, now, fx);
        default:
            return on_use(message, what, names, now, fx);
    }
}

/// What is in the book may still be undone by the answers to an earlier batch.
bool client_session::open_to_doubt(const client_statements::slot *slot) const {
    return slot != nullptr && slot->pending > 0 && slot->batch != server_->owed().batch();
}

shared_statement client_session::remember(std::string_view body) {
    const auto &last = book().find("")->now;
    if (last && last->known && last->body == body) return last;
    return env_.statements->intern(body);
}

client_session::verdict client_session::on_parse(const wire::frame &message, const head &names, time_point now,
                                                 effects &fx) {
    const auto *const slot = book().find(names.name);
    if (open_to_doubt(slot)) return stall();
    if (statement_limit() == 0) return fail_here(message, refusal::prepared_unsupported, {}, now, fx);
    if (message.body_bytes > named_statement_max_bytes) {
        return fail_here(message, refusal::statement_too_long, {}, now, fx);
    }
    if (slot != nullptr && slot->now) return on_duplicate(message, names, now, fx);
    if (book().bytes() + names.rest.size() > client_statements_max_bytes) {
        return fail_here(message, refusal::too_many_statements, {}, now, fx);
    }
    const auto what = remember(names.rest);
    const auto there = server_->look(what, parameters_);
    if (there.wait) return stall();
    book().change(names.name, what, server_->owed().batch(), client_statements::on_failure::undo);
    if (there.number != 0) return on_known_parse(message, names, now, fx);
    const auto number = server_->make_room(what, parameters_, statement_limit(), fx);
    auto &out = env_.statements->scratch();
    out.clear();
    frontend::append_parse(out, server_statements::name_of(number), names.rest);
    instead(message, out, fx);
    return forwarded(request::parse, now, {.what = note::kind::named, .client_changes = 1, .number = number});
}

/// The server has this statement already. Something else must stand in the Parse's place, so that its answer has the
/// right place among the others, and fails where the Parse would have failed: in a transaction that is aborted, where
/// PostgreSQL takes a ROLLBACK and refuses a SELECT. It is asked with the text itself there.
client_session::verdict client_session::on_known_parse(const wire::frame &message, const head &names, time_point now,
                                                       effects &fx) {
    const bool aborted = server_->status() == backend::status_failed || server_->owed().end_owed();
    const bool first = begins_batch();
    auto &out = env_.statements->scratch();
    out.clear();
    if (aborted) {  // or may be, when its turn comes
        frontend::append_parse(out, "", names.rest);
        server_->forget_unnamed();
    } else {
        frontend::append_close_statement(out, nothing_name);
    }
    instead(message, out, fx);
    forwarded(aborted ? request::parse : request::known_parse, now, {.what = note::kind::client, .client_changes = 1});
    only_known_ = first && !aborted;
    return verdict::forward;
}

client_session::verdict client_session::on_unnamed_parse(const wire::frame &message, const head &names, time_point now,
                                                         effects &fx) {
    using then = client_statements::on_failure;
    const auto batch = server_->owed().batch();
    std::uint8_t changes = 1;
    shared_statement what;
    if (message.whole() && message.body_bytes <= unnamed_statement_max_bytes) {
        std::string name;
        if (const auto *const other = may_have_statements() ? deallocates(names.rest, name) : nullptr) {
            if (open_to_doubt(other) || server_->drops_under_way()) return stall_for_answers(fx);
            make_deallocatable(fx);
            book().change(name, nullptr, batch, then::undo);
            ++changes;
            auto &out = env_.statements->scratch();
            const auto text = names.rest.find('\0');
            const auto body = std::string(deallocate_nothing).append(names.rest.substr(text));
            out.clear();
            frontend::append_parse(out, "", body);
            instead(message, out, fx);
        } else {
            what = remember(names.rest);
        }
    }
    // Nothing that could be sent again: only the server that it goes to has it.
    if (!what) what = std::make_shared<const statement>(statement{{}, 0, false});
    server_->expect_unnamed(what, parameters_);
    book().change("", std::move(what), batch, then::clear);
    return forwarded(request::parse, now,
                     {.what = note::kind::unnamed, .client_changes = changes, .number = server_->unnamed_generation()});
}

/// The name is taken. PostgreSQL says so only after it has found nothing else wrong with the text, so it is asked to
/// prepare it under a name that is taken there too.
client_session::verdict client_session::on_duplicate(const wire::frame &message, const head &names, time_point now,
                                                     effects &fx) {
    const auto held = server_->prepare(book().find(names.name)->now, parameters_, statement_limit(), fx);
    if (held.wait) return stall();
    auto &out = env_.statements->scratch();
    out.clear();
    frontend::append_parse(out, server_statements::name_of(held.number), names.rest);
    instead(message, out, fx);
    return forwarded(request::parse, now, fails("42P05", refusal::duplicate_statement, names.given));
}

/// Bind, and Describe of a statement.
client_session::verdict client_session::on_use(const wire::frame &message, request what, const head &names,
                                               time_point now, effects &fx) {
    static const client_statements::slot none;
    const auto *const found = book().find(names.name);
    if (open_to_doubt(found)) return stall();
    const auto &slot = found != nullptr ? *found : none;
    const auto &held = slot.now;
    // Which portal is executed later is not followed: any that is may be this one.
    bound_drop_ = bound_drop_ || (held && held->may_drop && what == request::bind);
    if (what == request::bind) bound_.known = false;
    if (names.name.empty()) {
        if (held && held->known) {
            if (!server_->has_unnamed(held, parameters_)) server_->prepare_unnamed(held, parameters_, fx);
        } else if (!held || !server_->has_unnamed(held, parameters_)) {
            server_->drop_unnamed(fx);  // PostgreSQL itself says that there is none
            return forwarded(what, now);
        }
        return use(message, what, names, slot, 0, now, fx);
    }
    if (!held) {
        server_->drop_unnamed(fx);
        forward_named(message, names, "", fx);
        const bool off = statement_limit() == 0;
        const auto why = off ? refusal::prepared_unsupported : refusal::unknown_statement;
        return forwarded(what, now, fails("26000", why, names.given));
    }
    if (message.body_bytes > body_max_bytes) {  // our name for it may be longer
        close_with(refusal::message_too_long, fx);
        return verdict::stop;
    }
    const bool first = begins_batch();
    const auto there = server_->prepare(held, parameters_, statement_limit(), fx);
    if (there.wait) return stall();
    if (first && there.tried) {
        const bool binds_as_told = what == request::bind && slot.shape && slot.shape->has_parameters();
        server_->kept_batch().begin(there.number, slot.shape != nullptr, binds_as_told);
    }
    return use(message, what, names, slot, there.number, now, fx);
}

/// The statement is there. A client that was told what its rows are may not ask again: they must be those still, or it
/// would read them by a description that they do not have. PostgreSQL keeps that promise for one session, by 0A000.
client_session::verdict client_session::use(const wire::frame &message, request what, const head &names,
                                            const client_statements::slot &slot, std::uint64_t number, time_point now,
                                            effects &fx) {
    const auto &[held, told, pending, batch] = slot;
    if (what == request::bind && told && server_->status() != backend::status_failed) {
        const auto &here = server_->shape(number);
        if (!here || (here->parameters.empty() && !told->parameters.empty())) {
            server_->ask_shape(number, fx);
            return stall();
        }
        if (!still_true(told, here)) {
            env_.statements->renew(held);
            return fail_here(message, refusal::rows_changed, {}, now, fx);
        }
    }
    uses_ = true;
    point(used_, held);
    if (what == request::bind) {
        if (bound_.portal != names.portal) bound_.portal = names.portal;
        if (bound_.name != names.name) bound_.name = names.name;
        point(bound_.what, held);
        bound_.number = number;
        bound_.known = true;
    }
    if (!names.name.empty()) forward_named(message, names, server_statements::name_of(number), fx);
    return what == request::describe ? forwarded(what, now, learns_rows(names.name, held, number))
                                     : forwarded(what, now);
}

note client_session::learns_rows(std::string_view name, const shared_statement &what, std::uint64_t number) const {
    return {.what = note::kind::told,
            .number = number,
            .generation = server_->unnamed_generation(),
            .name = std::string(name),
            .of = what};
}

/// A request that is sure to fail with `sqlstate`, for which the client gets words of ours.
note client_session::fails(std::string_view sqlstate, refusal why, std::string_view argument) const {
    note about{.what = note::kind::client, .must_fail = std::make_unique<note::failure>()};
    about.must_fail->sqlstate = sqlstate;
    append_refusal(about.must_fail->error, why, argument);
    return about;
}

/// The head of the message with another name in it; the rest follows as it is.
void client_session::forward_named(const wire::frame &message, const head &names, std::string_view own_name,
                                   effects &fx) {
    auto &out = env_.statements->scratch();
    out.assign(1, message.type);
    const std::uint64_t length = std::uint64_t{4} + message.body_bytes - names.given.size() + own_name.size();
    for (unsigned i = 0; i < 4; ++i) out += static_cast<char>(length >> (24 - 8 * i));
    if (message.type == frontend::bind) {
        out.append(names.portal).push_back('\0');
    } else {
        out += 'S';
    }
    out.append(own_name).push_back('\0');
    fx.to_server.make([&](std::string &to) { to += out; });
    server_->kept_batch().add(out);
    head_taken_ = names.bytes;
}

/// A Close never fails, and a statement that others use is not closed: the server is asked to close nothing.
client_session::verdict client_session::on_close(const wire::frame &message, const head &names, time_point now,
                                                 effects &fx) {
    const auto *const slot = book().find(names.name);
    if (!names.name.empty() && open_to_doubt(slot)) return stall();
    const bool changes = slot != nullptr && (slot->now || slot->pending > 0);
    if (changes) book().change(names.name, nullptr, server_->owed().batch(), client_statements::on_failure::keep);
    if (names.name.empty()) {
        server_->forget_unnamed();
    } else {
        auto &out = env_.statements->scratch();
        out.clear();
        frontend::append_close_statement(out, nothing_name);
        instead(message, out, fx);
    }
    if (!changes) return forwarded(request::close, now);
    return forwarded(request::close, now, {.what = note::kind::client, .client_changes = 1});
}

/// A Close while no server is ours: nothing can come in its way.
void client_session::forget_closed(std::string_view name) {
    const auto *const slot = book().find(name);
    if (slot == nullptr || !slot->now) return;
    book().change(name, nullptr, 0, client_statements::on_failure::keep);
    book().settle(std::string_view("d"));
}

/// The client's statement that `text`, SQL up to a zero byte, deallocates; null when it does not, or the name is SQL's
/// own business.
const client_statements::slot *client_session::deallocates(std::string_view text, std::string &name) {
    const auto end = text.find('\0');
    if (end > deallocate_max_bytes) return nullptr;  // or there is none
    name = deallocated_name(text.substr(0, end));
    name.resize(std::min(name.size(), name_max_bytes));
    const auto *const slot = name.empty() ? nullptr : book().find(name);
    return slot != nullptr && (slot->now || open_to_doubt(slot)) ? slot : nullptr;
}

/// DEALLOCATE of a name of the client's must answer as ever, and take nothing from other clients: a statement of no
/// text is made for it to take away.
void client_session::make_deallocatable(effects &fx) {
    using namespace std::string_view_literals;
    auto &out = env_.statements->scratch();
    out.clear();
    frontend::append_close_statement(out, nothing_name);
    server_->tell(request::close, {}, fx, out);
    out.clear();
    frontend::append_parse(out, nothing_name, "\0\0\0"sv);
    server_->tell(request::parse, {}, fx, out);
}

client_session::verdict client_session::on_query(const wire::frame &message, time_point now, effects &fx) {
    // What comes while a COPY waits for data breaks it, and the connection.
    if (server_->owed().doubtful() || server_->owed().copy_open()) return forwarded(request::query, now);
    using then = client_statements::on_failure;
    const auto batch = server_->owed().batch();
    std::uint8_t changes = 0;
    std::string name;
    // Only as a whole can it be replaced: what is still to come of a longer one would be read as messages. One with
    // more behind its text is PostgreSQL's to refuse.
    const bool plain = may_have_statements() && message.whole() && message.body.find('\0') + 1 == message.body_bytes;
    if (const auto *const other = plain ? deallocates(message.body, name) : nullptr) {
        if (open_to_doubt(other) || server_->drops_under_way()) return stall_for_answers(fx);
        make_deallocatable(fx);
        book().change(name, nullptr, batch, then::undo);
        ++changes;
        auto &out = env_.statements->scratch();
        out.clear();
        frontend::append_query(out, deallocate_nothing);
        instead(message, out, fx);
    }
    // A simple query ends the unnamed statement, whatever becomes of the query.
    server_->forget_unnamed();
    const auto *const unnamed = statements_ ? statements_->find("") : nullptr;
    if (unnamed != nullptr && (unnamed->now || unnamed->pending > 0)) {
        book().change("", nullptr, batch, then::keep);
        ++changes;
    }
    // Also without a name so far: one that it takes away may come right behind it.
    const bool may_drop = !message.whole() || may_drop_statements(message.body);
    if (changes == 0 && !may_drop) return forwarded(request::query, now);
    return forwarded(request::query, now,
                     {.what = note::kind::client, .client_changes = changes, .may_drop = may_drop});
}

/// An error of ours in the middle of the client's batch: the server is brought to fail at this place, so that it undoes
/// and skips what it has to, and the client gets our words for it.
client_session::verdict client_session::fail_here(const wire::frame &message, refusal why, std::string_view argument,
                                                  time_point now, effects &fx) {
    server_->drop_unnamed(fx);
    auto &out = env_.statements->scratch();
    out.clear();
    frontend::append_describe_statement(out, "");
    fx.to_server.make([&](std::string &to) { to += out; });
    forwarded(request::describe, now, fails("26000", why, argument));
    head_taken_ = message.here_bytes();
    return verdict::drop;
}

}  // namespace pgsluice::core
