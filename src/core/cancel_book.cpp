// Who waits for which peer. See cancel_book.hpp.
#include "core/cancel_book.hpp"

#include <algorithm>

#include "core/cancel_routing.hpp"

namespace pgsluice::core {

using base::time_point;

void cancel_book::use(const config::settings &settings, orders &out) {
    const auto &global = settings.global;
    peer_id_ = global.peer_id;
    wait_max_ = global.cancel_wait_timeout;
    for (auto &[id, line] : peers_) line.removed = true;
    for (const auto &[id, peer] : settings.peers) {
        if (id == peer_id_) continue;  // one file may serve all of them
        auto &line = peers_[id];
        line.to = peer;
        line.size = peer.pool_size.value_or(global.default_pool_size);
        line.removed = false;
    }
    for (auto it = peers_.begin(); it != peers_.end();) {
        auto &line = it->second;
        if (!line.removed) {
            serve(line, out);
            ++it;
            continue;
        }
        for (const auto from : std::exchange(line.waiting, {}))
            out.push_back(
                {.what = order::kind::drop, .worker = entries_.at(from).worker, .client = from, .why = cancel_failed});
        it = line.used == 0 ? peers_.erase(it) : std::next(it);
    }
}

void cancel_book::for_client(base::client_id from, base::client_id whom) {
    entries_[from] = {.whom = whom, .key = {}, .since = {}};
}

bool cancel_book::for_peer(base::client_id from, base::worker_index worker, const cancel_key &shown, time_point now,
                           orders &out) {
    const auto hops = cancel_routing::hops_of(shown);
    const auto found = peers_.find(cancel_routing::peer_of(shown));
    if (peer_id_ == 0 || hops == 0 || found == peers_.end() || found->second.removed) return false;
    if (shown.size_bytes > cancel_key::long_bytes) return false;  // nobody here hands out such keys
    entries_[from] = {.whom = {},
                      .peer = found->first,
                      .worker = worker,
                      .key = cancel_routing::with_hops(shown, hops - 1),
                      .since = now};
    found->second.waiting.push_back(from);
    serve(found->second, out);
    return true;
}

void cancel_book::serve(peer_line &line, orders &out) {
    while (!line.waiting.empty() && (line.size <= 0 || line.used < line.size)) {
        const auto from = line.waiting.front();
        line.waiting.pop_front();
        auto &it = entries_.at(from);
        it.phase = cancel_phase::ordered;
        ++line.used;
        const auto &hosts = line.to.hosts;
        auto connection = std::make_shared<order::peer_connection>();
        connection->peer = line.to.id;
        connection->host = hosts[line.attempts++ % hosts.size()];
        connection->port = line.to.port;
        connection->key = it.key;
        out.push_back({.what = order::kind::forward_cancel,
                       .worker = it.worker,
                       .client = from,
                       .forward_to = std::move(connection)});
    }
}

bool cancel_book::connecting(base::client_id from) {
    const auto found = entries_.find(from);
    if (found == entries_.end() || found->second.phase != cancel_phase::ordered) return false;
    found->second.phase = cancel_phase::connecting;
    return true;
}

void cancel_book::sent(base::client_id from) {
    if (const auto found = entries_.find(from); found != entries_.end()) found->second.phase = cancel_phase::sent;
}

void cancel_book::free_slot(int peer, orders &out) {
    const auto found = peers_.find(peer);
    if (found == peers_.end()) return;
    auto &line = found->second;
    --line.used;
    if (line.removed && line.used == 0) {
        peers_.erase(found);
    } else {
        serve(line, out);
    }
}

void cancel_book::over(base::client_id from, orders &out) {
    const auto found = entries_.find(from);
    if (found == entries_.end()) return;
    const int peer = found->second.peer;
    entries_.erase(found);
    free_slot(peer, out);
}

void cancel_book::left(base::client_id from, orders &out) {
    if (entries_.empty()) return;
    const auto found = entries_.find(from);
    if (found == entries_.end()) return;
    const auto it = found->second;
    if (it.whom) {
        entries_.erase(found);
    } else if (it.phase == cancel_phase::waiting) {
        if (const auto line = peers_.find(it.peer); line != peers_.end()) std::erase(line->second.waiting, from);
        entries_.erase(found);
    } else if (it.phase == cancel_phase::ordered) {  // nobody will carry that order out
        over(from, out);
    }
}

void cancel_book::tick(time_point now, orders &out) {
    if (wait_max_ <= base::duration::zero()) return;
    for (auto &[id, line] : peers_) {
        // In the order of their coming: the first has waited for longest. It leaves when the order is carried out.
        for (const auto from : line.waiting) {
            const auto &it = entries_.at(from);
            if (now < it.since + wait_max_) break;
            out.push_back({.what = order::kind::drop, .worker = it.worker, .client = from, .why = cancel_failed});
        }
    }
}

std::vector<peer_view> cancel_book::peers() const {
    std::vector<peer_view> rows;
    for (const auto &[id, line] : peers_) {
        if (line.removed) continue;
        peer_view row{.peer = line.to, .pool_size = line.size};
        row.waiting = static_cast<int>(line.waiting.size());
        rows.push_back(std::move(row));
    }
    for (const auto &each : entries_) {
        const auto &it = each.second;
        const auto row = std::find_if(rows.begin(), rows.end(), [&](const auto &of) { return of.peer.id == it.peer; });
        if (it.whom || row == rows.end() || it.phase == cancel_phase::waiting) continue;
        ++(it.phase == cancel_phase::sent ? row->sent : row->connecting);
    }
    return rows;
}

}  // namespace pgsluice::core
