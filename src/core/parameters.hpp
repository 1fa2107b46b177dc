// The session parameters that follow a client from server to server: what each side has, and the SQL that makes a
// server's session equal to a client's. Source: PostgreSQL manual, ParameterStatus; PgBouncer documentation,
// track_extra_parameters. It learns values only from startup packets and ParameterStatus, never from SQL text.
// A set is immutable once shared; any thread may read it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pgsluice::core {

/// The tracked names, in the order in which a welcome tells them. At most 64.
class tracked_names {
public:
    static constexpr std::size_t limit = 64;
    static constexpr int none = -1;
    // Places of the two that decide how other values are quoted.
    static constexpr int client_encoding = 1;
    static constexpr int standard_conforming_strings = 3;
    static constexpr std::size_t application_name = 4;

    /// DateStyle, client_encoding, TimeZone, standard_conforming_strings, application_name, then `extra`.
    explicit tracked_names(const std::vector<std::string> &extra);

    /// Place of `name`, compared without case; `none` when it is not tracked.
    int find(std::string_view name) const;
    std::size_t size() const { return names_.size(); }
    const std::string &operator[](std::size_t index) const { return names_[index]; }

private:
    std::vector<std::string> names_;
};

/// Values by place. Unknown ones are not replayed. "Confirmed" = in the form in which a server reported it.
class parameter_set {
public:
    explicit parameter_set(std::size_t size) : values_(size) {}

    bool known(std::size_t i) const { return (known_ >> i & 1) != 0; }
    bool confirmed(std::size_t i) const { return (confirmed_ >> i & 1) != 0; }
    const std::string &value(std::size_t i) const { return values_[i]; }
    std::size_t size() const { return values_.size(); }

    void ask(std::size_t i, std::string_view value) {
        values_[i] = value;
        known_ |= std::uint64_t{1} << i;
        confirmed_ &= ~(std::uint64_t{1} << i);
    }
    void report(std::size_t i, std::string_view value) {
        values_[i] = value;
        known_ |= std::uint64_t{1} << i;
        confirmed_ |= std::uint64_t{1} << i;
    }
    bool operator==(const parameter_set &) const = default;

private:
    std::vector<std::string> values_;
    std::uint64_t known_ = 0;
    std::uint64_t confirmed_ = 0;
};

using shared_parameters = std::shared_ptr<const parameter_set>;

/// What makes a server's session equal to a client's.
struct parameter_change {
    /// Simple queries, to be sent in this order; empty when nothing differs. Those before the last make the server read
    /// the last one right: they set standard_conforming_strings and client_encoding.
    std::vector<std::string> queries;
    std::uint64_t changed = 0;  ///< bit i: parameter i is set by them
    bool confirmed = true;      ///< every value set is one that a server has reported before
};

/// All values that can change what a statement's text means are equal: all but application_name.
bool same_meaning(const parameter_set &, const parameter_set &);

parameter_change change_parameters(const tracked_names &, const parameter_set &server, const parameter_set &client);

}  // namespace pgsluice::core
