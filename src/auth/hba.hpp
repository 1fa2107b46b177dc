// pg_hba.conf: who may come from where, and how they prove who they are. Text in, rules out; a client in, its rule out.
// Carries no method out, looks no name up and asks no interface: what a rule needs of the system is passed in.
// Sources: PostgreSQL manual 16, "The pg_hba.conf File"; PgBouncer documentation, "HBA file format".
// Any thread may read finished rules.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "auth/ip_address.hpp"
#include "auth/name_pattern.hpp"
#include "auth/rule_file.hpp"

namespace pgsluice::auth {

struct ldap_options;

enum class hba_connection : std::uint8_t { local, host, hostssl, hostnossl, hostgssenc };
enum class hba_method : std::uint8_t { trust, reject, md5, password, scram, peer, cert, ldap, pam };
const char *to_string(hba_method);  ///< as the file writes it

/// What clientcert= asks for beside the method.
enum class hba_certificate : std::uint8_t { none, verify_ca, verify_full };
/// What a client says in its startup packet: replication = on is physical, = database is logical.
enum class hba_replication : std::uint8_t { none, physical, logical };

/// One word of a list of databases or users.
struct hba_name {
    enum class kind : std::uint8_t { all, sameuser, replication, exact, pattern };
    kind what = kind::exact;
    std::string text;                     ///< exact
    std::optional<name_pattern> pattern;  ///< pattern
};

struct hba_rule {
    enum class address_kind : std::uint8_t { all, samehost, samenet, network, name };

    std::string file;  ///< where it stands
    int line = 0;
    hba_connection connection = hba_connection::local;
    std::vector<hba_name> databases, users;
    address_kind address = address_kind::all;  ///< of no meaning to local
    ip_network network;                        ///< network
    std::string host_name;                     ///< name; of a suffix, with its dot
    hba_method method = hba_method::reject;
    hba_certificate certificate = hba_certificate::none;
    bool by_subject = false;        ///< clientname=DN: the whole subject of the certificate is the name, not its CN
    std::string map;                ///< "" = names must be equal
    std::string pam_service;        ///< pam: "" = the usual one
    bool pam_use_hostname = false;  ///< pam: modules are told the client's host name, not its address
    std::shared_ptr<const ldap_options> ldap;  ///< ldap: never null
};

struct hba_client {
    bool local = false;  ///< by Unix socket; then tls and address mean nothing
    bool tls = false;
    ip_address address;  ///< a mapped one counts as IPv4
    std::string_view database, user;
    hba_replication replication = hba_replication::none;
    /// The host name that the address has and that has the address. Null: not asked yet; "": there is none.
    const std::string *host_name = nullptr;
    /// Addresses of this machine with their masks, for samehost and samenet. Null: not known.
    const std::vector<ip_network> *interfaces = nullptr;
};

struct hba_answer {
    enum class kind : std::uint8_t {
        rule,        ///< `rule` decides
        no_rule,     ///< none fits: refused
        needs_name,  ///< ask again with host_name; `rule` is the one that wants to know
        failed,      ///< `rule` could not be held against the client: refused
    };
    kind what = kind::no_rule;
    const hba_rule *rule = nullptr;  ///< lives as long as the rules
};

class hba_rules {
public:
    hba_rules() = default;
    explicit hba_rules(std::vector<hba_rule> rules);

    /// The first rule that fits decides.
    hba_answer match(const hba_client &) const;
    /// True when a rule may want hba_client::interfaces.
    bool asks_interfaces() const { return asks_interfaces_; }
    const std::vector<hba_rule> &all() const { return rules_; }

private:
    std::vector<hba_rule> rules_;
    bool asks_interfaces_ = false;
};

struct hba_file {
    hba_rules rules;  ///< of the good lines
    /// Bad lines. A rule is missing for each, and what it would have refused a later one may let in: whoever uses the
    /// rules all the same opens doors.
    std::vector<rule_problem> problems;
};

hba_file read_hba(const std::string &path, const rule_reader &);

/// How a host name of a rule is held against one of a client: letters of either case; ".suffix" fits what ends in it.
bool host_name_matches(std::string_view of_rule, std::string_view of_client);

}  // namespace pgsluice::auth
