// Slices, and one row of a client or a server.
#include "net/connection_rows.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <spdlog/fmt/fmt.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <ctime>

#include "net/client.hpp"
#include "net/server.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

namespace {

using core::console_cell;
using core::console_row;
using core::console_table;

struct names_of_socket {
    std::string address = "unix", local_address = "unix";
    int port = 0, local_port = 0;
    int pid = 0;  ///< of the process at the other end of a Unix socket
};

void take_address(const sockaddr_storage &from, std::string &address, int &port) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (from.ss_family == AF_INET6) {
        const auto &v6 = reinterpret_cast<const sockaddr_in6 &>(from);
        ::inet_ntop(AF_INET6, &v6.sin6_addr, text.data(), text.size());
        port = ntohs(v6.sin6_port);
    } else if (from.ss_family == AF_INET) {
        const auto &v4 = reinterpret_cast<const sockaddr_in &>(from);
        ::inet_ntop(AF_INET, &v4.sin_addr, text.data(), text.size());
        port = ntohs(v4.sin_port);
    } else {
        return;
    }
    address = text.data();
}

/// The ports are those of Unix sockets, which have none of their own.
names_of_socket names_of(int fd, int port, int local_port) {
    names_of_socket names;
    names.port = port;
    names.local_port = local_port;
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (::getpeername(fd, reinterpret_cast<sockaddr *>(&address), &length) == 0)
        take_address(address, names.address, names.port);
    length = sizeof address;
    address = {};
    if (::getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length) == 0)
        take_address(address, names.local_address, names.local_port);
    ucred credentials{};
    length = sizeof credentials;
    if (names.address == "unix" && ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0)
        names.pid = credentials.pid;
    return names;
}

std::string pointer_text(const void *it) {
    return it == nullptr ? "" : fmt::format("{}", it);
}

bool is_sockets(console_table table) {
    return table == console_table::sockets || table == console_table::active_sockets;
}

/// What the last seven columns of SOCKETS are: what is received and not taken, and what is still to be sent. We have no
/// fixed buffers, so positions in them are 0.
void append_buffers(console_row &row, std::size_t unread, std::size_t unsent) {
    row.insert(row.end(), {0, 0, 0, 0, static_cast<std::int64_t>(unsent), static_cast<std::int64_t>(unread),
                           static_cast<std::int64_t>(unsent)});
}

/// What -R would hand over; we have none, so no descriptor is passed and no secret is told, cancel keys included.
console_row fd_row(int fd, const char *task, const console_row &of, int linked, const core::parameter_set *session) {
    const auto known = [&](std::string_view name) -> console_cell {
        if (session == nullptr) return {};
        return std::string(session->value(name));
    };
    const auto named = [](const console_cell &name) {
        return name == console_cell("(nouser)") || name == console_cell("(nodb)") ? console_cell() : name;
    };
    return {fd,
            task,
            named(of[1]),
            named(of[2]),
            of[5],
            of[6],
            0,
            linked,
            known("client_encoding"),
            known("standard_conforming_strings"),
            known("DateStyle"),
            known("TimeZone"),
            console_cell(),
            console_cell(),
            console_cell()};
}

}  // namespace

console_row listening_row(int fd, int unix_port) {
    names_of_socket names;
    names.local_port = unix_port;
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length) == 0)
        take_address(address, names.local_address, names.local_port);
    console_row of(7);
    of[5] = names.local_address;
    of[6] = names.local_port;
    return fd_row(fd, "pooler", of, 0, nullptr);
}

std::string time_text(const clock_pair &now, base::time_point when) {
    const auto wall = now.wall - std::chrono::duration_cast<std::chrono::system_clock::duration>(now.steady - when);
    const std::time_t seconds = std::chrono::system_clock::to_time_t(wall);
    std::tm local{};
    ::localtime_r(&seconds, &local);
    std::array<char, 64> text{};
    const auto size = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S %Z", &local);
    return {text.data(), size};
}

// ---- slices ----

