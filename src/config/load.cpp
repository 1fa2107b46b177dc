// See load.hpp. Entries first, in the order of the file; then what only the whole can answer.
#include "config/load.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <map>

#include "config/entries.hpp"
#include "config/ini.hpp"
#include "config/settings_table.hpp"
#include "config/text.hpp"

namespace pgsluice::config {
namespace {

constexpr std::size_t scram_salt_bytes = 16;

/// What IPv4 and IPv6 addresses, a zone, host names and * are made of. Whether one can be bound is for net to find out.
constexpr std::string_view address_chars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:%-_*";

using fault = std::optional<error>;

bool is_main_section(std::string_view name) {
    return name == "pgbouncer" || name == "pgsluice";
}

bool is_known_section(std::string_view name) {
    return is_main_section(name) || name == "databases" || name == "users" || name == "peers";
}

bool is_loopback(const std::string &address) {
    return address == "localhost" || address == "::1" || address.starts_with("127.");
}

/// Stable for (key, user) while the process runs, so that a reload shows a user the same salt.
std::string scram_salt(std::string_view key, std::string_view user) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int length = 0;
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char *>(user.data()),
         user.size(), digest.data(), &length);
    return std::string(reinterpret_cast<const char *>(digest.data()), scram_salt_bytes);
}

class loader {
public:
    loader(const file_reader &reader, std::string_view salt_key, const settings *previous, built_in with)
        : reader_(reader), salt_key_(salt_key), previous_(previous), with_(with) {}

    fault run(const std::string &path) {
        out_.file = path;
        const auto document = parse_ini(path, reader_);
        if (document.has_error()) return document.error();
        if (auto failed = check_sections(document->sections)) return failed;
        for (const auto &entry : document->entries)
            if (auto failed = take_entry(entry)) return failed;
        if (out_.databases.empty() && !out_.wildcard) warn({path, 0, "no entry in [databases]: no client can connect"});
        warn_of_open_doors();
        return check_whole();
    }

    fault change(const settings &running, const ini_entry &entry) {
        out_ = running;
        for (const auto &[name, place] : running.set_at) setting_lines_[name] = {place.file, place.line, {}};
        out_.credentials.clear();  // what is read from files is read again
        out_.hba = std::make_shared<const auth::hba_rules>();
        out_.ident = std::make_shared<const auth::ident_maps>();
        if (auto failed = take_entry(entry)) return failed;
        warnings_.clear();
        return check_whole();
    }

    fault check_whole() {
        if (auto failed = check_words()) return failed;
        if (auto failed = check_tls()) return failed;
        if (auto failed = check_outside()) return failed;
        if (auto failed = read_rules()) return failed;
        return read_auth_file();
    }

    loaded take() { return {std::make_shared<const settings>(std::move(out_)), std::move(warnings_)}; }

private:
    static error at(const ini_entry &entry, std::string text) { return {entry.file, entry.line, std::move(text)}; }
    void warn(error what) { warnings_.push_back(std::move(what)); }

    /// The line that set `name`, or the file as a whole where the default holds.
    error at_setting(const char *name, std::string text) const {
        const auto found = setting_lines_.find(name);
        if (found == setting_lines_.end()) return {out_.file, 0, std::move(text)};
        return {found->second.file, found->second.line, std::move(text)};
    }

    fault check_sections(const std::vector<ini_section> &sections) {
        std::map<std::string, const ini_section *, std::less<>> seen;
        bool main = false;
        for (const auto &section : sections) {
            if (!is_known_section(section.name))
                return error{section.file, section.line,
                             "unknown section [" + section.name +
                                 "]; there are [pgbouncer] (or [pgsluice]), [databases], [users] and [peers]"};
            const bool is_main = is_main_section(section.name);
            main = main || is_main;
            const auto [first, fresh] = seen.emplace(is_main ? "pgbouncer" : section.name, &section);
            if (!fresh)
                warn({section.file, section.line,
                      "section [" + section.name + "] goes on from " + first->second->file + ":" +
                          std::to_string(first->second->line)});
            else if (section.name == "peers")
                warn({section.file, section.line, "section [peers] has no effect in this version"});
        }
        if (!main) return error{out_.file, 0, "there is no [pgbouncer] (or [pgsluice]) section"};
        return std::nullopt;
    }

