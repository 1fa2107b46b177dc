// The running pooler as a whole, on the control thread: listeners, workers, signals, reload, shutdown, the ledger's
// tick. Sources: PgBouncer documentation, "Signals" and usage.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <memory>
#include <string>
#include <vector>

#include "config/load.hpp"
#include "net/config_reader.hpp"
#include "net/console_desk.hpp"
#include "net/daemon.hpp"
#include "net/file_watch.hpp"
#include "net/lobby.hpp"
#include "net/log.hpp"
#include "net/resolver.hpp"
#include "net/secret_lookup.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

/// What the command line says on top of the file.
struct command_line {
    std::string file;
    bool quiet = false;
    bool daemon = false;
    int verbose = 0;
    bool check = false, connect = false;  ///< --check, --connect
    std::string user;                     ///< -u
};

/// The settings of a file, with the command line's on top, which no reload can change.
std::shared_ptr<const config::settings> with_command_line(const command_line &, config::settings);

/// Where to log, and how much.
log::options log_options(const command_line &, const config::global_settings &);

/// Reads a file whole, or the names in a folder whose path ends in '/'; for config::load().
boost::system::result<std::string, std::string> read_file(const std::string &path);

/// Logs how many descriptors there may be and are needed, in PgBouncer's words; a warning when they will not do.
void tell_descriptors(const config::settings &, const descriptor_limit &);

/// Why the configuration can not be used: PAM or LDAP is asked for, and the program that asks them is not there. Or "".
std::string helper_missing(const config::settings &);

/// The control thread's loop, until it is stopped. What throws is logged, and the rest goes on.
void run_loop(asio::io_context &);

class process {
public:
    process(command_line, std::string salt_key, std::shared_ptr<const config::settings>);
    ~process();

    /// Reads what TLS takes and opens the listening sockets; the reason when one can not be had. Before fork.
    std::string listen();
    /// Runs until told to stop; returns the exit status.
    int run();

private:
    enum class phase : std::uint8_t {
        running,
        waiting_for_clients,
        waiting_for_servers
    };  ///< each ends the one before

    void on_signal(int number);
    void await_signal();
    /// `done` is told what has changed, or why nothing has.
    void reload(const console_powers::then &done);
    /// SET on the console: as a reload of one setting alone.
    void set(const std::string &name, const std::string &value, const console_powers::then &done);
    enum class origin : std::uint8_t { file, set };
    core::console_outcome try_to_put_to_work(const config::loaded &, origin);
    core::console_outcome put_to_work(const config::loaded &, origin);
    void shut_down_for_admin(core::console_command::verb, const console_powers::then &done);
    void suspend(bool);
    void look_at_tls_files();
    /// Null and why not, or what the settings and the files come to now.
    boost::system::result<tls_contexts, std::string> make_tls(const config::settings &);
    void use(std::shared_ptr<const config::settings>, tls_contexts);
    /// `done` is called when the ledger knows, and clients feel it.
    void shut_down(phase, const std::function<void()> &done);
    void await_tick();
    void tick();
    void stop_workers();
    void look_up_names();

    command_line line_;
    std::string salt_key_;
    /// As configured: what the console shows, and what the next reload and SET start from.
    std::shared_ptr<const config::settings> settings_;
    /// As put to work, by the workers, the ledger and the look at the files of TLS: the same, but while TLS as it was
    /// SET can not be had, with the TLS of before, which `tls_` is made of.
    std::shared_ptr<const config::settings> in_use_;
    tls_contexts tls_;
    file_watch tls_files_;
    int ticks_ = 0;
    bool passed_ = false;  ///< systemd has opened the sockets
    asio::io_context context_{1};
    boost::asio::signal_set signals_{context_};
    timer ticker_{context_};
    config_reader reader_{context_};
    std::vector<std::unique_ptr<listener>> listeners_;  ///< until there is a lobby
    std::unique_ptr<shared> shared_;
    std::unique_ptr<lobby> lobby_;
    std::unique_ptr<resolver> dns_;
    std::unique_ptr<secret_lookups> lookups_;
    std::unique_ptr<console_desk> desk_;
    phase phase_ = phase::running;
    int leaving_port_ = 0;  ///< shutting down that the ledger does not know of yet
};

}  // namespace pgsluice::net
