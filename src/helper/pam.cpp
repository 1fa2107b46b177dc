// One conversation with PAM: authenticate, then ask whether the account may be used.
// Sources: Linux-PAM Application Developers' Guide; PostgreSQL manual, "PAM Authentication".
#include "helper/check.hpp"

#ifdef PGSLUICE_WITH_PAM
#include <netdb.h>
#include <security/pam_appl.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <cstring>
#endif

namespace pgsluice::helper {

using verdict = auth::password_verdict;

#ifdef PGSLUICE_WITH_PAM

namespace {

/// Any prompt that does not echo is for the password. What modules tell the user is for nobody: it could say who
/// exists.
int converse(int count, const pam_message **messages, pam_response **answers, void *password) {
    if (count <= 0 || count > PAM_MAX_NUM_MSG) return PAM_CONV_ERR;
    // PAM frees both with free(3).
    auto *const list = static_cast<pam_response *>(std::calloc(static_cast<std::size_t>(count), sizeof(pam_response)));
    if (list == nullptr) return PAM_BUF_ERR;
    for (int i = 0; i < count; ++i) {
        switch (messages[i]->msg_style) {
            case PAM_PROMPT_ECHO_OFF:
                list[i].resp = ::strdup(static_cast<const char *>(password));
                if (list[i].resp != nullptr) break;
                [[fallthrough]];
            default:
                for (int k = 0; k < i; ++k) std::free(list[k].resp);
                std::free(list);
                return PAM_CONV_ERR;
            case PAM_ERROR_MSG:
            case PAM_TEXT_INFO:
                break;
        }
    }
    *answers = list;
    return PAM_SUCCESS;
}

/// Refusals are kept back by pgsluice: a module that waits too would hold up the next login.
void no_delay(int, unsigned, void *) {}

/// The name of the address, or the address.
std::string name_of(const std::string &address) {
    addrinfo hints{};
    hints.ai_flags = AI_NUMERICHOST;
    addrinfo *found = nullptr;
    if (::getaddrinfo(address.c_str(), nullptr, &hints, &found) != 0) return address;
    std::array<char, NI_MAXHOST> name{};
    const int failed =
        ::getnameinfo(found->ai_addr, found->ai_addrlen, name.data(), name.size(), nullptr, 0, NI_NAMEREQD);
    ::freeaddrinfo(found);
    return failed == 0 ? name.data() : address;
}

}  // namespace

verdict check_pam(const auth::password_check &asked) {
    std::string password(asked.password.reveal());
    const auto host = asked.resolve_host ? name_of(asked.remote_host) : asked.remote_host;
    const pam_conv conversation{converse, password.data()};
    pam_handle_t *pam = nullptr;
    int result = ::pam_start(asked.service.c_str(), asked.user.c_str(), &conversation, &pam);
    const char *step = "pam_start";
    if (result == PAM_SUCCESS) {
        step = "pam_set_item";
        result = ::pam_set_item(pam, PAM_RHOST, host.c_str());
    }
    void (*const delay)(int, unsigned, void *) = no_delay;
    if (result == PAM_SUCCESS) result = ::pam_set_item(pam, PAM_FAIL_DELAY, reinterpret_cast<const void *>(delay));
    if (result == PAM_SUCCESS) {
        step = "pam_authenticate";
        result = ::pam_authenticate(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    }
    if (result == PAM_SUCCESS) {
        step = "pam_acct_mgmt";
        result = ::pam_acct_mgmt(pam, PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK);
    }
    std::string why;
    if (result != PAM_SUCCESS) why = std::string(step) + ": " + ::pam_strerror(pam, result);
    if (pam != nullptr) ::pam_end(pam, result);
    base::wipe(password);
    // Whatever a module failed of: which modules a user meets may depend on who it is.
    return {result == PAM_SUCCESS ? verdict::kind::right : verdict::kind::wrong, std::move(why)};
}

#else

verdict check_pam(const auth::password_check &) {
    return {verdict::kind::failed, "built without PAM"};
}

#endif

}  // namespace pgsluice::helper