    fault take_entry(const ini_entry &entry) {
        if (entry.section == "databases") return take_database(entry);
        if (entry.section == "users") return take_user(entry);
        if (entry.section == "peers") {
            const auto wrong = check_peer(entry.key, entry.value);
            return wrong ? fault(at(entry, *wrong)) : std::nullopt;
        }
        if (const auto *row = find_setting(entry.key)) return take_setting(*row, entry);
        if (const auto *known = find_known_setting(entry.key)) return take_known_setting(*known, entry);
        return at(entry, "unknown setting \"" + entry.key + "\" in [" + entry.section + "]");
    }

    fault take_setting(const setting &row, const ini_entry &entry) {
        if (row.name == "auth_ldap_options") {
            // What is wrong with it is told by name alone: it may hold a password.
            auth::ldap_options ldap;
            const auto wrong = entry.value.empty() ? std::nullopt : auth::parse_ldap_options(entry.value, ldap);
            if (wrong) return at(entry, "auth_ldap_options: " + *wrong);
        }
        const std::string shown = std::string(row.name) + " = " + entry.value;
        if (row.name == "auth_dbname" && (entry.value == "pgbouncer" || entry.value == "pgsluice"))
            return at(entry, shown + ": the name is reserved for the admin console");
        if (const auto wrong = assign(row, entry.value, out_.global)) return at(entry, shown + ": " + *wrong);
        if (row.name == "listen_addr")
            for (const auto &address : out_.global.listen_addr)
                if (address.find_first_not_of(address_chars) != std::string::npos)
                    return at(entry, shown + ": \"" + address + "\" is no address; a comma stands between two");
        setting_lines_[std::string(row.name)] = {entry.file, entry.line, {}};
        out_.set_at[std::string(row.name)] = {entry.file, entry.line};
        return std::nullopt;
    }

    fault take_known_setting(const known_setting &known, const ini_entry &entry) {
        const std::string name(known.name);
        if (known.kind == known_class::harmless) {
            warn(at(entry, "setting " + name + " is known from PgBouncer but has no effect in this version"));
            return std::nullopt;
        }
        const auto value = to_lower(entry.value);
        const auto nothing = split_list(known.nothing);
        const bool asks_nothing = value.empty() || std::find(nothing.begin(), nothing.end(), value) != nothing.end();
        if (!asks_nothing) return at(entry, name + " = " + entry.value + not_in_this_version);
        return std::nullopt;
    }

    fault take_database(const ini_entry &entry) {
        auto parsed_entry = parse_database(entry.key, entry.value);
        if (parsed_entry.has_error()) return at(entry, parsed_entry.error());
        database_lines_[entry.key] = {entry.file, entry.line, {}};
        if (entry.key == "*")
            out_.wildcard = std::move(*parsed_entry);
        else
            out_.databases.insert_or_assign(entry.key, std::move(*parsed_entry));
        return std::nullopt;
    }

    fault take_user(const ini_entry &entry) {
        auto parsed_entry = parse_user(entry.key, entry.value);
        if (parsed_entry.has_error()) return at(entry, parsed_entry.error());
        const auto [first, fresh] = user_lines_.emplace(entry.key, error{entry.file, entry.line, {}});
        if (!fresh)
            return at(entry, "user \"" + entry.key + "\" is named twice; first in " + first->second.file + ":" +
                                 std::to_string(first->second.line));
        out_.users.emplace(entry.key, std::move(*parsed_entry));
        return std::nullopt;
    }

