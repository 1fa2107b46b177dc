// Prepared statements that outlive the link to one server: what clients call them, and which of them each server has.
// A statement is its whole text and parameter types; a hash only finds it. Three books: the store keeps one copy of
// equal statements a worker; a client's names; a server's statements, bounded, the least recently used going first.
// None of them sends anything; client_session and server_session do. Sources: PostgreSQL manual, "Extended Query";
// PgBouncer documentation, max_prepared_statements.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/owed_replies.hpp"
#include "core/parameters.hpp"

namespace pgsluice::core {

/// What a Parse says. Immutable; shared by clients and servers of several workers.
struct statement {
    std::string body;  ///< of a Parse after the name: text, zero byte, parameter types
    std::size_t hash = 0;
    /// False: too long to be remembered; only the server that it was sent to has it, until its next Parse.
    bool known = true;
    /// It may be a DISCARD or DEALLOCATE: what names there are is open until it has been answered.
    bool may_drop = false;
    /// It is a DEALLOCATE of this name and nothing else.
    std::string deallocates{};
    /// Grows when the rows of a text have changed: what was prepared before is another statement.
    std::uint64_t generation = 0;
};
using shared_statement = std::shared_ptr<const statement>;

/// What a client may rely on of a statement's description. Null: nobody was told.
struct description {
    std::string rows;        ///< of RowDescription, names and types; empty for NoData
    std::string parameters;  ///< ParameterDescription's body; empty when only a portal was described
    bool has_parameters() const { return parameters.size() > 2; }  // their number comes first
    bool operator==(const description &) const = default;
};
using row_shape = std::shared_ptr<const description>;
/// A copy costs an atomic count, more than a look: the same statement, set or shape mostly comes again.
template <class Pointer>
void point(Pointer &at, const Pointer &to) {
    if (at != to) at = to;
}
/// False when the body is not well formed.
bool shape_of_rows(std::string_view row_description, std::string &shape);
/// What the client was `told` holds for the statement that is `here`.
inline bool still_true(const row_shape &told, const row_shape &here) {
    if (told == here) return true;
    return told && here && told->rows == here->rows &&
           (told->parameters.empty() || told->parameters == here->parameters);
}
/// `known` becomes `fresh`, with its own parameters where only a portal was described: a statement's never change.
void join(row_shape &known, const row_shape &fresh);

/// A named statement's Parse must be whole here to be known again; beyond this it is refused.
inline constexpr std::size_t named_statement_max_bytes = 16 << 20;
/// An unnamed one beyond this streams, and is not remembered.
inline constexpr std::size_t unnamed_statement_max_bytes = 64 << 10;
/// What a statement takes beside its text, and a client's name for one beside the name: about that.
inline constexpr std::size_t statement_overhead_bytes = 200;
/// What the names of one client may hold on to.
inline constexpr std::size_t client_statements_max_bytes = 64 << 20;
/// What one server's statements may hold on to, beyond those in use: max_prepared_statements bounds their
/// number, this their size.
inline constexpr std::size_t server_statements_max_bytes = 16 << 20;

/// One copy of equal statements. One a worker.
class statement_store {
public:
    /// `mark`: another one for each worker, so that what one renews is not taken for what another has renewed.
    explicit statement_store(std::uint32_t mark = 0) : mark_(mark) {}
    shared_statement intern(std::string_view body);
    /// The rows of `old` have changed: from now on its text is a new statement.
    void renew(const shared_statement &old);
    /// So many names of statements are gone, with their client or at its word.
    void let_go(std::size_t names);
    std::size_t size() const { return known_.size(); }

private:
    void sweep();
    static constexpr std::size_t sweep_min = 64;
    std::unordered_multimap<std::size_t, std::weak_ptr<const statement>> known_;
    std::deque<shared_statement> renewed_;  ///< kept, so that the old ones do not come back; the latest 1024
    std::uint64_t renewals_ = 0;
    std::size_t sweep_at_ = sweep_min, let_go_ = 0;
    std::uint32_t mark_;
};

/// What one of a client's names stands for.
struct name_slot {
    shared_statement now;       ///< null: there is none
    row_shape shape;            ///< what the client was told of its rows
    std::uint32_t pending = 0;  ///< changes that are not settled yet
    std::uint32_t last = 0;     ///< number of the last of them
    std::uint64_t batch = 0;    ///< in which the last of them was made
};

/// A client's statements by its own names; "" is the unnamed one. A change holds at once for the batch that made it,
/// for good when the server has answered, and is undone when the server has skipped it.
class client_statements {
public:
    /// What a failure of the request (not of one before it) leaves behind.
    enum class on_failure : std::uint8_t { undo, keep, clear };

