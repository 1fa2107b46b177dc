// What is known of the names of clients' addresses, and what is to be asked: each address once at a time, whoever waits
// for it, and again when its answer is old. One who has many addresses (of IPv6 a whole network) has a share of the
// questions, so that addresses whose name servers do not answer shut out nobody else. Knows no clock and asks nobody.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "auth/ip_address.hpp"
#include "base/time.hpp"

namespace pgsluice::core {

class host_names {
public:
    /// How long an answer serves the next ones that come from there.
    static constexpr base::seconds name_memory{10}, nothing_memory{1};
    /// Addresses that are asked about at once: of all, and of one network.
    static constexpr std::size_t asking_max = 1000, share_max = 16;
    /// Clients that wait for one address.
    static constexpr std::uint32_t waiting_max = 1000;
    static constexpr std::size_t known_max = 10'000;

    struct lookup {
        enum class step : std::uint8_t {
            known,    ///< `name` is the answer
            ask,      ///< nobody has asked yet
            wait,     ///< for the answer to what another has asked
            too_many  ///< nothing more is asked from there now
        };
        step next;
        std::string name;  ///< "": it has none
    };
    lookup find(const auth::ip_address &, base::time_point now);
    void answered(const auth::ip_address &, std::string name, base::time_point now);
    /// Other name servers answer now: addresses that had no name are asked about again.
    void forget_nameless();
    std::size_t size() const { return known_.size(); }

private:
    struct entry {
        std::uint32_t waiting = 0;  ///< above 0 while it is asked about
        std::string name;
        base::time_point until;
    };
    void make_room(base::time_point now);

    std::unordered_map<std::string, entry> known_;
    std::unordered_map<std::string, std::size_t> shares_;
    std::size_t asking_ = 0;
};

}  // namespace pgsluice::core
