// Wiring of the whole: start, signals, reload, shutdown.
#include "net/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "base/memory.hpp"
#include "config/advice.hpp"
#include "config/settings_table.hpp"
#include "config/text.hpp"
#include "net/log.hpp"
#include "net/random.hpp"
#include "net/service_manager.hpp"
#include "net/version.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

namespace {

/// How often idle and lifetime limits, the reserve and retries are looked at.
constexpr std::chrono::milliseconds ledger_tick{50};
/// Every so many ticks the files of TLS are looked at.
constexpr int ticks_between_looks = 10;

std::uint32_t worker_count(const config::global_settings &settings) {
    if (settings.worker_threads > 0) return static_cast<std::uint32_t>(settings.worker_threads);
    return std::max(1U, std::thread::hardware_concurrency());
}

boost::system::result<std::string, std::string> list_folder(const std::string &path) {
    std::error_code problem;
    std::string names;
    for (std::filesystem::directory_iterator it(path, problem), end; !problem && it != end; it.increment(problem))
        names += it->path().filename().string() + "\n";
    if (problem) return {boost::system::in_place_error, std::generic_category().message(problem.value())};
    return {boost::system::in_place_value, names};
}

/// What the log says of a signal that means a command: what it does, or why it does nothing.
std::string effect(core::refusal refused, const char *done) {
    switch (refused) {
        case core::refusal::none:
            return done;
        case core::refusal::console_not_paused:
            return "but not paused/suspended";
        case core::refusal::console_already_paused:
            return "but already paused/suspended";
        default:
            return "but " + core::words(refused).message;
    }
}

}  // namespace

std::string helper_missing(const config::settings &settings) {
    if (!settings.asks_pam_or_ldap() || !password_checks::helper().empty()) return {};
    return "pam and ldap need the program pgsluice-check-password, which is neither beside pgsluice nor in "
           "../libexec/pgsluice: install it (cmake --install)";
}

std::shared_ptr<const config::settings> with_command_line(const command_line &line, config::settings all) {
    if (!line.user.empty()) all.global.user = line.user;
    all.global.quiet = line.quiet;
    all.global.verbose = std::max(all.global.verbose, line.verbose);
    return std::make_shared<const config::settings>(std::move(all));
}

log::options log_options(const command_line &line, const config::global_settings &global) {
    return {.file = global.logfile,
            .to_stderr = !global.quiet && !line.daemon,
            .to_syslog = global.syslog,
            .syslog_ident = global.syslog_ident,
            .syslog_facility = config::to_lower(global.syslog_facility),
            .verbose = global.verbose};
}

void tell_descriptors(const config::settings &settings, const descriptor_limit &limit) {
    const auto needed = config::most_descriptors(settings);
    log::info("kernel file descriptor limit: {} (hard: {}); max_client_conn: {}, max expected fd use: {}", limit.soft,
              limit.hard, settings.global.max_client_conn, needed);
    if (limit.soft >= needed) return;
    log::warning(
        "only {} files may be open, and {} would be with all clients and servers that the settings allow: raise "
        "LimitNOFILE of the unit (ulimit -n), or lower max_client_conn",
        limit.soft, needed);
}

boost::system::result<std::string, std::string> read_file(const std::string &path) {
    if (path.ends_with('/')) return list_folder(path);
    constexpr int patience_ms = 2000;
    // Without blocking: the control thread must not hang on a FIFO that nobody writes to.
    const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    std::string text;
    std::array<char, 16384> piece{};
    int problem = fd < 0 ? errno : 0;
    while (problem == 0) {
        const auto count = ::read(fd, piece.data(), piece.size());
        if (count == 0) break;
        if (count > 0) {
            text.append(piece.data(), static_cast<std::size_t>(count));
        } else if (errno == EAGAIN) {
            pollfd it{fd, POLLIN, 0};
            if (::poll(&it, 1, patience_ms) == 0) problem = ETIMEDOUT;
        } else if (errno != EINTR) {
            problem = errno;
        }
    }
    struct stat kind {};
    // One that nobody writes to is at its end at once: no empty file.
    if (problem == 0 && text.empty() && ::fstat(fd, &kind) == 0 && S_ISFIFO(kind.st_mode)) problem = ENODATA;
    if (fd >= 0) ::close(fd);
    if (problem == 0) return {boost::system::in_place_value, std::move(text)};
    base::wipe(text);
    return {boost::system::in_place_error, std::generic_category().message(problem)};
}

