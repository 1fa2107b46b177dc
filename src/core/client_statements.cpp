// The part of client_session that deals in prepared statements: they keep the client's names here and have names of
// ours on the server. What each message that names one comes to, and what goes to the server in its place. The server's
// part: server_statements.cpp. Source: PostgreSQL manual, "Extended Query".
#include <algorithm>
#include <array>

#include "core/client_session.hpp"
#include "wire/backend.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"
#include "wire/writer.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;
using base::time_point;
using note = server_session::note;

namespace {

/// Of a message that gets another name: the protocol's limit, and room for that name.
constexpr std::uint32_t body_max_bytes = 0x7fffffff - 64;
/// A name that no statement has, but for a moment: see make_deallocatable().
constexpr std::string_view nothing_name = "PGSLUICE_0";
constexpr std::string_view deallocate_nothing = "DEALLOCATE \"PGSLUICE_0\"";
/// What is kept of a name for an error's text: that many errors may be to come.
constexpr std::size_t argument_max_bytes = 1024;
/// What names of ours begin with: a client's SQL must not reach those of others by them.
constexpr std::string_view our_names = nothing_name.substr(0, nothing_name.size() - 1);

}  // namespace

// ---- Parse ----

/// What is in the book may still be undone by the answers to an earlier batch.
bool client_session::open_to_doubt(const client_statements::slot *slot) const {
    return slot != nullptr && slot->pending > 0 && slot->batch != server_->owed().batch();
}

shared_statement client_session::remember(std::string_view body) {
    const auto &last = book().find("")->now;
    if (last && last->known && last->body == body) return last;
    return env_->statements->intern(body);
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
    const auto more_bytes = client_statements::cost_bytes(names.name, names.rest.size());
    if (book().bytes() + more_bytes > client_statements_max_bytes) {
        return fail_here(message, refusal::too_many_statements, {}, now, fx);
    }
    const auto what = remember(names.rest);
    const auto there = server_->look(what, parameters_);
    if (there.wait) return stall();
    book().change(names.name, what, server_->owed().batch(), client_statements::on_failure::undo);
    if (there.held != nullptr) return on_known_parse(message, names, now, fx);
    const auto number = server_->make_room(what, parameters_, statement_limit(), fx).number;
    instead(message, fx, [&](std::string &out) { frontend::append_parse(out, own_name(number).text(), names.rest); });
    return forwarded(request::parse, now, {.what = note::kind::named, .client_changes = 1, .number = number});
}

/// The server has this statement already. Something else must stand in the Parse's place, so that its answer has the
/// right place among the others, and fails where the Parse would have failed: in a transaction that is aborted, where
/// PostgreSQL takes a ROLLBACK and refuses a SELECT. It is asked with the text itself there.
client_session::verdict client_session::on_known_parse(const wire::frame &message, const head &names, time_point now,
                                                       effects &fx) {
    const bool aborted = server_->status() == backend::status_failed || server_->owed().end_owed();
    const bool first = begins_batch();
    if (aborted) server_->forget_unnamed();
    instead(message, fx, [&](std::string &out) {
        // Or may be aborted, when its turn comes.
        aborted ? frontend::append_parse(out, "", names.rest) : frontend::append_close_statement(out, nothing_name);
    });
    forwarded(aborted ? request::parse : request::known_parse, now, {.what = note::kind::client, .client_changes = 1});
    only_known_ = first && !aborted;
    return verdict::forward;
}

client_session::verdict client_session::on_unnamed_parse(const wire::frame &message, const head &names,
                                                         time_point now) {
    using then = client_statements::on_failure;
    const auto batch = server_->owed().batch();
    shared_statement what;
    if (message.whole() && message.body_bytes <= unnamed_statement_max_bytes) what = remember(names.rest);
    // Nothing that could be sent again: only the server that it goes to has it.
    if (!what) what = std::make_shared<const statement>(statement{{}, 0, false});
    server_->expect_unnamed(what, parameters_);
    book().change("", std::move(what), batch, then::clear);
    return forwarded(request::parse, now,
                     {.what = note::kind::unnamed, .client_changes = 1, .number = server_->unnamed_generation()});
}

