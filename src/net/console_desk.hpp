// Where the commands of admins are carried out, on the control thread: pictures from the ledger, counts from the
// workers, and orders to both. A command that takes its time (PAUSE, WAIT_CLOSE) waits here, and holds up nobody but
// who gave it. Also the statistics of each period, and the line in the log. Source: PgBouncer documentation, "Admin
// console".
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/console_rows.hpp"
#include "core/console_session.hpp"
#include "net/asio.hpp"
#include "net/shared.hpp"

namespace pgsluice::net {

/// What only the process as a whole can do. Control thread.
struct console_powers {
    using then = std::function<void(const core::console_outcome &)>;

    std::function<std::shared_ptr<const config::settings>()> settings;
    std::function<void(const then &done)> reload;
    std::function<void(const std::string &name, const std::string &value, const then &done)> set;
    /// `done` is called once it is in effect; never for the one that ends the process at once.
    std::function<void(core::console_command::verb, const then &done)> shut_down;
    /// Called on the lobby's thread.
    std::function<core::console_rows()> listening;
    /// Whether clients' requests and new connections are taken.
    std::function<void(bool)> suspend;
};

/// A command, and who gave it.
struct console_request {
    base::worker_index worker = 0;
    base::client_id client;
    core::console_command command;
};

class console_desk {
public:
    console_desk(shared &, console_powers);

    // ---- any thread ----

    void ask(console_request);
    /// An admin's cancel: RESUME; of one database, if its PAUSE is what this admin waits for.
    void canceled(base::client_id);
    /// An admin has left.
    void gone(base::client_id);

    // ---- the control thread ----

    /// Looks at what waits, and whether a period of statistics is over. Often.
    void tick(base::time_point now);
    bool suspended() const { return suspended_; }
    /// Of "" also when a signal says so.
    core::refusal pause(const std::string &database);
    core::refusal resume(const std::string &database);

private:
    struct waiting {
        console_request of;
        base::time_point until = base::never;
    };

    void carry_out(const console_request &);
    /// Until when a command that waits does.
    base::time_point patience(const core::console_command &) const;
    void show(const console_request &);
    core::console_outcome change(const console_request &);
    core::console_outcome suspend(const console_request &);
    core::refusal kill(const std::string &database);
    core::console_outcome kill_client(const std::string &id);
    void why(const console_request &);
    struct named_wait {
        core::wait_view wait;
        std::string application, holder_user, holder_application, holder_state;
    };
    /// Rows of SHOW WHY for each pool, at most.
    static constexpr std::size_t waits_max = 100;
    void name_waits(const console_request &, const std::shared_ptr<std::vector<named_wait>> &, std::size_t worker_at);
    core::console_rows memory_rows(const core::console_view &) const;
    bool is_over(const console_request &);
    core::console_view view();
    void answer(const console_request &, core::console_rows);
    void finish(const console_request &, const core::console_outcome & = {});
    /// Adds up what all workers have counted; the sums come later, on this thread.
    void count(std::function<void(core::traffic_by_database)>);
    void settle(core::traffic_book &, const std::vector<core::ledger::forgotten_pool> &);
    void end_period(base::time_point now);
    core::traffic_by_database averages(const core::traffic_by_database &totals);

    shared &all_;
    console_powers powers_;
    std::vector<waiting> waiting_;
    bool suspended_ = false;
    base::client_id suspended_by_;
    bool counting_ = false;
    /// Totals as they were when a period ended: the last one, and the one before, from which averages are.
    struct period_end {
        base::time_point at;
        core::traffic_by_database totals;
    };
    period_end last_, one_before_;
    core::traffic_by_database put_aside_;                    ///< of pools that are forgotten
    std::map<core::pool_index, core::traffic> before_pool_;  ///< what earlier pools of that number had counted
};

}  // namespace pgsluice::net
