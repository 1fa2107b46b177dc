// The ledger's view of secrets that auth_query found: what a login shows is learnt, and what a server refuses is asked
// for once more. Those of auth_file change by a reload alone (ledger_whole.cpp).
#include "core/auth_query.hpp"
#include "core/ledger.hpp"
#include "core/pool.hpp"

namespace pgsluice::core {

using base::time_point;

/// What the latest login has shown of a user that auth_file lacks. Another secret than before, or the first keys to it:
/// what its servers said before counts no more.
void ledger::learn(pool_entry &pool, const shared_credential &found, const std::optional<auth::scram_keys> &keys) {
    const bool same = pool.found && pool.found->text.equals(found->text);
    if (!same) {
        pool.found_keys.reset();
        pool.derived.reset();
        pool.doubted = nullptr;
    }
    if (!same || (keys && !pool.found_keys)) pool.failing = false;
    pool.found = found;
    if (keys) pool.found_keys = keys;
}

/// The password may have been changed since the last client logged in. Once for each secret, for a login will show
/// another; of a user that no client logs in as, after each failure. Meanwhile all wait.
bool ledger::ask_anew(const server_seat &seat, orders &out) {
    auto &pool = *seat.at;
    if (pool.asking) return true;
    const bool asked = pool.doubted && pool.doubted->text.equals(seat.with->text);
    if (asked && !pool.settings->forced_user) return false;
    auto question = question_for(*settings_, pool.settings->database, pool.settings->user);
    if (!question) return false;
    pool.asking = true;
    pool.doubted = seat.with;
    out.push_back({.what = order::kind::find_secret,
                   .worker = seat.worker,
                   .why = seat.with->text.empty() ? "its password is neither in [databases] nor in auth_file"
                                                  : "a server has refused what it found",
                   .pool = pool.index,
                   .question = std::make_shared<const secret_question>(std::move(*question))});
    return true;
}

void ledger::found_anew(pool_index index, const secret_answer &answer, time_point now, orders &out) {
    auto &pool = *pools_[index];
    pool.asking = false;
    const bool another = answer.credential && pool.found && !pool.found->text.equals(answer.credential->text);
    if (another) learn(pool, answer.credential, {});
    // A SCRAM secret opens nothing until a client has shown that it knows the password.
    const bool opens =
        another && answer.credential->form != auth::secret_form::scram && !answer.credential->text.empty();
    if (another && !opens) pool.failing = true;
    if (pool.failing && !pool.working()) refuse_joiners(pool, out);
    serve(pool, now, out);
}

}  // namespace pgsluice::core
