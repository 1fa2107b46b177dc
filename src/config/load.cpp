// See load.hpp. Entries first, in the order of the file; then what only the whole can answer.
#include "config/load.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

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
    loader(const file_reader &reader, std::string_view salt_key, const settings *previous, built_in with,
           const spreader &spread)
        : reader_(reader), salt_key_(salt_key), previous_(previous), with_(with), spread_(spread) {}

    /// What is wrong, in the order in which it is found.
    std::vector<error> run(const std::string &path, bool thorough) {
        thorough_ = thorough;
        out_.file = path;
        ini_document document;
        problems_ = read_ini(path, reader_, document);
        if (!problems_.empty() && (!thorough || document.sections.empty())) return std::move(problems_);
        note(check_sections(document.sections));
        for (const auto &entry : document.entries) {
            if (!thorough && !problems_.empty()) break;
            if (is_known_section(entry.section)) note(take_entry(entry));
        }
        if (!thorough && !problems_.empty()) return std::move(problems_);
        if (out_.databases.empty() && !out_.wildcard && database_lines_.empty())
            warn(error{path, 0, "no entry in [databases]: no client can connect"});
        warn_of_open_doors();
        warn_of_peers();
        if (out_.global.conffile.empty()) out_.global.conffile = path;
        check_whole();
        return std::move(problems_);
    }

    std::vector<error> change(const settings &running, const ini_entry &entry) {
        piecemeal_ = true;
        out_ = running;
        for (const auto &[name, place] : running.set_at) setting_lines_[name] = {place.file, place.line, {}};
        out_.credentials.clear();  // what is read from files is read again
        out_.hba = std::make_shared<const auth::hba_rules>();
        out_.ident = std::make_shared<const auth::ident_maps>();
        note(take_entry(entry));
        warnings_.clear();
        check_whole();
        return std::move(problems_);
    }

    void check_whole() {
        note(check_words());
        check_tls();
        note(check_outside());
        read_rules();
        read_auth_file();
        warn_of_nobody_to_ask();
    }

    loaded take() {
        return {std::make_shared<const settings>(std::move(out_)), std::move(warnings_), std::move(tls_gap_)};
    }