void run_loop(asio::io_context &context) {
    for (bool runs = true; runs;) {
        try {
            context.run();
            runs = false;
        } catch (const std::exception &problem) {
            log::error("internal error on the control thread: {}", problem.what());
        }
    }
}

process::process(command_line line, std::string salt_key, std::shared_ptr<const config::settings> settings)
    : line_(std::move(line)), salt_key_(std::move(salt_key)), settings_(std::move(settings)), in_use_(settings_) {}

process::~process() = default;

std::string process::listen() {
    // Before anybody can know that we are here: a signal must not find its default action.
    for (const int number : {SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2}) signals_.add(number);
    ::signal(SIGPIPE, SIG_IGN);
    if (auto problem = log::problem_of(settings_->global.logfile); !problem.empty()) return problem;
    if (auto missing = helper_missing(*settings_); !missing.empty()) return missing;
    auto made = make_tls(*settings_);
    if (made.has_error()) return made.error();
    tls_ = std::move(*made);
    if (const auto passed = service_manager::passed_sockets(); !passed.empty()) {
        passed_ = true;
        listeners_ = listener::adopt(passed);
        return listeners_.empty() ? "the sockets that systemd has passed can not be used" : "";
    }
    auto opened = listener::open_all(settings_->global);
    if (opened.has_error()) return opened.error();
    listeners_ = std::move(*opened);
    return {};
}

int process::run() {
    const auto count = worker_count(settings_->global);
    shared_ = std::make_unique<shared>(context_, settings_, count);
    look_up_names();
    lookups_ = std::make_unique<secret_lookups>(*shared_);
    shared_->lookups = lookups_.get();
    desk_ = std::make_unique<console_desk>(
        *shared_,
        console_powers{.settings = [this] { return settings_; },
                       .reload = [this](const auto &done) { reload(done); },
                       .set = [this](const auto &name, const auto &value, const auto &done) { set(name, value, done); },
                       .shut_down = [this](auto how, const auto &done) { shut_down_for_admin(how, done); },
                       .listening = [this] { return lobby_->listening(); },
                       .suspend = [this](bool on) { suspend(on); }});
    shared_->console = desk_.get();
    core::environment env;
    env.settings = settings_;
    env.mock_key = salt_key_;
    for (std::uint32_t i = 0; i <= count; ++i) {
        const auto what = i < count ? worker::role::serves : worker::role::lobby;
        shared_->workers.push_back(std::make_unique<worker>(i, what, *shared_, env, tls_));
    }
    const bool rings =
        std::all_of(shared_->workers.begin(), shared_->workers.end(), [](const auto &it) { return it->has_ring(); });
    if (settings_->global.io_uring && !rings)
        log::info("io_uring can not be had: each send is a system call of its own, which costs more CPU");
    lobby_ = std::make_unique<lobby>(*shared_);
    try {
        for (const auto &it : shared_->workers) it->start();
    } catch (const std::system_error &problem) {
        log::fatal("a worker can not be started: {}", problem.what());
        stop_workers();
        return 1;
    }
    if (passed_) log::warning("listen_addr and unix_socket_dir are ignored: systemd has passed the sockets");
    for (const auto &it : listeners_) log::info("listening on {}", it->text());
    lobby_->open(std::move(listeners_));
    await_signal();
    await_tick();
    log::info("process up: {}, {} workers", version_text, count);
    service_manager::ready();
    run_loop(context_);
    service_manager::stopping();
    reader_.stop();
    stop_workers();
    shared_->crypto.stop();
    shared_->pam.stop();
    shared_->ldap.stop();
    log::info("process ends");
    return 0;
}