void continue_table(shared &all, std::shared_ptr<connection_cursor> it) {
    auto &asker = *all.workers[it->asker];
    if (it->at >= all.workers.size()) {
        asker.post([&asker, id = it->client] { asker.console_done(id, {}); });
        return;
    }
    auto &next = it->at == 0 ? all.lobby() : *all.workers[it->at - 1];
    next.post([&all, &next, &asker, it = std::move(it)]() mutable {
        auto rows = next.list(*it);
        if (rows.empty()) return continue_table(all, std::move(it));
        const auto id = it->client;
        asker.post([&asker, id, rows = std::move(rows), it = std::move(it)]() mutable {
            asker.console_rows(id, rows, std::move(it));
        });
    });
}

core::console_rows worker::list(connection_cursor &it) {
    const bool both = is_sockets(it.table) || it.table == console_table::fds;
    if (!it.begun) {
        it.begun = true;
        it.servers = it.table == console_table::servers;
        it.next = 0;
        it.ids.clear();
        if (it.servers)
            for (const auto &[id, each] : servers_) it.ids.push_back(id.value);
        else
            for (const auto &[id, each] : clients_) it.ids.push_back(id.value);
        std::sort(it.ids.begin(), it.ids.end());
    }
    const clock_pair now{now_, std::chrono::system_clock::now()};
    const auto end = std::min(it.ids.size(), it.next + connection_cursor::slice);
    core::console_rows rows;
    std::vector<base::server_id> leaving;
    if (it.servers)
        leaving = shared_.with_ledger([&](core::ledger &ledger, core::orders &) {
            std::vector<base::server_id> found;
            for (auto i = it.next; i < end; ++i)
                if (ledger.close_needed({it.ids[i]})) found.push_back({it.ids[i]});
            return found;
        });
    for (; it.next < end; ++it.next) {
        std::optional<console_row> row;
        if (it.servers) {
            const base::server_id id{it.ids[it.next]};
            const auto found = servers_.find(id);
            const bool closes = std::find(leaving.begin(), leaving.end(), id) != leaving.end();
            if (found != servers_.end() && it.seen.insert(id.value).second)
                row = found->second->row(it.table, now, closes);
        } else if (const auto found = clients_.find({it.ids[it.next]}); found != clients_.end()) {
            const auto id = it.ids[it.next];
            const bool shown = is_lobby() ? !it.seen_clients.insert(id).second : it.seen_clients.contains(id);
            if (!shown) row = found->second->row(it.table, now);
        }
        if (row) rows.push_back(std::move(*row));
    }
    if (it.next < it.ids.size()) return rows;
    if (both && !it.servers) {
        it.servers = true;
        it.next = 0;
        it.ids.clear();
        for (const auto &[id, each] : servers_) it.ids.push_back(id.value);
        std::sort(it.ids.begin(), it.ids.end());
        return rows;
    }
    ++it.at;
    it.begun = false;
    return rows;
}

// ---- one row ----

std::string client::cancel_state() {
    const bool sent = worker_->all().with_ledger([&](core::ledger &ledger, core::orders &) {
        const auto &all = ledger.cancels().all();
        const auto found = all.find(id_);
        return found == all.end() || found->second.phase == core::cancel_phase::sent;
    });
    return sent ? "active_cancel_req" : "waiting_cancel_req";
}

