// The command line: arguments, the user to run as, the daemon's start, then net::process. Nothing else happens here.
// Source: PgBouncer documentation, usage.
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/version.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "net/daemon.hpp"
#include "net/log.hpp"
#include "net/process.hpp"
#include "net/random.hpp"

namespace {

using namespace pgsluice;

constexpr const char *usage_text =
    "Usage: %s [OPTION]... CONFIG_FILE\n\n"
    "  -d, --daemon         run in the background (needs pidfile, and logfile or syslog)\n"
    "  -q, --quiet          write nothing to stderr\n"
    "  -R, --reboot         online restart: refused, use so_reuseport instead\n"
    "  -u, --user=USERNAME  run as this user\n"
    "  -v, --verbose        log more; may be repeated\n"
    "  -V, --version        print the version, then exit\n"
    "  -h, --help           print this help, then exit\n";

int refuse(const std::string &text) {
    std::cerr << text << '\n';
    return 1;
}

void print_version() {
    const auto with = config::this_build();
    std::printf("pgsluice %s\nasio: Boost %d.%d\ntls: %s\npam: %s\nldap: %s\n", PGSLUICE_VERSION,
                BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000, OpenSSL_version(OPENSSL_VERSION),
                with.pam ? "yes" : "no", with.ldap ? "yes" : "no");
}

/// -1: go on; otherwise the exit status.
int parse(int argc, char **argv, net::command_line &line) {
    static const option long_options[] = {
        {"daemon", no_argument, nullptr, 'd'},        {"quiet", no_argument, nullptr, 'q'},
        {"reboot", no_argument, nullptr, 'R'},        {"user", required_argument, nullptr, 'u'},
        {"verbose", optional_argument, nullptr, 'v'}, {"version", no_argument, nullptr, 'V'},
        {"help", no_argument, nullptr, 'h'},          {nullptr, 0, nullptr, 0}};
    // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs yet
    for (int flag; (flag = getopt_long(argc, argv, "dqRu:vVh", long_options, nullptr)) != -1;) {
        switch (flag) {
            case 'd':
                line.daemon = true;
                break;
            case 'q':
                line.quiet = true;
                break;
            case 'R':
                return refuse(
                    "-R (online restart) is not available: start the new process beside the old one with so_reuseport "
                    "= 1, then send the old one SIGTERM");
            case 'u':
                line.user = optarg;
                break;
            case 'v':
                line.verbose =
                    optarg != nullptr ? static_cast<int>(std::strtol(optarg, nullptr, 10)) : line.verbose + 1;
                break;
            case 'V':
                print_version();
                return 0;
            case 'h':
                std::printf(usage_text, argv[0]);
                return 0;
            default:
                return refuse(std::string("Try \"") + argv[0] + " --help\" for more information.");
        }
    }
    if (optind + 1 != argc) {
        return refuse(std::string(optind < argc ? "too many arguments" : "Need config file.") + "\nTry \"" + argv[0] +
                      " --help\" for more information.");
    }
    line.file = argv[optind];
    return -1;
}

int start(const net::command_line &line) {
    const std::string salt_key = net::openssl_random().bytes(32);
    auto loaded = config::load(line.file, net::read_file, salt_key);
    if (loaded.has_error()) return refuse("pgsluice: " + config::to_string(loaded.error()));
    auto own = std::make_shared<config::settings>(*loaded->value);
    auto &global = own->global;
    if (!line.user.empty()) global.user = line.user;
    global.quiet = line.quiet;
    global.verbose = std::max(global.verbose, line.verbose);
    if (geteuid() == 0 && global.user.empty())
        return refuse("pgsluice should not run as root: set user= in the configuration, or use -u");
    if (line.daemon && global.pidfile.empty()) return refuse("pgsluice: -d needs pidfile= in the configuration");
    if (line.daemon && global.logfile.empty() && !global.syslog)
        return refuse("pgsluice: -d needs logfile= or syslog = 1 in the configuration");

    net::process pooler(line, salt_key, own);
    if (auto problem = net::become_user(global.user); !problem.empty()) return refuse("pgsluice: " + problem);
    if (auto problem = net::check_pidfile(global.pidfile); !problem.empty()) return refuse("pgsluice: " + problem);
    if (auto problem = pooler.listen(); !problem.empty()) return refuse("pgsluice: " + problem);
    if (line.daemon) net::go_to_background();
    if (auto problem = net::write_pidfile(global.pidfile); !problem.empty()) return refuse("pgsluice: " + problem);
    net::raise_descriptor_limit();
    net::log::start(net::log_options(line, global));
    for (const auto &warning : loaded->warnings) net::log::warning("{}", config::to_string(warning));
    const int status = pooler.run();
    net::log::stop();
    net::remove_pidfile(global.pidfile);
    return status;
}

}  // namespace

int main(int argc, char **argv) {
    net::command_line line;
    if (const int status = parse(argc, argv, line); status >= 0) return status;
    try {
        return start(line);
    } catch (const std::exception &problem) {
        return refuse(std::string("pgsluice: ") + problem.what());
    }
}
