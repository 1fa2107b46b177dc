// One listening socket: opened by the control thread before there are others, then watched by the lobby, which gets
// each connection that it accepts. Short of descriptors it waits for a tick of the wheel instead of spinning. Source:
// PgBouncer documentation, listen_addr, unix_socket_dir.
#pragma once

#include <boost/system/result.hpp>
#include <memory>
#include <string>
#include <vector>

#include "config/settings.hpp"
#include "net/ready_set.hpp"
#include "net/timer_wheel.hpp"

namespace pgsluice::net {

class lobby;

class listener final : public watched, public timer_hook {
public:
    /// Opens every listening socket the settings name, or says which could not be had and why.
    static boost::system::result<std::vector<std::unique_ptr<listener>>, std::string> open_all(
        const config::global_settings &);

    /// Those that a service manager has opened, in place of what the settings name.
    static std::vector<std::unique_ptr<listener>> adopt(const std::vector<int> &passed);

    listener(int fd, bool tcp, std::string text, std::string path);
    ~listener();
    listener(const listener &) = delete;
    listener &operator=(const listener &) = delete;

    bool tcp() const { return tcp_; }
    const std::string &text() const { return text_; }
    int fd() const { return fd_; }

    // ---- the lobby's thread ----

    /// Connections go to `where`, from now on and until close().
    void open(lobby &where);
    void close();
    /// tcp_defer_accept.
    void defer(bool on);
    /// Takes in who waits in the queue now: closing would reset them.
    void drain();
    /// Closes the socket; only the object is still there.
    void leave();
    void on_ready(std::uint32_t events) override;
    void on_timer(base::time_point now) override;

private:
    enum class accepted : std::uint8_t { one, none, no_descriptor };
    accepted accept_one();
    void watch();
    int fd_;
    bool tcp_;
    std::string text_;
    std::string path_;  ///< of a Unix socket in the file system: removed at the end
    lobby *lobby_ = nullptr;
};

}  // namespace pgsluice::net
