// Steps of which none may take the others with it: an exception waits until all have had their turn. One thread.
#pragma once

#include <exception>
#include <utility>

namespace pgsluice::net {

class each_its_turn {
public:
    template <class Step>
    void run(Step &&step) {
        try {
            step();
        } catch (...) {
            failed_ = std::current_exception();
        }
    }
    /// Throws what the last of those that failed has thrown.
    void tell() {
        if (failed_) std::rethrow_exception(std::exchange(failed_, nullptr));
    }

private:
    std::exception_ptr failed_;
};

}  // namespace pgsluice::net
