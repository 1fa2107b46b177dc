// The server machine and parameters: what it reports, how its session is made equal to a client's, and who it acts for.
// Source: PostgreSQL manual, "Asynchronous Operations" (ParameterStatus), SET, SET SESSION AUTHORIZATION.
#include "base/text.hpp"
#include "core/client_session.hpp"
#include "core/server_session.hpp"
#include "wire/backend.hpp"
#include "wire/error_response.hpp"
#include "wire/reader.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;

namespace {

/// Parameters that a server may report, their names and values; PostgreSQL's are 15, below 1 KiB. Each report costs a
/// look at all of them.
constexpr std::size_t reported_max = 200, reported_max_bytes = 64 << 10;
constexpr std::uint8_t adapt_tries_max = 10;

}  // namespace

// ---- what the session has ----

/// False: it is broken, or too much.
bool server_session::record_parameter(std::string_view body) {
    wire::reader in(body);
    const auto name = in.cstring();
    const auto value = in.cstring();
    if (!in.done() || name.empty()) return false;
    const parameter report{.name = name, .value = value, .reported = true, .confirmed = true};
    std::size_t count = 1, bytes = name.size() + value.size();
    for (const auto it : *parameters_) {
        if (!it.reported) continue;
        if (base::equal_nocase(it.name, name)) {
            if (it.value == value) return true;
            continue;
        }
        ++count;
        bytes += it.name.size() + it.value.size();
    }
    if (count > reported_max || bytes > reported_max_bytes) return false;
    if (greeting_) {
        parameters_ = std::make_shared<parameter_set>(parameters_->with({&report, 1}));
    } else {  // nobody else has it yet
        std::const_pointer_cast<parameter_set>(parameters_)->put(report);
    }
    const bool own_doing = state_ == server_state::idle || state_ == server_state::tested;
    // Reported without a client it is the server's own doing, and so is a promotion at any time.
    if (greeting_ && (own_doing || base::equal_nocase(name, "in_hot_standby"))) {
        auto fresh = std::make_shared<parameter_set>(greeting_->parameters->with({&report, 1}));
        greeting_ = news_ = std::make_shared<const welcome>(welcome{std::move(fresh)});
    }
    return true;
}

/// SQL of the client's may have changed what is not reported: RESET ALL takes back what we have set. Functions can do
/// it too, and are not seen.
void server_session::note_command(std::string_view tag) {
    const bool reset = tag.starts_with("RESET") || tag.starts_with("DISCARD");
    if (!reset && !tag.starts_with("SET")) return;
    set_ = true;
    reset_ = reset_ || reset;
    doubt_unreported();
}

/// What the client's SQL has set for one transaction (SET LOCAL) is reported neither when it is set nor when it ends,
/// if both are in one batch, and most of it never: a statement that was made under it is not for others.
void server_session::link_over() {
    if (!set_) return;
    set_ = false;
    statements_.link_over(links_);
    forget_unnamed();
}

void server_session::doubt_unreported() {
    std::vector<parameter> doubtful;
    for (const auto it : *parameters_) {
        if (!it.reported && it.confirmed) doubtful.push_back({.name = it.name, .value = it.value});
    }
    if (doubtful.empty()) return;
    parameters_ = std::make_shared<parameter_set>(parameters_->with(doubtful));
    doubted_ = true;
}

bool server_session::same_identity() const {
    const bool changed = parameters_ != settled_;
    if (!changed && settings_->connect_query.empty()) return true;
    const auto user = [](const parameter_set &set) { return set.value("session_authorization"); };
    const auto &own = *greeting_->parameters;
    // SET SESSION AUTHORIZATION ends the role that connect_query may have set.
    if (user(*parameters_) != user(own) && !settings_->connect_query.empty()) return false;
    const auto as_in = [&](const parameter_set &other) {
        return user(*parameters_) == user(other) && parameters_->value("is_superuser") == other.value("is_superuser");
    };
    return !changed || as_in(own) || as_in(*settled_);
}

// ---- making it a client's ----

bool server_session::has(const shared_parameters &set) {
    if (parameters_ == set) return true;
    if (*parameters_ != *set) return false;
    if (!all_confirmed(*set)) return false;  // a wish of the client's and a doubt of ours look alike
    if (settled_ == parameters_) settled_ = set;
    parameters_ = set;
    return true;
}

