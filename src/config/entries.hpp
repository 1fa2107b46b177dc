// The entries of [databases], [users] and [peers]: one line's name and value in, a typed entry out. The options are
// tables too, so that docs/configuration.md can be checked against them.
// Source: PgBouncer's config documentation, sections [databases], [users] and [peers].
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "config/settings.hpp"
#include "config/values.hpp"

namespace pgsluice::config {

inline constexpr std::size_t database_name_max_bytes = 63;
inline constexpr std::size_t user_name_max_bytes = 127;

/// Sent to the server in its startup packet under the option's own name.
using startup_parameters_member = std::vector<std::pair<std::string, std::string>> database::*;
/// Text, secret, host list, port, number, time, pool_mode, load_balance_hosts, startup parameter.
using database_member = std::variant<std::optional<std::string> database::*, std::optional<base::secret> database::*,
                                     std::vector<std::string> database::*, int database::*,
                                     std::optional<int> database::*, std::optional<base::duration> database::*,
                                     std::optional<pool_mode> database::*, bool database::*, startup_parameters_member>;
using user_member =
    std::variant<std::optional<int> user::*, std::optional<base::duration> user::*, std::optional<pool_mode> user::*>;

using peer_member = std::variant<std::vector<std::string> peer::*, int peer::*, std::optional<int> peer::*>;

template <class Member>
struct entry_option {
    std::string_view name;
    Member member;
    std::string_view type_text;     ///< as the reference prints it
    std::string_view default_text;  ///< as the reference prints it
    std::string_view meaning;
    std::string_view difference;  ///< to PgBouncer; "" = none
};
using database_option = entry_option<database_member>;
using user_option = entry_option<user_member>;
using peer_option = entry_option<peer_member>;

std::span<const database_option> database_options();
std::span<const user_option> user_options();
std::span<const peer_option> peer_options();

/// The value of an option as an entry has it, "" where it has none; *** for a secret.
std::string option_text(const database_option &, const database &);
std::string option_text(const user_option &, const user &);
bool same_option(const database_option &, const database &, const database &);
bool same_option(const user_option &, const user &, const user &);

/// Errors are whole: "database "app": port = 0: must be from 1 to 65535". They never show a password.
parsed<database> parse_database(std::string_view name, std::string_view value);
parsed<user> parse_user(std::string_view name, std::string_view value);
parsed<peer> parse_peer(std::string_view name, std::string_view value);

}  // namespace pgsluice::config
