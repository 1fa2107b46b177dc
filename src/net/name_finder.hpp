// The host name of a client's address, for the rules that name hosts: getnameinfo(3), and getaddrinfo(3) to see that
// the name has the address. On two threads of its own, made when first needed: name servers that do not answer hold up
// neither a worker nor the connecting to servers. Any thread may ask.
// Source: PostgreSQL manual, "The pg_hba.conf File": both ways must agree.
#pragma once

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "auth/ip_address.hpp"

namespace pgsluice::net {

class name_finder {
public:
    /// "": the address has no name that has it too. Nothing: too many are asking already; the client must go.
    using answer = std::function<void(std::optional<std::string>)>;

    /// `done` is called on one of the threads, or at once where too many ask.
    void find(const auth::ip_address &, answer done);

private:
    static constexpr int waiting_max = 1000;

    std::atomic<int> waiting_{0};
    std::once_flag made_;
    std::optional<boost::asio::thread_pool> threads_;
};

}  // namespace pgsluice::net
