// See built_in.hpp.
#include "config/built_in.hpp"

namespace pgsluice::config {

built_in this_build() {
    built_in with;
#ifdef PGSLUICE_WITH_PAM
    with.pam = true;
#endif
#ifdef PGSLUICE_WITH_LDAP
    with.ldap = true;
#endif
    return with;
}

}  // namespace pgsluice::config