std::optional<console_row> client::row(console_table table, const clock_pair &now) {
    const auto state = session_.state();
    const bool login = state == core::client_state::login || state == core::client_state::joining;
    const bool waits = state == core::client_state::waiting || state == core::client_state::joining;
    if (gone() || seat_->looks_up) return std::nullopt;
    if (table == console_table::clients && state == core::client_state::login) return std::nullopt;
    // As PgBouncer: something is received and not taken, or still to be sent, or is waited for.
    const auto *const console = session_.console();
    const bool busy = waits || in_.size_bytes() > 0 || out_.unsent_bytes() > 0 || (console && console->running());
    if (table == console_table::active_sockets && !busy) return std::nullopt;
    if (table == console_table::fds && console != nullptr) return std::nullopt;  // as PgBouncer
    std::string text = waits ? "waiting" : server_ != nullptr ? "active" : "idle";
    if (state == core::client_state::closing) text = cancel_state();
    if (is_sockets(table)) text = login && !waits ? "cl_login" : waits ? "cl_waiting" : "cl_active";
    const auto names = names_of(out_.fd(), worker_->global().listen_port, worker_->global().listen_port);
    const auto asked = session_.asked_at() == base::time_point() ? since_ : session_.asked_at();
    const auto request = waits ? session_.since() : asked;
    const auto busy_since = session_.busy_since();
    const auto wait = std::chrono::duration_cast<base::microseconds>(
        busy_since == base::never ? base::duration::zero() : now.steady - busy_since);
    const auto *const parameters = session_.parameters().get();
    const auto &route = session_.where();
    const auto kind = route ? route->replicates : core::replication::none;
    console_row row{"C",
                    session_.user().empty() ? "(nouser)" : session_.user(),
                    session_.database().empty() ? "(nodb)" : session_.database(),
                    std::string(core::to_string(kind)),
                    std::move(text),
                    names.address,
                    names.port,
                    names.local_address,
                    names.local_port,
                    time_text(now, since_),
                    time_text(now, request),
                    wait.count() / 1'000'000,
                    wait.count() % 1'000'000,
                    0,
                    pointer_text(this),
                    pointer_text(server_),
                    names.pid,
                    out_.cipher(),
                    parameters == nullptr ? std::string() : std::string(parameters->value("application_name")),
                    static_cast<std::int64_t>(session_.statements()),
                    static_cast<std::int64_t>(id_.value)};
    if (table == console_table::fds)
        return fd_row(out_.fd(), "client", row, server_ != nullptr ? server_->fd() : 0, parameters);
    if (is_sockets(table)) append_buffers(row, in_.size_bytes(), out_.unsent_bytes());
    return row;
}

std::optional<console_row> server::row(console_table table, const clock_pair &now, bool close_needed) {
    if (closed_ || session_ == nullptr) return std::nullopt;
    const bool busy = in_.size_bytes() > 0 || out_.unsent_bytes() > 0;
    if (table == console_table::active_sockets && !busy) return std::nullopt;
    const auto &settings = session_->settings();
    const bool checks = !settings.server_check_query.empty();
    const auto state_text = [&]() -> std::string {
        switch (session_->state()) {
            case core::server_state::connecting:
            case core::server_state::login:
                return "new";
            case core::server_state::idle:
                return checks && now.steady >= since_idle_ + settings.server_check_delay ? "used" : "idle";
            case core::server_state::tested:
            case core::server_state::abandoned:
                return "tested";
            case core::server_state::active:
                return "active";
            case core::server_state::closing:
                return "closing";
        }
        return {};
    };
    std::string text = draining_ ? "closing" : held_ ? "being_canceled" : state_text();
    if (is_sockets(table)) text = text == "new" ? "sv_login" : "sv_" + text;
    const auto names = names_of(out_.fd(), settings.port, worker_.global().listen_port);
    const auto request = client_ != nullptr ? client_->session().asked_at() : since_link_;
    const auto *const parameters = session_->parameters().get();
    const auto &key = session_->key();
    const auto kind = client_ != nullptr && client_->session().where() ? client_->session().where()->replicates
                                                                       : core::replication::none;
    console_row row{"S",
                    settings.user,
                    settings.database,
                    std::string(core::to_string(kind)),
                    std::move(text),
                    names.address,
                    names.port,
                    names.local_address,
                    names.local_port,
                    time_text(now, since_),
                    time_text(now, request == base::time_point() ? since_ : request),
                    0,
                    0,
                    close_needed ? 1 : 0,
                    pointer_text(this),
                    pointer_text(client_),
                    std::int64_t{key ? key->pid : 0},
                    out_.cipher(),
                    parameters == nullptr ? std::string() : std::string(parameters->value("application_name")),
                    static_cast<std::int64_t>(session_->statements().size()),
                    static_cast<std::int64_t>(id_.value)};
    if (table == console_table::fds)
        return fd_row(out_.fd(), "server", row, client_ != nullptr ? client_->fd() : 0, parameters);
    if (is_sockets(table)) append_buffers(row, in_.size_bytes(), out_.unsent_bytes());
    return row;
}

}  // namespace pgsluice::net