/// The name is taken. PostgreSQL says so only after it has found nothing else wrong with the text, so it is asked to
/// prepare it under a name that is taken there too.
client_session::verdict client_session::on_duplicate(const wire::frame &message, const head &names, time_point now,
                                                     effects &fx) {
    const auto held = server_->prepare(book().find(names.name)->now, parameters_, statement_limit(), fx);
    if (held.wait) return stall();
    instead(message, fx,
            [&](std::string &out) { frontend::append_parse(out, own_name(held.number()).text(), names.rest); });
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
    if (what == request::bind && (bound_drop_ || (held && held->may_drop))) {
        bound_drop_ = true;
        const auto replaced = deallocating_.find(names.portal.substr(0, name_max_bytes));
        if (replaced != deallocating_.end()) deallocating_.erase(replaced);
        if (held && !held->deallocates.empty()) {
            const auto name = as_known(held->deallocates);
            if (open_to_doubt(book().find(name))) return stall_for_answers(fx);
            if (is_for_us(name)) return on_bind_to_deallocate(message, names, *held, name, now, fx);
        }
    }
    if (what == request::bind) bound_.known = false;
    if (names.name.empty()) {
        if (held && held->known) {
            if (!server_->has_unnamed(held, parameters_)) server_->prepare_unnamed(held, parameters_, fx);
        } else if (!held || !server_->has_unnamed(held, parameters_)) {
            server_->drop_unnamed(fx);  // PostgreSQL itself says that there is none
            return forwarded(what, now);
        }
        return use(message, what, names, slot, {}, now, fx);
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
        server_->kept_batch().begin(there.number(), slot.shape != nullptr, binds_as_told);
    }
    return use(message, what, names, slot, there, now, fx);
}

/// The statement is there. A client that was told what its rows are may not ask again: they must be those still, or it
/// would read them by a description that they do not have. PostgreSQL keeps that promise for one session, by 0A000.
client_session::verdict client_session::use(const wire::frame &message, request what, const head &names,
                                            const client_statements::slot &slot, const server_session::prepared &there,
                                            time_point now, effects &fx) {
    const auto &held = slot.now;
    const auto &told = slot.shape;
    if (what == request::bind && told && server_->status() != backend::status_failed) {
        const auto &here = server_->shape(there);
        if (!here || (here->parameters.empty() && !told->parameters.empty())) {
            server_->ask_shape(there, fx);
            return stall();
        }
        if (!still_true(told, here)) {
            env_->statements->renew(held);
            return fail_here(message, refusal::rows_changed, {}, now, fx);
        }
    }
    uses_ = true;
    point(used_, held);
    const auto number = there.number();
    auto &kept = server_->kept_batch();
    if (number != kept.statement()) kept.clear();  // what is sent again is told of one statement
    if (what == request::bind) {
        if (bound_.portal != names.portal) bound_.portal = names.portal;
        if (bound_.name != names.name) bound_.name = names.name;
        point(bound_.what, held);
        bound_.number = number;
        bound_.generation = server_->unnamed_generation();
        bound_.known = true;
    }
    if (!names.name.empty()) forward_named(message, names, own_name(number).text(), fx);
    return what == request::describe
               ? forwarded(what, now, learns_rows(names.name, held, number, server_->unnamed_generation()))
               : forwarded(what, now);
}

note client_session::learns_rows(std::string_view name, const shared_statement &what, std::uint64_t number,
                                 std::uint64_t generation) {
    return {
        .what = note::kind::told, .number = number, .generation = generation, .name = std::string(name), .of = what};
}

/// A request that is sure to fail with `sqlstate`, for which the client gets words of ours.
note client_session::fails(std::string_view sqlstate, refusal why, std::string_view argument) const {
    note about{.what = note::kind::client, .must_fail = std::make_unique<note::failure>()};
    about.must_fail->sqlstate = sqlstate;
    append_refusal(about.must_fail->error, why, argument.substr(0, argument_max_bytes));
    return about;
}

