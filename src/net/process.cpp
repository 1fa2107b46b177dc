// Wiring of the whole: start, signals, reload, shutdown.
#include "net/process.hpp"

#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "config/settings_table.hpp"
#include "net/log.hpp"
#include "net/random.hpp"
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

/// Why the configuration can not be used, or "".
std::string helper_missing(const config::settings &settings) {
    if (!settings.asks_pam_or_ldap() || !password_checks::helper().empty()) return {};
    return "pam and ldap need the program pgsluice-check-password, which is neither beside pgsluice nor in "
           "../libexec/pgsluice: install it (cmake --install)";
}

}  // namespace

log::options log_options(const command_line &line, const config::global_settings &global) {
    return {.file = global.logfile,
            .to_stderr = !line.quiet && !line.daemon,
            .to_syslog = global.syslog,
            .syslog_ident = global.syslog_ident,
            .syslog_facility = global.syslog_facility,
            .verbose = std::max(line.verbose, global.verbose)};
}

boost::system::result<std::string, std::string> read_file(const std::string &path) {
    if (path.ends_with('/')) return list_folder(path);
    errno = 0;
    std::ifstream in(path, std::ios::binary);
    std::ostringstream text;
    if (in) text << in.rdbuf();
    if (!in || in.bad() || (text.fail() && in.peek() != std::ifstream::traits_type::eof())) {
        return {boost::system::in_place_error, std::generic_category().message(errno != 0 ? errno : EIO)};
    }
    return {boost::system::in_place_value, text.str()};
}

process::process(command_line line, std::string salt_key, std::shared_ptr<const config::settings> settings)
    : line_(std::move(line)), salt_key_(std::move(salt_key)), settings_(std::move(settings)) {}

process::~process() = default;

std::string process::listen() {
    // Before anybody can know that we are here: a signal must not find its default action.
    for (const int number : {SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2}) signals_.add(number);
    ::signal(SIGPIPE, SIG_IGN);
    if (auto missing = helper_missing(*settings_); !missing.empty()) return missing;
    auto made = make_tls(settings_->global);
    if (made.has_error()) return made.error();
    tls_ = std::move(*made);
    auto opened = listener::open_all(context_, settings_->global, [this](int fd, bool tcp) { accept(fd, tcp); });
    if (opened.has_error()) return opened.error();
    listeners_ = std::move(*opened);
    return {};
}

void process::accept(int fd, bool tcp) {
    // The least loaded worker; between equals, in turn.
    auto &workers = shared_->workers;
    std::size_t best = next_worker_++ % workers.size();
    for (std::size_t i = 0; i < workers.size(); ++i) {
        if (workers[i]->load() < workers[best]->load()) best = i;
    }
    workers[best]->adopt(fd, tcp);
}

int process::run() {
    const auto count = worker_count(settings_->global);
    shared_ = std::make_unique<shared>(context_, settings_, count);
    lookups_ = std::make_unique<secret_lookups>(*shared_);
    shared_->lookups = lookups_.get();
    desk_ = std::make_unique<console_desk>(
        *shared_, console_powers{.settings = [this] { return settings_; },
                                 .reload = [this] { return reload(); },
                                 .set = [this](const auto &name, const auto &value) { return set(name, value); },
                                 .shut_down = [this](auto how) { return shut_down_for_admin(how); },
                                 .suspend = [this](bool on) { suspend(on); }});
    shared_->console = desk_.get();
    core::environment env;
    env.settings = settings_;
    env.mock_key = salt_key_;
    for (std::uint32_t i = 0; i < count; ++i) {
        shared_->workers.push_back(std::make_unique<worker>(i, *shared_, env, tls_));
    }
    // Signals are for this thread; workers inherit a mask without them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (const auto &it : shared_->workers) it->start();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    for (const auto &it : listeners_) {
        log::info("listening on {}", it->text());
        it->start();
    }
    await_signal();
    tick();
    log::info("process up: pgsluice {}, {} workers", PGSLUICE_VERSION, count);
    context_.run();
    listeners_.clear();
    for (const auto &it : shared_->workers) it->stop();
    for (const auto &it : shared_->workers) it->join();
    shared_->crypto.stop();
    shared_->pam.stop();
    shared_->ldap.stop();
    log::info("process ends");
    return 0;
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
            reload();
            return;
        case SIGTERM:
        case SIGINT:
            if (phase_ != phase::running) {
                log::info("got signal {} while shutting down, exiting at once", number);
                return context_.stop();
            }
            log::info("got {}", number == SIGTERM ? "SIGTERM" : "SIGINT");
            return shut_down(number == SIGTERM ? phase::waiting_for_clients : phase::waiting_for_servers);
        case SIGQUIT:
            log::info("got SIGQUIT, fast exit");
            return context_.stop();
        case SIGUSR1:
            log::info("got SIGUSR1, pausing all activity");
            shared_->with_ledger([](core::ledger &ledger, core::orders &orders) { ledger.pause({}, orders); });
            return;
        case SIGUSR2:
            log::info("got SIGUSR2, continuing from PAUSE");
            return desk_->canceled();
        default:
            return;
    }
}

void process::shut_down(phase next) {
    phase_ = next;
    const bool for_servers = next == phase::waiting_for_servers;
    log::info("{}", for_servers ? "shutting down, waiting for all server connections to be released"
                                : "shutting down, waiting for all clients to disconnect");
    std::erase_if(listeners_, [](const auto &it) { return it->tcp(); });
    shared_->with_ledger([&](core::ledger &ledger, core::orders &orders) { ledger.shut_down(for_servers, orders); });
}

