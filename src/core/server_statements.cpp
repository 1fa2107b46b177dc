// The part of server_session that deals in prepared statements: what the linked client's messages need on this server,
// what becomes of them as the replies come, and the batch that is sent once more.
#include <charconv>

#include "base/memory.hpp"
#include "core/client_session.hpp"
#include "core/server_session.hpp"
#include "wire/backend.hpp"
#include "wire/error_response.hpp"
#include "wire/frontend.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;
namespace frontend = wire::frontend;

// ---- before a message of the client's ----

void server_session::send_noted(request what, asker who, note &&about) {
    const bool noted = about.what != note::kind::none;
    if (!owed_.sent(what, who, noted) || !noted) return;
    drops_ += about.may_drop ? 1 : 0;
    notes_.push_back(std::move(about));
}

server_session::prepared server_session::look(const shared_statement &what, const shared_parameters &under) {
    // In a transaction that is aborted nothing can be prepared, and nothing is run but what ends it.
    const bool aborted = status_ == backend::status_failed && owed_.owed() == 0;
    // What others have made meant what the session was before this client has set something.
    auto *const held = statements_.find(what, under, aborted, set_ && !aborted ? links_ : 0);
    if (held == nullptr) return {};
    // Whether the server has it turns out when it has answered an earlier batch.
    if (held->now == server_statements::state::sent && held->batch != owed_.batch()) return {.wait = true};
    statements_.touch(*held, links_);
    return {.tried = held->now == server_statements::state::ready, .held = held};
}

server_statements::entry &server_session::make_room(const shared_statement &what, const shared_parameters &under,
                                                    std::size_t limit, effects &fx) {
    while (const auto number = statements_.evict(limit, links_)) {
        tell(request::close, {.what = note::kind::evicted, .number = number}, fx,
             [&](std::string &out) { frontend::append_close_statement(out, own_name(number).text()); });
    }
    return statements_.add(what, under, owed_.batch(), links_);
}

server_session::prepared server_session::prepare(const shared_statement &what, const shared_parameters &under,
                                                 std::size_t limit, effects &fx) {
    auto there = look(what, under);
    if (there.wait || there.held != nullptr) return there;
    there.held = &make_room(what, under, limit, fx);
    tell(request::parse, {.what = note::kind::named, .number = there.number()}, fx,
         [&](std::string &out) { frontend::append_parse(out, own_name(there.number()).text(), what->body); });
    return there;
}

bool server_session::has_unnamed(const shared_statement &what, const shared_parameters &under) const {
    if (!unnamed_.what || unnamed_.made_under == nullptr) return false;
    if (!unnamed_.ready && unnamed_.batch != owed_.batch()) return false;
    const bool same =
        unnamed_.what == what || (what->known && unnamed_.what->known && unnamed_.what->body == what->body);
    return same && (unnamed_.made_under == under || same_meaning(*unnamed_.made_under, *under));
}

void server_session::expect_unnamed(const shared_statement &what, const shared_parameters &under) {
    point(unnamed_.what, what);
    point(unnamed_.made_under, under);
    unnamed_.batch = owed_.batch();
    ++unnamed_.generation;
    unnamed_.ready = unnamed_.asked = false;
    unnamed_.shape = nullptr;
}

void server_session::prepare_unnamed(const shared_statement &what, const shared_parameters &under, effects &fx) {
    expect_unnamed(what, under);
    tell(request::parse, {.what = note::kind::unnamed, .number = unnamed_.generation}, fx,
         [&](std::string &out) { frontend::append_parse(out, "", what->body); });
}

void server_session::ask_shape(const prepared &it, effects &fx) {
    const auto number = it.number();
    bool &asked = it.held == nullptr ? unnamed_.asked : it.held->asked;
    if (asked) return;
    asked = true;
    tell(request::describe, {.what = note::kind::shape, .number = number, .generation = unnamed_.generation}, fx,
         [&](std::string &out) {
             frontend::append_describe_statement(out, number == 0 ? "" : own_name(number).text());
         });
    fx.to_server.make(frontend::append_flush);
}

/// The answer to a Describe that has a note: it must be whole.
bool server_session::describes_noted(const wire::frame &message) const {
    constexpr std::uint32_t looked_at_bytes = 128 << 10;
    const bool description = message.type == backend::row_description || message.type == backend::parameter_description;
    return description && owed_.next_noted() && message.body_bytes <= looked_at_bytes &&
           owed_.next_request() == request::describe;
}