    using slot = name_slot;
    /// Null when the name is not used; never for "". Valid until the next call that is not const.
    const slot *find(std::string_view name) const;
    void change(std::string_view name, shared_statement to, std::uint64_t batch, on_failure);
    /// The client was told what the rows of `what` are, which `name` was when it asked, and may no longer be.
    void told(std::string_view name, const shared_statement &what, const row_shape &);
    /// The ends of the oldest changes, one `outcome` a byte, in order.
    void settle(std::string_view outcomes);
    /// The server has dropped all named statements (DISCARD ALL, DEALLOCATE ALL).
    void drop_all_named();
    /// A name of this statement's, for an error's text; empty when it has none, or none among the first thousand.
    std::string_view name_of(const shared_statement &) const;
    /// What the names hold on to.
    std::size_t bytes() const { return bytes_; }
    /// What one more adds to that.
    static std::size_t cost_bytes(std::string_view name, std::size_t body_bytes) {
        return name.empty() ? body_bytes : body_bytes + name.size() + statement_overhead_bytes;
    }
    std::size_t count() const { return named_; }
    /// False: it has no named one, and no answer that is still to come can bring one back.
    bool may_have_named() const { return named_ > 0 || first_ < changes_.size(); }

private:
    struct hasher {
        using is_transparent = void;
        std::size_t operator()(std::string_view name) const { return std::hash<std::string_view>{}(name); }
    };
    using slots = std::unordered_map<std::string, slot, hasher, std::equal_to<>>;
    using place = slots::value_type;  ///< stays where it is
    struct change_made {
        place *at;
        shared_statement before;
        row_shape shape_before;
        on_failure then = on_failure::undo;
        std::uint32_t to_later = 0;  ///< the next one of the same name is so many behind it; 0: there is none
    };
    static constexpr std::size_t named_at_most = 1000;
    static constexpr std::size_t kept_bytes = 4096;  ///< of changes_, by a client of which there may be very many
    place *at(std::string_view name);
    shared_statement put(place &, shared_statement, row_shape);
    void put_back(std::size_t change, shared_statement, row_shape);
    void forget_if_empty(place &);

    place unnamed_;  ///< comes and goes with every batch, so it is not looked up
    slots slots_;
    std::vector<change_made> changes_;  ///< oldest first; settled ones in front of first_
    std::size_t first_ = 0;
    std::uint32_t first_number_ = 0;  ///< of changes_[0]; numbers go round, far more than are kept
    std::size_t bytes_ = 0;
    std::size_t named_ = 0;
};

/// The name that a statement has at servers: made for each use, so without memory from the heap.
class own_name {
public:
    explicit own_name(std::uint64_t number);
    std::string_view text() const { return {text_.data(), size_}; }

private:
    std::array<char, 32> text_{};
    std::size_t size_;
};

/// The statements one server has, under names of ours.
class server_statements {
public:
    enum class state : std::uint8_t {
        sent,   ///< its Parse is under way
        ready,  ///< ParseComplete came
        stale,  ///< not to be used again
        going,  ///< its Close is under way: only that Close's end is of interest
    };
    struct entry {
        std::uint64_t number = 0;  ///< its name is own_name(number)
        shared_statement what;
        shared_parameters made_under;  ///< what the text meant when the server read it
        state now = state::sent;
        std::uint64_t batch = 0;    ///< of its Parse
        std::uint64_t round = 0;    ///< server_session::rounds() when ParseComplete came
        std::uint64_t link = 0;     ///< in use until this one ends; 0: the client has closed it since
        std::uint64_t made_in = 0;  ///< link of its Parse
        row_shape shape;            ///< of its rows, once described
        bool asked = false;         ///< a Describe of ours is under way
        std::list<entry>::iterator self{};
    };
    using iterator = std::list<entry>::iterator;

    /// The entry for `what` as `now` makes it mean, not a stale one; null when there is none.
    /// `any`: also one that means something else by now, or is out of date.
    /// `made_in`: only one of that link, unless 0.
    entry *find(const shared_statement &what, const shared_parameters &now, bool any = false,
                std::uint64_t made_in = 0);
    /// The statement of that number; null when there is none.
    shared_statement what(std::uint64_t number) const;
    entry *at(std::uint64_t number);
    /// Makes it the most recently used, pinned for this link. Links come one after the other.
    void touch(entry &, std::uint64_t link);
    /// The client has closed its name for `what`: it is not pinned any more.
    void let_go(const shared_statement &what);
    /// A new one, to be sent.
    entry &add(shared_statement what, shared_parameters now, std::uint64_t batch, std::uint64_t link);
    /// The number of one that must go for another to come: its Close goes to the server, and evicted() says what became
    /// of that. 0: none must, or all are in use.
    std::uint64_t evict(std::size_t limit, std::uint64_t link);
    /// False: the server has skipped the Close, and still has it.
    void evicted(std::uint64_t number, bool closed);
    /// `number` is made anew under its old name, in `batch`; null when there is no such statement.
    const entry *renew(std::uint64_t number, std::uint64_t batch);
    /// The end of the Parse of `number`.
    void settle(std::uint64_t number, outcome, std::uint64_t round);
    /// The server has dropped all named statements.
    void drop_all();
    /// None is to be trusted.
    void all_stale();
    /// Parameters that make text mean something changed in this round: what was made in it is open.
    void meaning_changed(std::uint64_t round);
    /// What was made in this link may mean what it meant there only.
    void link_over(std::uint64_t link);
    /// Of those that are not going.
    std::size_t size() const { return pinned_.size() + others_.size(); }
    std::size_t bytes() const { return bytes_; }

private:
    void begin(std::uint64_t link);
    std::list<entry> &list_of(const entry &);
    void count(const entry &);
    void uncount(iterator);
    void erase(iterator);
    template <class Function>
    void for_each(Function &&);
    std::list<entry> pinned_;  ///< of link_
    std::list<entry> others_;  ///< the most recently used first
    std::list<entry> going_;
    std::uint64_t link_ = 0;
    std::unordered_multimap<std::size_t, iterator> by_hash_;
    std::unordered_map<std::uint64_t, iterator> by_number_;
    entry *found_ = nullptr;  ///< last, as long as it can be found: mostly it is what is looked for next
    std::uint64_t last_number_ = 0;
    std::size_t bytes_ = 0;
};

/// Whether `sql` may hold a DISCARD or DEALLOCATE, in any place; more texts are taken for one than are.
bool may_drop_statements(std::string_view sql);

/// Whether `sql` is DEALLOCATE [PREPARE] of one name and nothing else; the name as PostgreSQL reads it, else empty.
/// What it does not recognise reaches the server unchanged.
std::string deallocated_name(std::string_view sql);

}  // namespace pgsluice::core
