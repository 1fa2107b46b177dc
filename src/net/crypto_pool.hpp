// Threads for what takes long to compute: the steps of TLS handshakes, keys of SCRAM from passwords (PBKDF2). They
// touch no socket: a step gets the bytes that came and gives back those to be sent, so that a storm of logins never
// holds up a worker's running queries. Connections to servers come first: they are few, and a storm of clients that log
// in must not keep them waiting. Else first come, first served; the queues have an end. run() and derive() may be
// called by any thread, the rest by the control thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "auth/scram.hpp"
#include "net/tls_session.hpp"

namespace pgsluice::net {

class worker;

/// What one step of a handshake came to.
struct handshake_step {
    std::unique_ptr<tls_session> session;
    tls_session::progress came_to = tls_session::progress::failed;
    std::string to_peer;  ///< to be sent, whatever it came to
    std::string plain;    ///< done: what the peer has sent behind it
};

/// Where a driver is with a handshake.
enum class handshake : std::uint8_t {
    none,       ///< not begun, or done
    reading,    ///< the peer's next bytes are awaited
    computing,  ///< a step is with the pool: nothing is read
    failed,
};

class crypto_pool {
public:
    /// More steps than this do not wait: each stands for one connection, most of them clients that have not logged in.
    static constexpr std::size_t waiting_max = 8192;
    /// Each of these takes longer, by far where many iterations were asked for.
    static constexpr std::size_t derivations_max = 1024;

    explicit crypto_pool(std::uint32_t threads) : wanted_(threads) {}
    ~crypto_pool() { stop(); }
    crypto_pool(const crypto_pool &) = delete;
    crypto_pool &operator=(const crypto_pool &) = delete;

    enum class whose : std::uint8_t { client, server };

    /// One step with the bytes that came; `done` is called with its outcome on `home`'s thread. False: too many wait.
    bool run(worker &home, whose, std::unique_ptr<tls_session>, std::string from_peer,
             std::function<void(handshake_step)> done);
    /// Keys from a password, likewise.
    bool derive(worker &home, whose, auth::scram_work, std::function<void(const auth::scram_keys &)> done);
    /// Forgets what waits, ends the threads.
    void stop();

private:
    /// What a thread does, then what the connection's worker does with it.
    struct task {
        virtual ~task() = default;
        virtual void compute() = 0;
        virtual void tell() = 0;
        worker *home = nullptr;
    };
    struct handshake_task;
    struct derivation;
    bool put(worker &home, whose, std::unique_ptr<task>, std::size_t most);
    void loop();

    std::uint32_t wanted_;  ///< threads, started with the first task: without TLS there are none
    std::mutex mutex_;
    std::condition_variable more_;
    std::deque<std::unique_ptr<task>> of_clients_, of_servers_;
    std::vector<std::thread> threads_;
    bool stopping_ = false;
};

}  // namespace pgsluice::net