/// Asked, and not answered in a way that can be used: like no rows that anybody was told of.
void server_session::settle_shape(const note &it, outcome how) {
    auto *const held = it.number == 0 ? nullptr : statements_.at(it.number);
    if (held == nullptr && (it.number != 0 || it.generation != unnamed_.generation)) return;
    auto &shape = held != nullptr ? held->shape : unnamed_.shape;
    (held != nullptr ? held->asked : unnamed_.asked) = false;
    if (how == outcome::done && (!shape || shape->parameters.empty())) {
        shape = std::make_shared<const description>(description{shape ? shape->rows : "?", "?"});
    }
}

/// What RowDescription or NoData says; null when it is not well formed.
void server_session::read_shape(const wire::frame &answer) {
    std::string rows;
    const bool good = answer.type == backend::no_data || shape_of_rows(answer.body, rows);
    last_shape_ = good ? std::make_shared<const description>(description{std::move(rows), parameters_seen_}) : nullptr;
    last_rows_ = answer.body;
}

/// A Describe that has a note is answered: here, and in the client's book, it is known what the rows are.
void server_session::note_shape(const wire::frame &answer) {
    if (!answer.whole()) return;
    const auto &it = notes_[first_note_];
    if (it.what != note::kind::shape && it.what != note::kind::told) return;
    if (answer.type == backend::parameter_description) {
        parameters_seen_ = answer.body;
        return;
    }
    // Mostly the same again, to the byte: to read it would cost 200 instructions, to compare it costs 20.
    const bool whole_kind = (answer.type == backend::no_data) == answer.body.empty();
    const bool same =
        last_shape_ && whole_kind && answer.body == last_rows_ && last_shape_->parameters == parameters_seen_;
    if (!same) read_shape(answer);
    parameters_seen_.clear();
    const auto &rows = last_shape_;
    if (it.number != 0) {
        if (auto *const held = statements_.at(it.number)) join(held->shape, rows);
    } else if (it.generation == unnamed_.generation) {
        join(unnamed_.shape, rows);
    }
    if (it.what == note::kind::told && client_ != nullptr) client_->on_told(it.name, it.of, rows);
}

void server_session::drop_unnamed(effects &fx) {
    forget_unnamed();
    tell(request::close, {}, fx, [](std::string &out) { frontend::append_close_statement(out, ""); });
}

/// It is made anew when it is used again. One that is not remembered can not be, and only who made it can use it: for
/// that client it is what PostgreSQL has made of it, as without a pooler.
void server_session::unnamed_meaning_changed() {
    if (!unnamed_.what || unnamed_.what->known) return forget_unnamed();
    unnamed_.made_under = parameters_;
}

// ---- as replies come ----

/// What the ended requests leave behind, here and in the client's book. False: the server did what it can not do.
bool server_session::settle_ended() {
    client_outcomes_.clear();
    bool possible = true;
    for (const char how : owed_.outcomes()) {
        const auto &it = notes_[first_note_++];
        const auto ended = static_cast<outcome>(how);
        switch (it.what) {
            case note::kind::named:
                statements_.settle(it.number, ended, rounds_);
                break;
            case note::kind::unnamed:
                if (it.number != unnamed_.generation) break;
                unnamed_.ready = ended == outcome::done;
                if (!unnamed_.ready) forget_unnamed();
                break;
            case note::kind::shape:
                settle_shape(it, ended);
                break;
            case note::kind::evicted:
                statements_.evicted(it.number, ended == outcome::done);
                break;
            default:
                break;
        }
        possible = possible && !(it.must_fail && ended == outcome::done);
        for (auto left = it.client_changes; left > 0; --left) client_outcomes_.push_back(how);
        drops_ -= it.may_drop ? 1 : 0;
    }
    owed_.clear_outcomes();
    if (first_note_ == notes_.size()) {
        base::clear(notes_);
        first_note_ = 0;
    } else if (first_note_ > 4096) {
        notes_.erase(notes_.begin(), notes_.begin() + static_cast<std::ptrdiff_t>(first_note_));
        first_note_ = 0;
    }
    if (client_ != nullptr && !client_outcomes_.empty()) client_->on_statements_settled(client_outcomes_);
    return possible;
}

void server_session::on_all_deallocated(fate to) {
    statements_.drop_all();
    if (client_ != nullptr && to == fate::to_client) client_->on_all_deallocated();
}

