// What config::check() finds, what only the system can tell (files, their permissions, TLS), and the servers.
#include "net/check.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <ostream>

#include "config/advice.hpp"
#include "config/load.hpp"
#include "net/probe.hpp"
#include "net/process.hpp"

namespace pgsluice::net {

namespace {

class checker {
public:
    checker(std::string file, std::ostream &out) : file_(std::move(file)), out_(out) {}

    void look() {
        auto found = config::check(file_, read_file);
        settings_ = found.value;
        for (const auto &it : found.errors) say("error", it);
        for (const auto &it : found.warnings) say("warning", it);
        for (const auto &it : config::advice(*settings_)) say("warning", it);
        const auto &global = settings_->global;
        if (found.errors.empty()) {
            for (const auto &it : {tls_context::make(tls_context::leg::clients, global.client_tls(), nullptr),
                                   tls_context::make(tls_context::leg::servers, global.server_tls(), nullptr)})
                if (it.has_error()) say("error", settings_->at_setting(it.error().setting, it.error().text));
            if (auto missing = helper_missing(*settings_); !missing.empty()) error(missing);
        }
        secrets();
    }

    void connect() {
        if (errors_ > 0) return;
        auto made = tls_context::make(tls_context::leg::servers, settings_->global.server_tls(), nullptr);
        if (made.has_error()) return;
        tls_ = std::move(*made);
        for (const auto &[name, entry] : settings_->databases) look_at(entry);
        if (settings_->wildcard) look_at(*settings_->wildcard);
        sums();
    }

    int finish() {
        const auto count = [](std::size_t number, const char *what) {
            return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
        };
        out_ << file_ << ": " << count(errors_, "error") << ", " << count(warnings_, "warning") << "\n";
        return errors_ > 0 ? 1 : warnings_ > 0 ? 2 : 0;
    }

private:
    void say(const char *what, const config::error &it) {
        out_ << it.file << (it.line > 0 ? ":" + std::to_string(it.line) : "") << ": " << what << ": " << it.text
             << "\n";
        ++(std::string_view(what) == "error" ? errors_ : warnings_);
    }
    void error(const std::string &text) { say("error", {file_, 0, text}); }
    void warning(const std::string &text) { say("warning", {file_, 0, text}); }

    /// Files with secrets that everybody on this machine may read.
    void secrets() {
        const auto &global = settings_->global;
        const auto has_password = [](const auto &it) { return it.second.password.has_value(); };
        const bool in_file = std::any_of(settings_->databases.begin(), settings_->databases.end(), has_password) ||
                             (settings_->wildcard && settings_->wildcard->password) ||
                             global.auth_ldap_options.find("ldapbindpasswd") != std::string::npos;
        const auto look = [&](const std::string &path, const char *what) {
            struct stat it {};
            if (path.empty() || ::stat(path.c_str(), &it) != 0 || (it.st_mode & S_IROTH) == 0) return;
            say("warning", {path, 0, std::string(what) + ", and everybody on this machine may read it: chmod o-r"});
        };
        if (in_file) look(file_, "it holds passwords");
        look(global.auth_file, "it holds secrets (auth_file)");
        look(global.client_tls_key_file, "it is a private key (client_tls_key_file)");
        look(global.server_tls_key_file, "it is a private key (server_tls_key_file)");
    }

    // ---- servers ----

    struct somebody {
        core::server_secret secret;
        bool can_log_in = false;
    };

    /// The forced user, else auth_user, else the one of auth_file whose secret serves every server.
    somebody who(const config::database &entry) const {
        somebody it;
        const auto &users = settings_->credentials;
        const auto known = [&](const std::string &name) {
            it.secret.user = name;
            const auto found = users.find(name);
            if (found != users.end()) it.secret.credential = found->second;
        };
        if (entry.user) {
            known(*entry.user);
            if (entry.password) it.secret.credential = auth::parse_secret(entry.password->reveal());
        } else if (const auto asks = entry.auth_user.value_or(settings_->global.auth_user); !asks.empty()) {
            known(asks);
        } else {
            const auto of_form = [](auth::secret_form form) {
                return [form](const auto &each) { return each.second.form == form && !each.second.text.empty(); };
            };
            auto found = std::find_if(users.begin(), users.end(), of_form(auth::secret_form::plain));
            if (found == users.end()) found = std::find_if(users.begin(), users.end(), of_form(auth::secret_form::md5));
            if (found == users.end()) found = users.begin();
            if (found != users.end()) known(found->first);
        }
        it.can_log_in = !it.secret.user.empty();
        return it;
    }

