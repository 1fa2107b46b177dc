// What the pieces of net/ live in: the control thread's loop, the ledger, one worker and the lobby, without their
// threads until a test starts them.
#pragma once

#include "net/shared.hpp"
#include "net/tls_context.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

struct house {
    asio::io_context control;
    std::shared_ptr<const config::settings> settings = std::make_shared<const config::settings>();
    shared all{control, settings, 1};

    house() {
        core::environment env;
        env.settings = settings;
        for (base::worker_index i = 0; i < 2; ++i) {
            const auto what = i == 0 ? worker::role::serves : worker::role::lobby;
            all.workers.push_back(std::make_unique<worker>(i, what, all, env, tls_contexts{}));
        }
    }
    ~house() {
        for (const auto &it : all.workers) it->stop();
        for (const auto &it : all.workers) it->join();
    }
    house(const house &) = delete;
    house &operator=(const house &) = delete;
    worker &home() { return *all.workers[0]; }
};

}  // namespace pgsluice::net
