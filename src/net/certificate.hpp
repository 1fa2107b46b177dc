// What is read from a peer's certificate: names, as plain text. What they are good for others decide. Any thread.
#pragma once

#include <openssl/x509.h>

#include <string>

#include "auth/certificate_names.hpp"

namespace pgsluice::net {

/// The subject's first CN, as PostgreSQL and PgBouncer take it: another one would be another user. "" when there is
/// none, or a NUL in it: such a name is made to be taken for another.
std::string common_name(const X509 *);
/// All of the subject as RFC 2253 writes it: CN=app,O=Shop. As PostgreSQL has it for clientname=DN.
std::string whole_subject(const X509 *);
/// For auth::names_host().
auth::certificate_names names_of(const X509 *);

}  // namespace pgsluice::net
