// The running pooler as a whole, on the control thread: listeners, workers, signals, reload, shutdown, the ledger's
// tick. Sources: PgBouncer documentation, "Signals" and usage.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <memory>
#include <string>
#include <vector>

#include "config/load.hpp"
#include "net/console_desk.hpp"
#include "net/file_watch.hpp"
#include "net/listener.hpp"
#include "net/log.hpp"
#include "net/secret_lookup.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

/// What the command line says on top of the file.
struct command_line {
    std::string file;
    bool quiet = false;
    bool daemon = false;
    int verbose = 0;
    std::string user;  ///< -u
};

/// Where to log, and how much.
log::options log_options(const command_line &, const config::global_settings &);

/// Reads a file whole, or the names in a folder whose path ends in '/'; for config::load().
boost::system::result<std::string, std::string> read_file(const std::string &path);

class process {
public:
    process(command_line, std::string salt_key, std::shared_ptr<const config::settings>);
    ~process();

    /// Reads what TLS takes and opens the listening sockets; the reason when one can not be had. Before fork.
    std::string listen();
    /// Runs until told to stop; returns the exit status.
    int run();

private:
    enum class phase : std::uint8_t { running, waiting_for_clients, waiting_for_servers };

    void on_signal(int number);
    void await_signal();
    /// What has changed, or why nothing has.
    core::console_outcome reload();
    /// SET on the console: as a reload of one setting alone.
    core::console_outcome set(const std::string &name, const std::string &value);
    core::console_outcome put_to_work(const config::loaded &);
    core::console_outcome shut_down_for_admin(core::console_command::verb);
    void suspend(bool);
    void look_at_tls_files();
    /// Null and why not, or what the settings and the files come to now.
    boost::system::result<tls_contexts, std::string> make_tls(const config::global_settings &);
    void use(std::shared_ptr<const config::settings>, tls_contexts);
    void shut_down(phase);
    void tick();
    void accept(int fd, bool tcp);

    command_line line_;
    std::string salt_key_;
    std::shared_ptr<const config::settings> settings_;
    tls_contexts tls_;
    file_watch tls_files_;
    int ticks_ = 0;
    asio::io_context context_{1};
    boost::asio::signal_set signals_{context_};
    timer ticker_{context_};
    std::vector<std::unique_ptr<listener>> listeners_;
    std::unique_ptr<shared> shared_;
    std::unique_ptr<secret_lookups> lookups_;
    std::unique_ptr<console_desk> desk_;
    phase phase_ = phase::running;
    std::size_t next_worker_ = 0;
};

}  // namespace pgsluice::net