    void warn_of_open_doors() {
        const auto type = out_.global.auth_type;
        if (type != auth_type::any && type != auth_type::trust) return;
        const auto &addresses = out_.global.listen_addr;
        if (!std::all_of(addresses.begin(), addresses.end(), is_loopback))
            warn(at_setting("auth_type", "auth_type = " + std::string(to_string(type)) +
                                             " asks for no password, and listen_addr reaches beyond this machine"));
        if (type == auth_type::trust) return;
        // Source: PgBouncer's config documentation, auth_type any: all databases need a forced user.
        const auto check = [&](const database &entry) {
            if (entry.user) return;
            auto line = database_lines_.at(entry.name);
            line.text = "database \"" + entry.name + "\" has no user, so nobody can use it with auth_type = any";
            warn(std::move(line));
        };
        for (const auto &[name, entry] : out_.databases) check(entry);
        if (out_.wildcard) check(*out_.wildcard);
    }

    /// A bad line is a fault of the whole: without it a later line decides, which may let in what it would reject.
    fault fault_of(const std::vector<auth::rule_problem> &problems, const char *name) const {
        if (problems.empty()) return std::nullopt;
        const auto &first = problems.front();
        if (first.line == 0) return at_setting(name, std::string(name) + " = " + first.file + ": " + first.text);
        const auto others = problems.size() - 1;
        return error{first.file, first.line,
                     first.text + (others > 0 ? " (and " + std::to_string(others) + " more bad lines)" : "")};
    }

    fault read_rules() {
        const auto &global = out_.global;
        if (global.auth_type != auth_type::hba) {
            for (const auto *const name : {"auth_hba_file", "auth_ident_file"})
                if (!value_text(*find_setting(name), global).empty())
                    warn(at_setting(name, std::string(name) + " has no effect without auth_type = hba"));
            return std::nullopt;
        }
        if (global.auth_hba_file.empty()) return at_setting("auth_type", "auth_type = hba needs auth_hba_file");
        auto ident =
            global.auth_ident_file.empty() ? auth::ident_file{} : auth::read_ident(global.auth_ident_file, reader_);
        if (auto failed = fault_of(ident.problems, "auth_ident_file")) return failed;
        auto hba = auth::read_hba(global.auth_hba_file, reader_);
        if (auto failed = fault_of(hba.problems, "auth_hba_file")) return failed;
        bool told_of_tls = false;
        for (const auto &rule : hba.rules.all()) {
            const auto lacks = rule.method == auth::hba_method::ldap  ? not_built_in("ldap")
                               : rule.method == auth::hba_method::pam ? not_built_in("pam")
                                                                      : std::nullopt;
            if (lacks) return error{rule.file, rule.line, "method " + *lacks};
            if (!rule.map.empty() && !ident.maps.has(rule.map))
                warn({rule.file, rule.line,
                      "map " + rule.map + " is not in auth_ident_file: nobody gets in by this line"});
            const bool needs_tls =
                rule.connection == auth::hba_connection::hostssl || rule.method == auth::hba_method::cert;
            if (needs_tls && global.client_tls_sslmode == sslmode::disable && !std::exchange(told_of_tls, true))
                warn({rule.file, rule.line, "nobody gets in by this line: client_tls_sslmode = disable"});
        }
        if (hba.rules.all().empty()) warn({global.auth_hba_file, 0, "there is no rule: no client can connect"});
        out_.hba = std::make_shared<const auth::hba_rules>(std::move(hba.rules));
        out_.ident = std::make_shared<const auth::ident_maps>(std::move(ident.maps));
        return std::nullopt;
    }

    /// Nothing where this build has it. Refused, since a method that nobody carries out lets nobody in.
    std::optional<std::string> not_built_in(const std::string &method) const {
        const bool pam = method == "pam";
        if (pam ? with_.pam : with_.ldap) return std::nullopt;
        return method + ": this pgsluice was built without " + (pam ? "PAM" : "LDAP") + "; install " +
               (pam ? "libpam0g-dev" : "libldap-dev") + " and build it again (PGSLUICE_" + (pam ? "PAM" : "LDAP") + ")";
    }

