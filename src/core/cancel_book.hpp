// CancelRequests under way: those for clients of ours, which only the figures of SHOW POOLS want, and those that
// another process (a peer) must be handed: in line for one of the peer's few connections, for no longer than
// cancel_wait_timeout. It belongs to the ledger, and stands under the same lock. Pure.
// Source: PgBouncer documentation, [peers], pool_size, cancel_wait_timeout, SHOW PEER_POOLS.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/console_view.hpp"
#include "core/orders.hpp"
#include "core/welcome.hpp"

namespace pgsluice::core {

enum class cancel_phase : std::uint8_t {
    waiting,     ///< for a connection to the peer, or for the server of the client that is meant
    ordered,     ///< its worker is told to connect to the peer
    connecting,  ///< and does
    sent,        ///< the request has gone out; its effect is awaited
};

/// Why the connection of who sent one is closed, for the log: PgBouncer's words, who knows no cancel of a client that
/// waits.
inline constexpr std::string_view cancel_sent = "successfully sent cancel request";
inline constexpr std::string_view cancel_failed = "failed cancel request";
inline constexpr std::string_view cancel_of_idle = "cancel request for idle client";
inline constexpr std::string_view cancel_of_waiting = "cancel request for waiting client";

class cancel_book {
public:
    void use(const config::settings &, orders &);
    /// It is for a client of ours.
    void for_client(base::client_id from, base::client_id whom);
    /// It is for a client of a peer's: an order forward_cancel follows when its turn has come, now or later. False:
    /// there is no such peer, or it has been handed on too often.
    bool for_peer(base::client_id from, base::worker_index, const cancel_key &shown, base::time_point now, orders &);

    /// The order is being carried out. False: nobody waits for it any more.
    bool connecting(base::client_id from);
    void sent(base::client_id from);
    /// The connection to the peer has ended: another request may have one.
    void over(base::client_id from, orders &);
    /// Who sent it is gone. A connection to a peer that is under way counts until it is over.
    void left(base::client_id from, orders &);
    void tick(base::time_point now, orders &);

    struct entry {
        cancel_phase phase = cancel_phase::waiting;
        base::client_id whom;  ///< none: it is for a peer
        int peer = 0;
        base::worker_index worker = 0;
        cancel_key key;  ///< to be sent to the peer
        base::time_point since;
    };
    const std::unordered_map<base::client_id, entry> &all() const { return entries_; }
    std::vector<peer_view> peers() const;

private:
    struct peer_line {
        config::peer to;
        int size = 0;  ///< connections at most; 0: any number
        int used = 0;
        std::size_t attempts = 0;
        std::deque<base::client_id> waiting;
        bool removed = false;
    };

    void serve(peer_line &, orders &);
    void free_slot(int peer, orders &);

    int peer_id_ = 0;
    base::duration wait_max_{0};
    std::map<int, peer_line> peers_;
    std::unordered_map<base::client_id, entry> entries_;
};

}  // namespace pgsluice::core
