// The command line: arguments, the user to run as, the daemon's start, then net::process. Nothing else happens here.
// Source: PgBouncer documentation, usage.
#include <ares.h>
#include <getopt.h>
#include <malloc.h>
#include <unistd.h>

#include <boost/version.hpp>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "config/advice.hpp"
#include "net/check.hpp"
#include "net/daemon.hpp"
#include "net/log.hpp"
#include "net/process.hpp"
#include "net/random.hpp"
#include "net/version.hpp"

namespace {

using namespace pgsluice;

constexpr const char *usage_text =
    "Usage: %s [OPTION]... CONFIG_FILE\n\n"
    "  -d, --daemon         run in the background (needs pidfile)\n"
    "  -q, --quiet          write nothing to stderr\n"
    "  -R, --reboot         online restart: refused, use so_reuseport instead\n"
    "  -u, --user=USERNAME  run as this user\n"
    "  -v, --verbose        log more; may be repeated\n"
    "      --check          say what is wrong or doubtful in CONFIG_FILE, then exit: 0 nothing, 1 errors, 2 warnings\n"
    "      --connect        with --check: log in to each server too\n"
    "  -V, --version        print the version, then exit\n"
    "  -h, --help           print this help, then exit\n";

int refuse(const std::string &text, bool quiet = false) {
    if (!quiet) std::cerr << text << '\n';
    return 1;
}

void print_version() {
    const auto with = config::this_build();
    std::printf("%s\nasio: Boost %d.%d\nadns: c-ares %s\ntls: %s\nsystemd: yes\npam: %s\nldap: %s\n",
                std::string(net::version_text).c_str(), BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000,
                ares_version(nullptr), OpenSSL_version(OPENSSL_VERSION), with.pam ? "yes" : "no",
                with.ldap ? "yes" : "no");
}

/// -1: go on; otherwise the exit status.
int parse(int argc, char **argv, net::command_line &line) {
    static const option long_options[] = {
        {"daemon", no_argument, nullptr, 'd'},        {"quiet", no_argument, nullptr, 'q'},
        {"reboot", no_argument, nullptr, 'R'},        {"user", required_argument, nullptr, 'u'},
        {"verbose", optional_argument, nullptr, 'v'}, {"version", no_argument, nullptr, 'V'},
        {"help", no_argument, nullptr, 'h'},          {"check", no_argument, nullptr, 1},
        {"connect", no_argument, nullptr, 2},         {nullptr, 0, nullptr, 0}};
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
            case 1:
                line.check = true;
                break;
            case 2:
                line.connect = true;
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
    if (line.connect && !line.check) return refuse("--connect goes with --check");
    return -1;
}

int start(const net::command_line &line) {
    if (line.check) return net::check(line.file, line.connect, std::cout);
    const auto no = [&](const std::string &why) { return refuse("pgsluice: " + why, line.quiet); };
    const std::string salt_key = net::openssl_random().bytes(32);
    auto loaded = config::load(line.file, net::read_file, salt_key, nullptr, config::this_build(), net::on_all_cores);
    if (loaded.has_error()) return no(config::to_string(loaded.error()));
    const auto own = net::with_command_line(line, *loaded->value);
    const auto &global = own->global;
    if (geteuid() == 0 && global.user.empty())
        return no("should not run as root: set user= in the configuration, or use -u");
    if (line.daemon && global.pidfile.empty()) return no("-d needs pidfile= in the configuration");

    // Where logs are looked for, also when it is quiet. As the user who will write them.
    const auto no_in_log = [&](const std::string &why) {
        net::log::last_words(net::log_options(line, global), why);
        return no(why);
    };
    const auto files = net::raise_descriptor_limit(config::most_descriptors(*own));  // as root, if that is what we are
    net::process pooler(line, salt_key, own);
    if (auto problem = net::become_user(global.user); !problem.empty()) return no(problem);
    if (auto problem = net::check_pidfile(global.pidfile); !problem.empty()) return no_in_log(problem);
    if (auto problem = pooler.listen(); !problem.empty()) return no_in_log(problem);
    if (line.daemon) net::go_to_background();
    if (auto problem = net::write_pidfile(global.pidfile); !problem.empty()) return no_in_log(problem);
    net::log::start(net::log_options(line, global));
    for (const auto &warning : loaded->warnings) net::log::warning("{}", config::to_string(warning));
    net::tell_descriptors(*own, files);
    const int status = pooler.run();
    net::log::stop();
    net::remove_pidfile(global.pidfile);
    return status;
}

}  // namespace

int main(int argc, char **argv) {
    // What a long message took goes back to the system behind it, from the heaps of threads too (mallopt(3)).
    ::mallopt(M_MMAP_THRESHOLD, 32 * 1024);  // NOLINT(concurrency-mt-unsafe): no other thread runs yet
    ::mallopt(M_TRIM_THRESHOLD, 64 * 1024);  // NOLINT(concurrency-mt-unsafe)
    net::command_line line;
    if (const int status = parse(argc, argv, line); status >= 0) return status;
    try {
        return start(line);
    } catch (const std::exception &problem) {
        return refuse(std::string("pgsluice: ") + problem.what(), line.quiet);
    }
}
