// What a socket tells of the other end: for the log, and for the rules of who may log in. Any thread.
#pragma once

#include "core/client_authentication.hpp"

namespace pgsluice::net {

/// The place as "127.0.0.1:40000", "[::1]:40000" or "unix(4711):6432", the latter with the process id and our port.
core::client_facts facts_of(int fd, bool tcp, int port);
/// Our end of a connection over TCP, in the same form.
std::string own_place(int fd);

/// Asks the system: getifaddrs(3), getpwuid_r(3). May read files, and wait where users come from the network.
class system_facts : public core::host_facts {
public:
    std::optional<std::vector<auth::ip_network>> interfaces() override;
    std::optional<std::string> user_name(std::uint32_t uid) override;
};

}  // namespace pgsluice::net