    fault check_outside() {
        const auto &global = out_.global;
        const bool ldap = global.auth_type == auth_type::ldap;
        if (ldap || global.auth_type == auth_type::pam)
            if (const auto lacks = not_built_in(to_string(global.auth_type)))
                return at_setting("auth_type", "auth_type = " + *lacks);
        if (!ldap && !global.auth_ldap_options.empty())
            warn(at_setting("auth_ldap_options", "auth_ldap_options has no effect without auth_type = ldap"));
        if (!ldap) return std::nullopt;
        if (global.auth_ldap_options.empty())
            return at_setting("auth_type", "auth_type = ldap needs auth_ldap_options");
        auth::ldap_options options;
        if (auto wrong = auth::parse_ldap_options(global.auth_ldap_options, options))
            return at_setting("auth_ldap_options", "auth_ldap_options: " + *wrong);
        out_.ldap = std::make_shared<const auth::ldap_options>(std::move(options));
        return std::nullopt;
    }

    /// SCRAM may be asked for whatever the form of the secret is.
    bool asks_scram() const {
        if (out_.global.auth_type != auth_type::hba) return out_.global.auth_type == auth_type::scram_sha_256;
        const auto &rules = out_.hba->all();
        return std::any_of(rules.begin(), rules.end(),
                           [](const auth::hba_rule &it) { return it.method == auth::hba_method::scram; });
    }

    fault check_words() const {
        const auto &given = out_.global.syslog_facility;
        static constexpr std::array facilities{"auth",   "authpriv", "daemon", "user",   "local0", "local1",
                                               "local2", "local3",   "local4", "local5", "local6", "local7"};
        if (std::find(facilities.begin(), facilities.end(), given) == facilities.end())
            return at_setting("syslog_facility", "syslog_facility = " + given +
                                                     ": must be auth, authpriv, daemon, user or local0 to local7");
        return std::nullopt;
    }

    /// What the modes need besides. Whether the files are any good is for net to find out.
    fault check_tls() const {
        const auto &global = out_.global;
        const auto needs = [&](const char *mode_of, sslmode mode, const std::string &what) {
            return at_setting(mode_of, std::string(mode_of) + " = " + to_string(mode) + " needs " + what);
        };
        const auto &dhe = global.client_tls_dheparams;
        if (dhe != "auto" && dhe != "none" && dhe != "legacy")
            return at_setting("client_tls_dheparams",
                              "client_tls_dheparams = " + dhe + ": must be auto, none or legacy");
        const auto client = global.client_tls();
        if (client.mode != sslmode::disable && (client.key_file.empty() || client.cert_file.empty()))
            return needs("client_tls_sslmode", client.mode, "client_tls_key_file and client_tls_cert_file");
        if (global.auth_type == auth_type::cert && !client.verifies())
            return at_setting("auth_type", "auth_type = cert needs client_tls_sslmode = verify-ca or verify-full");
        // Without one, any certificate that some public CA has signed would do.
        if (client.verifies() && client.ca_file.empty())
            return needs("client_tls_sslmode", client.mode, "client_tls_ca_file");
        const auto server = global.server_tls();
        if (server.mode == sslmode::verify_ca && server.ca_file.empty())
            return needs("server_tls_sslmode", server.mode, "server_tls_ca_file");
        if (server.key_file.empty() != server.cert_file.empty())
            return at_setting(server.key_file.empty() ? "server_tls_cert_file" : "server_tls_key_file",
                              "server_tls_key_file and server_tls_cert_file go together");
        if (server.negotiation == tls_negotiation::direct && server.mode < sslmode::require)
            return at_setting("server_tls_negotiation",
                              "server_tls_negotiation = direct needs server_tls_sslmode = require or more");
        return std::nullopt;
    }

