// c-ares on Asio's loop: its sockets, its clock, resolv.conf. What is asked, and what becomes of the answers, its
// owners know: resolver, name_finder. The control thread alone may call. Source: c-ares documentation.
#pragma once

#include <ares.h>

#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <map>
#include <memory>
#include <string>

#include "base/time.hpp"
#include "net/asio.hpp"
#include "net/file_watch.hpp"

namespace pgsluice::net {

class dns_channel {
public:
    explicit dns_channel(asio::io_context &);
    /// Ends all questions, with ARES_EDESTRUCTION.
    ~dns_channel();
    dns_channel(const dns_channel &) = delete;
    dns_channel &operator=(const dns_channel &) = delete;

    /// "": /etc/resolv.conf. Once.
    void open(const std::string &resolv_conf);
    bool is_open() const { return channel_ != nullptr; }
    /// The name servers of this machine may change while we run. True: they are others now, and all that was under way
    /// has ended with ARES_EDESTRUCTION, see asks_again(). Often; not from below a call of c-ares's.
    bool look_at_resolv_conf();
    /// `call` asks c-ares one question.
    template <class Call>
    void ask(Call call) {
        starting_ = true;
        call(channel_);
        starting_ = false;
        set_timer();
    }
    /// In a question's callback, of ARES_EDESTRUCTION: whether the question is to be asked again, by its owner, when it
    /// is not below c-ares any more. Else all of this ends.
    bool asks_again() const { return is_open(); }
    /// Inside ask(): an answer that comes now is from a file.
    bool starting() const { return starting_; }

private:
    struct socket_watch;
    std::string make(bool again);
    void on_socket(int fd, bool reads, bool writes);
    void watch(const std::shared_ptr<socket_watch> &);
    void process(int readable, int writable);
    void set_timer();

    asio::io_context &context_;
    timer timer_;
    std::string resolv_conf_;
    file_watch files_;
    ares_channel channel_ = nullptr;
    bool starting_ = false;
    bool outdated_ = false;  ///< what was read: resolv.conf has changed since
    std::map<int, std::shared_ptr<socket_watch>> sockets_;
    base::time_point looked_at_files_;
};

}  // namespace pgsluice::net
