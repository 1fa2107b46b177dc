// Commands, one by one.
#include "net/console_desk.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <charconv>

#include "net/client.hpp"
#include "net/connection_rows.hpp"
#include "net/log.hpp"
#include "net/resolver.hpp"
#include "net/server.hpp"
#include "net/service_manager.hpp"
#include "net/version.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

using core::console_outcome;
using core::console_table;
using core::refusal;
using verb = core::console_command::verb;

namespace {

base::time_point clock_now() {
    return std::chrono::steady_clock::now();
}

console_outcome refused(refusal why, std::string argument = {}, std::string detail = {}) {
    return {{why, std::move(argument), std::move(detail)}, {}};
}

}  // namespace

console_desk::console_desk(shared &all, console_powers powers)
    : all_(all), powers_(std::move(powers)), last_{clock_now(), {}}, one_before_(last_) {}

// ---- from workers ----

void console_desk::ask(console_request it) {
    boost::asio::post(all_.control, [this, it = std::move(it)] { carry_out(it); });
}

void console_desk::canceled(base::client_id id) {
    boost::asio::post(all_.control, [this, id] {
        const auto own = std::find_if(waiting_.begin(), waiting_.end(), [&](const waiting &it) {
            return it.of.client == id && it.of.command.what == verb::pause;
        });
        resume(own == waiting_.end() ? std::string() : own->of.command.name);
    });
}

void console_desk::gone(base::client_id id) {
    boost::asio::post(all_.control, [this, id] {
        std::erase_if(waiting_, [&](const waiting &it) { return it.of.client == id; });
        if (suspended_ && suspended_by_ == id) resume({});
    });
}

// ---- to workers ----

void console_desk::answer(const console_request &to, core::console_rows rows) {
    auto &there = *all_.workers[to.worker];
    there.post([&there, id = to.client, rows = std::move(rows)] { there.console_rows(id, rows, nullptr); });
    finish(to);
}

void console_desk::finish(const console_request &to, const console_outcome &outcome) {
    auto &there = *all_.workers[to.worker];
    there.post([&there, id = to.client, outcome] { there.console_done(id, outcome); });
}

core::console_view console_desk::view() {
    return all_.with_ledger([](core::ledger &ledger, core::orders &) { return ledger.view(clock_now()); });
}

// ---- SHOW ----

void console_desk::carry_out(const console_request &it) {
    if (it.command.what == verb::show) return show(it);
    // Without the value of a SET, which may be a secret.
    log::info("{}{} command issued", it.command.what == verb::set ? "SET" : core::tag_of(it.command),
              it.command.name.empty() ? "" : " '" + it.command.name + "'");
    const auto done = [this, it](const console_outcome &outcome) { finish(it, outcome); };
    switch (it.command.what) {
        case verb::reload:
            return powers_.reload(done);
        case verb::set:
            return powers_.set(it.command.name, it.command.value, done);
        case verb::shutdown:
        case verb::shutdown_wait_for_servers:
        case verb::shutdown_wait_for_clients:
            return powers_.shut_down(it.command.what, done);
        case verb::pause:
        case verb::wait_close:
        case verb::suspend: {
            const auto begun = change(it);
            if (begun.refused.why != refusal::none || is_over(it)) return finish(it, begun);
            return waiting_.push_back({it, patience(it.command)});
        }
        default:
            return finish(it, change(it));
    }
}

base::time_point console_desk::patience(const core::console_command &command) const {
    if (command.what == verb::suspend)
        return base::deadline_after(clock_now(), powers_.settings()->global.suspend_timeout);
    if (command.value.empty()) return base::never;
    return clock_now() + base::duration(static_cast<std::int64_t>(std::strtod(command.value.c_str(), nullptr) * 1e6));
}

void console_desk::show(const console_request &it) {
    const auto settings = powers_.settings();
    const auto connections = [&all = all_, it] {
        continue_table(all, std::make_shared<connection_cursor>(
                                connection_cursor{.table = it.command.table, .asker = it.worker, .client = it.client}));
    };
    switch (it.command.table) {
        case console_table::clients:
        case console_table::servers:
        case console_table::sockets:
        case console_table::active_sockets:
            return connections();
        case console_table::fds:
            return all_.lobby().post([this, to = it, connections] {
                auto &there = *all_.workers[to.worker];
                there.post(
                    [&there, id = to.client, rows = powers_.listening()] { there.console_rows(id, rows, nullptr); });
                connections();
            });
        case console_table::stats:
        case console_table::stats_totals:
        case console_table::stats_averages:
        case console_table::totals:
            return count([this, it](const core::traffic_by_database &totals) {
                answer(it, core::stats_rows(it.command.table, totals, averages(totals)));
            });
        case console_table::config:
            return answer(it, core::config_rows(*settings));
        case console_table::databases:
            return answer(it, core::database_rows(*settings, view()));
        case console_table::pools:
            return answer(it, core::pool_rows(view()));
        case console_table::users:
            return answer(it, core::user_rows(*settings, view()));
        case console_table::lists:
            return answer(it, core::list_rows(*settings, view(), all_.dns->counts()));
        case console_table::state:
            return answer(it, core::state_rows(view(), suspended_));
        case console_table::version:
            return answer(it, {{std::string(version_text)}});
        case console_table::mem:
            return answer(it, memory_rows(view()));
        case console_table::why:
            return why(it);
        case console_table::dns_hosts:
            return answer(it, core::dns_host_rows(all_.dns->book(), clock_now()));
        case console_table::dns_zones:
            return answer(it, core::dns_zone_rows(all_.dns->book()));
        case console_table::peers:
            return answer(it, core::peer_rows(view()));
        case console_table::peer_pools:
            return answer(it, core::peer_pool_rows(view()));
        case console_table::help:  // the session's own
        case console_table::parameter:
            return answer(it, {});
    }
}

