// The two ways to ask, each behind one call that may take long: that is why they run in a program of their own, which
// pgsluice can end. What is not compiled in answers `failed`.
#pragma once

#include "auth/password_check.hpp"

namespace pgsluice::helper {

auth::password_verdict check_pam(const auth::password_check &);
auth::password_verdict check_ldap(const auth::password_check &);

}  // namespace pgsluice::helper