private:
    using lines = std::map<std::string, error, std::less<>>;  ///< where a name was last seen; no text

    static error at(const ini_entry &entry, std::string text) { return {entry.file, entry.line, std::move(text)}; }
    void warn(fault what) {
        if (what) warnings_.push_back(std::move(*what));
    }
    void note(fault what) {
        if (what) problems_.push_back(std::move(*what));
    }

    /// The line that set `name`, or the file as a whole where the default holds. Nothing when that line is refused
    /// already: what follows from it is no news.
    fault at_setting(const std::string &name, std::string text) const {
        if (refused_.contains(name)) return std::nullopt;
        const auto found = setting_lines_.find(name);
        if (found == setting_lines_.end()) return error{out_.file, 0, std::move(text)};
        return error{found->second.file, found->second.line, std::move(text)};
    }

    fault check_sections(const std::vector<ini_section> &sections) {
        std::map<std::string, const ini_section *, std::less<>> seen;
        bool main = false;
        for (const auto &section : sections) {
            if (!is_known_section(section.name)) {
                note(error{section.file, section.line,
                           "unknown section [" + section.name +
                               "]; there are [pgbouncer] (or [pgsluice]), [databases], [users] and [peers]"});
                continue;
            }
            const bool is_main = is_main_section(section.name);
            main = main || is_main;
            const auto [first, fresh] = seen.emplace(is_main ? "pgbouncer" : section.name, &section);
            if (!fresh)
                warn(error{section.file, section.line,
                           "section [" + section.name + "] goes on from " + first->second->file + ":" +
                               std::to_string(first->second->line)});
        }
        if (!main && problems_.empty()) return error{out_.file, 0, "there is no [pgbouncer] (or [pgsluice]) section"};
        return std::nullopt;
    }

    fault take_entry(const ini_entry &entry) {
        if (entry.section == "databases") return take_database(entry);
        if (entry.section == "users") return take_user(entry);
        if (entry.section == "peers") return take_peer(entry);
        if (const auto *row = find_setting(entry.key)) return take_setting(*row, entry);
        return at(entry, "unknown parameter \"" + entry.key + "\" in [" + entry.section + "]");
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
        warn_of_repetition(setting_lines_, std::string(row.name), entry);
        setting_lines_[std::string(row.name)] = {entry.file, entry.line, {}};
        if (const auto wrong = assign(row, entry.value, out_.global)) {
            refused_.insert(std::string(row.name));
            return at(entry, shown + ": " + *wrong);
        }
        if (row.name == "listen_addr")
            for (const auto &address : out_.global.listen_addr)
                if (address.find_first_not_of(address_chars) != std::string::npos)
                    return at(entry, shown + ": \"" + address + "\" is no address; a comma stands between two");
        refused_.erase(std::string(row.name));
        out_.set_at[std::string(row.name)] = {entry.file, entry.line, entry.value};
        return std::nullopt;
    }

    fault take_database(const ini_entry &entry) {
        auto parsed_entry = parse_database(entry.key, entry.value);
        warn_of_repetition(database_lines_, entry.key, entry);
        database_lines_[entry.key] = {entry.file, entry.line, {}};
        if (parsed_entry.has_error()) return at(entry, parsed_entry.error());
        if (entry.key == "*")
            out_.wildcard = std::move(*parsed_entry);
        else
            out_.databases.insert_or_assign(entry.key, std::move(*parsed_entry));
        return std::nullopt;
    }

    fault take_user(const ini_entry &entry) {
        auto parsed_entry = parse_user(entry.key, entry.value);
        if (parsed_entry.has_error()) return at(entry, parsed_entry.error());
        warn_of_repetition(user_lines_, entry.key, entry);
        user_lines_[entry.key] = {entry.file, entry.line, {}};
        out_.users.insert_or_assign(entry.key, std::move(*parsed_entry));
        return std::nullopt;
    }

    /// The last one holds, as in PgBouncer, which says nothing.
    void warn_of_repetition(const lines &seen, const std::string &name, const ini_entry &entry) {
        const auto found = seen.find(name);
        if (!thorough_ || found == seen.end()) return;
        warn(at(entry, name + " is given again; " + found->second.file + ":" + std::to_string(found->second.line) +
                           " has no effect"));
    }

    fault take_peer(const ini_entry &entry) {
        auto parsed_entry = parse_peer(entry.key, entry.value);
        if (parsed_entry.has_error()) return at(entry, parsed_entry.error());
        out_.peers.insert_or_assign(parsed_entry->id, std::move(*parsed_entry));
        first_peer_ = first_peer_.value_or(error{entry.file, entry.line, {}});
        return std::nullopt;
    }

    void warn_of_peers() {
        if (!first_peer_ || out_.global.peer_id != 0) return;
        warn(error{first_peer_->file, first_peer_->line, "[peers] has no effect without peer_id"});
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
    bool refuse(const std::vector<auth::rule_problem> &problems, const char *name) {
        for (const auto &it : problems) {
            const auto others = thorough_ ? 0 : problems.size() - 1;
            note(it.line == 0
                     ? at_setting(name, std::string(name) + " = " + it.file + ": " + it.text)
                     : error{it.file, it.line,
                             it.text + (others > 0 ? " (and " + std::to_string(others) + " more bad lines)" : "")});
        }
        return !problems.empty();
    }

    void read_rules() {
        const auto &global = out_.global;
        if (global.auth_type != auth_type::hba) {
            for (const auto *const name : {"auth_hba_file", "auth_ident_file"})
                if (!value_text(*find_setting(name), global).empty())
                    warn(at_setting(name, std::string(name) + " has no effect without auth_type = hba"));
            return;
        }
        if (global.auth_hba_file.empty()) {
            if (!piecemeal_) note(at_setting("auth_type", "auth_type = hba needs auth_hba_file"));
            return;
        }
        auto ident =
            global.auth_ident_file.empty() ? auth::ident_file{} : auth::read_ident(global.auth_ident_file, reader_);
        bool bad = refuse(ident.problems, "auth_ident_file");
        auto hba = auth::read_hba(global.auth_hba_file, reader_);
        bad = refuse(hba.problems, "auth_hba_file") || bad;
        if (bad) return;
        bool told_of_tls = false;
        for (const auto &rule : hba.rules.all()) {
            const auto lacks = rule.method == auth::hba_method::ldap  ? not_built_in("ldap")
                               : rule.method == auth::hba_method::pam ? not_built_in("pam")
                                                                      : std::nullopt;
            if (lacks) note(error{rule.file, rule.line, "method " + *lacks});
            if (!rule.map.empty() && !ident.maps.has(rule.map))
                warn(error{rule.file, rule.line,
                           "map " + rule.map + " is not in auth_ident_file: nobody gets in by this line"});
            const bool needs_tls =
                rule.connection == auth::hba_connection::hostssl || rule.method == auth::hba_method::cert;
            if (needs_tls && global.client_tls_sslmode == sslmode::disable && !std::exchange(told_of_tls, true))
                warn(error{rule.file, rule.line, "nobody gets in by this line: client_tls_sslmode = disable"});
        }
        if (hba.rules.all().empty()) warn(error{global.auth_hba_file, 0, "there is no rule: no client can connect"});
        out_.hba = std::make_shared<const auth::hba_rules>(std::move(hba.rules));
        out_.ident = std::make_shared<const auth::ident_maps>(std::move(ident.maps));
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

    fault check_words() {
        const auto given = to_lower(out_.global.syslog_facility);
        static constexpr std::array facilities{"auth",   "authpriv", "daemon", "user",   "local0", "local1",
                                               "local2", "local3",   "local4", "local5", "local6", "local7"};
        if (std::find(facilities.begin(), facilities.end(), given) == facilities.end())
            return at_setting("syslog_facility", "syslog_facility = " + given +
                                                     ": must be auth, authpriv, daemon, user or local0 to local7");
        return std::nullopt;
    }

    /// What the modes need besides. Whether the files are any good is for net to find out.
    void check_tls() {
        const auto &global = out_.global;
        const auto gap = [&](const char *setting, std::string text) {
            if (!piecemeal_) return note(at_setting(setting, std::move(text)));
            if (tls_gap_.empty()) tls_gap_ = std::move(text);
        };
        const auto needs = [&](const char *mode_of, sslmode mode, const std::string &what) {
            gap(mode_of, std::string(mode_of) + " = " + to_string(mode) + " needs " + what);
        };
        const auto &dhe = global.client_tls_dheparams;
        if (dhe != "auto" && dhe != "none" && dhe != "legacy")
            note(
                at_setting("client_tls_dheparams", "client_tls_dheparams = " + dhe + ": must be auto, none or legacy"));
        const auto client = global.client_tls();
        if (client.mode != sslmode::disable && (client.key_file.empty() || client.cert_file.empty()))
            needs("client_tls_sslmode", client.mode, "client_tls_key_file and client_tls_cert_file");
        if (global.auth_type == auth_type::cert && !client.verifies() && !piecemeal_)
            note(at_setting("auth_type", "auth_type = cert needs client_tls_sslmode = verify-ca or verify-full"));
        // Without one, any certificate that some public CA has signed would do.
        if (client.verifies() && client.ca_file.empty()) needs("client_tls_sslmode", client.mode, "client_tls_ca_file");
        const auto server = global.server_tls();
        if (server.mode == sslmode::verify_ca && server.ca_file.empty())
            needs("server_tls_sslmode", server.mode, "server_tls_ca_file");
        if (server.key_file.empty() != server.cert_file.empty())
            gap(server.key_file.empty() ? "server_tls_cert_file" : "server_tls_key_file",
                "server_tls_key_file and server_tls_cert_file go together");
        if (server.negotiation == tls_negotiation::direct && server.mode < sslmode::require)
            gap("server_tls_negotiation", "server_tls_negotiation = direct needs server_tls_sslmode = require or more");
    }

    bool asks_somewhere() const {
        const auto asks = [](const auto &row) { return !row.second.auth_user.value_or("").empty(); };
        return !out_.global.auth_user.empty() || std::any_of(out_.databases.begin(), out_.databases.end(), asks) ||
               (out_.wildcard && !out_.wildcard->auth_user.value_or("").empty());
    }

    /// As in PgBouncer one that is not set, or can not be read, is no reason not to run: users may come from elsewhere,
    /// or with the next reload. Those that were read before stay.
    void read_auth_file() {
        out_.asks_auth_query = asks_somewhere();
        const auto &path = out_.global.auth_file;
        if (path.empty()) {
            const auto type = out_.global.auth_type;
            const bool needs_none = type == auth_type::any || type == auth_type::pam || type == auth_type::ldap;
            if (needs_none || out_.asks_auth_query || (type == auth_type::hba && out_.asks_pam_or_ldap())) return;
            return warn(at_setting("auth_type", "auth_type = " + std::string(to_string(type)) +
                                                    " needs auth_file or auth_user: without them nobody can log in"));
        }
        auto text = reader_(path);
        if (text.has_error()) {
            const bool keeps = previous_ != nullptr;
            if (keeps) out_.credentials = previous_->credentials;
            warn(at_setting("auth_file", "auth_file = " + path + ": " + text.error() +
                                             (keeps ? "; the users read before are kept" : "; no user is known")));
        } else {
            for (const auto &it : auth::read_userlist(*text, out_.credentials))
                it.harmless ? warn(error{path, it.line, it.text}) : note(error{path, it.line, it.text});
            base::wipe(*text);
        }
        if (asks_scram() && !thorough_) derive_verifiers();
        out_.mix = {};
        for (const auto &[user, it] : out_.credentials) out_.mix.add(auth::look_of(it));
    }

    /// There, nobody would be asked, and each login of a user that auth_file lacks fails.
    void warn_of_nobody_to_ask() {
        const auto lacks = [this](const std::string &name) {
            return out_.asks_auth_query && !name.empty() && out_.find_database(name) == nullptr;
        };
        const auto text = [](const std::string &name) {
            return "auth_dbname = " + name + ": there is no such entry in [databases], so auth_query can not be asked";
        };
        const auto &name = out_.global.auth_dbname;
        if (lacks(name)) warn(at_setting("auth_dbname", text(name)));
        for (const auto &[key, entry] : out_.databases) {
            if (!lacks(entry.auth_dbname.value_or(""))) continue;
            const auto found = database_lines_.find(key);
            auto where = found == database_lines_.end() ? error{out_.file, 0, {}} : found->second;
            where.text = "database \"" + key + "\": " + text(*entry.auth_dbname);
            warn(std::move(where));
        }
    }

    /// So that no login makes a worker run PBKDF2. An empty password gets none: nobody logs in with it.
    void derive_verifiers() {
        const int iterations = out_.global.scram_iterations;
        std::vector<std::pair<const std::string *, auth::credential *>> fresh;
        for (auto &[user, credential] : out_.credentials) {
            if (credential.form != auth::secret_form::plain || credential.text.empty()) continue;
            if (const auto *known = previous_credential(user); known && known->verifier &&
                                                               known->verifier->iterations == iterations &&
                                                               known->text.equals(credential.text))
                credential.verifier = known->verifier;
            else
                fresh.emplace_back(&user, &credential);
        }
        spread_(fresh.size(), [&](std::size_t i) {
            auto &[user, credential] = fresh[i];
            credential->verifier =
                auth::make_scram_verifier(credential->text.reveal(), scram_salt(salt_key_, *user), iterations);
        });
    }

    const auth::credential *previous_credential(const std::string &user) const {
        if (!previous_) return nullptr;
        const auto found = previous_->credentials.find(user);
        return found == previous_->credentials.end() || found->second.form != auth::secret_form::plain ? nullptr
                                                                                                       : &found->second;
    }

    const file_reader &reader_;
    std::string_view salt_key_;
    const settings *previous_;
    built_in with_;
    const spreader &spread_;
    bool thorough_ = false;   ///< goes on after the first problem, and warns of more
    bool piecemeal_ = false;  ///< SET: settings that go together come one by one, in any order
    std::string tls_gap_;
    settings out_;
    std::vector<error> problems_, warnings_;
    std::set<std::string, std::less<>> refused_;  ///< settings whose line is no good
    lines setting_lines_, database_lines_, user_lines_;
    std::optional<error> first_peer_;  ///< where; no text
};

}  // namespace

