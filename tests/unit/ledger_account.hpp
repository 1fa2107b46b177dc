// What the ledger's tests share: a ledger with a clock and workers that do as they are told. ledger::check() runs after
// every call.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/ledger.hpp"

namespace pgsluice::core {

using base::seconds;

/// A ledger with a clock, the orders it gave, and short ways to play workers.
class account {
public:
    std::shared_ptr<config::settings> settings = std::make_shared<config::settings>();
    base::time_point now{std::chrono::hours(1000)};
    orders out;  ///< not looked at yet
    std::unique_ptr<ledger> it;
    base::worker_index workers = 1;

    account() {
        auto &global = settings->global;
        global.auth_type = config::auth_type::trust;
        global.pool_mode = config::pool_mode::transaction;
        global.default_pool_size = 2;
        global.server_check_delay = seconds(1'000'000);
        add_database("db");
    }
    config::database &add_database(const std::string &name) {
        auto &entry = settings->databases[name];
        entry.name = name;
        entry.hosts = {"h0"};
        return entry;
    }
    account &open_book(base::worker_index count = 1) {
        workers = count;
        it = std::make_unique<ledger>(settings, count);
        return *this;
    }
    void checked() { EXPECT_EQ(it->check(), ""); }
    void pass(base::duration time) { now += time; }

    // ---- clients ----

    client_seat *connect(base::worker_index worker = 0) {
        auto *const seat = it->connected(worker, nullptr, out);
        EXPECT_EQ(it->admit(*seat, out), refusal::none);
        return seat;
    }
    ledger::joined join(client_seat *seat, const std::string &database = "db", const std::string &user = "u") {
        auto result = it->join(*seat, database, user, nullptr, {}, now, out);
        checked();
        return result;
    }
    /// A welcomed client; opens the pool's first server if there is none.
    client_seat *client(base::worker_index worker = 0, const std::string &database = "db",
                        const std::string &user = "u") {
        auto *const seat = connect(worker);
        const auto result = join(seat, database, user);
        EXPECT_EQ(result.why, refusal::none);
        if (!result.greeting) {
            for (auto *const server : opens()) opened(server);
            EXPECT_FALSE(take(order::kind::welcome).empty());
        }
        return seat;
    }
    server_seat *want(client_seat *seat) {
        auto *const server = it->want(*seat, now, out);
        checked();
        return server;
    }
    void leave(client_seat *seat) {
        it->leave(*seat, out);
        checked();
    }

    // ---- servers ----

    orders take(order::kind what) {
        orders taken;
        for (auto at = out.begin(); at != out.end();) {
            if (at->what != what) {
                ++at;
                continue;
            }
            taken.push_back(std::move(*at));
            at = out.erase(at);
        }
        return taken;
    }
    std::vector<server_seat *> opens() {
        std::vector<server_seat *> all;
        for (const auto &order : take(order::kind::open)) {
            all.push_back(static_cast<server_seat *>(order.seat));
            names[order.server] = all.back();
        }
        return all;
    }
    shared_welcome greeting = std::make_shared<const welcome>();
    handing_on opened(server_seat *seat) {
        it->opened(*seat, greeting, {}, now, out);
        return give_back(seat);
    }
    handing_on give_back(server_seat *seat) {
        const auto next = it->give_back(*seat, now, out);
        checked();
        return next;
    }
    void closed(server_seat *seat) {
        names.erase(seat->id);
        it->closed(*seat, now, out);
        checked();
    }
    /// Carries out the orders to close; the reasons.
    std::vector<std::string_view> closes() {
        std::vector<std::string_view> why;
        for (const auto &order : take(order::kind::close)) {
            why.push_back(order.why);
            closed(names.at(order.server));
        }
        return why;
    }
    void tick() {
        it->tick(now, out);
        checked();
        EXPECT_EQ(it->check_ticked(now), "");
    }
    void fail(server_seat *seat, const login_error &error) {
        it->open_failed(*seat, error, now, out);
        checked();
        closed(seat);
    }
    std::map<base::server_id, server_seat *> names;
};

inline const login_error refused_by_server{"3D000", "no such database", true};
inline const login_error starting_up{"57P03", "starting up", true};
inline const login_error not_able{"28P01", "server login failed: wrong password type", false, false, "only md5"};
inline const login_error unreachable{"08006", "connection refused", false};
inline const login_error no_socket{.sqlstate = "53000", .message = "too many open files", .ours = true};

/// Settings to change and to reload.
inline std::shared_ptr<config::settings> copy(const account &a) {
    return std::make_shared<config::settings>(*a.settings);
}

}  // namespace pgsluice::core