adaptation server_session::adapt(shared_parameters wanted, effects &fx) {
    const session_basis basis{.values = *greeting_->parameters, .keep_values = !settings_->connect_query.empty()};
    const auto change = change_parameters(basis, *parameters_, *wanted);
    if (change.queries.empty()) {
        const bool settled = settled_ == parameters_;
        keep_asked(wanted);
        if (settled) settled_ = parameters_;
        return adaptation::none;
    }
    wanted_ = std::move(wanted);
    refusal_.clear();
    last_query_failed_ = false;
    for (const auto &sql : change.queries) run(errand::parameters, sql, fx);
    return change.await ? adaptation::awaited : adaptation::on_its_way;
}

/// The session is equal to `wanted` now: of what is not reported it has that, and nothing of earlier clients.
void server_session::keep_asked(const shared_parameters &wanted) {
    auto fresh = std::make_shared<parameter_set>();
    match(*parameters_, *wanted, [&](const parameter *here, const parameter *asked) {
        if (here != nullptr && here->reported) {
            fresh->append(*here);
        } else if (asked != nullptr && !asked->reported) {
            fresh->append({.name = asked->name, .value = asked->value, .confirmed = true});
        }
    });
    if (*fresh == *wanted)
        parameters_ = wanted;
    else if (*fresh != *parameters_)
        parameters_ = std::move(fresh);
}

void server_session::on_errand_error(std::string_view body) {
    errand_failed_ = true;
    last_query_failed_ = errand_queries_ == 1;
    if (errand_ != errand::parameters || !refusal_.empty()) return;
    const auto codes = settings_->error_sqlstate;
    if (const auto fields = wire::parse_error_fields(body)) {
        error_.sqlstate = fields->sqlstate.size() == 5 ? fields->sqlstate : "XX000";
        // PgBouncer's words, which are matched on; the reason is PostgreSQL's.
        const auto ours = words(refusal::invalid_server_parameter, {}, codes);
        std::string reason(fields->message.empty() ? "the server gave no reason" : fields->message);
        if (!fields->detail.empty()) reason.append(": ").append(fields->detail);
        const auto code = codes == error_codes::pgbouncer ? ours.sqlstate : std::string_view(error_.sqlstate);
        wire::append_error_response(
            refusal_, {ours.severity, code, ours.message, reason, fields->hint.empty() ? ours.hint : fields->hint});
    } else {
        append_refusal(refusal_, refusal::invalid_server_parameter, {}, codes);
    }
}

void server_session::on_adapt_failed(effects &fx) {
    if (client_ == nullptr) return;  // it is not kept
    // The statement_timeout of an earlier client may have struck: not this client's fault.
    if (error_.sqlstate == "57014" && client_->state() == client_state::preparing && status_ == backend::status_idle &&
        ++adapt_tries_ < adapt_tries_max) {
        if (adapt(wanted_, fx) != adaptation::none) return;
    }
    // While it had to wait the client has sent nothing. Had an earlier client's wishes been there to be taken back, the
    // error may be about those, and would meet the next client too.
    bool clean_slate = same_identity();
    for (const auto it : *parameters_) clean_slate = clean_slate && it.reported;
    const bool whole = client_->state() == client_state::preparing && status_ == backend::status_idle &&
                       last_query_failed_ && clean_slate;
    client_->on_parameters_refused(refusal_, fx);
    if (!whole) lose("invalid server parameter", fx);
}

/// The queries that were to make the session equal to the client's are answered.
void server_session::on_adapted(effects &fx) {
    if (errand_failed_) return on_adapt_failed(fx);
    adapt_tries_ = 0;
    const auto &wanted = *wanted_;
    keep_asked(wanted_);
    settled_ = parameters_;
    const auto &own = *greeting_->parameters;
    const auto user = wanted.find("session_authorization");
    const bool own_user = (!user || user->value == own.value(user->name)) && !wanted.find("role");
    if ((user && parameters_->value(user->name) != user->value) ||
        (own_user && parameters_->value("is_superuser") != own.value("is_superuser"))) {
        return lose("session user is not the one that was set", fx);
    }
    if (client_ != nullptr) client_->on_parameters_applied(*this, fx);
}

}  // namespace pgsluice::core
