// What is known of servers' names: addresses, how long they hold, which of them can not be reached, and the serials of
// zones. Who asks name servers is net/resolver; this decides when it must, and what an answer means. Pure; belongs to
// one thread. Sources: PgBouncer documentation, dns_max_ttl, dns_nxdomain_ttl, dns_zone_check_period; the time to live:
// RFC 1035; old answers while no new one comes: RFC 8767 in spirit.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "core/reachability.hpp"

namespace pgsluice::core {

/// What a look-up came to: addresses as text, without repetition, or a problem.
struct name_answer {
    std::vector<std::string> addresses;
    std::optional<base::duration> ttl;  ///< none: it is from a file
    std::string problem;
};

/// How many of each there are, for SHOW LISTS.
struct dns_counts {
    std::size_t names = 0, zones = 0, queries = 0, pending = 0;
};

class name_book {
public:
    /// Who needs an address waits this long for a new answer before the old one must do.
    static constexpr base::duration patience = base::seconds(1);
    /// A name is not asked for more often than this by refresh(), whatever its time to live.
    static constexpr base::duration refresh_pause = base::seconds(1);

    struct limits {
        base::duration max_ttl = base::seconds(15), nxdomain_ttl = base::seconds(15), zone_check_period{0};
    };

    void use(const limits &it) { limits_ = it; }
    /// Forgets all names but these, and those that are being asked for.
    void keep(const std::set<std::string, std::less<>> &names);

    struct lookup {
        enum class step : std::uint8_t {
            known,   ///< here are the addresses, in the order in which to try them
            failed,  ///< there is none, for the reason given
            wait,    ///< it is being asked for
            ask,     ///< the same, and the caller must ask
        };
        step next = step::wait;
        std::vector<std::string> addresses;
        std::string problem;
    };
    lookup find(const std::string &name, base::time_point now);
    /// What is known, however old: known or failed.
    lookup latest(const std::string &name, base::time_point now);
    /// Names whose answer holds no longer, of which `in_use` is true: they must be asked for now.
    template <class InUse>
    std::vector<std::string> refresh(base::time_point now, InUse in_use) {
        std::vector<std::string> names;
        for (auto &[name, it] : names_) {
            if (it.asking || now < it.expires || now < it.asked_at + refresh_pause || !in_use(name)) continue;
            it.asking = true;
            it.asked_at = now;
            names.push_back(name);
        }
        return names;
    }
    /// The answer to an ask. True: the addresses are others than before.
    bool answered(const std::string &name, const name_answer &, base::time_point now);
    /// Other name servers answer now: names that the others did not know, or could not answer for, are asked for again.
    void forget_failures();
    /// Those known now, in no special order.
    std::vector<std::string> addresses(const std::string &name) const;
    /// A connection to the address was made, or could not be.
    void reached(const std::string &name, const std::string &address, bool worked, base::time_point now);

    /// Zones whose serial must be asked for now.
    std::vector<std::string> zones_to_check(base::time_point now);
    /// None: there was no answer. A serial that has changed makes every name of the zone outdated.
    void zone_answered(const std::string &zone, std::optional<std::uint32_t> serial);

    struct host_view {
        std::string name;
        std::int64_t ttl_seconds = 0;  ///< that are left
        std::vector<std::string> addresses;
    };
    struct zone_view {
        std::string name;
        std::uint32_t serial = 0;
        int names = 0;
    };
    std::vector<host_view> hosts(base::time_point now) const;
    std::vector<zone_view> zones() const;
    /// Without `pending`, which only the caller knows.
    dns_counts counts() const;

private:
    struct entry {
        std::vector<std::string> addresses;
        std::map<std::string, reachability, std::less<>> health;  ///< of addresses that failed
        std::string problem;
        base::time_point expires = base::time_point::min(), asked_at = base::time_point::min();
        bool asking = false;
        std::size_t turn = 0;
    };
    struct zone_entry {
        std::optional<std::uint32_t> serial;
        bool asking = false;
    };

    static lookup in_order(entry &, base::time_point now);
    void find_zones();

    limits limits_;
    std::map<std::string, entry, std::less<>> names_;
    std::map<std::string, zone_entry, std::less<>> zones_;
    base::time_point zones_checked_ = base::time_point::min();
};

/// The name servers of a resolv.conf, as address:port in a comma list, if one of them has a port of its own:
/// "nameserver 127.0.0.1:5353" or "nameserver [::1]:5353". Else "": there is nothing that c-ares would not read itself.
std::string nameservers_with_ports(std::string_view resolv_conf);

}  // namespace pgsluice::core
