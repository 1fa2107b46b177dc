// auth_type and HBA rules to one step. See client_authentication.hpp.
#include "core/client_authentication.hpp"

namespace pgsluice::core {

namespace {

authentication let_in_if(bool proved, refusal otherwise) {
    return {.step = proved ? login_step::let_in : login_step::refuse, .refused = otherwise};
}

authentication by_certificate(const config::settings &settings, const client_facts &facts, std::string_view map,
                              std::string_view user, bool by_subject = false) {
    const auto &name = by_subject ? facts.certificate_subject : facts.certificate_name;
    // A name that C and we would read differently names nobody.
    const bool named = facts.tls && facts.certificate_verified && !name.empty() && name.find('\0') == std::string::npos;
    return let_in_if(named && settings.ident->allows(map, name, user), refusal::certificate_failed);
}

authentication by_peer(const config::settings &settings, const client_facts &facts, std::string_view map,
                       std::string_view user, host_facts *host) {
    std::optional<std::string> name;
    if (!facts.tcp && facts.peer_uid && host != nullptr) name = host->user_name(*facts.peer_uid);
    return let_in_if(name && settings.ident->allows(map, *name, user), refusal::peer_failed);
}

authentication by_judge(password_judge judge) {
    const auto refused = judge.ldap ? refusal::ldap_failed : refusal::pam_failed;
    return {.step = login_step::ask_outside, .refused = refused, .judge = std::move(judge)};
}

authentication by_method(const config::settings &settings, const auth::hba_rule &rule, const client_facts &facts,
                         std::string_view user, host_facts *host) {
    switch (rule.method) {
        case auth::hba_method::trust:
            return {.step = login_step::let_in, .refused = refusal::trust_failed};
        case auth::hba_method::md5:
            return {.step = login_step::ask_md5};
        case auth::hba_method::password:
            return {.step = login_step::ask_password};
        case auth::hba_method::scram:
            return {.step = login_step::ask_scram};
        case auth::hba_method::peer:
            return by_peer(settings, facts, rule.map, user, host);
        case auth::hba_method::cert:
            return by_certificate(settings, facts, rule.map, user, rule.by_subject);
        case auth::hba_method::ldap:
            return by_judge({.ldap = rule.ldap});
        case auth::hba_method::pam: {
            password_judge judge{.pam_use_hostname = rule.pam_use_hostname};
            if (!rule.pam_service.empty()) judge.pam_service = rule.pam_service;
            return by_judge(std::move(judge));
        }
        case auth::hba_method::reject:
            break;
    }
    return {};
}

authentication by_rule(const config::settings &settings, const auth::hba_rule &rule, const client_facts &facts,
                       std::string_view user, host_facts *host) {
    // clientcert= comes on top of the method: whoever fails it is not asked for anything else.
    if (rule.certificate != auth::hba_certificate::none && !(facts.tls && facts.certificate_verified))
        return {.refused = refusal::certificate_failed};
    if (rule.certificate == auth::hba_certificate::verify_full && rule.method != auth::hba_method::cert) {
        auto checked = by_certificate(settings, facts, {}, user, rule.by_subject);
        if (checked.step == login_step::refuse) return checked;
    }
    return by_method(settings, rule, facts, user, host);
}

auth::hba_replication as_hba(replication kind) {
    switch (kind) {
        case replication::none:
            return auth::hba_replication::none;
        case replication::physical:
            return auth::hba_replication::physical;
        case replication::logical:
            return auth::hba_replication::logical;
    }
    return auth::hba_replication::none;
}

authentication by_hba(const config::settings &settings, const client_facts &facts, const login_claim &claim,
                      host_facts *host, const std::string *host_name) {
    auth::hba_client client{!facts.tcp, facts.tls,          facts.address, claim.database,
                            claim.user, as_hba(claim.kind), host_name,     nullptr};
    std::optional<std::vector<auth::ip_network>> interfaces;
    if (settings.hba->asks_interfaces() && host != nullptr) interfaces = host->interfaces();
    if (interfaces) client.interfaces = &*interfaces;
    const auto found = settings.hba->match(client);
    authentication result;
    switch (found.what) {
        case auth::hba_answer::kind::no_rule:
            result.place = "no line of " + settings.global.auth_hba_file;
            return result;
        case auth::hba_answer::kind::needs_name:
            result.step = login_step::look_up_name;
            break;
        case auth::hba_answer::kind::failed:
            break;
        case auth::hba_answer::kind::rule:
            result = by_rule(settings, *found.rule, facts, claim.user, host);
            break;
    }
    result.place = found.rule->file + ":" + std::to_string(found.rule->line);
    return result;
}

}  // namespace

authentication authentication_for(const config::settings &settings, const client_facts &facts, const login_claim &claim,
                                  host_facts *host, const std::string *host_name) {
    switch (settings.global.auth_type) {
        case config::auth_type::any:
            return {.step = login_step::let_in_any};
        case config::auth_type::trust:
            return {.step = login_step::let_in, .refused = refusal::trust_failed};
        case config::auth_type::plain:
            return {.step = login_step::ask_password};
        case config::auth_type::md5:
            return {.step = login_step::ask_md5};
        case config::auth_type::scram_sha_256:
            return {.step = login_step::ask_scram};
        case config::auth_type::cert:
            return by_certificate(settings, facts, {}, claim.user);
        case config::auth_type::hba:
            return by_hba(settings, facts, claim, host, host_name);
        case config::auth_type::pam:
            return by_judge({});
        case config::auth_type::ldap:
            return by_judge({.ldap = settings.ldap});
    }
    return {};
}

}  // namespace pgsluice::core
