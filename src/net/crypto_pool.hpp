// Threads for what takes long to compute: the steps of TLS handshakes, keys of SCRAM from passwords (PBKDF2). They
// touch no socket: a step gets the bytes that came and gives back those to be sent, so that a storm of logins never
// holds up a worker's running queries. Connections to servers come first: they are few, and a storm of clients that log
// in must not keep them waiting. Clients' handshakes and derivations go in turn, and each address and each user has an
// equal share of them. What costs much (users set the iterations of their own verifiers) goes last, servers' first, and
// never takes all threads. What the connection that wanted it does not want any more is not computed. run(), derive()
// and forget() may be called by any thread, the rest by the control thread.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "auth/scram.hpp"
#include "base/time.hpp"
#include "core/fair_line.hpp"
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
    /// From so many iterations on, 8 times PostgreSQL's default, one costs much: 10 ms and more.
    static constexpr int dear_iterations = 32'768;

    explicit crypto_pool(std::uint32_t threads) : wanted_(threads) {}
    ~crypto_pool() { stop(); }
    crypto_pool(const crypto_pool &) = delete;
    crypto_pool &operator=(const crypto_pool &) = delete;

    enum class side : std::uint8_t { client, server };
    /// Who is to have an equal share: of one side, an address or a user.
    struct asker {
        side of;
        std::string name;
    };
    struct place;
    /// Held by who asked.
    using ticket = std::shared_ptr<const place>;

    /// One step with the bytes that came; `done` is called with its outcome on `home`'s thread. Null: too many wait,
    /// or there is no thread to be had.
    ticket run(worker &home, const asker &, std::unique_ptr<tls_session>, std::string from_peer,
               std::function<void(handshake_step)> done);
    /// Keys from a password, likewise. By user.
    ticket derive(worker &home, const asker &, auth::scram_work, std::function<void(const auth::scram_keys &)> done);
    /// Nobody wants it any more. One that is being computed is finished, and `done` may still be called. Null is
    /// ignored; the ticket is gone.
    void forget(ticket &);
    /// Forgets what waits, ends the threads.
    void stop();

private:
    /// What a thread does, then what the connection's worker does with it.
    struct task {
        virtual ~task() = default;
        virtual void compute() = 0;
        virtual void tell() = 0;
        worker *home = nullptr;
        ticket mine;
    };
    struct handshake_task;
    struct derivation;
    using line = core::fair_line<std::unique_ptr<task>>;
    ticket put(worker &home, line &, const std::string &whose, std::unique_ptr<task>, std::size_t most);
    line *next_line();
    /// Half of the threads, and never the last one but where it is the only one.
    std::size_t dear_at_once() const { return threads_.size() > 3 ? (threads_.size() - 1) / 2 : 1; }
    void add_threads();
    void complain(std::string_view why);
    void loop();

    std::uint32_t wanted_;  ///< threads, and one more: started with the first task, without TLS there are none
    std::mutex mutex_;
    std::condition_variable more_;
    line of_servers_, handshakes_, derivations_, dear_of_servers_, dear_;
    bool derivations_next_ = false;     ///< of the two, where both wait
    std::uint32_t computing_dear_ = 0;  ///< threads
    std::vector<std::thread> threads_;
    base::time_point complained_at_{};
    bool stopping_ = false;
};

}  // namespace pgsluice::net
