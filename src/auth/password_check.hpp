// Is this the user's password? as it is asked of PAM or of an LDAP server: the question and the answer, and both as
// bytes, for they go between pgsluice and the program that asks (src/helper). Decides nothing, talks to nobody. Any
// thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "auth/ldap_options.hpp"
#include "base/secret.hpp"

namespace pgsluice::auth {

struct password_check {
    enum class kind : std::uint8_t { pam, ldap };
    kind what = kind::pam;
    std::string user;
    base::secret password;  ///< never empty: an empty one is refused before
    // pam
    std::string service;
    std::string remote_host;    ///< the client's address as text; [local] by Unix socket
    bool resolve_host = false;  ///< tell the modules the name of that address
    // ldap
    std::string uris;  ///< as ldap_initialize(3) takes them
    bool start_tls = false;
    bool search = false;  ///< for the entry to bind as
    std::string name;     ///< else: bind as this; "" = nobody has such a name
    std::string bind_dn;  ///< who searches; "" = anonymous
    base::secret bind_password;
    std::string base_dn, filter;
    ldap_scope scope = ldap_scope::sub;
    std::chrono::milliseconds limit{0};  ///< of one operation
};

struct password_verdict {
    enum class kind : std::uint8_t {
        right,
        wrong,   ///< or no such user: whoever asks is not told which
        failed,  ///< nobody could say
    };
    kind what = kind::failed;
    std::string why{};  ///< not right: for the log alone
};

/// The length of a message of either kind stands in its first four bytes, and does not count them.
inline constexpr std::size_t message_length_bytes = 4;
/// A longer one is none: names, DNs, filters and two passwords of at most 65 535 bytes.
inline constexpr std::size_t message_max_bytes = 512 * 1024;

/// With its length. Holds passwords: wiping it is the caller's.
std::string to_bytes(const password_check &);
std::string to_bytes(const password_verdict &);
/// The bytes of a length, as a number; all four must be there.
std::size_t message_length(std::string_view);
/// Without the length. Nothing when they are not what to_bytes() makes.
std::optional<password_check> parse_password_check(std::string_view);
std::optional<password_verdict> parse_password_verdict(std::string_view);

}  // namespace pgsluice::auth
