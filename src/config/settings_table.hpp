// Every setting of [pgbouncer], one row each. Parsing, checks, error texts, SHOW CONFIG, etc/pgsluice.ini and
// docs/configuration.md all come from these rows. Source: PgBouncer's config documentation (1.25.2).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/settings.hpp"

namespace pgsluice::config {

/// Where a value lives; its type says how the text is read.
using setting_member =
    std::variant<bool global_settings::*, int global_settings::*, std::uint32_t global_settings::*,
                 base::duration global_settings::*, std::string global_settings::*,
                 std::vector<std::string> global_settings::*, pool_mode global_settings::*,
                 auth_type global_settings::*, disconnect_action global_settings::*,
                 protocol_version global_settings::*, error_codes global_settings::*, sslmode global_settings::*,
                 tls_negotiation global_settings::*, tls_protocols global_settings::*>;

enum class setting_group : std::uint8_t {
    process,
    pools,
    authentication,
    console,
    logging,
    servers,
    clients,
    tls,
    network
};
const char *to_string(setting_group);  ///< a heading for the reference

struct setting {
    setting_group group;
    std::string_view name;
    setting_member member;
    std::string_view default_text;  ///< reads as the default that global_settings has
    std::int64_t min = 0, max = 0;  ///< of int and uint32; times are 0 to int_max seconds
    bool reloadable = true;         ///< false: a change needs a restart
    std::string_view unit;          ///< "" where the type says it all
    std::string_view meaning;       ///< one line; says what 0 or empty means
    std::string_view difference;    ///< to PgBouncer; "" = none
};

/// Grouped, in the order of the reference.
std::span<const setting> settings_table();
/// Null when no row has this name; upper and lower case are the same.
const setting *find_setting(std::string_view name);

/// Reads `text` into its member. Answers what is wrong ("must be ..."), and then changes nothing.
std::optional<std::string> assign(const setting &, std::string_view text, global_settings &);
/// What the value means, always in the same words; without a password.
std::string value_text(const setting &, const global_settings &);
/// As SHOW CONFIG prints it. As PgBouncer: lists as they were written, switches as the number that was, all others by
/// what they mean.
std::string shown_text(const setting &, const settings &);
/// "text", "0 or 1", "1 to 65535", ...: what the reference prints as the type.
std::string type_text(const setting &);
bool same_value(const setting &, const global_settings &, const global_settings &);
void copy_value(const setting &, const global_settings &from, global_settings &to);

/// Names that changed from `running` to `fresh` and that only a restart can put to work.
std::vector<std::string> restart_needed(const settings &running, const settings &fresh);
/// What is different, a line each: settings with their old and new values, databases and users that came, went or
/// changed, with the options that did, and how many secrets of auth_file. No secrets.
std::vector<std::string> changes(const settings &before, const settings &now);
/// `fresh`, with the running values of all settings that need a restart.
settings keep_unchangeable(const settings &running, settings fresh);
/// `fresh`, with the TLS of `running`, of both legs.
settings keep_tls(const settings &running, settings fresh);

}  // namespace pgsluice::config
