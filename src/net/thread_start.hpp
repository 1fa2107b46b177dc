// How threads are started: with no signal let through, for signals are the control thread's. Any thread.
#pragma once

#include <signal.h>

#include <functional>
#include <string>
#include <thread>

namespace pgsluice::net {

/// While it lives no signal reaches this thread, and none ever reaches those that it starts.
class signals_held_back {
public:
    signals_held_back();
    ~signals_held_back();
    signals_held_back(const signals_held_back &) = delete;
    signals_held_back &operator=(const signals_held_back &) = delete;

private:
    sigset_t before_;
};

/// A thread of that name, at most 15 characters, which runs `body`. Throws std::system_error where none is to be had.
std::thread start_thread(std::string name, std::function<void()> body);

}  // namespace pgsluice::net
