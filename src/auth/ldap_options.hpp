// How LDAP is asked whether a password is right: the options of an ldap line of auth_hba_file, and of
// auth_ldap_options, which has the same form. Text in, checked options out; and from a user's name the DN or the filter
// that stands for it, so escaped that no name means more than itself. Talks to nobody. Any thread may read finished
// options. Sources: PostgreSQL manual, "LDAP Authentication"; RFC 4514 (DNs), RFC 4515 (filters), RFC 4516 (URLs).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "auth/rule_file.hpp"
#include "base/secret.hpp"

namespace pgsluice::auth {

enum class ldap_scope : std::uint8_t { base, one, sub };

struct ldap_options {
    std::vector<std::string> servers;  ///< host names or addresses, tried in turn; one at least
    int port = 0;                      ///< 0: the scheme's
    bool ldaps = false;                ///< TLS from the first byte
    bool start_tls = false;            ///< TLS by the operation StartTLS
    // Simple bind: as prefix + name + suffix. Else the user's entry is searched for, and bound as.
    std::string prefix, suffix;
    std::optional<std::string> base_dn;  ///< set: search
    std::string bind_dn;                 ///< who searches; "" = nobody (anonymous)
    base::secret bind_password;
    std::string search_attribute;  ///< "" = uid; not with a filter
    std::string search_filter;     ///< with $username; "" = by the attribute
    ldap_scope scope = ldap_scope::sub;

    bool searches() const { return base_dn.has_value(); }
    /// For ldap_initialize(3): all servers, with blanks between them.
    std::string uris() const;
    /// Simple bind: whom to bind as. Nothing when the name can be nobody's: prefix and suffix make no DN (DOMAIN\, or
    /// @example.net), in which nothing can be escaped, and the name has letters that are not allowed in one.
    std::optional<std::string> name_to_bind(std::string_view user) const;
    /// Search: the user's entry.
    std::string filter_for(std::string_view user) const;
};

using named_values = std::vector<std::pair<std::string, std::string>>;

/// The words of one field to name=value pairs. In a value a comma may stand without quotes, which PostgreSQL would take
/// for the end of the option: what follows it is the value's when it does not begin like another option.
std::optional<std::string> split_options(const rule_field &, named_values &into);
bool is_ldap_option(std::string_view name);
/// Answers what is wrong, if anything; never with a value, one of which is a password.
std::optional<std::string> read_ldap_options(const named_values &, ldap_options &into);
/// The text of auth_ldap_options, which is what stands behind "ldap" in a line of auth_hba_file.
std::optional<std::string> parse_ldap_options(std::string_view text, ldap_options &into);
/// The same text to be shown: **** when there is a password in it, which has many ways of being written.
std::string without_password(std::string_view text);

std::string escaped_for_filter(std::string_view);
std::string escaped_for_dn(std::string_view);

}  // namespace pgsluice::auth
