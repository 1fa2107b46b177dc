// From the lines of a rule file to rules: every check that pg_hba.conf asks for. Matching is in hba.cpp.
// A line that PostgreSQL or PgBouncer would refuse is bad here too; so is one that could only seem to work.
#include <algorithm>
#include <array>

#include "auth/hba.hpp"
#include "auth/ldap_options.hpp"

namespace pgsluice::auth {

namespace {

using fault = std::optional<std::string>;

std::string quoted(std::string_view text) {
    return "\"" + std::string(text) + "\"";
}

/// ASCII digits alone, at most five of them.
std::optional<int> small_number(std::string_view text) {
    if (text.empty() || text.size() > 5) return std::nullopt;
    int value = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') return std::nullopt;
        value = value * 10 + (c - '0');
    }
    return value;
}

struct method_name {
    std::string_view name;
    hba_method method;
};
constexpr std::array methods{
    method_name{"trust", hba_method::trust},
    method_name{"reject", hba_method::reject},
    method_name{"md5", hba_method::md5},
    method_name{"password", hba_method::password},
    method_name{"scram-sha-256", hba_method::scram},
    method_name{"peer", hba_method::peer},
    method_name{"cert", hba_method::cert},
    method_name{"ldap", hba_method::ldap},
    method_name{"pam", hba_method::pam},
};
constexpr std::array<std::string_view, 6> methods_of_postgresql{"gss", "sspi", "radius", "bsd", "ident", "oauth"};

template <class List>
bool is_among(const List &list, std::string_view name) {
    return std::find(list.begin(), list.end(), name) != list.end();
}

/// One line. Each part takes its fields from the front.
class line_parser {
public:
    explicit line_parser(const rule_line &line) : line_(line) {
        rule_.file = line.file;
        rule_.line = line.line;
    }

    fault parse(hba_rule &into) {
        for (const auto part : {&line_parser::connection, &line_parser::databases, &line_parser::users,
                                &line_parser::address, &line_parser::method, &line_parser::options})
            if (auto failed = (this->*part)()) return failed;
        into = std::move(rule_);
        return std::nullopt;
    }

private:
    const rule_field *take() { return at_ < line_.fields.size() ? &line_.fields[at_++] : nullptr; }

    /// The next field, which must be one word; `what` names it in complaints.
    fault take_word(const char *what, const rule_word *&into) {
        const auto *const field = take();
        if (field == nullptr) return std::string("the line ends before the ") + what;
        if (field->empty()) return std::string("the file named for the ") + what + " is empty";
        if (field->size() > 1) return std::string("more than one ") + what;
        into = &field->front();
        return std::nullopt;
    }

    bool is_local() const { return rule_.connection == hba_connection::local; }

    fault connection() {
        const rule_word *word = nullptr;
        if (auto failed = take_word("connection type", word)) return failed;
        if (word->text == "local")
            rule_.connection = hba_connection::local;
        else if (word->text == "host" || word->text == "hostnogssenc")  // nobody is encrypted by GSSAPI here
            rule_.connection = hba_connection::host;
        else if (word->text == "hostssl")
            rule_.connection = hba_connection::hostssl;
        else if (word->text == "hostnossl")
            rule_.connection = hba_connection::hostnossl;
        else if (word->text == "hostgssenc")
            rule_.connection = hba_connection::hostgssenc;
        else
            return "unknown connection type " + quoted(word->text);
        return std::nullopt;
    }

    fault databases() {
        const auto *const field = take();
        if (field == nullptr) return "the line ends before the databases";
        for (const auto &word : *field) {
            using kind = hba_name::kind;
            if (word.is("all")) {
                rule_.databases.push_back({kind::all, {}, {}});
            } else if (word.is("sameuser")) {
                rule_.databases.push_back({kind::sameuser, {}, {}});
            } else if (word.is("replication")) {
                rule_.databases.push_back({kind::replication, {}, {}});
            } else if (word.is("samerole") || word.is("samegroup")) {
                return word.text + ": who is a member of what is known to PostgreSQL alone; name the databases";
            } else if (auto failed = name(word, rule_.databases)) {
                return failed;
            }
        }
        return std::nullopt;
    }

    fault users() {
        const auto *const field = take();
        if (field == nullptr) return "the line ends before the users";
        for (const auto &word : *field) {
            if (word.is("all")) {
                rule_.users.push_back({hba_name::kind::all, {}, {}});
            } else if (!word.quoted && word.text.starts_with('+')) {
                return word.text + ": who is a member of what is known to PostgreSQL alone; name the users";
            } else if (auto failed = name(word, rule_.users)) {
                return failed;
            }
        }
        return std::nullopt;
    }

