// One running helper program (src/helper): started with the first question, asked one at a time, ended by force when it
// does not answer in time. Belongs to one thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>

#include "auth/password_check.hpp"
#include "base/time.hpp"

namespace pgsluice::net {

class password_helper {
public:
    /// After so many questions it makes room for a fresh one: what the modules of PAM leave behind goes with it.
    static constexpr int questions_max = 100;

    password_helper() = default;
    ~password_helper() { end(); }
    password_helper(const password_helper &) = delete;
    password_helper &operator=(const password_helper &) = delete;

    /// Waits for the answer. `given_up` is asked every tenth of a second; true ends the helper.
    auth::password_verdict ask(const auth::password_check &, base::time_point deadline,
                               const std::function<bool()> &given_up);
    bool runs() const { return fd_ >= 0; }
    void end();

private:
    std::string start();
    enum class waited : std::uint8_t { ready, late, given_up, failed };
    waited wait(short events, base::time_point deadline, const std::function<bool()> &given_up) const;
    waited send(std::string_view bytes, base::time_point deadline, const std::function<bool()> &given_up) const;
    waited receive(std::string &into, std::size_t count, base::time_point deadline,
                   const std::function<bool()> &given_up) const;

    int fd_ = -1;
    pid_t pid_ = -1;
    int asked_ = 0;
};

}  // namespace pgsluice::net
