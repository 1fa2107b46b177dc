// Watching, now or later.
#include "net/late_watch.hpp"

#include <system_error>

#include "net/log.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

void watch_or_later(worker &owner, watched &it, timer_hook &hook, int fd, std::uint32_t interest) {
    if (ready_set::has(it)) return owner.ready().change(it, interest);
    try {
        owner.ready().add(it, fd, interest);
    } catch (const std::system_error &problem) {
        constexpr base::seconds pause{1};
        thread_local base::time_point told{};  // a worker is a thread
        if (told == base::time_point{} || owner.now() >= told + pause) {
            told = owner.now();
            log::warning("connections can not be watched: {}; they wait", problem.code().message());
        }
        owner.wheel().arm(hook, owner.now());
    }
}

}  // namespace pgsluice::net