/// The head of the message with another name in it; the rest follows as it is.
void client_session::forward_named(const wire::frame &message, const head &names, std::string_view name_there,
                                   effects &fx) {
    const auto before = message.body.substr(0, static_cast<std::size_t>(names.given.data() - message.body.data()));
    const auto behind_bytes = wire::header_bytes + message.body_bytes - names.bytes;
    // Not by a wire::writer: every Bind comes here, and step by step it took twice as long.
    std::array<char, wire::header_bytes> header{message.type};
    wire::store_u32(header.data() + 1,
                    static_cast<std::uint32_t>(4 + before.size() + name_there.size() + 1 + behind_bytes));
    send_made(fx, [&](std::string &out) {
        out.append(header.data(), header.size()).append(before).append(name_there).push_back('\0');
    });
    head_taken_ = names.bytes;
}

/// A Close never fails, and a statement that others use is not closed: the server is asked to close nothing.
client_session::verdict client_session::on_close(const wire::frame &message, const head &names, time_point now,
                                                 effects &fx) {
    const auto *const slot = book().find(names.name);
    if (!names.name.empty() && open_to_doubt(slot)) return stall();
    const bool changes = slot != nullptr && (slot->now || slot->pending > 0);
    if (changes && slot->now && !names.name.empty()) server_->let_go(slot->now);
    if (changes) book().change(names.name, nullptr, server_->owed().batch(), client_statements::on_failure::keep);
    if (names.name.empty()) {
        server_->forget_unnamed();
    } else {
        instead(message, fx, [](std::string &out) { frontend::append_close_statement(out, nothing_name); });
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

// ---- DEALLOCATE of a client's statement ----

// The server runs a DEALLOCATE of a name of ours in its place, of a statement without text that is made right before:
// so it answers as ever, and takes nothing from other clients. Nothing of the client's is in what is made, so that it
// can not fail.

/// As PostgreSQL cuts a name in SQL: not within a character (of UTF-8).
std::string client_session::as_known(std::string_view name) {
    auto size = std::min(name.size(), name_max_bytes);
    while (size < name.size() && size > 0 && (static_cast<unsigned char>(name[size]) & 0xc0) == 0x80) --size;
    return std::string(name.substr(0, size));
}

/// The client's, or one that the server must not be asked for.
bool client_session::is_for_us(std::string_view name) {
    const auto *const slot = book().find(name);
    return !name.empty() && ((slot != nullptr && slot->now) || name.starts_with(our_names));
}

/// The request that comes next runs our DEALLOCATE, of the client's `name`; what that comes to is put into `about`.
void client_session::make_deallocatable(const std::string &name, note &about, effects &fx) {
    using namespace std::string_view_literals;
    server_->tell(request::close, {}, fx,
                  [](std::string &out) { frontend::append_close_statement(out, nothing_name); });
    const auto *const slot = book().find(name);
    if (slot == nullptr || !slot->now) {
        about.must_fail = fails("26000", refusal::unknown_statement, name).must_fail;
        return;
    }
    server_->tell(request::parse, {}, fx,
                  [](std::string &out) { frontend::append_parse(out, nothing_name, "\0\0\0"sv); });
    server_->let_go(slot->now);
    book().change(name, nullptr, server_->owed().batch(), client_statements::on_failure::undo);
    ++about.client_changes;
}

/// The portal gets our DEALLOCATE, with the parameter types of the client's.
client_session::verdict client_session::on_bind_to_deallocate(const wire::frame &message, const head &names,
                                                              const statement &held, const std::string &name,
                                                              time_point now, effects &fx) {
    if (deallocating_.size() >= deallocating_max) {
        bound_.known = false;
        return fail_here(message, refusal::too_many_portals, {}, now, fx);
    }
    std::string body(deallocate_nothing);
    body.append(held.body, std::min(held.body.find('\0'), held.body.size()), std::string::npos);
    const auto ours = env_->statements->intern(body);
    const auto there = server_->prepare(ours, parameters_, std::max<std::size_t>(statement_limit(), 1), fx);
    if (there.wait) return stall();
    deallocating_.insert_or_assign(std::string(names.portal.substr(0, name_max_bytes)),
                                   deallocation{name, server_->owed().batch()});
    bound_.known = false;
    used_ = ours;
    forward_named(message, names, own_name(there.number()).text(), fx);
    return forwarded(request::bind, now);
}

/// Of a portal that may be bound to a DISCARD or DEALLOCATE.
client_session::verdict client_session::on_dropping_execute(const wire::frame &message, time_point now, effects &fx) {
    note about{.what = note::kind::client, .may_drop = true};
    if (server_->owed().doubtful() || server_->owed().copy_open())
        return forwarded(request::execute, now, std::move(about));
    if (!message.whole() && message.body_bytes <= names_max_bytes) return need(message);
    const auto portal = wire::reader(message.body).cstring();
    const auto it = deallocating_.find(portal.substr(0, name_max_bytes));
    if (it != deallocating_.end()) {
        const auto &name = it->second.name;
        if (open_to_doubt(book().find(name)) || server_->drops_under_way()) return stall_for_answers(fx);
        make_deallocatable(name, about, fx);
    }
    return forwarded(request::execute, now, std::move(about));
}

/// The server is outside a transaction: no portal is left but those of batches that it has not answered yet.
void client_session::forget_ended_portals() {
    const auto answered = server_->owed().answered_batches();
    std::erase_if(deallocating_, [&](const auto &it) { return it.second.batch < answered; });
}

client_session::verdict client_session::on_query(const wire::frame &message, time_point now, effects &fx) {
    // What comes while a COPY waits for data breaks it, and the connection.
    if (server_->owed().doubtful() || server_->owed().copy_open()) return forwarded(request::query, now);
    using then = client_statements::on_failure;
    const auto batch = server_->owed().batch();
    // Also without a name so far: one that it takes away may come right behind it.
    note about{.may_drop = !message.whole() || may_drop_statements(message.body)};
    if (about.may_drop) {
        // Only as a whole can it be replaced: what is still to come of a longer one would be read as messages. One with
        // more behind its text is PostgreSQL's to refuse.
        const auto end = message.body.find('\0');
        const bool plain = message.whole() && end <= deallocate_max_bytes && end + 1 == message.body_bytes;
        const auto name = plain ? as_known(deallocated_name(message.body.substr(0, end))) : std::string();
        const auto *const slot = name.empty() ? nullptr : book().find(name);
        const bool open = open_to_doubt(slot);
        if (open || (is_for_us(name) && server_->drops_under_way())) return stall_for_answers(fx);
        if (is_for_us(name)) {
            make_deallocatable(name, about, fx);
            instead(message, fx, [](std::string &out) { frontend::append_query(out, deallocate_nothing); });
        }
    }
    // A simple query ends the unnamed statement, whatever becomes of the query.
    server_->forget_unnamed();
    const auto *const unnamed = statements_ ? statements_->find("") : nullptr;
    if (unnamed != nullptr && (unnamed->now || unnamed->pending > 0)) {
        book().change("", nullptr, batch, then::keep);
        ++about.client_changes;
    }
    if (about.client_changes == 0 && !about.may_drop) return forwarded(request::query, now);
    about.what = note::kind::client;
    return forwarded(request::query, now, std::move(about));
}

/// An error of ours in the middle of the client's batch: the server is brought to fail at this place, so that it undoes
/// and skips what it has to, and the client gets our words for it.
client_session::verdict client_session::fail_here(const wire::frame &message, refusal why, std::string_view argument,
                                                  time_point now, effects &fx) {
    server_->drop_unnamed(fx);
    fx.to_server.make([](std::string &out) { frontend::append_describe_statement(out, ""); });
    forwarded(request::describe, now, fails("26000", why, argument));
    head_taken_ = message.here_bytes();
    return verdict::drop;
}

}  // namespace pgsluice::core
