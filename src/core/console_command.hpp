// The language of the admin console: a text to one command. Decides what the words mean and who may say them; carries
// nothing out. Any thread. Source: PgBouncer documentation, "Admin console".
#pragma once

#include <boost/system/result.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/errors.hpp"

namespace pgsluice::core {

/// Whether this is a name of the console's database.
constexpr bool is_console(std::string_view database) {
    return database == "pgbouncer" || database == "pgsluice";
}

enum class console_rights : std::uint8_t {
    stats,  ///< SHOW, but not SHOW FDS
    admin,
};

enum class console_table : std::uint8_t {
    active_sockets,
    clients,
    config,
    databases,
    dns_hosts,
    dns_zones,
    fds,
    help,
    lists,
    mem,
    peer_pools,
    peers,
    pools,
    servers,
    sockets,
    state,
    stats,
    stats_averages,
    stats_totals,
    totals,
    users,
    version,
    why,
    parameter,  ///< one that drivers ask for: `name` and `value` are the answer
};

struct console_command {
    enum class verb : std::uint8_t {
        nothing,  ///< an empty text
        show,
        set,
        set_ignored,  ///< of a parameter of PostgreSQL's
        reload,
        pause,
        resume,
        disable,
        enable,
        reconnect,
        kill,
        kill_client,
        suspend,
        shutdown,
        shutdown_wait_for_servers,
        shutdown_wait_for_clients,
        wait_close,
    };
    verb what = verb::nothing;
    console_table table = console_table::help;  ///< of show
    std::string name;   ///< a database ("" = all), a setting, a parameter; of why and kill_client an id
    std::string value;  ///< of set and of a parameter; of pause the limit in seconds, "" = none
};

/// The CommandComplete of it.
std::string tag_of(const console_command &);
/// For the log: what is asked for, without the value that is set, which may be a secret.
std::string text_of(const console_command &);
/// It changes nothing, and tells no secrets.
bool may_stats_users(const console_command &);
/// Why it can not be carried out without a name. Asked after the rights: who may not give it is told that.
refusal what_lacks(const console_command &);

/// Why a command was not, or not wholly, carried out.
struct console_refusal {
    refusal why = refusal::none;
    std::string argument{};
    std::string detail{};
};

boost::system::result<console_command, console_refusal> parse_console(std::string_view text);

}  // namespace pgsluice::core
