// The sockets and the clock of c-ares, on Asio's loop. See dns_channel.hpp.
#include "net/dns_channel.hpp"

#include <fstream>
#include <sstream>
#include <utility>

#include "core/name_book.hpp"
#include "net/log.hpp"

namespace pgsluice::net {

namespace {

/// The first wait for an answer; doubled with each try. 14 s in all, less than server_connect_timeout's default.
constexpr int first_wait_ms = 2000, tries = 3;
constexpr base::seconds between_looks{1};

}  // namespace

/// A socket of c-ares's. It is c-ares that closes it: ours is a look at it.
struct dns_channel::socket_watch {
    explicit socket_watch(asio::io_context &context) : descriptor(context) {}
    asio::posix::basic_stream_descriptor<executor> descriptor;
    bool reads = false, writes = false;     ///< what c-ares waits for
    bool reading = false, writing = false;  ///< what we wait for
    bool gone = false;
};

dns_channel::dns_channel(asio::io_context &context) : context_(context), timer_(context) {
    ares_library_init(ARES_LIB_INIT_ALL);
}

dns_channel::~dns_channel() {
    if (channel_ != nullptr) ares_destroy(std::exchange(channel_, nullptr));
    ares_library_cleanup();
}

void dns_channel::open(const std::string &resolv_conf) {
    resolv_conf_ = resolv_conf;
    files_.of({resolv_conf_.empty() ? "/etc/resolv.conf" : resolv_conf_});
    if (const auto problem = make(false); !problem.empty()) log::error("no names can be looked up: {}", problem);
}

/// Reads resolv.conf. What is wrong, or "". `again`: there are name servers already, and one that can not be read is
/// none; c-ares would ask this machine.
std::string dns_channel::make(bool again) {
    std::ifstream in(resolv_conf_.empty() ? "/etc/resolv.conf" : resolv_conf_.c_str());
    if (again && !in) return "it can not be read";
    ares_options options{};
    int given = ARES_OPT_SOCK_STATE_CB | ARES_OPT_LOOKUPS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES;
    options.sock_state_cb = [](void *self, ares_socket_t fd, int reads, int writes) {
        try {
            static_cast<dns_channel *>(self)->on_socket(fd, reads != 0, writes != 0);
        } catch (const std::exception &problem) {  // not through the frames of a C library
            log::error("internal error in a DNS look-up: {}", problem.what());
        }
    };
    options.sock_state_cb_data = this;
    std::string files_first = "fb";  // /etc/hosts, then name servers
    options.lookups = files_first.data();
    options.timeout = first_wait_ms;
    options.tries = tries;
    if (!resolv_conf_.empty()) {
        options.resolvconf_path = resolv_conf_.data();
        given |= ARES_OPT_RESOLVCONF;
    }
    ares_channel fresh = nullptr;
    if (const int status = ares_init_options(&fresh, &options, given); status != ARES_SUCCESS)
        return ares_strerror(status);
    std::ostringstream text;
    if (in) text << in.rdbuf();
    if (!resolv_conf_.empty() && !in) log::error("resolv_conf = {} can not be read", resolv_conf_);
    if (const auto servers = core::nameservers_with_ports(text.str()); !servers.empty()) {
        const int status = ares_set_servers_ports_csv(fresh, servers.c_str());
        if (status != ARES_SUCCESS) log::error("name servers {}: {}", servers, ares_strerror(status));
    }
    // The new one is there before callbacks ask whether there is one.
    if (auto *const old = std::exchange(channel_, fresh)) ares_destroy(old);
    return {};
}

bool dns_channel::look_at_resolv_conf() {
    const auto now = std::chrono::steady_clock::now();
    if (now < looked_at_files_ + between_looks) return false;
    looked_at_files_ = now;
    const bool changed = files_.changed();
    if (!changed && !outdated_) return false;
    const auto problem = make(is_open());
    const bool told = std::exchange(outdated_, !problem.empty()) && !changed;
    if (problem.empty())
        log::info("resolv.conf has changed");
    else if (!told)
        log::warning("resolv.conf has changed, but can not be used: {}", problem);
    return problem.empty();
}

// ---- the loop ----

void dns_channel::on_socket(int fd, bool reads, bool writes) {
    const auto found = sockets_.find(fd);
    if (!reads && !writes) {
        if (found == sockets_.end()) return;
        found->second->gone = true;
        found->second->descriptor.release();
        sockets_.erase(found);
        return;
    }
    const auto it = found != sockets_.end() ? found->second : std::make_shared<socket_watch>(context_);
    if (found == sockets_.end()) {
        sockets_[fd] = it;
        error_code ec;
        it->descriptor.assign(fd, ec);
        if (ec) {
            // Its answer is not heard, and c-ares asks again, or gives up, when its time is over.
            sockets_.erase(fd);
            return log::warning("a socket for DNS can not be watched: {}", ec.message());
        }
    }
    it->reads = reads;
    it->writes = writes;
    watch(it);
}

void dns_channel::watch(const std::shared_ptr<socket_watch> &it) {
    const int fd = it->descriptor.native_handle();
    const auto wait = [&](auto what, bool wanted, bool socket_watch::*waits, int readable, int writable) {
        if (!wanted || (*it).*waits) return;
        (*it).*waits = true;
        it->descriptor.async_wait(what, [this, it, waits, readable, writable](error_code ec) {
            (*it).*waits = false;
            if (ec || it->gone) return;
            process(readable, writable);
            if (!it->gone) watch(it);
        });
    };
    wait(asio::posix::descriptor_base::wait_read, it->reads, &socket_watch::reading, fd, ARES_SOCKET_BAD);
    wait(asio::posix::descriptor_base::wait_write, it->writes, &socket_watch::writing, ARES_SOCKET_BAD, fd);
}

void dns_channel::process(int readable, int writable) {
    ares_process_fd(channel_, readable, writable);
    set_timer();
}

/// When c-ares wants to try again, or to give up.
void dns_channel::set_timer() {
    timeval left{};
    if (channel_ == nullptr || ares_timeout(channel_, nullptr, &left) == nullptr) return;
    timer_.expires_after(base::seconds(left.tv_sec) + base::microseconds(left.tv_usec) + base::milliseconds(1));
    timer_.async_wait([this](error_code ec) {
        if (!ec) process(ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    });
}

}  // namespace pgsluice::net
