// What systemd (or what speaks like it) is told and asked: readiness, reloads, the end, a line of status, and sockets
// that it has opened for us. The plain protocols of sd_notify(3) and sd_listen_fds(3): a datagram and three variables,
// for which libsystemd would be a library more in every process. Without a manager nothing happens.
#pragma once

#include <string_view>
#include <vector>

namespace pgsluice::net::service_manager {

/// Sends one datagram to NOTIFY_SOCKET; what can not be sent is lost. Any thread.
void tell(std::string_view what);

void ready();
/// ready() must follow. Says when it began, as Type=notify-reload wants.
void reloading();
void stopping();
/// For `systemctl status`.
void status(std::string_view line);

/// Listening sockets that were passed to this very process, which are ours to close and are marked close-on-exec. The
/// variables are taken away, so that no child believes them to be its own. Called once, before any thread runs.
std::vector<int> passed_sockets();

}  // namespace pgsluice::net::service_manager