void process::stop_workers() {
    for (const auto &it : shared_->workers) it->stop();
    for (const auto &it : shared_->workers) it->join();
}

void process::look_up_names() {
    dns_ = std::make_unique<resolver>(
        context_, resolver::callbacks{.changed =
                                          [this](const auto &name, const auto &addresses) {
                                              shared_->with_ledger([&](core::ledger &ledger, core::orders &orders) {
                                                  ledger.addresses_changed(name, addresses,
                                                                           std::chrono::steady_clock::now(), orders);
                                              });
                                          },
                                      .in_use =
                                          [this](const auto &name) {
                                              return shared_->with_ledger([&](core::ledger &ledger, core::orders &) {
                                                  return ledger.has_servers_by_name(name);
                                              });
                                          }});
    dns_->use(*settings_);
    shared_->dns = dns_.get();
    shared_->names.use(settings_->global.resolv_conf);
}

void process::await_signal() {
    signals_.async_wait([this](error_code ec, int number) {
        if (ec) return;
        await_signal();
        on_signal(number);
    });
}

void process::on_signal(int number) {
    switch (number) {
        case SIGHUP:
            log::reopen();
            log::info("got SIGHUP, re-reading config");
            return reload([](const core::console_outcome &) {});
        case SIGTERM:
        case SIGINT:
            if (phase_ != phase::running) {
                log::info("got signal {} while shutting down, exiting at once", number);
                return context_.stop();
            }
            log::info("got {}", number == SIGTERM ? "SIGTERM" : "SIGINT");
            if (desk_->suspended()) {  // nobody could leave, whom to wait for
                log::info("suspend was in progress, going down immediately");
                return context_.stop();
            }
            return shut_down(number == SIGTERM ? phase::waiting_for_clients : phase::waiting_for_servers, [] {});
        case SIGQUIT:
            log::info("got SIGQUIT, fast exit");
            return context_.stop();
        case SIGUSR1:
            log::info("got SIGUSR1, {}", effect(desk_->pause({}), "pausing all activity"));
            return;
        case SIGUSR2: {
            if (phase_ != phase::running) return log::info("got SIGUSR2 while shutting down, ignoring it");
            const auto *const from = desk_->suspended() ? "continuing from SUSPEND" : "continuing from PAUSE";
            log::info("got SIGUSR2, {}", effect(desk_->resume({}), from));
            return;
        }
        default:
            return;
    }
}

void process::shut_down(phase next, const std::function<void()> &done) {
    phase_ = next;
    service_manager::stopping();
    const bool for_servers = next == phase::waiting_for_servers;
    ++leaving_port_;
    lobby_->close_tcp([this, for_servers, done] {
        --leaving_port_;
        shared_->with_ledger(
            [&](core::ledger &ledger, core::orders &orders) { ledger.shut_down(for_servers, orders); });
        // From here on it is in effect, which whoever reads the line may take for granted.
        log::info("{}", for_servers ? "shutting down, waiting for all server connections to be released"
                                    : "shutting down, waiting for all clients to disconnect");
        done();
    });
}

void process::reload(const console_powers::then &done) {
    const auto begin = [this] {
        service_manager::reloading();
        const auto &file = settings_->global.conffile.empty() ? line_.file : settings_->global.conffile;
        return [this, file, before = settings_](const config::spreader &spread) {
            return config::load(file, read_file, salt_key_, before.get(), config::this_build(), spread);
        };
    };
    reader_.read(begin, [this, done](const config_reader::outcome &fresh) {
        core::console_outcome outcome;
        if (fresh.has_value()) {
            auto own = *fresh;
            own.value = with_command_line(line_, *own.value);
            outcome = try_to_put_to_work(own, origin::file);
        } else {
            const auto why = config::to_string(fresh.error());
            log::error("reload failed, nothing was changed: {}", why);
            outcome.refused = {core::refusal::console_reload_failed, {}, why};
        }
        service_manager::ready();
        done(outcome);
    });
}

