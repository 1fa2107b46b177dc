// What a client must do to get in, decided from who it says it is and what is known of its connection: auth_type, or
// the line of auth_hba_file that it meets. Decides only; client_login carries it out. Any thread.
// Sources: PgBouncer documentation, auth_type, auth_hba_file; PostgreSQL manual, "The pg_hba.conf File".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "auth/ip_address.hpp"
#include "config/settings.hpp"
#include "core/errors.hpp"
#include "core/replication.hpp"

namespace pgsluice::core {

/// What is known of a client's connection, whatever it says. From the driver.
struct client_facts {
    bool tcp = false;
    std::string place;                      ///< for people: 192.0.2.1:5555, [::1]:5555, unix(pid):port
    auth::ip_address address;               ///< tcp
    std::optional<std::uint32_t> peer_uid;  ///< Unix socket: the user that the other end ran as when it connected
    bool own_user = false;                  ///< and that is the one that we run as
    bool tls = false;
    bool certificate_verified = false;  ///< the client sent a certificate, and it is good
    std::string certificate_name;       ///< its common name; "" unless certificate_verified
    std::string certificate_subject;    ///< all of its subject (RFC 2253); "" unless certificate_verified
};

/// What only the system knows, and only some rules want to know: asked when one does. From the driver.
class host_facts {
public:
    virtual ~host_facts() = default;
    /// Addresses of this machine with their masks; nothing when they can not be had.
    virtual std::optional<std::vector<auth::ip_network>> interfaces() = 0;
    /// Nothing when the system has no such user.
    virtual std::optional<std::string> user_name(std::uint32_t uid) = 0;
};

enum class login_step : std::uint8_t {
    let_in_any,    ///< whoever it is
    let_in,        ///< when the user is a known one; else `refused`
    refuse,        ///< with `refused`
    ask_password,  ///< in the clear
    ask_md5,       ///< or SCRAM, where such a secret is stored
    ask_scram,
    ask_outside,   ///< in the clear; `judge` says whether it is right
    look_up_name,  ///< decide again when the host name of its address is known
};

/// Who knows a user's password where we do not, and how it is asked.
struct password_judge {
    /// PgBouncer's, whose /etc/pam.d/pgbouncer is there already. Source: its documentation, auth_type pam.
    static constexpr const char *usual_pam_service = "pgbouncer";

    std::string pam_service = usual_pam_service;
    bool pam_use_hostname = false;
    std::shared_ptr<const auth::ldap_options> ldap{};  ///< null: PAM
};

struct authentication {
    login_step step = login_step::refuse;
    refusal refused = refusal::login_rejected;
    password_judge judge{};  ///< ask_outside
    std::string place{};     ///< for the log alone: the line that decided; "" where auth_type did
};

struct login_claim {
    std::string_view database, user;
    replication kind = replication::none;
};

/// `host` may be null: then nothing is known, and what needs it is refused. `host_name`: null until it was looked up,
/// "" when the address has none.
authentication authentication_for(const config::settings &, const client_facts &, const login_claim &, host_facts *host,
                                  const std::string *host_name);

}  // namespace pgsluice::core