    static fault name(const rule_word &word, std::vector<hba_name> &into) {
        if (!word.text.starts_with('/')) {
            into.push_back({hba_name::kind::exact, word.text, {}});
            return std::nullopt;
        }
        auto pattern = name_pattern::compile(std::string_view(word.text).substr(1));
        if (pattern.has_error()) return word.text + ": " + pattern.error();
        into.push_back({hba_name::kind::pattern, {}, std::move(*pattern)});
        return std::nullopt;
    }

    fault address() {
        if (is_local()) return std::nullopt;
        const rule_word *word = nullptr;
        if (auto failed = take_word("address", word)) return failed;
        using kind = hba_rule::address_kind;
        rule_.address = kind::network;
        if (word->is("all"))
            rule_.address = kind::all;
        else if (word->is("samehost"))
            rule_.address = kind::samehost;
        else if (word->is("samenet"))
            rule_.address = kind::samenet;
        else
            return network(word->text);
        return std::nullopt;
    }

    fault network(std::string_view text) {
        const auto slash = text.find('/');
        const auto base = text.substr(0, slash);
        auto &network = rule_.network;
        if (const auto found = parse_ip(without_zone(base))) {
            network.address = *found;
            if (slash == std::string_view::npos) {
                if (auto failed = mask()) return failed;
            } else {
                const auto bits = small_number(text.substr(slash + 1));
                if (!bits || *bits > found->bits()) return "bad prefix length in " + quoted(text);
                network.mask = prefix_mask(found->family, *bits);
            }
            // An IPv6 rule fits IPv6 clients only, as in PostgreSQL: this one would fit nobody.
            if (network.address.is_mapped() && prefix_mask(ip_family::v6, 96).bytes == masked(network.mask).bytes)
                return quoted(text) + ": clients of IPv4 are matched by IPv4 addresses; write it as one";
            return std::nullopt;
        }
        const bool like_v4 = base.find_first_not_of("0123456789.") == std::string_view::npos;
        if (like_v4 || base.find(':') != std::string_view::npos) return quoted(base) + " is no address";
        if (slash != std::string_view::npos) return "a host name has no prefix length: " + quoted(text);
        return host_name(base);
    }

    /// Addresses of one link may name it: fe80::1%eth0. PostgreSQL takes that, and matches without it.
    static std::string_view without_zone(std::string_view text) {
        const auto percent = text.find('%');
        const auto found = parse_ip(text.substr(0, percent));
        const bool of_a_link = found && found->family == ip_family::v6 && found->bytes[0] == 0xfe &&
                               (found->bytes[1] & 0xc0) == 0x80 && percent + 1 < text.size();
        return of_a_link ? text.substr(0, percent) : text;
    }

    /// Its first 96 bits.
    static ip_address masked(ip_address mask) {
        std::fill(mask.bytes.begin() + 12, mask.bytes.end(), std::uint8_t{0});
        return mask;
    }

    fault mask() {
        const rule_word *word = nullptr;
        if (auto failed = take_word("mask (or write the address with a prefix length)", word)) return failed;
        const auto found = parse_ip(word->text);
        if (!found) return quoted(word->text) + " is no mask";
        if (found->family != rule_.network.address.family) return "address and mask are of two families";
        rule_.network.mask = *found;
        return std::nullopt;
    }

    fault host_name(std::string_view text) {
        const auto is_letter = [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                   c == '.';
        };
        const bool good = std::all_of(text.begin(), text.end(), is_letter) && text.size() <= 255 &&
                          text.find("..") == std::string_view::npos;
        if (!good) return quoted(text) + " is neither an address nor a host name";
        rule_.address = hba_rule::address_kind::name;
        rule_.host_name = text;
        return std::nullopt;
    }

