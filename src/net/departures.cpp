// The ring, and what stands in for it.
#include "net/departures.hpp"

#include <liburing.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "net/each_its_turn.hpp"
#include "net/log.hpp"
#include "net/stream.hpp"
#include "net/system_calls.hpp"

namespace pgsluice::net {

namespace {
constexpr int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
}  // namespace

void departures::close_ring::operator()(io_uring *it) const {
    ::io_uring_queue_exit(it);
    delete it;
}

departures::departures(bool ring) : room_(new char[room_bytes]) {
    all_.reserve(together_max);
    if (!ring) return;
    auto fresh = std::make_unique<io_uring>();
    if (::io_uring_queue_init(together_max, fresh.get(), 0) != 0) return;
    ring_.reset(fresh.release());
    // Linux has rings since 5.1, and this of their operations since 5.6.
    auto *const known = ::io_uring_get_probe_ring(ring_.get());
    const bool can_send = known != nullptr && ::io_uring_opcode_supported(known, IORING_OP_SEND) != 0;
    ::io_uring_free_probe(known);
    if (!can_send) ring_.reset();
}

departures::~departures() = default;

char *departures::room_for(stream &who, departing &owner, std::size_t bytes) {
    if (all_.size() == together_max || room_bytes - used_ < bytes) send();
    // So that nothing can fail for want of memory once the kernel has the bytes.
    if (const auto most = troubles_.size() + together_max; troubles_.capacity() < most) troubles_.reserve(2 * most);
    all_.push_back({&who, &owner, used_, bytes});
    used_ += bytes;
    return room_.get() + all_.back().begin;
}

std::string_view departures::bytes_of(const one &it) const {
    return {room_.get() + it.begin, it.bytes};
}

void departures::send() {
    std::size_t done = 0;
    // For a single one the ring is the longer way.
    if (all_.size() > 1 && ring_) done = send_by_ring();
    for (; done < all_.size(); ++done) {
        const auto bytes = bytes_of(all_[done]);
        const auto count = send_now(all_[done].who->fd(), bytes.data(), bytes.size(), flags);
        results_[done] = count < 0 ? -errno : count;
    }
    for (std::size_t i = 0; i < all_.size(); ++i) {
        const auto &it = all_[i];
        const auto how = it.who->departed(results_[i], bytes_of(it));
        if (how != sent::all) troubles_.push_back({it.owner, how});
    }
    all_.clear();
    used_ = 0;
}

/// How many have gone this way: the first so many. None waits: each send is done, or refused, when the call returns.
std::size_t departures::send_by_ring() {
    for (std::size_t i = 0; i < all_.size(); ++i) {
        results_[i] = -EIO;  // if it gets no answer
        auto *const entry = ::io_uring_get_sqe(ring_.get());
        const auto bytes = bytes_of(all_[i]);
        ::io_uring_prep_send(entry, all_[i].who->fd(), bytes.data(), bytes.size(), flags);
        ::io_uring_sqe_set_data64(entry, i);
    }
    int submitted = 0;
    do {
        submitted = ::io_uring_submit_and_wait(ring_.get(), static_cast<unsigned>(all_.size()));
    } while (submitted == -EINTR);
    // What the kernel has not taken it never will: the ring goes.
    const auto taken = all_.size() - ::io_uring_sq_ready(ring_.get());
    int problem = 0;
    for (std::size_t answered = 0; answered < taken;) {
        unsigned at = 0;
        unsigned count = 0;
        const io_uring_cqe *answer = nullptr;
        io_uring_for_each_cqe(ring_.get(), at, answer) {
            results_[static_cast<std::size_t>(answer->user_data)] = answer->res;
            ++count;
        }
        ::io_uring_cq_advance(ring_.get(), count);
        answered += count;
        if (answered >= taken) break;
        io_uring_cqe *next = nullptr;
        problem = ::io_uring_wait_cqe(ring_.get(), &next);
        if (problem != 0 && problem != -EINTR) break;
    }
    if (taken < all_.size() || (problem != 0 && problem != -EINTR)) {
        log::warning("io_uring failed: {}; from here on each send is a system call",
                     std::generic_category().message(submitted < 0 ? -submitted : EAGAIN));
        ring_.reset();
    }
    return taken;
}

void departures::end_round() {
    each_its_turn each;
    while (!all_.empty() || !troubles_.empty()) {
        send();
        told_.swap(troubles_);
        for (const auto &it : told_) each.run([&] { it.owner->on_departed(it.how); });
        told_.clear();
    }
    each.tell();
}

}  // namespace pgsluice::net