/// The words for an error that we have brought about: as PostgreSQL says it of the client's own name.
bool server_session::replaces_error(std::string_view body, effects &fx) {
    if (!owed_.next_noted() || !notes_[first_note_].must_fail) return false;
    const auto fields = wire::parse_error_fields(body);
    const auto &it = *notes_[first_note_].must_fail;
    if (!fields || fields->sqlstate != it.sqlstate) return false;
    if (client_ != nullptr) fx.to_client.make([&](std::string &out) { out += it.error; });
    return true;
}

// ---- a COPY that failed in doubt ----

void server_session::sound(effects &fx) {
    fx.to_server.make([](std::string &out) {
        frontend::append_sync(out);
        frontend::append_close_portal(out, "PGSLUICE_0");  // there is none; and unlike a query it ends nothing
        frontend::append_sync(out);
    });
    owed_.sounded();
}

/// The server's words, with the client's name for the statement in place of ours.
bool server_session::renames_error(std::string_view body, effects &fx) {
    constexpr std::string_view ours = "\"PGSLUICE_";
    const auto at = body.find(ours);
    const auto end = at == std::string_view::npos ? at : body.find('"', at + ours.size());
    if (end == std::string_view::npos || client_ == nullptr || owed_.next_asker() != asker::client) return false;
    std::uint64_t number = 0;
    const auto digits = body.substr(at + ours.size(), end - at - ours.size());
    if (std::from_chars(digits.data(), digits.data() + digits.size(), number).ptr != digits.data() + digits.size()) {
        return false;
    }
    const auto name = client_->name_of(statements_.what(number));
    if (name.empty()) return false;
    std::string renamed(body.substr(0, at + 1));
    renamed.append(name).append(body.substr(end));
    fx.to_client.make([&](std::string &out) { wire::writer(out, backend::error_response).bytes(renamed).finish(); });
    return true;
}

// ---- the batch that is sent once more ----

bool server_session::refuses_statement(std::string_view body) const {
    if (owed_.owed() == 0 || owed_.next_asker() != asker::client) return false;
    const auto next = owed_.next_request();
    if (next != request::bind && next != request::describe) return false;
    if (owed_.next_noted() && notes_[first_note_].what != note::kind::told) return false;  // brought about by us
    const auto fields = wire::parse_error_fields(body);
    if (!fields) return false;
    return fields->sqlstate == "0A000" ||
           (fields->sqlstate == "26000" && fields->message.find("PGSLUICE_") != std::string_view::npos);
}

/// What the client was to get before the reply at hand.
void server_session::give_held(effects &fx) {
    const auto held = retry_.take_held();
    if (client_ != nullptr) fx.to_client.make([&](std::string &out) { out += held; });
}

bool server_session::begin_retry(effects &fx) {
    const bool kept = retry_.now() == batch_retry::state::keeping;
    // A client that was told what the rows are, and does not ask again, would read the new ones by the old description.
    if (retry_.relies_on_description()) return false;
    // Later batches are with the server already, or half a message is: the order could not be kept.
    if (!kept || upload_open_ || !owed_.last_batch() || owed_.doubtful()) return false;
    owed_.received(backend::error_response);
    settle_notes();
    if (owed_.owed() > 0) {
        owed_.take_over_next();  // the client's Sync; it is sent again with the rest
    } else {
        fx.to_server.make([](std::string &out) { frontend::append_sync(out); });
        owed_.sent(request::sync, asker::pooler);
    }
    retry_.fail();
    return true;
}

void server_session::retry(effects &fx) {
    const auto number = retry_.statement();
    const auto *const held = statements_.renew(number, owed_.batch());
    if (held == nullptr || status_ != backend::status_idle) return lose("prepared statement could not be renewed", fx);
    const own_name name(number);
    fx.to_server.make([&](std::string &out) {
        frontend::append_close_statement(out, name.text());
        frontend::append_parse(out, name.text(), held->what->body);
        out += retry_.bytes();
    });
    owed_.sent(request::close, asker::pooler);
    send_noted(request::parse, asker::pooler, {.what = note::kind::named, .number = number});
    std::size_t named = 0;
    for (const char code : retry_.requests()) {
        note about;
        if (batch_retry::is_told(code)) {
            about = {.what = note::kind::told,
                     .number = number,
                     .name = std::string(retry_.names()[named++]),
                     .of = held->what};
        }
        send_noted(batch_retry::request_of(code), asker::client, std::move(about));
    }
    retry_.clear();
}

}  // namespace pgsluice::core
