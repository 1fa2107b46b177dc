// What the client driver does while a client logs in: asks the ledger for a place, has looked up, checked or computed
// elsewhere what the machine asks for, shakes hands for TLS; and the way from the lobby to the worker that serves it.
#include "net/client.hpp"
#include "net/log.hpp"
#include "net/peer.hpp"
#include "net/secret_lookup.hpp"

namespace pgsluice::net {

bool client::admit(core::effects &effects) {
    const auto &login = *session_.login();
    if (worker_->global().log_connections && !worker_->refused().are_too_many()) {
        const auto kind = login.replicates() ? login.replicates()->kind : core::replication::none;
        log::info("{} login attempt: db={} user={} tls={} replication={}", name(), login.database(), login.user(),
                  login.security().encrypted ? login.security().cipher : "no", core::startup_value(kind));
    }
    const bool console = login.console();  // needs no place
    const auto why =
        console ? core::refusal::none : worker_->all().with_ledger([&](core::ledger &ledger, core::orders &orders) {
            return ledger.admit(*seat_, orders);
        });
    effects.client = core::client_next::none;
    why == core::refusal::none ? session_.on_admitted(effects) : session_.on_refused(why, {}, effects);
    return effects.client == core::client_next::none || step(effects);
}

// ---- what is found out elsewhere ----

void client::find_secret() {
    auto &here = *worker_;
    lookup_ =
        here.all().lookups->find(session_.login()->question(), [&here, id = id_](const core::secret_answer &answer) {
            here.post([&here, id, answer] { here.secret_for(id, answer); });
        });
}

void client::check_password(core::effects &effects) {
    auto &here = *worker_;
    auto question = session_.take_check();
    asked_ = question.what == auth::password_check::kind::pam ? &here.all().pam : &here.all().ldap;
    check_ = asked_->ask(std::move(question), session_.deadline(), [&here, id = id_](auth::password_verdict verdict) {
        here.post([&here, id, verdict = std::move(verdict)] { here.checked(id, verdict); });
    });
    effects.client = core::client_next::none;
    if (!check_) session_.on_refused(core::refusal::too_many_checks, {}, effects);
}

bool client::derive(core::effects &effects) {
    auto &here = *worker_;
    computed_ =
        here.all().crypto.derive(here, {crypto_pool::side::client, session_.login()->user()}, session_.work(),
                                 [&here, id = id_](const auth::scram_keys &keys) { here.on_derived(id, keys); });
    effects.client = core::client_next::none;
    if (!computed_) session_.on_refused(core::refusal::too_many_passwords, {}, effects);
    return false;
}

void client::find_name() {
    auto &here = *worker_;
    here.all().names.find(facts_of(out_.fd(), tcp_, 0).address, [&here, id = id_](std::optional<std::string> name) {
        here.post([&here, id, name = std::move(name)] { here.named(id, name); });
    });
}

/// The answer has come: `tell` gives it to the machine, which goes on.
template <class Tell>
void client::go_on(Tell tell) {
    if (gone() || session_.state() != core::client_state::login) return;
    {
        worker::effects_lease effects(*worker_);
        tell(*effects);
        if (!go_on_with_login(*effects)) return;
    }
    arm();
    pump();
}

void client::on_secret(const core::secret_answer &answer) {
    lookup_ = nullptr;
    go_on([&](core::effects &effects) { session_.on_secret(answer, effects); });
}

void client::on_checked(const auth::password_verdict &verdict) {
    check_ = nullptr;
    go_on([&](core::effects &effects) { session_.on_checked(verdict, worker_->now(), effects); });
}

void client::on_derived(const auth::scram_keys &keys) {
    computed_ = nullptr;
    go_on([&](core::effects &effects) { session_.on_derived(keys, worker_->now(), effects); });
}

void client::named(const std::optional<std::string> &name) {
    go_on([&](core::effects &effects) {
        name ? session_.on_named(*name, effects) : session_.on_refused(core::refusal::login_rejected, {}, effects);
    });
}

/// After what the login waited for outside of its worker. False: the client is gone, or going.
bool client::go_on_with_login(core::effects &effects) {
    step(effects);
    if (!deliver(effects)) return false;
    if (effects.client != core::client_next::close) return true;
    close_after(effects);
    return false;
}

bool client::join(core::effects &effects) {
    const auto &login = *session_.login();
    if (login.replicates() && worker_->is_lobby()) {
        // A server is opened for it, and that is its home's.
        effects.client = core::client_next::none;
        move_home();
        return false;
    }
    if (login.console()) return join_console(effects);
    seat_->replicates = login.replicates();
    const auto outcome = worker_->all().with_ledger([&](core::ledger &ledger, core::orders &orders) {
        return ledger.join(*seat_, login.database(), login.user(), login.found(), login.keys(), worker_->now(), orders);
    });
    effects.client = core::client_next::none;
    if (outcome.why != core::refusal::none) {
        if (outcome.why == core::refusal::no_such_database && worker_->global().log_connections)
            log::info("{} login failed: db={} user={}", name(), login.database(), login.user());
        session_.on_refused(outcome.why, outcome.argument, effects, outcome.detail);
        return false;
    }
    session_.on_joined(outcome.route, worker_->now());
    if (!outcome.greeting) return false;
    greet(*outcome.greeting, effects);
    return true;
}

// ---- TLS ----

void client::begin_handshake(std::string_view begun) {
    const auto &context = worker_->tls().clients;
    if (!context) return close("TLS startup failed", false);
    constexpr char handshake_record = 0x16;
    const bool direct = begun.starts_with(handshake_record);
    starting_ = context->accept(direct);
    handshake_ = handshake::reading;
    if (!direct) return;
    std::string first(begun);
    in_.clear();
    shake_hands(std::move(first));
}

void client::shake_hands(std::string from_peer) {
    handshake_ = handshake::computing;
    computed_ = worker_->all().crypto.run(
        *worker_, {crypto_pool::side::client, facts_of(out_.fd(), tcp_, 0).address.share()}, std::move(starting_),
        std::move(from_peer),
        [&here = *worker_, id = id_](handshake_step step) { here.on_handshake(id, std::move(step)); });
    if (!computed_) return close("TLS startup failed: too many handshakes", false);
    watch();
}

void client::on_handshake(handshake_step step) {
    if (gone()) return;
    computed_ = nullptr;
    handshake_ = step.came_to == tls_session::progress::done ? handshake::none : handshake::reading;
    core::outbox out;
    out.view(step.to_peer);
    if (out_.send(out) == sent::failed) return close_at_end_of_stream();
    if (step.came_to == tls_session::progress::failed) {
        handshake_ = handshake::failed;
        return close("TLS startup failed: " + step.session->problem(), true);
    }
    if (step.came_to == tls_session::progress::more) {
        starting_ = std::move(step.session);
        return watch();
    }
    session_.on_channel(step.session->channel());
    out_.secure(std::move(step.session));
    in_.append(step.plain);
    pump();
}

// ---- from the lobby to its home ----

void client::move_home() {
    life_ = life::moving;
    worker_->ready().remove(*this);
    worker_->let_move(*this);
}

bool client::leave_lobby() {
    if (gone()) return false;
    life_ = life::open;
    unlink();
    return true;
}

void client::arrive(worker &home) {
    worker_ = &home;
    session_.move_to(home.env());
    if (session_.state() == core::client_state::login) {
        worker::effects_lease effects(home);
        effects->client = core::client_next::join;
        if (!go_on_with_login(*effects)) return;
    }
    arm();
    home.suspended() ? watch() : pump();
}

}  // namespace pgsluice::net
