// The session parameters that follow a client from server to server: what each side has, and the SQL that makes a
// server's session equal to a client's. A set holds all that the server reports, and what clients asked for at startup
// beside that. It learns values only from startup packets and ParameterStatus, never from SQL text. Sources: PostgreSQL
// manual, "Asynchronous Operations" (ParameterStatus) and SET; PgBouncer documentation, track_extra_parameters.
// A set is immutable once shared; any thread may read it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.hpp"

namespace pgsluice::core {

/// What PgBouncer keeps for each client whatever is configured, in the order in which it tells of them.
inline constexpr std::array<std::string_view, 5> always_tracked{"DateStyle", "client_encoding", "TimeZone",
                                                                "standard_conforming_strings", "application_name"};

/// One parameter of a session; the texts live as long as the set it was read from.
struct parameter {
    std::string_view name;   ///< as a server spells it, or as the client does when no server reports it
    std::string_view value;  ///< in the set's client_encoding
    bool reported = false;   ///< servers report it; else its value is known from what was asked for alone
    /// A server has reported the value, or accepted it. In a server's set: false means that the session may have this
    /// value, its own or yet another (only where not reported).
    bool confirmed = false;

    bool operator==(const parameter &) const = default;
};

/// Parameters by name, compared without case. One block of memory, since there may be one for each client.
class parameter_set {
public:
    /// Goes over all in the order of their names.
    class iterator {
    public:
        explicit iterator(const char *at) : at_(at) {}
        parameter operator*() const;
        iterator &operator++();
        bool operator==(const iterator &) const = default;

    private:
        friend class parameter_set;
        const char *at_;
    };
    iterator begin() const { return iterator(bytes_.data()); }
    iterator end() const { return iterator(bytes_.data() + bytes_.size()); }

    std::optional<parameter> find(std::string_view name) const;
    /// "" when there is none of that name.
    std::string_view value(std::string_view name) const;
    /// Adds it, or takes the place of the one of that name. Its texts must not be of this set.
    void put(const parameter &);
    /// Adds it behind all others: its name comes after theirs.
    void append(const parameter &);
    /// This set with all of `changes` put, in one go: in the order of their names, none of them twice.
    parameter_set with(std::span<const parameter> changes) const;
    void erase(std::string_view name);
    bool empty() const { return bytes_.empty(); }
    std::size_t size_bytes() const { return bytes_.size(); }
    bool operator==(const parameter_set &) const = default;

private:
    void replace(std::string_view name, std::string_view record);

    std::string bytes_;  ///< records: flags, size of the name, size of the value, name, value
};

using shared_parameters = std::shared_ptr<const parameter_set>;

/// Calls f(of a or null, of b or null) for each name that is in either.
template <class F>
void match(const parameter_set &a, const parameter_set &b, F &&f) {
    auto x = a.begin(), y = b.begin();
    while (x != a.end() || y != b.end()) {
        std::optional<parameter> in_a, in_b;
        if (x != a.end()) in_a = *x;
        if (y != b.end()) in_b = *y;
        const int order = !in_a ? 1 : !in_b ? -1 : base::compare_nocase(in_a->name, in_b->name);
        f(order <= 0 ? &*in_a : nullptr, order >= 0 ? &*in_b : nullptr);
        if (order <= 0) ++x;
        if (order >= 0) ++y;
    }
}

/// Servers have reported or accepted every one of them.
bool all_confirmed(const parameter_set &);

/// All values that can change what the text of a statement means are equal: all but application_name.
bool same_meaning(const parameter_set &, const parameter_set &);

/// Reported, and not to be set by anybody: server_version and its like. Told to clients, never replayed.
bool is_fixed(std::string_view name);

/// What makes a server's session equal to a client's.
struct parameter_change {
    /// Simple queries, to be sent in this order; empty when nothing differs. Those before the last make the server read
    /// the last one right: they set standard_conforming_strings and client_encoding.
    std::vector<std::string> queries;
    /// They might fail, so nothing of the client's may be sent before they are answered.
    bool await = false;
};

/// What a server's session is without any client's wishes.
struct session_basis {
    const parameter_set &values;  ///< as reported when it had no client
    /// connect_query may have set what RESET would not bring back: the value is kept beside, in the session itself,
    /// before it is changed.
    bool keep_values;
};

parameter_change change_parameters(const session_basis &, const parameter_set &server, const parameter_set &client);

}  // namespace pgsluice::core
