// A pair of byte pipes with room for so much, as a socket has it, and the simulation's dice. No thread, no clock.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace pgsluice::sim {

class dice {
public:
    explicit dice(std::uint64_t seed) : engine_(seed) {}
    /// 0 to below - 1.
    int pick(int below) { return static_cast<int>(engine_() % static_cast<unsigned>(below)); }
    std::size_t pick(std::size_t below) { return static_cast<std::size_t>(engine_() % below); }
    /// True once in `times`.
    bool once_in(int times) { return pick(times) == 0; }
    std::uint64_t next() { return engine_(); }

private:
    std::mt19937_64 engine_;
};

/// One connection, seen from the pooler: its peer is a player or a backend.
struct wire {
    static constexpr std::size_t room_bytes = 4096;

    std::string to_peer, from_peer;
    bool ended_by_us = false;    ///< the peer finds the end behind to_peer
    bool ended_by_peer = false;  ///< we find the end behind from_peer
    bool reset = false;          ///< the peer is gone for good: sending fails

    /// Takes what there is room for; returns how much.
    std::size_t send(std::string_view bytes) {
        if (ended_by_us) return 0;
        const auto taken = std::min(bytes.size(), room_bytes - std::min(room_bytes, to_peer.size()));
        to_peer += bytes.substr(0, taken);
        return taken;
    }
    bool has_room() const { return to_peer.size() < room_bytes; }
};

/// The first `count` bytes of a pipe.
inline std::string take(std::string &pipe, std::size_t count) {
    std::string taken = pipe.substr(0, count);
    pipe.erase(0, count);
    return taken;
}

}  // namespace pgsluice::sim
