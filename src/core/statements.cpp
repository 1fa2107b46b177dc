// The three books of prepared statements.
#include "core/statements.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/memory.hpp"
#include "base/seeded_bug.hpp"
#include "wire/reader.hpp"

namespace pgsluice::core {

namespace {

/// What an index of statements is looked up by; equal statements have equal ones, and others may as well.
std::size_t index_of(std::size_t hash) {
    if (base::seeded(base::bug::statement_by_short_hash)) return hash & 0xff;
    if (base::seeded(base::bug::weak_index)) return hash & 0xf;
    return hash;
}

bool same_statement(const statement &a, const statement &b) {
    if (base::seeded(base::bug::statement_by_short_hash)) return true;  // found by it
    return &a == &b || (a.known && b.known && a.generation == b.generation && a.body == b.body);
}

}  // namespace

// ---- the store ----

shared_statement statement_store::intern(std::string_view body) {
    const auto hash = index_of(std::hash<std::string_view>{}(body));
    const auto [first, end] = known_.equal_range(hash);
    for (auto it = first; it != end; ++it) {
        if (auto held = it->second.lock(); held && held->body == body) return held;
    }
    if (known_.size() >= sweep_at_) sweep();
    statement made{std::string(body), hash, true, may_drop_statements(body)};
    if (made.may_drop) made.deallocates = deallocated_name(wire::reader(body).cstring());
    auto fresh = std::make_shared<const statement>(std::move(made));
    known_.emplace(hash, fresh);
    return fresh;
}

void statement_store::renew(const shared_statement &old) {
    constexpr std::size_t remembered_max = 1024;
    const auto [first, end] = known_.equal_range(old->hash);
    const auto it = std::find_if(first, end, [&](const auto &held) { return held.second.lock() == old; });
    if (it == end) return;  // another client was here first
    auto fresh = *old;
    fresh.generation = (++renewals_ << 16) + mark_ + 1;
    renewed_.push_back(std::make_shared<const statement>(std::move(fresh)));
    it->second = renewed_.back();
    if (renewed_.size() > remembered_max) renewed_.pop_front();
}

/// The memory of those that nobody holds any more goes back only with its place here.
void statement_store::let_go(std::size_t names) {
    let_go_ += names;
    if (let_go_ >= sweep_min && 2 * let_go_ >= known_.size()) sweep();
}

/// Takes out what nobody holds any more; as rarely as keeps the cost of each statement constant.
void statement_store::sweep() {
    std::erase_if(known_, [](const auto &it) { return it.second.expired(); });
    sweep_at_ = std::max(sweep_min, 2 * known_.size());
    let_go_ = 0;
    if (known_.bucket_count() > 4 * sweep_at_) known_.rehash(sweep_at_);
}

// ---- a client's names ----

const client_statements::slot *client_statements::find(std::string_view name) const {
    if (name.empty()) return &unnamed_.second;
    const auto it = slots_.find(name);
    return it == slots_.end() ? nullptr : &it->second;
}

client_statements::place *client_statements::at(std::string_view name) {
    if (name.empty()) return &unnamed_;
    const auto it = slots_.find(name);
    return it == slots_.end() ? nullptr : &*it;
}

std::string_view client_statements::name_of(const shared_statement &what) const {
    auto left = named_at_most;
    for (const auto &it : slots_) {
        if (left-- == 0) break;
        if (what && it.second.now && same_statement(*it.second.now, *what)) return it.first;
    }
    return {};
}

/// Returns what was there.
shared_statement client_statements::put(place &at, shared_statement what, row_shape shape) {
    auto &now = at.second.now;
    if (now) bytes_ -= cost_bytes(at.first, now->body.size());
    if (what) bytes_ += cost_bytes(at.first, what->body.size());
    if (!at.first.empty()) named_ = named_ - (now ? 1 : 0) + (what ? 1 : 0);
    at.second.shape = std::move(shape);
    now.swap(what);
    return what;
}

void client_statements::forget_if_empty(place &at) {
    if (at.second.pending > 0 || at.second.now || at.first.empty()) return;
    slots_.erase(slots_.find(at.first));
}

void client_statements::change(std::string_view name, shared_statement to, std::uint64_t batch, on_failure then) {
    auto *it = at(name);
    if (it == nullptr) it = &*slots_.emplace(std::string(name), slot{}).first;
    auto &changed = it->second;
    const auto number = first_number_ + static_cast<std::uint32_t>(changes_.size());
    if (changed.pending > 0) changes_[changed.last - first_number_].to_later = number - changed.last;
    changed.last = number;
    ++changed.pending;
    changed.batch = batch;
    auto shape = std::move(changed.shape);
    changes_.push_back({it, put(*it, std::move(to), nullptr), std::move(shape), then});
}

/// Change number `i` came to nothing: a later one of the same name has `what` before it, or it is what there is now.
void client_statements::put_back(std::size_t i, shared_statement what, row_shape shape) {
    const auto &it = changes_[i];
    if (it.to_later == 0) {
        put(*it.at, std::move(what), std::move(shape));
        return;
    }
    auto &later = changes_[i + it.to_later];
    later.before = std::move(what);
    later.shape_before = std::move(shape);
}

void client_statements::told(std::string_view name, const shared_statement &what, const row_shape &shape) {
    auto *const it = at(name);
    if (it != nullptr && it->second.now == what) join(it->second.shape, shape);
}

void client_statements::settle(std::string_view outcomes) {
    for (const char how : outcomes) {
        if (first_ == changes_.size()) return;
        auto &it = changes_[first_];
        const bool failed = static_cast<outcome>(how) == outcome::failed;
        if (static_cast<outcome>(how) == outcome::dropped || (failed && it.then == on_failure::undo)) {
            put_back(first_, std::move(it.before), std::move(it.shape_before));
        } else if (failed && it.then == on_failure::clear) {
            put_back(first_, nullptr, nullptr);
        }
        it.before = nullptr;
        it.shape_before = nullptr;
        --it.at->second.pending;
        forget_if_empty(*it.at);
        ++first_;
    }
    if (first_ == changes_.size()) {
        base::clear(changes_, kept_bytes);
        first_ = 0;
    } else if (first_ > 4096 && first_ > changes_.size() / 2) {
        changes_.erase(changes_.begin(), changes_.begin() + static_cast<std::ptrdiff_t>(first_));
        first_number_ += static_cast<std::uint32_t>(first_);
        first_ = 0;
    }
}

void client_statements::drop_all_named() {
    for (std::size_t i = first_; i < changes_.size(); ++i) {
        if (!changes_[i].at->first.empty()) changes_[i].before = nullptr;
    }
    for (auto it = slots_.begin(); it != slots_.end();) {
        const auto at = it++;
        if (at->second.pending > 0) continue;
        put(*at, nullptr, nullptr);
        slots_.erase(at);
    }
}

// ---- a server's statements ----

own_name::own_name(std::uint64_t number) {
    static constexpr std::string_view prefix = "PGSLUICE_";
    static_assert(prefix.size() + 20 <= sizeof text_);  // of the largest number
    std::copy(prefix.begin(), prefix.end(), text_.begin());
    const auto *const end = std::to_chars(text_.data() + prefix.size(), text_.data() + text_.size(), number).ptr;
    size_ = static_cast<std::size_t>(end - text_.data());
}

server_statements::entry *server_statements::find(const shared_statement &what, const shared_parameters &now, bool any,
                                                  std::uint64_t made_in) {
    const auto usable = [made_in](const entry &it) {
        return it.now != state::stale && (made_in == 0 || it.made_in == made_in);
    };
    if (found_ != nullptr && found_->what == what && found_->made_under == now && usable(*found_)) return found_;
    const auto [first, end] = by_hash_.equal_range(what->hash);
    for (auto it = first; it != end; ++it) {
        auto &held = *it->second;
        if (!same_statement(*held.what, *what)) continue;
        if (any) return &held;
        if (!usable(held)) continue;
        if (held.made_under != now) {
            if (!same_meaning(*held.made_under, *now)) continue;
            held.made_under = now;  // found at once the next time
        }
        return found_ = &held;
    }
    return nullptr;
}

shared_statement server_statements::what(std::uint64_t number) const {
    const auto at = by_number_.find(number);
    return at == by_number_.end() ? nullptr : at->second->what;
}

server_statements::entry *server_statements::at(std::uint64_t number) {
    if (found_ != nullptr && found_->number == number) return found_;
    const auto it = by_number_.find(number);
    return it == by_number_.end() ? nullptr : &*it->second;
}

/// What an earlier link had pinned is the most recently used.
void server_statements::begin(std::uint64_t link) {
    if (link == link_) return;
    others_.splice(others_.begin(), pinned_);
    link_ = link;
}

std::list<server_statements::entry> &server_statements::list_of(const entry &it) {
    if (it.now == state::going) return going_;
    return it.link == link_ ? pinned_ : others_;
}

void server_statements::touch(entry &it, std::uint64_t link) {
    begin(link);
    if (it.link == link && it.self == pinned_.begin()) return;
    auto &from = list_of(it);
    it.link = link;
    pinned_.splice(pinned_.begin(), from, it.self);
}

void server_statements::let_go(const shared_statement &what) {
    const auto [first, end] = by_hash_.equal_range(what->hash);
    for (auto it = first; it != end; ++it) {
        const auto at = it->second;
        if (at->link != link_ || !same_statement(*at->what, *what)) continue;
        at->link = 0;
        others_.splice(others_.begin(), pinned_, at);
    }
}

server_statements::entry &server_statements::add(shared_statement what, shared_parameters now, std::uint64_t batch,
                                                 std::uint64_t link) {
    begin(link);
    pinned_.push_front(
        {++last_number_, std::move(what), std::move(now), state::sent, batch, 0, link, link, nullptr, false});
    auto &made = pinned_.front();
    made.self = pinned_.begin();
    by_number_.emplace(last_number_, made.self);
    count(made);
    return made;
}

std::uint64_t server_statements::evict(std::size_t limit, std::uint64_t link) {
    begin(link);
    if ((size() < limit && bytes_ < server_statements_max_bytes) || others_.empty()) return 0;
    const auto oldest = std::prev(others_.end());
    uncount(oldest);
    going_.splice(going_.end(), others_, oldest);
    oldest->now = state::going;
    return oldest->number;
}

void server_statements::evicted(std::uint64_t number, bool closed) {
    const auto it = by_number_.find(number);
    if (it == by_number_.end() || it->second->now != state::going) return;
    const auto at = it->second;
    if (closed) return erase(at);
    others_.splice(others_.end(), going_, at);
    at->now = state::stale;
    at->link = 0;
    count(*at);
}

const server_statements::entry *server_statements::renew(std::uint64_t number, std::uint64_t batch) {
    const auto at = by_number_.find(number);
    if (at == by_number_.end()) return nullptr;
    at->second->now = state::sent;
    at->second->batch = batch;
    at->second->shape = nullptr;
    at->second->made_in = at->second->link;
    return &*at->second;
}

void server_statements::settle(std::uint64_t number, outcome how, std::uint64_t round) {
    const auto at = by_number_.find(number);
    if (at == by_number_.end()) return;
    if (how != outcome::done && !base::seeded(base::bug::statement_kept_on_send)) return erase(at->second);
    if (at->second->now == state::sent) at->second->now = state::ready;
    at->second->round = round;
}

template <class Function>
void server_statements::for_each(Function &&what) {
    for (auto *const list : {&pinned_, &others_}) {
        for (auto it = list->begin(); it != list->end();) what(it++);
    }
}

void server_statements::drop_all() {
    for_each([this](iterator at) {
        if (at->now != state::sent) erase(at);  // what is still to be answered comes after
    });
}

void server_statements::all_stale() {
    for_each([](iterator at) { at->now = at->now == state::ready ? state::stale : at->now; });
}

void server_statements::meaning_changed(std::uint64_t round) {
    for_each([&](iterator at) {
        if (at->now == state::sent || at->round == round) at->now = state::stale;
    });
}

void server_statements::link_over(std::uint64_t link) {
    for_each([&](iterator at) {
        if (at->made_in == link) at->now = state::stale;
    });
}

/// It can be found, and counts towards what a server may have.
void server_statements::count(const entry &it) {
    bytes_ += it.what->body.size() + statement_overhead_bytes;
    by_hash_.emplace(it.what->hash, it.self);
}

void server_statements::uncount(iterator at) {
    if (found_ == &*at) found_ = nullptr;
    bytes_ -= at->what->body.size() + statement_overhead_bytes;
    const auto [first, end] = by_hash_.equal_range(at->what->hash);
    for (auto it = first; it != end; ++it) {
        if (it->second != at) continue;
        by_hash_.erase(it);
        break;
    }
}

void server_statements::erase(iterator at) {
    if (at->now != state::going) uncount(at);
    by_number_.erase(at->number);
    list_of(*at).erase(at);
}

// ---- rows ----

bool shape_of_rows(std::string_view row_description, std::string &shape) {
    wire::reader in(row_description);
    shape.clear();
    for (unsigned left = in.u16(); left > 0 && in.ok(); --left) {
        shape.append(in.cstring()).push_back('\0');
        in.bytes(4 + 2);       // table and column: a table made anew with the same columns is read alike
        shape += in.bytes(4);  // type
        in.bytes(2);           // its length: goes with it
        shape += in.bytes(4);  // type modifier
        in.bytes(2);           // format: known only once it is bound
    }
    return in.done();
}

void join(row_shape &known, const row_shape &fresh) {
    if (known == fresh) return;
    const bool keeps = fresh && known && fresh->parameters.empty() && !known->parameters.empty();
    if (!keeps) {
        known = fresh;
    } else if (fresh->rows != known->rows) {
        known = std::make_shared<const description>(description{fresh->rows, known->parameters});
    }
}

// ---- DEALLOCATE ----

namespace {

bool space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}
char lower(char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}
bool begins_word(char c) {
    return (lower(c) >= 'a' && lower(c) <= 'z') || c == '_' || (static_cast<unsigned char>(c) & 0x80) != 0;
}
bool in_word(char c) {
    return begins_word(c) || (c >= '0' && c <= '9') || c == '$';
}
/// The length of the comment that `text` begins with, 0 for none; one with slash and star may hold others, and one
/// without an end is none: what follows is for the server to refuse.
std::size_t comment_bytes(std::string_view text) {
    if (text.starts_with("--")) return std::min(text.find_first_of("\r\n"), text.size());
    if (!text.starts_with("/*")) return 0;
    std::size_t depth = 0;
    for (std::size_t i = 0; i + 1 < text.size();) {
        const auto two = text.substr(i, 2);
        i += two == "/*" || two == "*/" ? 2 : 1;
        depth += two == "/*" ? 1 : 0;
        depth -= two == "*/" ? 1 : 0;
        if (depth == 0) return i;
    }
    return 0;
}
void skip_spaces(std::string_view &text) {
    while (!text.empty()) {
        const auto count = space(text[0]) ? 1 : comment_bytes(text);
        if (count == 0) return;
        text.remove_prefix(count);
    }
}
void skip_empty_statements(std::string_view &text) {
    for (skip_spaces(text); !text.empty() && text[0] == ';'; skip_spaces(text)) text.remove_prefix(1);
}
/// A word without quotes, in lower case as PostgreSQL folds it; empty when there is none.
std::string take_word(std::string_view &text) {
    std::string word;
    if (text.empty() || !begins_word(text[0])) return word;
    while (!text.empty() && in_word(text[0])) {
        word += lower(text[0]);
        text.remove_prefix(1);
    }
    return word;
}
std::string take_quoted(std::string_view &text) {
    std::string name;
    text.remove_prefix(1);
    while (!text.empty()) {
        const char c = text[0];
        text.remove_prefix(1);
        if (c != '"') {
            name += c;
        } else if (!text.empty() && text[0] == '"') {
            name += c;
            text.remove_prefix(1);
        } else {
            return name;
        }
    }
    return {};  // no end
}

bool is_word_at(std::string_view text, std::size_t at, std::string_view word) {
    const auto found = text.substr(at, word.size());
    return std::equal(found.begin(), found.end(), word.begin(), word.end(),
                      [](char c, char expected) { return lower(c) == expected; }) &&
           (at + word.size() == text.size() || !in_word(text[at + word.size()]));
}

/// Every query is looked through. In pieces of fixed size and without branches the compiler makes 16 comparisons one:
/// 60 bytes cost 180 instructions, character by character they were 1100, a quarter of a whole small transaction.
constexpr std::size_t chunk_bytes = 32;
/// Whether the first letters of DISCARD or DEALLOCATE begin in these; looks two bytes beyond.
bool may_begin_drop(const char *text) {
    constexpr char small = 0x20;
    int found = 0;
    for (std::size_t i = 0; i < chunk_bytes; ++i) {
        const char first = text[i] | small, second = text[i + 1] | small, third = text[i + 2] | small;
        found |= (first == 'd') & (((second == 'i') & (third == 's')) | ((second == 'e') & (third == 'a')));
    }
    return found != 0;
}

}  // namespace

