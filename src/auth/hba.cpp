// Which rule a client meets. See hba.hpp; the file is read in hba_parse.cpp.
#include "auth/hba.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace pgsluice::auth {

namespace {

pattern_match as_match(bool yes) {
    return yes ? pattern_match::yes : pattern_match::no;
}

pattern_match name_matches(const hba_name &word, std::string_view name) {
    return word.what == hba_name::kind::pattern ? word.pattern->matches(name) : as_match(word.text == name);
}

/// Physical replication has no database: it fits the keyword alone, which fits nothing else.
pattern_match database_matches(const hba_name &word, const hba_client &client) {
    using kind = hba_name::kind;
    if (client.replication == hba_replication::physical) return as_match(word.what == kind::replication);
    switch (word.what) {
        case kind::all:
            return pattern_match::yes;
        case kind::sameuser:
            return as_match(client.database == client.user);
        case kind::replication:
            return pattern_match::no;
        case kind::exact:
        case kind::pattern:
            return name_matches(word, client.database);
    }
    return pattern_match::no;
}

pattern_match user_matches(const hba_name &word, const hba_client &client) {
    return word.what == hba_name::kind::all ? pattern_match::yes : name_matches(word, client.user);
}

/// The first word that fits; `failed` when one before it could not be tried.
template <class Matches>
pattern_match any_matches(const std::vector<hba_name> &words, const hba_client &client, Matches matches) {
    for (const auto &word : words)
        if (const auto found = matches(word, client); found != pattern_match::no) return found;
    return pattern_match::no;
}

bool connection_matches(const hba_rule &rule, const hba_client &client) {
    switch (rule.connection) {
        case hba_connection::local:
            return client.local;
        case hba_connection::host:
            return !client.local;
        case hba_connection::hostssl:
            return !client.local && client.tls;
        case hba_connection::hostnossl:
            return !client.local && !client.tls;
        case hba_connection::hostgssenc:
            return false;
    }
    return false;
}

enum class address_match : std::uint8_t { no, yes, needs_name, failed };

address_match is_interface(const hba_rule &rule, const hba_client &client, const ip_address &address) {
    if (client.interfaces == nullptr) return address_match::failed;
    const bool whole = rule.address == hba_rule::address_kind::samehost;
    const bool found = std::any_of(client.interfaces->begin(), client.interfaces->end(), [&](const ip_network &own) {
        return whole ? own.address == address : own.contains(address);
    });
    return found ? address_match::yes : address_match::no;
}

address_match address_matches(const hba_rule &rule, const hba_client &client) {
    if (rule.connection == hba_connection::local) return address_match::yes;
    const auto address = client.address.unmapped();
    switch (rule.address) {
        case hba_rule::address_kind::all:
            return address_match::yes;
        case hba_rule::address_kind::samehost:
        case hba_rule::address_kind::samenet:
            return is_interface(rule, client, address);
        case hba_rule::address_kind::network:
            return rule.network.contains(address) ? address_match::yes : address_match::no;
        case hba_rule::address_kind::name:
            if (client.host_name == nullptr) return address_match::needs_name;
            return host_name_matches(rule.host_name, *client.host_name) ? address_match::yes : address_match::no;
    }
    return address_match::no;
}

}  // namespace

bool host_name_matches(std::string_view of_rule, std::string_view of_client) {
    if (of_client.empty()) return false;
    if (of_rule.starts_with('.')) {
        return of_client.size() >= of_rule.size() &&
               base::equal_nocase(of_rule, of_client.substr(of_client.size() - of_rule.size()));
    }
    return base::equal_nocase(of_rule, of_client);
}

hba_rules::hba_rules(std::vector<hba_rule> rules) : rules_(std::move(rules)) {
    using kind = hba_rule::address_kind;
    asks_interfaces_ = std::any_of(rules_.begin(), rules_.end(), [](const hba_rule &it) {
        return it.address == kind::samehost || it.address == kind::samenet;
    });
}

hba_answer hba_rules::match(const hba_client &client) const {
    for (const auto &rule : rules_) {
        if (!connection_matches(rule, client)) continue;
        const auto database = any_matches(rule.databases, client, database_matches);
        if (database == pattern_match::no) continue;
        const auto user = any_matches(rule.users, client, user_matches);
        if (user == pattern_match::no) continue;
        // Last, for it may cost a look-up; a rule that fits in nothing else never asks for one.
        const auto address = address_matches(rule, client);
        if (address == address_match::no) continue;
        if (address == address_match::needs_name) return {hba_answer::kind::needs_name, &rule};
        const bool all = address == address_match::yes && database == pattern_match::yes && user == pattern_match::yes;
        return {all ? hba_answer::kind::rule : hba_answer::kind::failed, &rule};
    }
    return {};
}

}  // namespace pgsluice::auth
