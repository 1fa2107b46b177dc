// The ledger and cancels: whose key it is, and what becomes of one that is not for a client of ours.
#include <openssl/crypto.h>

#include <algorithm>

#include "core/cancel_routing.hpp"
#include "core/ledger.hpp"

namespace pgsluice::core {

namespace {

/// All of it, in a time that tells nothing. Both have zeros behind their ends.
bool same(const cancel_key &a, const cancel_key &b) {
    const bool bytes = CRYPTO_memcmp(a.secret.data(), b.secret.data(), a.secret.size()) == 0;
    return bytes && a.size_bytes == b.size_bytes;
}

}  // namespace

bool ledger::give_key(client_seat &seat, const cancel_key &key, bool shared) {
    if (key.pid == 0) return false;
    const auto [begin, end] = keys_.equal_range(key.pid);
    if (begin != end && !shared) return false;
    if (std::any_of(begin, end, [&](const auto &it) { return same(it.second->key, key); })) return false;
    keys_.emplace(key.pid, &seat);
    seat.key = key;
    return true;
}

void ledger::drop_key(const client_seat &seat) {
    if (seat.key.pid == 0) return;
    const auto [begin, end] = keys_.equal_range(seat.key.pid);
    keys_.erase(std::find_if(begin, end, [&](const auto &it) { return it.second == &seat; }));
}

std::optional<ledger::owner_of_key> ledger::find_key(const cancel_key &shown) const {
    // The number is no secret (PostgreSQL shows it): it may decide how long the look-up takes. The secret may not.
    static const cancel_key none;
    const auto [begin, end] = keys_.equal_range(shown.pid);
    const client_seat *owner = nullptr;
    if (begin == end) same(none, shown);
    for (auto it = begin; it != end; ++it)
        if (same(it->second->key, shown)) owner = it->second;
    if (owner == nullptr) return std::nullopt;
    return owner_of_key{owner->id, owner->worker};
}

ledger::canceled ledger::cancel(client_seat &from, const cancel_key &shown, base::time_point now, orders &out) {
    // As it was handed out first: also one from before a reload that changed peer_id.
    auto owner = find_key(shown);
    const bool peers = settings_->global.peer_id != 0;
    if (!owner && peers) owner = find_key(cancel_routing::with_hops(shown, cancel_routing::hops_max));
    if (owner) {
        cancels_.for_client(from.id, owner->client);
        return {owner, false};
    }
    return {std::nullopt, peers && cancels_.for_peer(from.id, from.worker, shown, now, out)};
}

}  // namespace pgsluice::core