void process::set(const std::string &name, const std::string &value, const console_powers::then &done) {
    const auto no = [name](const std::string &why) {
        log::error("SET {} failed: {}", name, why);
        return core::console_outcome{{core::refusal::console_set_failed, {}, why}, {}};
    };
    const auto *const row = config::find_setting(name);
    if (row != nullptr && !row->reloadable)
        return done(no(name + " can not be changed while running: it needs a restart."));
    const auto begin = [this, name, value] {
        return [this, name, value, before = settings_](const config::spreader &spread) {
            return config::load_one(*before, name, value, read_file, salt_key_, spread);
        };
    };
    reader_.read(begin, [this, no, done](const config_reader::outcome &fresh) {
        if (fresh.has_error()) return done(no(fresh.error().text));
        auto outcome = try_to_put_to_work(*fresh, origin::set);
        if (outcome.refused.why != core::refusal::none) return done(no(outcome.refused.detail));
        outcome.notices.clear();  // it was asked for
        if (in_use_ != settings_) outcome.notices.emplace_back(core::tls_not_applied);
        done(outcome);
    });
}

/// Whoever asked for it has an answer whatever happens.
core::console_outcome process::try_to_put_to_work(const config::loaded &fresh, origin from) {
    try {
        return put_to_work(fresh, from);
    } catch (const std::exception &problem) {
        const auto why = std::string("internal error, some of it may have been changed: ") + problem.what();
        log::error("reload failed: {}", why);
        return {{core::refusal::console_reload_failed, {}, why}, {}};
    }
}

core::console_outcome process::put_to_work(const config::loaded &fresh, origin from) {
    if (const auto missing = helper_missing(*fresh.value); !missing.empty()) {
        log::error("reload failed, nothing was changed: {}", missing);
        return {{core::refusal::console_reload_failed, {}, missing}, {}};
    }
    const auto &logfile = fresh.value->global.logfile;
    if (const auto problem = logfile == settings_->global.logfile ? "" : log::problem_of(logfile); !problem.empty()) {
        log::error("reload failed, nothing was changed: {}", problem);
        return {{core::refusal::console_reload_failed, {}, problem}, {}};
    }
    const auto watched = tls_files_;
    using made = decltype(make_tls(*fresh.value));
    auto tls = fresh.tls_gap.empty() ? make_tls(*fresh.value) : made(boost::system::in_place_error, fresh.tls_gap);
    if (tls.has_error()) tls_files_ = watched;
    if (tls.has_error() && from == origin::set) {
        log::warning("{}: {}", core::tls_not_applied, tls.error());
    } else if (tls.has_error()) {
        log::error("reload failed, nothing was changed: {}", tls.error());
        return {{core::refusal::console_reload_failed, {}, tls.error()}, {}};
    }
    core::console_outcome outcome;
    for (const auto &warning : fresh.warnings) log::warning("{}", config::to_string(warning));
    for (const auto &name : config::restart_needed(*settings_, *fresh.value)) {
        outcome.notices.push_back(name + " was changed in the file; it takes effect at the next start");
        log::warning("{}", outcome.notices.back());
    }
    const auto before = settings_;
    settings_ = std::make_shared<const config::settings>(config::keep_unchangeable(*settings_, *fresh.value));
    if (tls.has_value()) {
        use(settings_, std::move(*tls));
    } else {
        use(std::make_shared<const config::settings>(config::keep_tls(*in_use_, *settings_)), tls_);
    }
    for (auto &change : config::changes(*before, *settings_)) {
        log::info("{}", change);
        outcome.notices.push_back(std::move(change));
    }
    for (const auto &[name, entry] : before->databases)
        if (!settings_->databases.contains(name))
            log::warning("dropping database '{}' as it does not exist anymore or inactive auto-database", name);
    dns_->use(*settings_);
    if (before->global.tcp_defer_accept != settings_->global.tcp_defer_accept)
        lobby_->defer(settings_->global.tcp_defer_accept);
    log::use(log_options(line_, settings_->global));
    if (config::most_descriptors(*before) < config::most_descriptors(*settings_))
        tell_descriptors(*settings_, raise_descriptor_limit(config::most_descriptors(*settings_)));
    shared_->with_ledger([&](core::ledger &ledger, core::orders &orders) {
        ledger.apply(in_use_, std::chrono::steady_clock::now(), orders);
    });
    log::info("configuration reloaded from {}", fresh.value->file);
    return outcome;
}

