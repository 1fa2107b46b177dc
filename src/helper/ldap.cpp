// One conversation with an LDAP server: bind as the user, or search for the user's entry and bind as that.
// Sources: PostgreSQL manual, "LDAP Authentication"; RFC 4511, RFC 4513 (section 5.1: what a simple bind proves).
#include "helper/check.hpp"

#ifdef PGSLUICE_WITH_LDAP
#include <ldap.h>
#include <sys/time.h>

#include <array>
#include <memory>
#endif

namespace pgsluice::helper {

using verdict = auth::password_verdict;

#ifdef PGSLUICE_WITH_LDAP

namespace {

struct unbinder {
    void operator()(LDAP *it) const { ::ldap_unbind_ext_s(it, nullptr, nullptr); }
};
using connection = std::unique_ptr<LDAP, unbinder>;

timeval as_timeval(std::chrono::milliseconds time) {
    return {static_cast<time_t>(time.count() / 1000), static_cast<suseconds_t>(time.count() % 1000 * 1000)};
}

std::string text_of(LDAP *ldap, const char *step, int result) {
    std::string text = std::string(step) + ": " + ::ldap_err2string(result);
    char *more = nullptr;
    if (ldap != nullptr) ::ldap_get_option(ldap, LDAP_OPT_DIAGNOSTIC_MESSAGE, &more);
    if (more != nullptr && *more != '\0') text += std::string(" (") + more + ")";
    ::ldap_memfree(more);
    return text;
}

/// That the server could not say, in place of saying no. Negative codes are the library's own.
bool is_failure(int result) {
    return result < 0 || result == LDAP_BUSY || result == LDAP_UNAVAILABLE || result == LDAP_TIMELIMIT_EXCEEDED ||
           result == LDAP_OPERATIONS_ERROR || result == LDAP_PROTOCOL_ERROR || result == LDAP_CONFIDENTIALITY_REQUIRED;
}

verdict failed(LDAP *ldap, const char *step, int result) {
    return {verdict::kind::failed, text_of(ldap, step, result)};
}

/// Every operation from here on has the question's limit. An answer that sends us elsewhere is no answer: the password
/// goes to the servers of the configuration alone.
int open(const auth::password_check &asked, connection &into) {
    LDAP *ldap = nullptr;
    if (const int result = ::ldap_initialize(&ldap, asked.uris.c_str()); result != LDAP_SUCCESS) return result;
    into.reset(ldap);
    const int version = LDAP_VERSION3;
    const auto limit = as_timeval(asked.limit);
    if (::ldap_set_option(ldap, LDAP_OPT_PROTOCOL_VERSION, &version) != LDAP_OPT_SUCCESS ||
        ::ldap_set_option(ldap, LDAP_OPT_NETWORK_TIMEOUT, &limit) != LDAP_OPT_SUCCESS ||
        ::ldap_set_option(ldap, LDAP_OPT_TIMEOUT, &limit) != LDAP_OPT_SUCCESS ||
        ::ldap_set_option(ldap, LDAP_OPT_REFERRALS, LDAP_OPT_OFF) != LDAP_OPT_SUCCESS)
        return LDAP_LOCAL_ERROR;
    return asked.start_tls ? ::ldap_start_tls_s(ldap, nullptr, nullptr) : LDAP_SUCCESS;
}

int bind_as(LDAP *ldap, const std::string &name, std::string_view password) {
    std::string copy(password);
    berval secret{static_cast<ber_len_t>(copy.size()), copy.data()};
    const int result = ::ldap_sasl_bind_s(ldap, name.c_str(), LDAP_SASL_SIMPLE, &secret, nullptr, nullptr, nullptr);
    base::wipe(copy);
    return result;
}

/// The DN of the one entry that the filter finds; "" where there is none, or more than one.
int find(LDAP *ldap, const auth::password_check &asked, std::string &dn, std::string &why) {
    const int scope = asked.scope == auth::ldap_scope::base  ? LDAP_SCOPE_BASE
                      : asked.scope == auth::ldap_scope::one ? LDAP_SCOPE_ONELEVEL
                                                             : LDAP_SCOPE_SUBTREE;
    std::string no_attributes = LDAP_NO_ATTRS;
    std::array<char *, 2> attributes{no_attributes.data(), nullptr};
    auto limit = as_timeval(asked.limit);
    constexpr int entries_max = 2;  // one too many is enough to know
    LDAPMessage *found = nullptr;
    int result = ::ldap_search_ext_s(ldap, asked.base_dn.c_str(), scope, asked.filter.c_str(), attributes.data(), 0,
                                     nullptr, nullptr, &limit, entries_max, &found);
    const int count = found != nullptr ? ::ldap_count_entries(ldap, found) : 0;
    // PARTIAL_RESULTS: what references there are besides.
    if (result == LDAP_SIZELIMIT_EXCEEDED || result == LDAP_PARTIAL_RESULTS) result = LDAP_SUCCESS;
    if (count == 1 && result == LDAP_SUCCESS) {
        char *const text = ::ldap_get_dn(ldap, ::ldap_first_entry(ldap, found));
        if (text != nullptr) dn = text;
        ::ldap_memfree(text);
    } else {
        why = count > 1 ? "the search finds more than one entry" : "the search finds no entry";
    }
    ::ldap_msgfree(found);
    return result;
}

}  // namespace

verdict check_ldap(const auth::password_check &asked) {
    // RFC 4513 section 5.1.2: a bind with a name and no password succeeds, and proves nothing.
    if (asked.password.empty()) return {verdict::kind::wrong, "empty password"};
    if (!asked.search && asked.name.empty()) return {verdict::kind::wrong, "no account can have this name"};
    connection ldap;
    if (const int result = open(asked, ldap); result != LDAP_SUCCESS) {
        return failed(ldap.get(), asked.start_tls ? "StartTLS" : "ldap_initialize", result);
    }
    auto name = asked.name;
    std::string nobody;
    if (asked.search) {
        if (const int result = bind_as(ldap.get(), asked.bind_dn, asked.bind_password.reveal()); result != LDAP_SUCCESS)
            return failed(ldap.get(), "bind of ldapbinddn", result);
        if (const int result = find(ldap.get(), asked, name, nobody); result != LDAP_SUCCESS)
            return failed(ldap.get(), "search", result);
        // Its password is asked for all the same: an unknown user is to take as many answers as a known one. And a
        // name that is empty would be anonymous.
        if (name.empty()) {
            name = "cn=nobody" + (asked.base_dn.empty() ? std::string() : "," + asked.base_dn);
            if (nobody.empty()) nobody = "the entry has no name";
        }
    }
    const int result = bind_as(ldap.get(), name, asked.password.reveal());
    if (is_failure(result)) return failed(ldap.get(), "bind", result);
    if (!nobody.empty()) return {verdict::kind::wrong, nobody};
    if (result != LDAP_SUCCESS) return {verdict::kind::wrong, text_of(ldap.get(), "bind", result)};
    return {verdict::kind::right, {}};
}

#else

verdict check_ldap(const auth::password_check &) {
    return {verdict::kind::failed, "built without LDAP"};
}

#endif

}  // namespace pgsluice::helper