    std::string name_of(const config::database &entry, const config::pool_settings &pool, const std::string &host) {
        return "database \"" + entry.name + "\" at " + host + " port " + std::to_string(pool.port);
    }

    void look_at(const config::database &entry) {
        const bool any = entry.name == "*" && !entry.dbname;
        const auto login = who(entry);
        const auto name = any ? std::string("postgres") : entry.name;
        const auto pool = std::make_shared<const config::pool_settings>(
            config::resolve_pool(*settings_, entry, name, login.secret.user));
        for (const auto &host : pool->hosts) {
            const auto where = name_of(entry, *pool, host);
            if (!login.can_log_in) {
                warning(where + " is not looked at: no user is known to log in as (user=, auth_user or auth_file)");
                continue;
            }
            probe it(pool, host, login.secret, tls_);
            const auto link = it.log_in();
            // What it logs in with then is a client's to show, or auth_query's to find.
            const auto &secret = login.secret.credential;
            const bool looked_up = entry.user && secret.text.empty() &&
                                   core::question_for(*settings_, name, login.secret.user).has_value();
            const bool not_ours = looked_up || (secret.form == auth::secret_form::scram && !entry.password);
            if (link == chain_link::password && not_ours) {
                warning(where + ": user " + login.secret.user + " could not be tried: " + it.text());
            } else if (link == chain_link::database && any) {
                out_ << where << ": good, but for the database postgres, which is not there\n";
            } else if (link != chain_link::none) {
                error(where + ": " + to_string(link) + ": as user " + login.secret.user + ": " + it.text());
            } else {
                const auto most = it.ask(
                    "select current_setting('max_connections')::int - "
                    "current_setting('superuser_reserved_connections')::int");
                auto &server = servers_[host + " port " + std::to_string(pool->port)];
                std::from_chars(most.data(), most.data() + most.size(), server.most);
                server.entries.push_back(&entry);
                out_ << where << ": good: " << it.text() << ", PostgreSQL " << it.ask("show server_version")
                     << ", as user " << login.secret.user << "\n";
            }
        }
        look_at_auth_query(entry);
    }

    void look_at_auth_query(const config::database &entry) {
        const auto what =
            core::question_for(*settings_, entry.name, entry.auth_user.value_or(settings_->global.auth_user));
        if (!what || what->database == "*") return;
        const auto *found = settings_->find_database(what->database);
        if (found == nullptr) return;
        auto asked = *found;
        asked.user.reset();
        asked.password.reset();
        core::server_secret secret;
        secret.user = what->auth_user;
        if (const auto it = settings_->credentials.find(what->auth_user); it != settings_->credentials.end())
            secret.credential = it->second;
        const auto pool = std::make_shared<const config::pool_settings>(
            config::resolve_pool(*settings_, asked, what->database, what->auth_user));
        probe it(pool, pool->hosts.front(), secret, tls_);
        const auto where =
            "auth_query of database \"" + entry.name + "\", asked in \"" + what->database + "\" as " + what->auth_user;
        auto link = it.log_in();
        if (link == chain_link::none) link = it.ask_auth_query(*what);
        if (link == chain_link::none)
            out_ << where << ": good\n";
        else
            error(where + ": " + to_string(link) + ": " + it.text());
    }

    /// Whether all pools can be filled at once.
    void sums() {
        for (const auto &[place, server] : servers_) {
            if (server.most <= 0) continue;
            long sum = 0;
            bool limited = true;
            std::string parts;
            for (const auto *const entry : server.entries) {
                const int most = config::most_servers(*settings_, *entry);
                limited = limited && most > 0;
                sum += most;
                parts +=
                    (parts.empty() ? "" : ", ") + entry->name + ": " + (most > 0 ? std::to_string(most) : "no limit");
            }
            if (limited && sum <= server.most) continue;
            warning("the pools at " + place + " may open " + (limited ? std::to_string(sum) : "any number of") +
                    " servers (" + parts + "), and PostgreSQL there lets " + std::to_string(server.most) +
                    " in (max_connections without superuser_reserved_connections)");
        }
    }

    struct seen_server {
        int most = 0;
        std::vector<const config::database *> entries;
    };
    std::string file_;
    std::ostream &out_;
    std::shared_ptr<const config::settings> settings_;
    std::shared_ptr<const tls_context> tls_;
    std::map<std::string, seen_server> servers_;
    std::size_t errors_ = 0, warnings_ = 0;
};

}  // namespace

int check(const std::string &file, bool connect, std::ostream &out) {
    checker it(file, out);
    it.look();
    if (connect) it.connect();
    return it.finish();
}

}  // namespace pgsluice::net
