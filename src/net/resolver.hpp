// Looks up the addresses of servers, asynchronously, by c-ares (net/dns_channel) on the control thread's loop: no
// look-up holds up anybody but those who wait for it. What answers mean and how long they hold core/name_book decides.
// The names of clients' addresses, for HBA, are name_finder's. The control thread alone may call. Sources: c-ares
// documentation; PgBouncer documentation, "DNS" settings.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/name_book.hpp"
#include "net/asio.hpp"
#include "net/dns_channel.hpp"

namespace pgsluice::config {
struct settings;
}

namespace pgsluice::net {

class resolver {
public:
    /// What the world is told and asked for.
    struct callbacks {
        /// The addresses of a name are others now.
        std::function<void(const std::string &name, const std::vector<std::string> &addresses)> changed;
        /// Some server was reached by this name, and still is one of ours.
        std::function<bool(const std::string &name)> in_use;
    };

    resolver(asio::io_context &, callbacks);
    resolver(const resolver &) = delete;
    resolver &operator=(const resolver &) = delete;

    /// At start and at each reload; resolv_conf counts at the start alone.
    void use(const config::settings &);

    struct outcome {
        std::vector<std::string> addresses;  ///< in the order in which to try them
        std::string problem;
    };
    /// `done` is called once, now or later, unless the resolver ends before.
    void find(const std::string &name, std::function<void(const outcome &)> done);
    /// What came of a connection to one of them.
    void reached(const std::string &name, const std::string &address, bool worked);
    /// Asks again for what is outdated, and for the serials of zones. Often.
    void tick();

    const core::name_book &book() const { return book_; }
    core::dns_counts counts() const;

private:
    struct query;
    struct waiting {
        std::function<void(const outcome &)> done;
        base::time_point until;  ///< then the old answer must do, if there is one
    };

    void ask(const std::string &name);
    void ask_zone(const std::string &zone);
    void on_answer(const std::string &name, const core::name_answer &);
    void answer_waiting(const std::string &name);

    callbacks tell_;
    asio::io_context &context_;
    core::name_book book_;
    std::map<std::string, std::vector<waiting>, std::less<>> waiting_;
    dns_channel dns_;  ///< the last one: its end ends what is asked
};

}  // namespace pgsluice::net
