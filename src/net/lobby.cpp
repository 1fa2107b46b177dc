// Taking clients in.
#include "net/lobby.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <iterator>
#include <system_error>
#include <utility>

#include "net/client.hpp"
#include "net/connection_rows.hpp"
#include "net/log.hpp"

namespace pgsluice::net {

void lobby::open(std::vector<std::unique_ptr<listener>> all) {
    desk().post([this, all = std::move(all)]() mutable {
        listeners_ = std::move(all);
        for (const auto &it : listeners_) it->open(*this);
    });
}

void lobby::close_tcp(std::function<void()> done) {
    desk().post([this, done = std::move(done)] {
        const auto local =
            std::stable_partition(listeners_.begin(), listeners_.end(), [](const auto &it) { return !it->tcp(); });
        const auto gone = std::make_shared<std::vector<std::unique_ptr<listener>>>(
            std::make_move_iterator(local), std::make_move_iterator(listeners_.end()));
        listeners_.erase(local, listeners_.end());
        each_its_turn each;
        for (const auto &it : *gone) {
            each.run([&] { it->drain(); });
            each.run([&] { it->close(); });
            each.run([&] { it->leave(); });
        }
        desk().post([gone] {});  // an event of this round may still know them
        boost::asio::post(all_.control, done);
        each.tell();
    });
}

void lobby::complain(const std::string &where, int why) {
    constexpr base::seconds pause{1};
    if (complained_at_ != base::time_point{} && desk().now() < complained_at_ + pause) return;
    complained_at_ = desk().now();
    log::warning("accept on {} failed: {}", where, std::generic_category().message(why));
}

bool lobby::give_up_spare() {
    if (spare_ < 0) return false;
    ::close(std::exchange(spare_, -1));
    return true;
}

void lobby::take_spare() {
    if (spare_ < 0) spare_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void lobby::defer(bool on) {
    desk().post([this, on] {
        for (const auto &it : listeners_) it->defer(on);
    });
}

void lobby::suspend(bool on) {
    desk().post([this, on] {
        for (const auto &it : listeners_) on ? it->close() : it->open(*this);
    });
}

core::console_rows lobby::listening() const {
    core::console_rows rows;
    for (const auto &it : listeners_) rows.push_back(listening_row(it->fd(), all_.lobby().global().listen_port));
    return rows;
}

void lobby::take_in(int fd, bool tcp) {
    const auto home = least_loaded();
    const boost::intrusive_ptr it(new client(desk(), home, stream(fd), tcp));
    all_.workers[home]->count_client();
    desk().add(it);
    it->start();
}

/// Between equals, in turn.
base::worker_index lobby::least_loaded() {
    const auto serving = all_.serving();
    auto best = next_++ % serving.size();
    for (std::size_t i = 0; i < serving.size(); ++i) {
        if (serving[i]->load() < serving[best]->load()) best = i;
    }
    return static_cast<base::worker_index>(best);
}

}  // namespace pgsluice::net
