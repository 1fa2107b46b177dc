// recv, send and sendmsg as they are, without the C library's wrappers: in a process with threads those mark themselves
// as points where pthread_cancel() may strike, two atomic operations a call, and nobody cancels threads here. Under a
// sanitizer the wrappers are used, which it watches. Results and errno as recv(2) and send(2) say; any thread may call.
// Source: syscall(2), pthreads(7) "Cancellation points". Measured: docs/performance.md.
#pragma once

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>

namespace pgsluice::net {

#if defined(SYS_recvfrom) && defined(SYS_sendto) && defined(SYS_sendmsg) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)

inline ssize_t receive_now(int fd, void *into, std::size_t room, int flags) {
    return ::syscall(SYS_recvfrom, fd, into, room, flags, nullptr, nullptr);
}
inline ssize_t send_now(int fd, const void *bytes, std::size_t count, int flags) {
    return ::syscall(SYS_sendto, fd, bytes, count, flags, nullptr, 0L);
}
inline ssize_t send_message_now(int fd, const msghdr &message, int flags) {
    return ::syscall(SYS_sendmsg, fd, &message, flags);
}

#else

inline ssize_t receive_now(int fd, void *into, std::size_t room, int flags) {
    return ::recv(fd, into, room, flags);
}
inline ssize_t send_now(int fd, const void *bytes, std::size_t count, int flags) {
    return ::send(fd, bytes, count, flags);
}
inline ssize_t send_message_now(int fd, const msghdr &message, int flags) {
    return ::sendmsg(fd, &message, flags);
}

#endif

}  // namespace pgsluice::net
