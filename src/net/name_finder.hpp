// The host name of a client's address, for the rules that name hosts: by c-ares on the control thread's loop, so that
// name servers that do not answer hold up nobody else. /etc/hosts comes first. What is asked and remembered
// core/host_names decides. Any thread may ask. Source: PostgreSQL manual, "The pg_hba.conf File": both ways must agree.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "auth/ip_address.hpp"
#include "core/host_names.hpp"
#include "net/asio.hpp"
#include "net/dns_channel.hpp"

namespace pgsluice::net {

class name_finder {
public:
    /// "": the address has no name that has it too. Nothing: too many are asking already; the client must go.
    using answer = std::function<void(std::optional<std::string>)>;

    explicit name_finder(asio::io_context &control) : control_(control), dns_(control) {}
    name_finder(const name_finder &) = delete;
    name_finder &operator=(const name_finder &) = delete;

    /// Before find(). resolv_conf counts at the start alone.
    void use(std::string resolv_conf) { resolv_conf_ = std::move(resolv_conf); }
    /// `done` is called on the control thread, unless the process ends before.
    void find(const auth::ip_address &, answer done);
    /// Every few moments, on the control thread: the machine's name servers may change.
    void tick();

private:
    struct question;
    void look_up(const auth::ip_address &, answer done);
    void ask(const auth::ip_address &);
    void ask_back(std::unique_ptr<question>);
    void answered(const auth::ip_address &, std::string name);

    asio::io_context &control_;
    std::string resolv_conf_;
    core::host_names names_;
    std::unordered_map<std::string, std::vector<answer>> waiting_;
    dns_channel dns_;  ///< the last one: its end ends what is asked
};

}  // namespace pgsluice::net
