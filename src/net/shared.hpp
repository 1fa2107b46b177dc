// What all workers share: the ledger under its one mutex, and each other's queues. Made by the control thread before
// the workers start, and gone after they have ended.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/ledger.hpp"
#include "net/asio.hpp"
#include "net/crypto_pool.hpp"
#include "net/name_finder.hpp"
#include "net/password_checks.hpp"
#include "net/shared_starts.hpp"

namespace pgsluice::net {

class console_desk;
class resolver;
class secret_lookups;
class worker;

struct shared {
    shared(asio::io_context &control_loop, std::shared_ptr<const config::settings> settings, std::uint32_t count)
        : control(control_loop), ledger(std::move(settings), count), names(control_loop), crypto(count) {}

    /// The control thread's loop: what waits for rare things (names, connections being made) waits there.
    asio::io_context &control;

    /// The addresses of servers' names; the process's, and the control thread's alone.
    resolver *dns = nullptr;
    /// When the log was last told that no socket could be opened; the control thread's alone.
    base::time_point told_of_shortage{};
    /// Of users that auth_file lacks; the process's.
    secret_lookups *lookups = nullptr;
    /// Where admins' commands are carried out; the process's.
    console_desk *console = nullptr;

    /// Held for the few steps of one call to the ledger, never across input or output.
    std::mutex mutex;
    core::ledger ledger;
    /// Those that serve, by their index, and behind them the lobby.
    std::vector<std::unique_ptr<worker>> workers;
    std::span<const std::unique_ptr<worker>> serving() const { return {workers.data(), workers.size() - 1}; }
    worker &lobby() const { return *workers.back(); }
    shared_starts starts;
    name_finder names;
    crypto_pool crypto;
    password_checks pam, ldap;

    /// Calls `use(ledger, orders)` under the mutex and hands each order to the worker it is for. Any thread.
    template <class Use>
    auto with_ledger(Use &&use);
};

}  // namespace pgsluice::net