/// Sizes of our own objects under PgBouncer's names: what is on the heap beside them is not in it.
core::console_rows console_desk::memory_rows(const core::console_view &now) const {
    const auto row = [](const char *name, std::size_t size, std::size_t used) {
        const auto number = [](std::size_t value) { return static_cast<std::int64_t>(value); };
        return core::console_row{name, number(size), number(used), 0, number(size * used)};
    };
    const auto settings = powers_.settings();
    return {row("user_cache", sizeof(config::user), now.users.size()),
            row("credentials_cache", sizeof(auth::credential), settings->credentials.size()),
            row("db_cache", sizeof(config::database), settings->databases.size()),
            row("peer_cache", 0, 0),
            row("peer_pool_cache", 0, 0),
            row("pool_cache", sizeof(core::pool_view), now.pools.size()),
            row("outstanding_request_cache", 1, 0),
            row("server_cache", sizeof(server) + sizeof(core::server_session) + sizeof(core::server_seat), now.servers),
            row("client_cache", sizeof(client) + sizeof(core::client_seat), now.clients),
            row("iobuf_cache", worker::scratch_bytes, all_.workers.size()),
            row("var_list_cache", 0, 0),
            row("server_prepared_statement_cache", 0, 0)};
}

// ---- what changes something ----

console_outcome console_desk::change(const console_request &it) {
    const auto &name = it.command.name;
    const auto of_ledger = [&](auto use) { return all_.with_ledger(use); };
    const auto needs_database = [&](const char *word) -> console_outcome {
        if (core::is_console(name))
            return refused(refusal::console_not_in_admin_database, std::string(word) + " admin db: " + name);
        // What ends a command can only be of what there is; the others may come before a database of * is first used.
        const bool ends = it.command.what == verb::resume || it.command.what == verb::enable;
        const bool there = of_ledger([&](core::ledger &ledger, core::orders &) {
            return name.empty() || (ends ? ledger.knows_database(name) : ledger.has_database(name));
        });
        return there ? console_outcome{} : refused(refusal::console_no_such_database, name);
    };
    const auto on_database = [&](const char *word, auto use) {
        auto problem = needs_database(word);
        if (problem.refused.why == refusal::none) of_ledger(use);
        return problem;
    };
    switch (it.command.what) {
        case verb::pause: {
            auto problem = needs_database("pause");
            return problem.refused.why == refusal::none ? refused(pause(name), name) : problem;
        }
        case verb::resume: {
            auto problem = core::is_console(name) ? console_outcome{} : needs_database("resume");
            return problem.refused.why == refusal::none ? refused(resume(name), name) : problem;
        }
        case verb::disable:
            return on_database("disable", [&](core::ledger &ledger, core::orders &) { ledger.disable(name, true); });
        case verb::enable:
            return on_database("enable", [&](core::ledger &ledger, core::orders &) { ledger.disable(name, false); });
        case verb::reconnect:
            return on_database("reconnect", [&](core::ledger &ledger, core::orders &orders) {
                ledger.reconnect(name, clock_now(), orders);
            });
        case verb::kill: {
            auto problem = needs_database("kill");
            return problem.refused.why == refusal::none ? refused(kill(name), name) : problem;
        }
        case verb::wait_close:
            return needs_database("wait in");
        case verb::kill_client:
            return kill_client(name);
        case verb::suspend:
            return suspend(it);
        case verb::nothing:
        case verb::show:
        case verb::set_ignored:
        case verb::reload:  // carry_out() has them done
        case verb::set:
        case verb::shutdown:
        case verb::shutdown_wait_for_servers:
        case verb::shutdown_wait_for_clients:
            break;
    }
    return {};
}

refusal console_desk::pause(const std::string &database) {
    if (suspended_) return refusal::console_already_paused;
    return all_.with_ledger([&](core::ledger &ledger, core::orders &orders) { return ledger.pause(database, orders); });
}