boost::system::result<tls_contexts, std::string> process::make_tls(const config::settings &wanted) {
    const auto clients = wanted.global.client_tls(), servers = wanted.global.server_tls();
    // What is there now, before it is read: what changes meanwhile is seen at the next look.
    tls_files_.of(
        {clients.key_file, clients.cert_file, clients.ca_file, servers.key_file, servers.cert_file, servers.ca_file});
    tls_contexts made;
    for (auto [which, settings, running, into] :
         {std::tuple(tls_context::leg::clients, &clients, &tls_.clients, &made.clients),
          std::tuple(tls_context::leg::servers, &servers, &tls_.servers, &made.servers)}) {
        auto it = tls_context::make(which, *settings, *running);
        if (it.has_error()) {
            const auto fault = wanted.at_setting(it.error().setting, it.error().text);
            // What SET names has no line, and needs none.
            return {boost::system::in_place_error, fault.line > 0 ? config::to_string(fault) : fault.text};
        }
        *into = std::move(*it);
    }
    return {boost::system::in_place_value, std::move(made)};
}

void process::use(std::shared_ptr<const config::settings> settings, tls_contexts tls) {
    in_use_ = std::move(settings);
    tls_ = std::move(tls);
    for (const auto &it : shared_->workers) {
        it->post([worker = it.get(), now = in_use_, contexts = tls_] { worker->use_settings(now, contexts); });
    }
}

void process::look_at_tls_files() {
    if (!tls_files_.changed()) return;
    auto tls = make_tls(*in_use_);
    if (tls.has_error()) {
        return log::error("files of TLS have changed, but those read before stay in use: {}", tls.error());
    }
    if (tls->clients == tls_.clients && tls->servers == tls_.servers) return;
    use(in_use_, std::move(*tls));
    log::info("files of TLS have changed, and are in use");
}

/// Whoever says SHUTDOWN alone sees the connection close, and no answer.
void process::shut_down_for_admin(core::console_command::verb how, const console_powers::then &done) {
    using verb = core::console_command::verb;
    if (how == verb::shutdown) {
        log::info("SHUTDOWN by the console, exiting at once");
        return context_.stop();
    }
    const auto next = how == verb::shutdown_wait_for_servers ? phase::waiting_for_servers : phase::waiting_for_clients;
    if (next <= phase_) return done({{core::refusal::console_shutting_down, {}, {}}, {}});
    shut_down(next, [done] { done({}); });
}

void process::suspend(bool on) {
    log::info("{}", on ? "suspended" : "resumed from SUSPEND");
    lobby_->suspend(on);
    for (const auto &it : shared_->workers) {
        it->expect_rest();
        it->post([worker = it.get(), on] { worker->suspend(on); });
    }
}

/// The next tick stands before the work of this one begins, which may throw.
void process::await_tick() {
    ticker_.expires_after(ledger_tick);
    ticker_.async_wait([this](error_code ec) {
        if (ec) return;
        await_tick();
        tick();
    });
}

void process::tick() {
    const auto [clients, servers] = shared_->with_ledger([](core::ledger &ledger, core::orders &orders) {
        ledger.tick(std::chrono::steady_clock::now(), orders);
        return std::pair(ledger.clients(), ledger.servers());
    });
    if (leaving_port_ == 0 && ((phase_ == phase::waiting_for_clients && clients == 0) ||
                               (phase_ == phase::waiting_for_servers && servers == 0))) {
        log::info("{}", phase_ == phase::waiting_for_clients ? "all clients have left, exiting"
                                                             : "server connections dropped, exiting");
        return context_.stop();
    }
    dns_->tick();
    shared_->names.tick();
    lookups_->tick();
    desk_->tick(std::chrono::steady_clock::now());
    if (++ticks_ % ticks_between_looks == 0) look_at_tls_files();
}

}  // namespace pgsluice::net
