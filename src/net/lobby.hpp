// Where clients come in: accepts them, chooses the worker that each will be served by (its home), and lets a thread of
// lower priority log them in, so that a storm of logins takes no time from those who serve. With the first request a
// client goes home, for good; one that asks for nothing, an admin and a CancelRequest stay. The thread is a worker
// without servers (worker::role::lobby); of what is here, all but the control thread's is its own.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/listener.hpp"
#include "net/shared.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

class lobby {
public:
    explicit lobby(shared &all) : all_(all) { take_spare(); }
    ~lobby() { give_up_spare(); }
    lobby(const lobby &) = delete;
    lobby &operator=(const lobby &) = delete;

    /// The control thread's: what these accept is taken in from now on.
    void open(std::vector<std::unique_ptr<listener>>);
    /// The control thread's: no more from those of TCP, after those who had connected before; then `done`, on the
    /// control thread.
    void close_tcp(std::function<void()> done);
    /// The control thread's: tcp_defer_accept is this from now on.
    void defer(bool on);
    /// The control thread's, SUSPEND: who comes meanwhile waits in the sockets' queues.
    void suspend(bool on);

    /// The sockets that listen, as SHOW FDS has them. On the lobby's own thread.
    core::console_rows listening() const;

    /// A connection that was accepted.
    void take_in(int fd, bool tcp);
    /// Accepting has failed; the log is told once a second.
    void complain(const std::string &where, int why);
    /// A descriptor is kept for when there are no more; false: it is gone already.
    bool give_up_spare();
    void take_spare();
    worker &desk() { return all_.lobby(); }

private:
    base::worker_index least_loaded();

    shared &all_;
    std::vector<std::unique_ptr<listener>> listeners_;
    std::size_t next_ = 0;
    int spare_ = -1;
    base::time_point complained_at_{};
};

}  // namespace pgsluice::net