void one_by_one(std::size_t count, const std::function<void(std::size_t)> &one) {
    for (std::size_t i = 0; i < count; ++i) one(i);
}

boost::system::result<loaded, error> load(const std::string &path, const file_reader &reader, std::string_view salt_key,
                                          const settings *previous, built_in with, const spreader &spread) {
    loader work(reader, salt_key, previous, with, spread);
    if (auto problems = work.run(path, false); !problems.empty()) return std::move(problems.front());
    return work.take();
}

findings check(const std::string &path, const file_reader &reader, built_in with) {
    const spreader none = one_by_one;  // check() makes no verifiers
    loader work(reader, {}, nullptr, with, none);
    findings all;
    all.errors = work.run(path, true);
    auto made = work.take();
    all.warnings = std::move(made.warnings);
    all.value = std::move(made.value);
    return all;
}

boost::system::result<loaded, error> load_one(const settings &running, const std::string &name,
                                              const std::string &value, const file_reader &reader,
                                              std::string_view salt_key, const spreader &spread) {
    loader work(reader, salt_key, &running, this_build(), spread);
    auto problems = work.change(running, {"SET", 0, "pgbouncer", to_lower(name), value});
    if (!problems.empty()) return std::move(problems.front());
    return work.take();
}

}  // namespace pgsluice::config
