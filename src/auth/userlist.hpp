// auth_file: who may log in and with what secret. Bytes in, a table out; reading the file is the caller's work.
// Source: PgBouncer's documentation, "Authentication file format". Any thread may read a finished table.
#pragma once

#include <boost/system/result.hpp>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "auth/scram.hpp"
#include "base/secret.hpp"

namespace pgsluice::auth {

/// The three stored forms.
enum class secret_form : std::uint8_t { plain, md5, scram };

/// One line of auth_file.
struct credential {
    secret_form form = secret_form::plain;
    base::secret text;                       ///< as stored: the password, md5<hex>, or SCRAM-SHA-256$...
    std::optional<scram_verifier> verifier;  ///< form scram: parsed; form plain: derived by the loader, md5: none
};

using userlist = std::map<std::string, credential, std::less<>>;

struct userlist_error {
    int line = 0;           ///< 1-based
    std::string text;       ///< what is wrong, without any secret
    bool harmless = false;  ///< the file is good nevertheless
};

/// Parses the text of an auth_file. Refuses what cannot be read, a user name over 127 bytes, and a secret over 65535
/// bytes. Of a user named twice the last line counts; an empty name is passed over. The text holds secrets: wiping it
/// is the caller's.
boost::system::result<userlist, userlist_error> parse_userlist(std::string_view text);

/// The same, but goes on after what it refuses: every line that is wrong or repeated, and in `users` what is good.
std::vector<userlist_error> read_userlist(std::string_view text, userlist &users);

/// Reads one stored secret: recognises md5 + 32 hex digits and a whole SCRAM-SHA-256 verifier; anything else, a broken
/// verifier too, is a plain password, as in PostgreSQL.
credential parse_secret(std::string_view stored);

}  // namespace pgsluice::auth
