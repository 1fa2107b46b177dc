// pgsluice-check-password: asks PAM or an LDAP server whether passwords are right, for a pgsluice that has started it
// and talks to it over its standard input. One question at a time, until pgsluice closes the socket or ends this
// program: the libraries it uses may hang, crash, start processes and leave things behind, and none of that may be
// pgsluice's. Knows no clients and no settings; of no use by hand.
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "helper/check.hpp"

namespace {

using namespace pgsluice;

/// Where a login and a query want the same CPU, the query goes first.
constexpr int niceness = 5;

bool receive(char *to, std::size_t count) {
    while (count > 0) {
        const auto got = ::recv(STDIN_FILENO, to, count, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to += got;
        count -= static_cast<std::size_t>(got);
    }
    return true;
}

bool send(std::string_view bytes) {
    while (!bytes.empty()) {
        const auto put = ::send(STDIN_FILENO, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return true;
}

bool answer_one() {
    std::array<char, auth::message_length_bytes> head{};
    if (!receive(head.data(), head.size())) return false;
    const auto length = auth::message_length({head.data(), head.size()});
    if (length > auth::message_max_bytes) return false;
    std::string bytes(length, '\0');
    const bool whole = receive(bytes.data(), bytes.size());
    const auto asked = whole ? auth::parse_password_check(bytes) : std::nullopt;
    base::wipe(bytes);
    if (!asked) return false;
    const bool pam = asked->what == auth::password_check::kind::pam;
    return send(auth::to_bytes(pam ? helper::check_pam(*asked) : helper::check_ldap(*asked)));
}

}  // namespace

int main() {
    ::setpriority(PRIO_PROCESS, 0, niceness);
    // A core would hold a password.
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    while (answer_one()) {
    }
    return 0;
}
