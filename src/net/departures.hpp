// What one round of events has to say to many sockets, sent together when the round is over: by a single io_uring_enter
// where the kernel has it for us, by one send() each otherwise. One call for all of them means that the threads that
// they wake do not take the CPU from us between one and the next, which is most of what a transaction costs where
// pooler, clients and servers share CPUs (docs/performance.md). Small pieces are copied here, so that nobody's buffer
// has to live until then; large ones are not worth it. Belongs to one worker. Source: io_uring(7), io_uring_enter(2),
// io_uring_prep_send(3).
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

struct io_uring;

namespace pgsluice::net {

class departures;
class stream;

enum class sent : std::uint8_t { all, some, failed };

/// Who owns a stream whose bytes may leave later than it says them.
class departing {
public:
    virtual departures &departs_by() = 0;
    /// The kernel has not taken all of what was sent: `some`, the stream keeps the rest, or `failed`. Called from the
    /// worker's loop, never below a call of the owner; the stream may have been closed meanwhile.
    virtual void on_departed(sent) = 0;

protected:
    departing() = default;
    ~departing() = default;
    departing(const departing &) = delete;
    departing &operator=(const departing &) = delete;
};

class departures {
public:
    /// So many leave together at most, and of so many bytes each.
    static constexpr std::size_t together_max = 64, piece_max_bytes = 16 * 1024;

    /// `ring`: by io_uring, if it can be had.
    explicit departures(bool ring);
    ~departures();
    departures(const departures &) = delete;
    departures &operator=(const departures &) = delete;

    bool has_ring() const { return ring_ != nullptr; }
    /// Room for the bytes of a stream that has none here, at most piece_max_bytes, to be filled at once. Others may be
    /// sent for it.
    char *room_for(stream &, departing &owner, std::size_t bytes);
    /// Sends what is here; each stream knows then what was not taken, its owner hears of it at the end of the round.
    void send();
    /// Sends until nothing is here, and tells the owners. From the worker's loop, while those that have left in this
    /// round are still alive.
    void end_round();

private:
    struct one {
        stream *who;
        departing *owner;
        std::size_t begin, bytes;
    };
    struct trouble {
        departing *owner;
        sent how;
    };
    static constexpr std::size_t room_bytes = 64 * 1024;

    std::size_t send_by_ring();
    std::string_view bytes_of(const one &) const;

    struct close_ring {
        void operator()(io_uring *) const;
    };
    std::unique_ptr<io_uring, close_ring> ring_;
    std::unique_ptr<char[]> room_;
    std::size_t used_ = 0;
    std::vector<one> all_;
    std::array<ssize_t, together_max> results_{};  ///< as send(2) gives them, or -errno
    std::vector<trouble> troubles_;
    std::vector<trouble> told_;  ///< while their owners are; its memory serves again
};

}  // namespace pgsluice::net
