// Listening sockets, on the control thread: accepts, and hands each connection to the least loaded worker.
// Short of descriptors it waits a moment instead of spinning. Source: PgBouncer documentation, listen_addr,
// unix_socket_dir.
#pragma once

#include <boost/system/result.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "config/settings.hpp"
#include "net/asio.hpp"

namespace pgsluice::net {

class listener {
public:
    using accepted = std::function<void(int fd, bool tcp)>;

    /// Opens every listening socket the settings name, or says which could not be had and why.
    static boost::system::result<std::vector<std::unique_ptr<listener>>, std::string> open_all(
        asio::io_context &, const config::global_settings &, const accepted &);

    listener(asio::io_context &, int fd, bool tcp, std::string path, accepted);
    ~listener();
    listener(const listener &) = delete;
    listener &operator=(const listener &) = delete;

    void start();
    bool tcp() const { return tcp_; }
    const std::string &text() const { return text_; }

private:
    void accept_some();
    void wait_a_moment();

    stream_socket socket_;  ///< the listening descriptor; only waited on
    timer pause_;
    std::string text_;
    std::string path_;  ///< of a Unix socket in the file system: removed at the end
    accepted accepted_;
    bool tcp_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace pgsluice::net