    fault method() {
        const rule_word *word = nullptr;
        if (auto failed = take_word("method", word)) return failed;
        // PostgreSQL takes ident for peer on a Unix socket.
        const auto name = is_local() && word->text == "ident" ? std::string_view("peer") : std::string_view(word->text);
        const auto found =
            std::find_if(methods.begin(), methods.end(), [&](const method_name &it) { return it.name == name; });
        if (found == methods.end()) {
            if (is_among(methods_of_postgresql, name)) return "method " + std::string(name) + " is not in this version";
            return "unknown method " + quoted(name) + (name == "plain" ? "; write password" : "");
        }
        rule_.method = found->method;
        if (rule_.method == hba_method::peer && !is_local()) return "method peer works on Unix sockets (local) only";
        if (rule_.method == hba_method::cert && (is_local() || rule_.connection == hba_connection::hostnossl))
            return "method cert needs TLS: it works with hostssl (and host) only";
        return std::nullopt;
    }

    fault options() {
        named_values written, of_ldap;
        while (const auto *const field = take()) {
            if (rule_.method == hba_method::ldap) {
                if (auto failed = split_options(*field, written)) return failed;
                continue;
            }
            for (const auto &word : *field) {
                const auto equals = word.text.find('=');
                if (equals == std::string::npos || equals == 0)
                    return "behind the method stand options as name=value, not " + quoted(word.text);
                written.emplace_back(word.text.substr(0, equals), word.text.substr(equals + 1));
            }
        }
        for (auto &[name, value] : written) {
            if (rule_.method == hba_method::ldap && is_ldap_option(name))
                of_ldap.emplace_back(std::move(name), std::move(value));
            else if (auto failed = option(name, std::move(value)))
                return failed;
        }
        if (rule_.method != hba_method::ldap) return std::nullopt;
        ldap_options ldap;
        auto failed = read_ldap_options(of_ldap, ldap);
        for (auto &it : of_ldap) base::wipe(it.second);
        if (!failed) rule_.ldap = std::make_shared<const ldap_options>(std::move(ldap));
        return failed;
    }

    fault option(const std::string &name, std::string value) {
        const auto of_method = [&](hba_method method) -> fault {
            if (rule_.method == method) return std::nullopt;
            return "option " + name + " belongs to method " + to_string(method);
        };
        if (name == "map") {
            if (rule_.method != hba_method::peer && rule_.method != hba_method::cert)
                return "option map belongs to the methods peer and cert";
            rule_.map = std::move(value);
            return std::nullopt;
        }
        if (name == "clientcert") return client_certificate(value);
        if (name == "clientname") {
            if (rule_.connection != hba_connection::hostssl) return "option clientname belongs to hostssl";
            if (value != "CN" && value != "DN") return "clientname is CN or DN";
            rule_.by_subject = value == "DN";
            return std::nullopt;
        }
        if (name == "pamservice") {
            rule_.pam_service = std::move(value);
            // It becomes the name of a file.
            if (rule_.pam_service.empty() || rule_.pam_service.find('/') != std::string::npos)
                return "pamservice is the name of a PAM service";
            return of_method(hba_method::pam);
        }
        if (name == "pam_use_hostname") {
            rule_.pam_use_hostname = value == "1";
            return value == "0" || value == "1" ? of_method(hba_method::pam) : name + " is 0 or 1";
        }
        if (is_ldap_option(name)) return of_method(hba_method::ldap);
        return "unknown option " + quoted(name);
    }

    fault client_certificate(const std::string &value) {
        if (rule_.connection != hba_connection::hostssl) return "option clientcert belongs to hostssl";
        if (value == "verify-ca" && rule_.method != hba_method::cert)
            rule_.certificate = hba_certificate::verify_ca;
        else if (value == "verify-full")
            rule_.certificate = hba_certificate::verify_full;
        else if (rule_.method == hba_method::cert)
            return "with method cert clientcert is verify-full";
        else
            return "clientcert is verify-ca or verify-full";
        return std::nullopt;
    }

    const rule_line &line_;
    std::size_t at_ = 0;
    hba_rule rule_;
};

}  // namespace

const char *to_string(hba_method method) {
    const auto *const found =
        std::find_if(methods.begin(), methods.end(), [&](const method_name &it) { return it.method == method; });
    return found == methods.end() ? "?" : found->name.data();
}

hba_file read_hba(const std::string &path, const rule_reader &read) {
    auto file = read_rule_file(path, read);
    std::vector<hba_rule> rules;
    rules.reserve(file.lines.size());
    for (const auto &line : file.lines) {
        hba_rule rule;
        if (auto failed = line_parser(line).parse(rule))
            file.problems.push_back({line.file, line.line, std::move(*failed)});
        else
            rules.push_back(std::move(rule));
    }
    return {hba_rules(std::move(rules)), std::move(file.problems)};
}

}  // namespace pgsluice::auth