    bool asks_somewhere() const {
        const auto asks = [](const auto &row) { return !row.second.auth_user.value_or("").empty(); };
        return !out_.global.auth_user.empty() || std::any_of(out_.databases.begin(), out_.databases.end(), asks) ||
               (out_.wildcard && !out_.wildcard->auth_user.value_or("").empty());
    }

    fault read_auth_file() {
        out_.asks_auth_query = asks_somewhere();
        out_.mock_iterations = out_.global.scram_iterations;
        const auto &path = out_.global.auth_file;
        if (path.empty()) {
            const auto type = out_.global.auth_type;
            const bool needs_none = type == auth_type::any || type == auth_type::pam || type == auth_type::ldap;
            if (needs_none || out_.asks_auth_query || (type == auth_type::hba && out_.asks_pam_or_ldap()))
                return std::nullopt;
            return at_setting("auth_type", "auth_type = " + std::string(to_string(out_.global.auth_type)) +
                                               " needs auth_file: without it nobody can log in");
        }
        auto text = reader_(path);
        if (text.has_error()) return at_setting("auth_file", "auth_file = " + path + ": " + text.error());
        auto list = auth::parse_userlist(*text);
        base::wipe(*text);
        if (list.has_error()) return error{path, list.error().line, list.error().text};
        out_.credentials = std::move(*list);
        if (asks_scram()) derive_verifiers();
        look_at_verifiers();
        return std::nullopt;
    }

    void look_at_verifiers() {
        std::map<int, std::size_t> counts;
        std::size_t stored = 0;
        for (const auto &[user, it] : out_.credentials) {
            stored += it.form == auth::secret_form::scram ? 1 : 0;
            if (it.verifier) ++counts[it.verifier->iterations];
        }
        out_.has_verifiers = stored > 0;
        out_.only_verifiers = stored > 0 && stored == out_.credentials.size();
        const auto most = std::max_element(counts.begin(), counts.end(),
                                           [](const auto &a, const auto &b) { return a.second < b.second; });
        if (most != counts.end()) out_.mock_iterations = most->first;
    }

    /// So that no login makes a worker run PBKDF2. An empty password gets none: nobody logs in with it.
    void derive_verifiers() {
        const int iterations = out_.global.scram_iterations;
        for (auto &[user, credential] : out_.credentials) {
            if (credential.form != auth::secret_form::plain || credential.text.empty()) continue;
            if (const auto *known = previous_credential(user); known && known->verifier &&
                                                               known->verifier->iterations == iterations &&
                                                               known->text.equals(credential.text))
                credential.verifier = known->verifier;
            else
                credential.verifier =
                    auth::make_scram_verifier(credential.text.reveal(), scram_salt(salt_key_, user), iterations);
        }
    }

    const auth::credential *previous_credential(const std::string &user) const {
        if (!previous_) return nullptr;
        const auto found = previous_->credentials.find(user);
        return found == previous_->credentials.end() || found->second.form != auth::secret_form::plain ? nullptr
                                                                                                       : &found->second;
    }

    using lines = std::map<std::string, error, std::less<>>;  ///< where a name was last seen; no text

    const file_reader &reader_;
    std::string_view salt_key_;
    const settings *previous_;
    built_in with_;
    settings out_;
    std::vector<error> warnings_;
    lines setting_lines_, database_lines_, user_lines_;
};

}  // namespace

boost::system::result<loaded, error> load(const std::string &path, const file_reader &reader, std::string_view salt_key,
                                          const settings *previous, built_in with) {
    loader work(reader, salt_key, previous, with);
    if (auto failed = work.run(path)) return *std::move(failed);
    return work.take();
}

boost::system::result<loaded, error> load_one(const settings &running, const std::string &name,
                                              const std::string &value, const file_reader &reader,
                                              std::string_view salt_key) {
    loader work(reader, salt_key, &running, this_build());
    if (auto failed = work.change(running, {"SET", 0, "pgbouncer", to_lower(name), value})) return *std::move(failed);
    return work.take();
}

}  // namespace pgsluice::config