refusal console_desk::kill(const std::string &database) {
    if (suspended_) return refusal::console_already_paused;
    return all_.with_ledger([&](core::ledger &ledger, core::orders &orders) { return ledger.kill(database, orders); });
}

refusal console_desk::resume(const std::string &database) {
    // Those who wait for a pause that ends now have waited for long enough.
    for (const auto &it : std::exchange(waiting_, {})) {
        const auto what = it.of.command.what;
        const bool same =
            (what == verb::pause && it.of.command.name == database) || (what == verb::suspend && database.empty());
        same ? finish(it.of) : waiting_.push_back(it);
    }
    const bool was_suspended = database.empty() && std::exchange(suspended_, false);
    if (was_suspended) powers_.suspend(false);
    const auto why = all_.with_ledger(
        [&](core::ledger &ledger, core::orders &orders) { return ledger.resume(database, clock_now(), orders); });
    return was_suspended ? refusal::none : why;
}

console_outcome console_desk::suspend(const console_request &it) {
    if (suspended_) return refused(refusal::console_already_paused);
    const auto why = all_.with_ledger([](core::ledger &ledger, core::orders &) { return ledger.may_suspend(); });
    if (why != refusal::none) return refused(why);
    suspended_ = true;
    suspended_by_ = it.client;
    powers_.suspend(true);
    return {};
}

console_outcome console_desk::kill_client(const std::string &text) {
    std::uint64_t id = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (problem != std::errc() || end != text.data() + text.size()) return refused(refusal::console_bad_client);
    const bool found =
        all_.with_ledger([&](core::ledger &ledger, core::orders &orders) { return ledger.kill_client({id}, orders); });
    return found ? console_outcome{} : refused(refusal::console_no_client);
}

/// The ledger knows who waits for what; what the clients call themselves their workers know, and are asked one by one.
void console_desk::why(const console_request &it) {
    base::client_id only;
    if (!it.command.name.empty()) {
        const auto &text = it.command.name;
        const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), only.value);
        if (problem != std::errc() || end != text.data() + text.size() || !only)
            return finish(it, refused(refusal::console_bad_client));
    }
    const auto list = std::make_shared<std::vector<named_wait>>();
    for (auto &row : all_.with_ledger(
             [&](core::ledger &ledger, core::orders &) { return ledger.waits(only, waits_max, clock_now()); }))
        list->push_back({std::move(row), {}, {}, {}, {}});
    name_waits(it, list, 0);
}

void console_desk::name_waits(const console_request &it, const std::shared_ptr<std::vector<named_wait>> &list,
                              std::size_t worker_at) {
    if (worker_at < all_.workers.size()) {
        auto &there = *all_.workers[worker_at];
        there.post([this, it, list, worker_at, &there] {
            for (auto &row : *list) {
                if (row.application.empty()) row.application = there.describe(row.wait.client).application;
                if (!row.wait.holder || row.wait.holder_worker != worker_at) continue;
                auto holder = there.describe(row.wait.holder);
                row.holder_user = std::move(holder.user);
                row.holder_application = std::move(holder.application);
                row.holder_state = std::move(holder.state);
            }
            name_waits(it, list, worker_at + 1);
        });
        return;
    }
    core::console_rows rows;
    const auto or_null = [](bool is, std::string text) {
        return is ? core::console_cell(std::move(text)) : core::console_cell();
    };
    for (auto &row : *list) {
        const auto &wait = row.wait;
        const bool held = static_cast<bool>(wait.holder);
        rows.push_back({static_cast<std::int64_t>(wait.client.value), wait.database, wait.user, row.application,
                        std::int64_t{wait.waits.count()}, wait.place,
                        or_null(!wait.limit.empty(), std::string(wait.limit)), wait.reason,
                        held ? core::console_cell(static_cast<std::int64_t>(wait.holder.value)) : core::console_cell(),
                        or_null(held, row.holder_user), or_null(held, row.holder_application),
                        or_null(held, row.holder_state),
                        held ? core::console_cell(std::int64_t{wait.held.count()}) : core::console_cell()});
    }
    answer(it, std::move(rows));
}

// ---- what takes time ----

bool console_desk::is_over(const console_request &it) {
    if (it.command.what == verb::suspend)
        return std::all_of(all_.workers.begin(), all_.workers.end(),
                           [](const auto &each) { return each->restless() == 0; });
    return all_.with_ledger([&](core::ledger &ledger, core::orders &) {
        if (it.command.what != verb::pause) return ledger.reconnected(it.command.name);
        // A reload that took the entry out has ended its pause.
        return !ledger.is_paused(it.command.name) || ledger.drained(it.command.name);
    });
}

