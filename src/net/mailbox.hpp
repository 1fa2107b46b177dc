// Tasks that other threads leave for a worker, in order, and the descriptor that wakes it.
// put() may be called by any thread; the rest belongs to the worker. The lock is held to exchange pointers only.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "net/ready_set.hpp"

namespace pgsluice::net {

class mailbox final : public watched {
public:
    mailbox();
    ~mailbox();

    template <class Task>
    void put(Task &&task) {
        if (leave(std::forward<Task>(task))) wake();
    }
    /// True: it is the first, and who left it must call wake() soon; others who come behind it do not.
    template <class Task>
    bool leave(Task &&task) {
        return push(std::make_unique<held<std::decay_t<Task>>>(std::forward<Task>(task)));
    }
    void wake();
    int fd() const { return wake_; }
    void on_ready(std::uint32_t events) override;

private:
    struct any_task {
        virtual ~any_task() = default;
        virtual void run() = 0;
    };
    template <class Task>
    struct held : any_task {
        explicit held(Task it) : task(std::move(it)) {}
        void run() override { task(); }
        Task task;
    };
    bool push(std::unique_ptr<any_task>);

    int wake_;
    std::mutex mutex_;
    std::vector<std::unique_ptr<any_task>> tasks_;
};

}  // namespace pgsluice::net
