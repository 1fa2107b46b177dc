// What a transaction costs at the ledger, under its mutex, when one worker uses it and when several do: to ask for a
// server and to give it back. Each thread is a worker with one client, and there is a server for each. By hand, as
// relay.cpp.
#include "core/ledger.hpp"

#include <benchmark/benchmark.h>

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace {

using namespace pgsluice;
using namespace pgsluice::core;

constexpr base::worker_index workers = 2;
constexpr base::time_point now{std::chrono::hours(1000)};

/// One pool, with a client and an idle server on each worker.
struct office {
    std::mutex mutex;
    std::unique_ptr<ledger> book;
    orders out;
    std::vector<client_seat *> clients;

    office() {
        auto settings = std::make_shared<config::settings>();
        settings->global.auth_type = config::auth_type::trust;
        settings->global.pool_mode = config::pool_mode::transaction;
        settings->global.server_check_delay = base::seconds(1'000'000);
        auto &entry = settings->databases["db"];
        entry.name = "db";
        entry.hosts = {"host"};
        book = std::make_unique<ledger>(settings, workers);
        for (base::worker_index worker = 0; worker < workers; ++worker) {
            clients.push_back(book->connected(worker, nullptr, out));
            book->admit(*clients.back(), out);
            book->join(*clients.back(), "db", "user", nullptr, {}, now, out);
            serve();
            if (book->want(*clients.back(), now, out) == nullptr) serve();  // which gives it the new one
        }
        for (auto *const client : clients) book->give_back(*client->linked, now, out);
    }
    void serve() {
        for (const auto &it : std::exchange(out, {})) {
            if (it.what != order::kind::open) continue;
            auto &seat = *static_cast<server_seat *>(it.seat);
            book->opened(seat, std::make_shared<const welcome>(), {}, now, out);
            book->give_back(seat, now, out);
        }
    }
};

void want_and_give_back(benchmark::State &state) {
    static office all;
    auto &client = *all.clients[static_cast<std::size_t>(state.thread_index())];
    orders own;
    for (auto _ : state) {
        server_seat *server = nullptr;
        {
            const std::lock_guard held(all.mutex);
            server = all.book->want(client, now, own);
        }
        if (server == nullptr) state.SkipWithError("it had to wait");
        if (server == nullptr) break;
        const std::lock_guard held(all.mutex);
        all.book->give_back(*server, now, own);
    }
}
BENCHMARK(want_and_give_back)->Threads(1)->Threads(2)->UseRealTime();

}  // namespace
