// The world around the simulated pooler: a configuration, players and backends, a virtual clock, and the dice that
// decide what happens next. One step is one thing that happens; after each the invariants are looked at.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sim/pooler.hpp"

namespace pgsluice::sim {

class simulation {
public:
    explicit simulation(std::uint64_t seed);

    /// Runs `steps`, then lets everybody finish. The first fault, or "".
    std::string run(std::uint64_t steps);

    std::uint64_t steps_done() const { return steps_; }
    int answered() const { return answered_; }
    const pooler &pool() const { return *pooler_; }
    int commands() const { return commands_; }
    std::string describe() const;

private:
    std::shared_ptr<config::settings> make_settings();
    void step();
    bool happen();
    bool client_event();
    bool server_event();
    bool player_event();
    bool backend_event();
    void chaos();
    void admin();
    void resume(const std::string &database);
    void new_player();
    void pass_time();
    void timers();
    void dial();
    void look();
    void settle();
    void forget_gone();
    client_driver *any_client();
    server_driver *any_server();

    dice dice_;
    std::shared_ptr<config::settings> settings_;
    std::unique_ptr<pooler> pooler_;
    std::vector<client_driver *> clients_;
    std::vector<server_driver *> servers_;
    base::time_point next_tick_;
    std::uint64_t steps_ = 0;
    std::size_t players_wanted_ = 0;
    std::uint32_t next_pid_ = 100;
    int next_player_ = 1, answered_ = 0, commands_ = 0;
    bool closing_time_ = false, paused_ = false;
    std::set<std::string> paused_databases_;  ///< by PAUSE or KILL of one
    bool calm_;     ///< nothing breaks and nobody is refused for waiting: so everybody must be answered
    bool crowded_;  ///< many clients, few servers
};

}  // namespace pgsluice::sim