core::console_outcome process::reload() {
    auto fresh = config::load(line_.file, read_file, salt_key_, settings_.get());
    if (fresh.has_value()) return put_to_work(*fresh);
    const auto why = config::to_string(fresh.error());
    log::error("reload failed, nothing was changed: {}", why);
    return {{core::refusal::console_reload_failed, {}, why}, {}};
}

core::console_outcome process::set(const std::string &name, const std::string &value) {
    const auto no = [&](const std::string &why) {
        log::error("SET {} failed: {}", name, why);
        return core::console_outcome{{core::refusal::console_set_failed, {}, why}, {}};
    };
    const auto *const row = config::find_setting(name);
    if (row != nullptr && !row->reloadable) return no(name + " can not be changed while running: it needs a restart.");
    auto fresh = config::load_one(*settings_, name, value, read_file, salt_key_);
    if (fresh.has_error()) return no(fresh.error().text);
    auto outcome = put_to_work(*fresh);
    if (outcome.refused.why != core::refusal::none) return no(outcome.refused.detail);
    outcome.notices.clear();  // it was asked for
    return outcome;
}

core::console_outcome process::put_to_work(const config::loaded &fresh) {
    if (const auto missing = helper_missing(*fresh.value); !missing.empty()) {
        log::error("reload failed, nothing was changed: {}", missing);
        return {{core::refusal::console_reload_failed, {}, missing}, {}};
    }
    const auto watched = tls_files_;
    auto tls = make_tls(fresh.value->global);
    if (tls.has_error()) {
        tls_files_ = watched;
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
    use(std::make_shared<const config::settings>(config::keep_unchangeable(*settings_, *fresh.value)), std::move(*tls));
    for (auto &change : config::changes(*before, *settings_)) {
        log::info("{}", change);
        outcome.notices.push_back(std::move(change));
    }
    log::use(log_options(line_, settings_->global));
    shared_->with_ledger([&](core::ledger &ledger, core::orders &orders) {
        ledger.apply(settings_, std::chrono::steady_clock::now(), orders);
    });
    log::info("configuration reloaded from {}", line_.file);
    return outcome;
}

boost::system::result<tls_contexts, std::string> process::make_tls(const config::global_settings &global) {
    const auto clients = global.client_tls(), servers = global.server_tls();
    // What is there now, before it is read: what changes meanwhile is seen at the next look.
    tls_files_.of(
        {clients.key_file, clients.cert_file, clients.ca_file, servers.key_file, servers.cert_file, servers.ca_file});
    tls_contexts made;
    for (auto [which, settings, running, into] :
         {std::tuple(tls_context::leg::clients, &clients, &tls_.clients, &made.clients),
          std::tuple(tls_context::leg::servers, &servers, &tls_.servers, &made.servers)}) {
        auto it = tls_context::make(which, *settings, *running);
        if (it.has_error()) return {boost::system::in_place_error, it.error()};
        *into = std::move(*it);
    }
    return {boost::system::in_place_value, std::move(made)};
}

void process::use(std::shared_ptr<const config::settings> settings, tls_contexts tls) {
    settings_ = std::move(settings);
    tls_ = std::move(tls);
    for (const auto &it : shared_->workers) {
        it->post([worker = it.get(), now = settings_, contexts = tls_] { worker->use_settings(now, contexts); });
    }
}

void process::look_at_tls_files() {
    if (!tls_files_.changed()) return;
    auto tls = make_tls(settings_->global);
    if (tls.has_error()) {
        return log::error("files of TLS have changed, but those read before stay in use: {}", tls.error());
    }
    if (tls->clients == tls_.clients && tls->servers == tls_.servers) return;
    use(settings_, std::move(*tls));
    log::info("files of TLS have changed, and are in use");
}

core::console_outcome process::shut_down_for_admin(core::console_command::verb how) {
    using verb = core::console_command::verb;
    if (how == verb::shutdown || phase_ != phase::running) {
        log::info("SHUTDOWN by the console, exiting at once");
        context_.stop();
        return {};
    }
    shut_down(how == verb::shutdown_wait_for_servers ? phase::waiting_for_servers : phase::waiting_for_clients);
    return {};
}

void process::suspend(bool on) {
    log::info("{}", on ? "suspended" : "resumed from SUSPEND");
    for (const auto &it : shared_->workers) it->post([worker = it.get(), on] { worker->suspend(on); });
}

void process::tick() {
    if (++ticks_ % ticks_between_looks == 0) look_at_tls_files();
    ticker_.expires_after(ledger_tick);
    ticker_.async_wait([this](error_code ec) {
        if (ec) return;
        const auto [clients, servers] = shared_->with_ledger([](core::ledger &ledger, core::orders &orders) {
            ledger.tick(std::chrono::steady_clock::now(), orders);
            return std::pair(ledger.clients(), ledger.servers());
        });
        if ((phase_ == phase::waiting_for_clients && clients == 0) ||
            (phase_ == phase::waiting_for_servers && servers == 0)) {
            log::info("{}", phase_ == phase::waiting_for_clients ? "all clients have left, exiting"
                                                                 : "server connections dropped, exiting");
            return context_.stop();
        }
        desk_->tick(std::chrono::steady_clock::now());
        tick();
    });
}

}  // namespace pgsluice::net