void console_desk::tick(base::time_point now) {
    std::vector<waiting> rest;
    for (auto &it : std::exchange(waiting_, {})) {
        if (is_over(it.of)) {
            finish(it.of);
        } else if (now >= it.until && it.of.command.what == verb::suspend) {
            log::warning("suspend_timeout: connections that have not come to rest are closed");
            for (const auto &each : all_.workers) each->post([worker = each.get()] { worker->drop_restless(); });
            finish(it.of);
        } else if (now >= it.until) {
            all_.with_ledger([&](core::ledger &ledger, core::orders &orders) {
                ledger.take_back_pause(it.of.command.name, now, orders);
            });
            finish(it.of, refused(refusal::console_wait_over, core::tag_of(it.of.command)));
        } else {
            rest.push_back(std::move(it));
        }
    }
    waiting_.insert(waiting_.end(), std::make_move_iterator(rest.begin()), std::make_move_iterator(rest.end()));
    end_period(now);
    const bool settles = all_.with_ledger([](core::ledger &ledger, core::orders &) { return ledger.has_forgotten(); });
    if (settles) count([](const core::traffic_by_database &) {});
}

// ---- statistics ----

void console_desk::count(std::function<void(core::traffic_by_database)> done) {
    struct sum {
        std::size_t missing;
        core::traffic_book all;
        std::function<void(core::traffic_by_database)> done;
        std::vector<core::ledger::forgotten_pool> forgotten;
    };
    // What is forgotten by now counts no more: its sums below are the last ones.
    const auto total = std::make_shared<sum>(
        sum{all_.workers.size(), {}, std::move(done), all_.with_ledger([](core::ledger &ledger, core::orders &) {
                return ledger.take_forgotten();
            })});
    for (const auto &each : all_.workers) {
        each->post([this, total, &from = *each] {
            boost::asio::post(all_.control, [this, total, counted = from.counted()] {
                for (std::size_t i = 0; i < counted.pools().size(); ++i)
                    total->all.of(static_cast<core::pool_index>(i)) += counted.pools()[i];
                total->all.console() += counted.console();
                if (--total->missing > 0) return;
                settle(total->all, total->forgotten);
                const auto names = view().database_of_pool;
                auto by_name = put_aside_;
                by_name["pgbouncer"] = total->all.console();
                for (std::size_t i = 0; i < names.size(); ++i) {
                    if (names[i].empty()) continue;
                    const auto index = static_cast<core::pool_index>(i);
                    by_name[names[i]] += core::since(before_pool_[index], total->all.of(index));
                }
                total->done(std::move(by_name));
            });
        });
    }
}

/// What pools that are forgotten have counted stays with their databases, but for those of * that are gone altogether;
/// then their numbers may be others'.
void console_desk::settle(core::traffic_book &all, const std::vector<core::ledger::forgotten_pool> &forgotten) {
    if (forgotten.empty()) return;
    for (const auto &it : forgotten) {
        put_aside_[it.database] += core::since(before_pool_[it.index], all.of(it.index));
        before_pool_[it.index] = all.of(it.index);
    }
    all_.with_ledger([&](core::ledger &ledger, core::orders &) {
        for (const auto &it : forgotten) ledger.reuse(it.index);
    });
    const auto names = view().database_of_pool;
    const auto settings = powers_.settings();
    for (const auto &it : forgotten) {
        const bool lives = settings->databases.contains(it.database) ||
                           std::find(names.begin(), names.end(), it.database) != names.end();
        if (lives) continue;
        put_aside_.erase(it.database);
        last_.totals.erase(it.database);
        one_before_.totals.erase(it.database);
    }
}

/// From the end of the period before the last one until now, as PgBouncer's: between one period and two, and never only
/// the moments since the last one ended.
core::traffic_by_database console_desk::averages(const core::traffic_by_database &totals) {
    core::traffic_by_database all;
    const auto took = std::chrono::duration_cast<base::duration>(clock_now() - one_before_.at);
    for (const auto &[name, it] : totals) all[name] = core::average(one_before_.totals[name], it, took);
    return all;
}

void console_desk::end_period(base::time_point now) {
    const auto settings = powers_.settings();
    const auto period = std::max(base::duration(base::seconds(1)), settings->global.stats_period);
    if (counting_ || now - last_.at < period) return;
    counting_ = true;
    count([this](const core::traffic_by_database &totals) {
        counting_ = false;
        one_before_ = std::exchange(last_, {clock_now(), totals});
        core::traffic before, after;
        for (const auto &[name, it] : totals) {
            before += one_before_.totals[name];
            after += it;
        }
        const auto took = std::chrono::duration_cast<base::duration>(last_.at - one_before_.at);
        const auto line = core::stats_line(core::average(before, after, took));
        if (powers_.settings()->global.log_stats) log::info("{}", line);
        service_manager::status(line);
    });
}

}  // namespace pgsluice::net
