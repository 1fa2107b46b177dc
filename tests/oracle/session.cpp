// Login, the comparison of replies, and everything that may come instead of them.
#include "session.hpp"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <iterator>

#include "auth/scram.hpp"
#include "proxy.hpp"
#include "wire/backend.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"
#include "wire/startup.hpp"

namespace oracle {

namespace auth = pgsluice::auth;
namespace backend = pgsluice::wire::backend;
namespace frontend = pgsluice::wire::frontend;
namespace wire = pgsluice::wire;

namespace {

/// How long a client waits for its reply where a fault may have eaten it.
constexpr double faulty_patience = 5, black_hole_patience = 1.5;
/// How long a cancel may still take effect whose connection ended in an unclean way.
constexpr double cancel_doubt = 15;

/// SCRAM's keys by password: the derivation is paid once.
std::map<std::string, auth::scram_derived> &derived_keys() {
    static std::map<std::string, auth::scram_derived> keys;
    return keys;
}

/// A server that is cut off in the middle of COPY says two things: that it is, and this.
bool lost_track(const error_text &it) {
    return it.message.ends_with("protocol synchronization was lost");
}

}  // namespace

session::session(world &shared, std::size_t where, std::uint64_t seed_of)
    : world_(shared), where_(where), random_(shared.opt.seed, seed_of) {
    number_ = world_.add_session(where, random_.hex(token_digits));
    link_ = std::make_shared<connection>(world_, number_);
    cancels_ = world_.opt.faults && !world_.calm && random_.happens(0.3);
}

std::string session::who() const {
    return "session " + std::to_string(number_) + " (" + where().user + "@" + where().database + ")";
}

double session::patience() const {
    if (by_proxy_ && world_.client_side->black_hole(link_->port())) return black_hole_patience;
    return where().faulty && !world_.calm ? faulty_patience : world_.opt.patience;
}

// ---- login ----

awaitable<bool> session::start(bool by_proxy) {
    by_proxy_ = by_proxy;
    alive_ = co_await link_->connect(by_proxy ? world_.opt.client_proxy : world_.opt.pooler);
    if (alive_) co_return co_await log_in();
    world_.fail(failure::wrong_reply, who() + ": no connection");
    co_return false;
}

awaitable<bool> session::log_in() {
    constexpr std::array<const char *, 4> zones{"UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"};
    constexpr std::array<const char *, 4> dates{"ISO, MDY", "SQL, DMY", "German, DMY", "Postgres, YMD"};
    constexpr std::array<const char *, 6> quirks{"", "'", "\"", "\\", " ", "'';--"};
    auto &own = model_.now;
    own = {"o" + std::string(quirks[random_.below(quirks.size())]) + token(), zones[random_.below(zones.size())],
           dates[random_.below(dates.size())], "postgres"};
    model_.lasting = model_.at_commit = own;
    std::string out;
    wire::append_startup(out, wire::protocol_3_0,
                         {{"user", where().user},
                          {"database", where().database},
                          {tracked[0], own[0]},
                          {tracked[1], own[1]},
                          {tracked[2], own[2]}});
    auth::scram_client scram(pgsluice::base::secret(where().password), random_.bytes(auth::scram_nonce_bytes), [&] {
        const auto known = derived_keys().find(where().password);
        return known == derived_keys().end() ? std::nullopt : std::optional(known->second);
    }());
    link_->write(std::move(out));
    for (;;) {
        link_->patience(patience());
        const auto got = co_await link_->read();
        if (!got) {
            ++world_.count.logins_failed;
            lost(make(), 0);
            co_return false;
        }
        out.clear();
        wire::reader in(got->body);
        switch (got->type) {
            case backend::authentication: {
                const auto code = static_cast<backend::authentication_code>(in.u32());
                if (code == backend::authentication_code::sasl) {
                    frontend::append_sasl_initial_response(out, auth::scram_sha_256, scram.client_first());
                } else if (code == backend::authentication_code::sasl_continue) {
                    frontend::append_sasl_response(out, scram.on_server_first(in.rest()).value_or("?"));
                } else if (code == backend::authentication_code::sasl_final && scram.on_server_final(in.rest())) {
                    derived_keys().insert_or_assign(where().password, scram.derived());
                }
                break;
            }
            case backend::backend_key_data:
                cancel_pid_ = in.u32();
                cancel_secret_ = in.rest();
                break;
            case backend::ready_for_query: {
                expected it{.type = backend::ready_for_query};
                it.reported = model_.now;
                on_ready(it);
                co_return true;
            }
            case backend::error_response: {
                script none = make();
                ++world_.count.logins_failed;
                co_await unexpected(none, 0, *got);
                co_return false;
            }
            default:
                on_asynchronous(*got, 0);
        }
        if (!out.empty()) {
            co_await link_->written();
            link_->write(std::move(out));
        }
    }
}

// ---- a script ----

void session::doubt(const script &it, std::size_t sent) {
    for (const auto &end : it.commits()) {
        auto &its = world_.works[end.work];
        if (end.sent_by <= sent && its.state == work_state::open) its.state = work_state::in_doubt;
    }
}

awaitable<outcome> session::run(script &it) {
    if (!alive_) co_return outcome::over;
    if (it.empty()) co_return outcome::fine;
    ++world_.count.statements;
    if (world_.opt.faults && !world_.calm && random_.happens(0.015)) {
        // The client leaves in the middle of this.
        const auto sent = random_.happens(0.3) ? it.bytes().size() : random_.below(it.bytes().size());
        doubt(it, sent);
        link_->patience(patience());
        link_->write(it.bytes().substr(0, sent));
        // A reader that is slow to leave takes a part of the replies with it.
        const bool reads = random_.happens(0.3);
        for (auto left = random_.below(4); reads && left > 0; --left) {
            const auto got = co_await link_->read();
            if (!got) break;
            on_asynchronous(*got, got->type);
        }
        co_await pause(random_.happens(0.5) ? 0 : 0.02 * static_cast<double>(random_.below(100)) / 100);
        world_.sessions[number_].end = "left after " + std::to_string(sent) +
                                       " bytes of: " + printable(it.bytes(), 1500) +
                                       (by_proxy_ ? ", by the proxy" : "");
        ++(sent < it.bytes().size() ? world_.count.left_in_message : world_.count.left_in_work);
        if (sent == it.bytes().size() && random_.happens(0.4)) {
            co_await link_->written();
            std::string bye;
            frontend::append_terminate(bye);
            link_->write(std::move(bye));
            co_await link_->written();
            ++world_.count.left_terminate;
            link_->close();
        } else if (random_.happens(0.5)) {
            ++world_.count.left_reset;
            link_->reset();
        } else {
            ++world_.count.left_close;
            link_->close();
        }
        end(true);
        co_return outcome::over;
    }
    doubt(it, it.bytes().size());
    // A COPY or a batch that goes on is the same query still: the server may see an old cancel only now.
    if (!unfinished_) cancel_seen_ = cancels_open_ > 0;
    unfinished_ = it.replies().empty() ? unfinished_ : it.replies().back().type != backend::ready_for_query;
    if (cancels_ && random_.happens(0.08)) {
        asio::co_spawn(world_.io, cancel(shared_from_this(), 0.02 * random_.happens(0.7), true), asio::detached);
    }
    link_->write(it.bytes());
    for (std::size_t at = 0; at < it.replies().size();) {
        const auto &awaited = it.replies()[at];
        link_->patience(patience());
        const auto got = co_await link_->read();
        if (!got) co_return lost(it, at);
        if (on_asynchronous(*got, awaited.type)) continue;
        if (!matches(awaited, *got)) co_return co_await unexpected(it, at, *got);
        if (awaited.type == backend::ready_for_query) on_ready(awaited);
        ++at;
    }
    co_await link_->written();
    co_return outcome::fine;
}

bool session::matches(const expected &awaited, const message &got) {
    if (awaited.type != got.type) return false;
    if (got.body.size() > world_.count.largest) world_.count.largest = got.body.size();
    if (got.type == backend::error_response) return read_error(got.body).sqlstate == awaited.body;
    if (got.type == backend::notice_response || got.type == backend::notification_response) {
        return got.body.find(token()) != std::string_view::npos;
    }
    if (!got.body.starts_with(awaited.body)) return false;
    if (awaited.whole && got.body.size() != awaited.body.size()) return false;
    if (awaited.identity) ++world_.count.identities;
    if (awaited.pid) {
        wire::reader in(got.body.substr(awaited.body.size()));
        const std::string pid(in.bytes(in.u32()));
        if (transaction_pid_.empty()) transaction_pid_ = pid;
        if (pid != transaction_pid_) {
            world_.fail(failure::torn, who() + ": one transaction on servers " + transaction_pid_ + " and " + pid);
        }
    }
    return true;
}

/// True for what may come at any moment and was not the reply that is due.
bool session::on_asynchronous(const message &got, char awaited) {
    if (got.type == backend::parameter_status) {
        wire::reader in(got.body);
        const auto name = in.cstring();
        reported_.insert_or_assign(std::string(name), std::string(in.cstring()));
        return true;
    }
    if (got.type == backend::notice_response && awaited != got.type) {
        const auto text = read_error(got.body);
        if (text.message.find("client being queued") == std::string::npos && got.body.find(token()) == got.body.npos) {
            world_.fail(failure::wrong_reply, who() + ": a notice: " + text.all());
        }
        return true;
    }
    if (got.type == backend::notification_response && awaited != got.type) {
        world_.fail(failure::wrong_reply, who() + ": a notification: " + printable(got.body));
        return true;
    }
    return false;
}

void session::on_ready(const expected &it) {
    for (const auto &end : it.settled) {
        auto &its = world_.works[end.work];
        its.state = end.committed ? work_state::committed : work_state::aborted;
        ++(end.committed ? world_.count.commits : world_.count.rollbacks);
        ++world_.count.transactions;
        if (end.committed) {
            acknowledged_ = end.work;
            has_acknowledged_ = true;
        }
    }
    if (it.body == "I") transaction_pid_.clear();
    for (std::size_t i = 0; i < tracked.size(); ++i) {
        const auto &value = (*it.reported)[i];
        const auto found = reported_.find(tracked[i]);
        if (found != reported_.end() && found->second == value) continue;
        world_.fail(failure::wrong_identity, who() + ": " + tracked[i] + " is " + value + ", reported as " +
                                                 (found == reported_.end() ? "nothing" : found->second));
        reported_.insert_or_assign(tracked[i], value);
    }
}

// ---- what was not predicted ----

/// What was sent, and how far the replies were right.
std::string session::context(const script &it, std::size_t at) const {
    std::string types;
    for (std::size_t i = 0; i < it.replies().size(); ++i)
        types += (i == at ? "[" : "") + std::string(1, it.replies()[i].type) + (i == at ? "]" : "");
    return "\n    replies due: " + types + (by_proxy_ ? "\n    by the proxy" : "") +
           (errors_.empty() ? "" : "\n    earlier: " + errors_) + "\n    sent: " + printable(it.bytes(), 1500);
}

void session::wrong(const script &it, std::size_t at, const message &got) {
    static const expected nothing{.type = '.'};
    const auto &awaited = at < it.replies().size() ? it.replies()[at] : nothing;
    const auto what = awaited.identity && got.type == awaited.type ? failure::wrong_identity : failure::wrong_reply;
    const auto text = [](char type, std::string_view body) {
        return std::string(1, type) + " '" +
               (type == 'E' && body.size() > 5 ? read_error(body).all() : printable(body)) + "'";
    };
    world_.fail(what, who() + " in " + model_.status + ": " + text(got.type, got.body) + " instead of " +
                          text(awaited.type, awaited.body) + context(it, at));
}

awaitable<outcome> session::unexpected(script &it, std::size_t at, message got) {
    if (got.type == backend::error_response) {
        const auto text = read_error(got.body);
        errors_ += text.all() + "; ";
        const bool on_request = text.message == "canceling statement due to user request";
        if (text.sqlstate == "57014" && on_request) {
            if (cancel_seen_) {
                ++world_.count.cancelled;
                co_return co_await resynchronise(it, at);
            }
            world_.fail(failure::stray_cancel, who() + ": " + text.all() + context(it, at));
            co_return co_await resynchronise(it, at);
        }
        const bool timeout = text.sqlstate == "25P03" || (text.sqlstate == "57014" && !on_request);
        const bool server = text.sqlstate == "57P01" || text.sqlstate == "08006";
        if (text.severity == "FATAL" && timeout && where().timeouts) {
            timed_out_by_pooler_ = true;
            ++world_.count.timeouts;
            co_return co_await read_to_the_end(it);
        }
        // A half-closed server says this as an ERROR, then goes.
        const bool cut_off = where().faulty && (text.sqlstate == "08006" || lost_track(text));
        if (((text.severity == "FATAL" && server) || cut_off) && !world_.calm) {
            ++world_.ends[where_];
            ++world_.count.ended_by_server;
            timed_out_by_pooler_ = true;
            co_return co_await read_to_the_end(it);
        }
    }
    wrong(it, at, got);
    link_->reset();
    end(true);
    co_return outcome::over;
}

awaitable<outcome> session::read_to_the_end(script &it) {
    for (;;) {
        link_->patience(patience());
        const auto got = co_await link_->read();
        if (!got) break;
        const auto text = got->type == backend::error_response ? read_error(got->body) : error_text{};
        if (text.sqlstate != "08006" && !(where().faulty && lost_track(text))) wrong(it, it.replies().size(), *got);
    }
    co_return lost(it, it.replies().size());
}

/// After a cancel: what follows can not be foretold, except for how many ReadyForQuery are still to come.
awaitable<outcome> session::resynchronise(script &it, std::size_t at) {
    for (const auto touched : it.touched()) {
        auto &state = world_.works[touched].state;
        if (state == work_state::open || state == work_state::in_doubt) state = work_state::loose;
    }
    model_.open.reset();
    model_.parts = 0;
    model_.uncertain_names = true;
    auto still = std::count_if(it.replies().begin() + static_cast<std::ptrdiff_t>(at), it.replies().end(),
                               [](const expected &reply) { return reply.type == backend::ready_for_query; });
    while (still > 0) {
        link_->patience(patience());
        const auto got = co_await link_->read();
        if (!got) co_return lost(it, at);
        if (on_asynchronous(*got, got->type)) continue;
        if (got->type == backend::error_response && read_error(got->body).severity == "FATAL") {
            co_return co_await unexpected(it, it.replies().size(), *got);
        }
        if (got->type != backend::ready_for_query) continue;
        model_.status = got->body.empty() ? '?' : got->body[0];
        --still;
    }
    co_await link_->written();
    // Whether a SET among them took effect is not known, nor what an open batch holds: no more of this session.
    if (it.sets() || it.batch_open()) {
        co_await leave();
        co_return outcome::over;
    }
    model_.now = model_.at_commit = model_.lasting;
    transaction_pid_.clear();
    if (model_.status == 'I') co_return outcome::disturbed;
    model_.status = 'E';  // so that anything but ROLLBACK would be refused
    auto back = make();
    back.query({{.sql = "rollback", .tag = "ROLLBACK", .what = effect::rollback}});
    const auto how = co_await run(back);
    co_return how == outcome::fine ? outcome::disturbed : how;
}

outcome session::lost(const script &it, std::size_t at) {
    const auto port = link_->port();
    if (link_->timed_out()) {
        if (patience() < world_.opt.patience) {
            ++world_.count.gave_up;
        } else {
            world_.fail(failure::stuck, who() + " in " + model_.status + ": no reply " + context(it, at));
        }
    } else if (world_.calm && !timed_out_by_pooler_) {
        world_.fail(failure::wrong_reply, who() + ": closed");
    } else if (where().timeouts && !timed_out_by_pooler_) {
        ++world_.count.timeouts;  // its last words were lost because we went on writing
    } else if (!timed_out_by_pooler_ && !(by_proxy_ && world_.client_side->fired(port))) {
        ++world_.ends[where_];
        ++world_.count.ended_by_server;
    }
    world_.sessions[number_].end = "lost" + context(it, at);
    link_->close();
    end(false);
    return outcome::over;
}

void session::end(bool by_us) {
    alive_ = false;
    if (by_us && !by_proxy_) world_.sessions[number_].gone = world::wall();
}

awaitable<void> session::leave() {
    if (!alive_) co_return;
    link_->patience(patience());
    switch (random_.weighted({6, 2, 2})) {
        case 0: {
            std::string bye;
            frontend::append_terminate(bye);
            link_->write(std::move(bye));
            co_await link_->written();
            ++world_.count.left_terminate;
            link_->close();
            break;
        }
        case 1:
            ++world_.count.left_close;
            link_->close();
            break;
        default:
            ++world_.count.left_reset;
            link_->reset();
    }
    end(true);
}

// ---- cancel ----

awaitable<void> session::cancel(std::shared_ptr<session> it, double after, bool told) {
    auto &shared = it->world_;
    const double wait = after * static_cast<double>(it->random_.below(1000)) / 1000;
    if (wait > 0) co_await pause(wait);
    if (!it->alive_ || it->cancel_secret_.empty()) co_return;
    if (told) {
        ++it->cancels_open_;
        it->cancel_seen_ = true;
    }
    ++shared.count.cancels;
    const bool by_proxy = it->by_proxy_;
    const auto link = std::make_shared<connection>(shared, it->number_);
    bool clean = false;
    if (co_await link->connect(by_proxy ? shared.opt.client_proxy : shared.opt.pooler)) {
        std::string out;
        wire::append_cancel_request(out, it->cancel_pid_, it->cancel_secret_);
        link->write(std::move(out));
        link->patience(10);
        const auto got = co_await link->read();
        if (got)
            shared.fail(failure::wrong_reply, it->who() + ": a cancel request is answered: " + printable(got->body));
        clean = !got && link->ended_in_order() && !(by_proxy && shared.client_side->fired(link->port()));
        link->close();
    }
    if (!clean) co_await pause(cancel_doubt);
    if (told) --it->cancels_open_;
}

}  // namespace oracle
