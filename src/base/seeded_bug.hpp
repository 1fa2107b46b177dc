// Known bugs of other poolers, put in on purpose so that the tests can be tested: tests/seeded/run switches on one at a
// time and the suite must notice. Compiled in only with PGSLUICE_SEEDED_BUGS (preset `seeded`), chosen by the
// environment variable PGSLUICE_SEEDED_BUG; in every other build seeded() is false at compile time. Any thread.
#pragma once

#ifdef PGSLUICE_SEEDED_BUGS
#include <cstdlib>
#endif

namespace pgsluice::base {

/// The numbers are those of the list in tests/seeded/run.
enum class bug : int {
    release_at_first_ready = 1,
    buffer_kept_on_release = 2,
    header_read_twice = 3,
    cancel_after_reuse = 4,
    reuse_before_cancel_over = 5,
    statement_kept_on_send = 6,
    statement_by_short_hash = 7,
    error_instead_of_fatal = 8,
    no_reset = 9,
    notification_to_anyone = 10,
    slot_not_returned = 11,
    lost_wakeup = 12,
    pooled_mid_row = 13,
    plaintext_kept = 14,
    bounds_by_addition = 15,
    look_up_in_client_pool = 16,
    unknown_as_auth_user = 17,
    user_count_kept = 18,
    tls_errors_kept = 19,
    value_not_escaped = 20,
    weak_index = 21,  ///< not a bug: with an index of 4 bits everything must still be right
    tls_record_left = 22,
    alpn_not_required = 23,
    host_not_verified = 24,
    downgrade_taken = 25,
    server_plaintext_kept = 26,
};

#ifdef PGSLUICE_SEEDED_BUGS
inline bool seeded(bug which) {
    static const int chosen = [] {
        const char *const text = std::getenv("PGSLUICE_SEEDED_BUG");
        return text == nullptr ? 0 : std::atoi(text);
    }();
    return chosen == static_cast<int>(which);
}
#else
constexpr bool seeded(bug) {
    return false;
}
#endif

}  // namespace pgsluice::base
