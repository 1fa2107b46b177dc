// What stands in a cancel key where there are peers, as in PgBouncer: bytes 1 and 2 of the eight (numbered from 0) are
// the peer_id of the process whose client it is, the lowest two bits of byte 7 how many times the request may still be
// handed on. The other bits are random; a longer key has its other bytes behind these. Pure. Source: PgBouncer
// documentation, peer_id and [peers]; which of the two bytes is the higher one is ours: the second.
#pragma once

#include "core/welcome.hpp"

namespace pgsluice::core::cancel_routing {

/// From process to process: the most that two bits hold. Where every process knows every other, one is enough.
inline constexpr unsigned hops_max = 3;
inline constexpr unsigned hops_mask = 0x03;
/// Of the secret, behind the four bytes of the number.
inline constexpr std::size_t hops_byte = 3;

inline unsigned hops_of(const cancel_key &key) {
    return static_cast<unsigned char>(key.secret[hops_byte]) & hops_mask;
}

inline cancel_key with_hops(cancel_key key, unsigned hops) {
    const unsigned others = static_cast<unsigned char>(key.secret[hops_byte]) & ~hops_mask;
    key.secret[hops_byte] = static_cast<char>(others | (hops & hops_mask));
    return key;
}

inline int peer_of(const cancel_key &key) {
    return static_cast<int>(((key.pid >> 16) & 0xffU) | (((key.pid >> 8) & 0xffU) << 8));
}

/// A random key as one of a client of this process's; peer_id 0: there are no peers, and it stays as it is.
inline cancel_key of_process(cancel_key key, int peer_id) {
    if (peer_id == 0) return key;
    const auto id = static_cast<std::uint32_t>(peer_id);
    key.pid = (key.pid & 0xff0000ffU) | ((id & 0xffU) << 16) | (((id >> 8) & 0xffU) << 8);
    return with_hops(key, hops_max);
}

}  // namespace pgsluice::core::cancel_routing
