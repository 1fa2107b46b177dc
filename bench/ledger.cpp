// What a transaction costs at the ledger, under its mutex, when one worker uses it and when several do: to ask for a
// server and to give it back, with nobody waiting and with a crowd. Each thread plays every so many workers' turns, so
// that what the ledger knows of a worker was last written by another core as often as not. By hand, as relay.cpp.
#include "core/ledger.hpp"

#include <benchmark/benchmark.h>

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace {

using namespace pgsluice;
using namespace pgsluice::core;

constexpr base::time_point now{std::chrono::hours(1000)};

/// One pool with a server for each worker, and so many clients on each, all of which have asked.
struct office {
    std::mutex mutex;
    std::unique_ptr<ledger> book;
    orders out;
    /// By worker: its server's place.
    std::vector<server_seat *> servers;

    office(std::size_t workers, int clients_each) {
        auto settings = std::make_shared<config::settings>();
        settings->global.auth_type = config::auth_type::trust;
        settings->global.pool_mode = config::pool_mode::transaction;
        settings->global.server_check_delay = base::seconds(1'000'000);
        settings->global.default_pool_size = static_cast<int>(workers);
        settings->global.max_client_conn = 100'000;
        auto &entry = settings->databases["db"];
        entry.name = "db";
        entry.hosts = {"host"};
        book = std::make_unique<ledger>(settings, workers);
        servers.resize(workers);
        for (int round = 0; round < clients_each; ++round) {
            for (std::size_t worker = 0; worker < workers; ++worker) come(static_cast<base::worker_index>(worker));
        }
    }
    /// The first of a worker brings the worker's server.
    void come(base::worker_index worker) {
        auto *const client = book->connected(worker, nullptr, out);
        book->admit(*client, out);
        book->join(*client, "db", "user", nullptr, {}, now, out);
        open();
        if (book->want(*client, now, out) == nullptr) open();
        if (client->linked != nullptr) servers[worker] = client->linked;
    }
    void open() {
        for (const auto &it : std::exchange(out, {})) {
            if (it.what != order::kind::open) continue;
            auto &seat = *static_cast<server_seat *>(it.seat);
            book->opened(seat, std::make_shared<const welcome>(), {}, now, out);
            book->give_back(seat, now, out);
        }
    }
};

/// Those of a run, made anew for each figure: by workers and clients.
office &office_of(benchmark::State &state) {
    static std::mutex mutex;
    static std::map<std::pair<std::int64_t, std::int64_t>, std::unique_ptr<office>> all;
    const std::lock_guard held(mutex);
    auto &it = all[{state.range(0), state.range(1)}];
    if (!it) it = std::make_unique<office>(static_cast<std::size_t>(state.range(0)), static_cast<int>(state.range(1)));
    return *it;
}

/// A server's transaction is over, the next client gets it, and the one before asks again.
void give_back_and_want(benchmark::State &state) {
    auto &all = office_of(state);
    const auto threads = static_cast<std::size_t>(state.threads());
    auto worker = static_cast<std::size_t>(state.thread_index());
    orders own;
    for (auto _ : state) {
        auto &server = *all.servers[worker];
        auto &client = *server.client;
        {
            const std::lock_guard held(all.mutex);
            all.book->give_back(server, now, own);
        }
        const std::lock_guard held(all.mutex);
        all.book->want(client, now, own);
        if (server.client == nullptr) state.SkipWithError("a server without a client");
        worker += threads;
        if (worker >= all.servers.size()) worker = static_cast<std::size_t>(state.thread_index());
    }
}
BENCHMARK(give_back_and_want)
    ->ArgNames({"workers", "clients_each"})
    ->ArgsProduct({{2, 16, 64}, {1, 8}})
    ->Threads(1)
    ->Threads(2)
    ->UseRealTime();

}  // namespace
