// A mask, and a name.
#include "net/thread_start.hpp"

#include <pthread.h>

#include <utility>

namespace pgsluice::net {

signals_held_back::signals_held_back() {
    sigset_t all;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before_);
}

signals_held_back::~signals_held_back() {
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

std::thread start_thread(std::string name, std::function<void()> body) {
    const signals_held_back signals;
    return std::thread([name = std::move(name), body = std::move(body)] {
        ::pthread_setname_np(::pthread_self(), name.c_str());
        body();
    });
}

}  // namespace pgsluice::net
