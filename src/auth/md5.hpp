// PostgreSQL's MD5 password scheme. Source: PostgreSQL manual, "Message Flow", AuthenticationMD5Password.
// Not here: comparing what the client sent (constant time, base::equal_constant_time). Pure functions; any thread.
// They throw std::runtime_error where OpenSSL refuses MD5 (FIPS): no empty answer that could be compared as equal.
#pragma once

#include <string>
#include <string_view>

namespace pgsluice::auth {

/// "md5" + 32 lower-case hex digits, as PostgreSQL tells the stored form from a password.
bool is_md5_secret(std::string_view stored);
/// "md5" + hex(md5(password + user)): the stored form.
std::string md5_secret(std::string_view password, std::string_view user);
/// "md5" + hex(md5(hex part of stored + salt)): what goes over the wire. Throws std::invalid_argument unless
/// is_md5_secret(stored).
std::string md5_response(std::string_view stored, std::string_view salt);

}  // namespace pgsluice::auth
