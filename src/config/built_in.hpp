// What this pgsluice was built with, as far as a configuration may ask for it. Constants of the build; any thread.
#pragma once

namespace pgsluice::config {

struct built_in {
    bool pam = false, ldap = false;
};

/// Of the CMake options PGSLUICE_PAM and PGSLUICE_LDAP.
built_in this_build();

}  // namespace pgsluice::config
