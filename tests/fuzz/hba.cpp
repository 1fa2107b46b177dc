// Fuzz target: pg_hba.conf with what it includes, and clients against what was read. The rule that decides is held
// against the client by a second, plainer reading of the manual; no rule before it may fit. See rule_files.hpp.
#include "auth/hba.hpp"

#include "fuzz/rule_files.hpp"

using namespace pgsluice;
using auth::hba_name;

namespace {

bool fits_name(const std::vector<hba_name> &words, std::string_view name, const auth::hba_client &client,
               bool database) {
    using kind = hba_name::kind;
    const bool physical = database && client.replication == auth::hba_replication::physical;
    return std::any_of(words.begin(), words.end(), [&](const hba_name &word) {
        if (physical) return word.what == kind::replication;
        return word.what == kind::all || (word.what == kind::sameuser && client.database == client.user) ||
               (word.what == kind::exact && word.text == name) ||
               (word.what == kind::pattern && word.pattern->matches(name) == auth::pattern_match::yes);
    });
}

/// Without a second look at addresses by name and by interface: they never fit here.
bool fits(const auth::hba_rule &rule, const auth::hba_client &client) {
    using connection = auth::hba_connection;
    using address = auth::hba_rule::address_kind;
    const bool type = rule.connection == connection::local       ? client.local
                      : rule.connection == connection::host      ? !client.local
                      : rule.connection == connection::hostssl   ? !client.local && client.tls
                      : rule.connection == connection::hostnossl ? !client.local && !client.tls
                                                                 : false;
    const bool place = client.local || rule.address == address::all ||
                       (rule.address == address::network && rule.network.contains(client.address.unmapped()));
    return type && place && fits_name(rule.databases, client.database, client, true) &&
           fits_name(rule.users, client.user, client, false);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const fuzz::memory_watch watch(size * 64);
    fuzz::rule_files files({reinterpret_cast<const char *>(data), size});
    const auto found = auth::read_hba("main", files.reader());
    files.check(found.problems);
    for (const auto &rule : found.rules.all()) {
        files.check_place(rule.file, rule.line, 1);
        fuzz::require(rule.method != auth::hba_method::peer || rule.connection == auth::hba_connection::local,
                      "peer over TCP");
        fuzz::require(rule.method != auth::hba_method::cert || rule.connection != auth::hba_connection::local,
                      "cert on a Unix socket");
    }
    const std::vector<auth::ip_network> nowhere;
    const std::string nameless;
    for (const auto *const address : {"", "127.0.0.1", "::1", "::ffff:10.1.2.3"}) {
        for (const auto kind :
             {auth::hba_replication::none, auth::hba_replication::physical, auth::hba_replication::logical}) {
            auth::hba_client client;
            client.local = *address == '\0';
            if (!client.local) client.address = *auth::parse_ip(address);
            client.tls = kind == auth::hba_replication::logical;
            client.database = "db";
            client.user = client.tls ? "db" : "user";
            client.replication = kind;
            client.host_name = &nameless;
            client.interfaces = &nowhere;
            const auto answer = found.rules.match(client);
            if (answer.what == auth::hba_answer::kind::failed) continue;
            fuzz::require(answer.what != auth::hba_answer::kind::needs_name, "a name was asked for twice");
            const auto *const end = found.rules.all().data() + found.rules.all().size();
            const auto *const decides = answer.rule == nullptr ? end : answer.rule;
            fuzz::require(decides == end || fits(*decides, client), "a rule that does not fit decides");
            for (const auto *it = found.rules.all().data(); it != decides; ++it)
                fuzz::require(!fits(*it, client), "a rule that fits was passed over");
        }
    }
    return 0;
}