bool may_drop_statements(std::string_view sql) {
    constexpr std::size_t looked_at_bytes = 1 << 20;
    if (sql.size() > looked_at_bytes) return true;
    const auto among = [sql](std::size_t first) {
        const auto end = std::min(first + chunk_bytes, sql.size());
        for (std::size_t i = first; i < end; ++i) {
            if (is_word_at(sql, i, "discard") || is_word_at(sql, i, "deallocate")) return true;
        }
        return false;
    };
    std::size_t i = 0;
    for (; i + chunk_bytes + 2 <= sql.size(); i += chunk_bytes) {
        if (may_begin_drop(sql.data() + i) && among(i)) return true;
    }
    std::array<char, chunk_bytes + 2> last{};
    std::copy(sql.begin() + static_cast<std::ptrdiff_t>(i), sql.end(), last.begin());
    return may_begin_drop(last.data()) && among(i);
}

std::string deallocated_name(std::string_view sql) {
    skip_empty_statements(sql);
    if (sql.empty() || lower(sql[0]) != 'd' || take_word(sql) != "deallocate") return {};
    const auto take_name = [&] {
        skip_spaces(sql);
        return !sql.empty() && sql[0] == '"' ? take_quoted(sql) : take_word(sql);
    };
    skip_spaces(sql);
    const bool quoted = !sql.empty() && sql[0] == '"';
    auto name = take_name();
    if (!quoted && name == "all") return {};
    if (!quoted && name == "prepare") {
        skip_spaces(sql);
        // DEALLOCATE prepare: a statement of that name; PREPARE all: all of them.
        const bool second_quoted = !sql.empty() && sql[0] == '"';
        auto second = take_name();
        if (!second_quoted && second == "all") return {};
        if (!second.empty()) name = std::move(second);
    }
    skip_empty_statements(sql);
    return sql.empty() ? name : std::string{};
}

}  // namespace pgsluice::core
