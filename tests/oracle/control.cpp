// Queries of the superuser, and the audit.
#include "control.hpp"

#include <bit>
#include <stdexcept>
#include <unordered_map>

#include "session.hpp"
#include "wire/backend.hpp"
#include "wire/frontend.hpp"
#include "wire/reader.hpp"
#include "wire/startup.hpp"

namespace oracle {

namespace backend = pgsluice::wire::backend;
namespace wire = pgsluice::wire;

namespace {

/// Quiet comes within this many seconds after the last client has left; a client that vanished is noticed at once, but
/// what it had asked for may run that long, and faults delay.
constexpr double quiet_seconds = 8;
/// What a client asked for may run for this long after it has gone.
constexpr double late_seconds = 5;

}  // namespace

awaitable<void> control::open(std::string database) {
    link_ = std::make_shared<connection>(world_, token_index::nobody);
    if (!co_await link_->connect(world_.opt.postgres)) throw std::runtime_error("no connection to PostgreSQL");
    std::string out;
    wire::append_startup(out, wire::protocol_3_0, {{"user", "postgres"}, {"database", database}});
    link_->write(std::move(out));
    for (;;) {
        const auto got = co_await link_->read();
        if (!got || got->type == backend::error_response) {
            throw std::runtime_error("PostgreSQL: " + (got ? read_error(got->body).all() : "closed"));
        }
        if (got->type == backend::ready_for_query) co_return;
    }
}

awaitable<std::vector<std::vector<std::string>>> control::rows(std::string sql) {
    std::string out;
    wire::frontend::append_query(out, sql);
    co_await link_->written();
    link_->write(std::move(out));
    std::vector<std::vector<std::string>> found;
    std::string problem;
    for (;;) {
        const auto got = co_await link_->read();
        if (!got) throw std::runtime_error("PostgreSQL closed the connection");
        if (got->type == backend::error_response) problem = read_error(got->body).all();
        if (got->type == backend::data_row) {
            wire::reader in(got->body);
            auto &row = found.emplace_back(in.u16());
            for (auto &column : row) {
                const auto length = in.i32();
                if (length > 0) column = in.bytes(static_cast<std::size_t>(length));
            }
        }
        if (got->type != backend::ready_for_query) continue;
        if (!problem.empty()) throw std::runtime_error(problem + " for " + sql);
        co_return found;
    }
}

awaitable<void> prepare(world &shared) {
    control eye(shared);
    co_await eye.open("postgres");
    const auto found = co_await eye.rows("select 'repeat(text,int)'::regprocedure::oid");
    shared.function_oid = static_cast<std::uint32_t>(std::stoul(found.at(0).at(0)));
}

awaitable<void> watch_servers(world &shared) {
    control eye(shared);
    chance random(shared.opt.seed, 0xfffffff3);
    co_await eye.open("postgres");
    for (unsigned turn = 0; !shared.over(); ++turn) {
        co_await pause(0.05);
        const auto found = co_await eye.rows(
            "select pid, usename, datname, state is not null and backend_start < now() - interval '0.2 s' from "
            "pg_stat_activity where backend_type = 'client backend' and usename <> 'postgres'");
        ++shared.count.samples;
        std::map<std::string, std::size_t> seen;
        for (const auto &row : found) {
            for (const auto &what : {row[1] + "@" + row[2], "database " + row[2], "user " + row[1]}) ++seen[what];
        }
        const auto check = [&](const std::string &what, std::size_t limit) {
            if (seen[what] > limit) {
                shared.fail(failure::over_limit, what + ": " + std::to_string(seen[what]) +
                                                     " servers in pg_stat_activity, limit " + std::to_string(limit));
            }
        };
        for (const auto &where : shared.opt.logins) {
            // The proxy ends connections under the pooler's hands, and counts for itself.
            if (!where.faulty) check(where.user + "@" + where.database, where.servers);
        }
        for (const auto &[name, limit] : shared.opt.database_limits) check("database " + name, limit);
        for (const auto &[name, limit] : shared.opt.user_limits) check("user " + name, limit);
        if (!shared.opt.faults || turn % 8 != 0 || found.empty()) continue;
        const auto &victim = found[random.below(found.size())];
        if (victim[3] != "t") continue;
        for (std::size_t i = 0; i < shared.opt.logins.size(); ++i) {
            const auto &where = shared.opt.logins[i];
            if (where.user != victim[1] || where.database != victim[2]) continue;
            const auto done = co_await eye.rows("select pg_terminate_backend(" + victim[0] + ")");
            if (done.at(0).at(0) != "t") continue;
            ++shared.kills[i];
            ++shared.count.kills;
        }
    }
}

awaitable<void> check_quiet(world &shared) {
    control eye(shared);
    co_await eye.open("postgres");
    const auto give_up = steady::now() + std::chrono::duration<double>(quiet_seconds * shared.opt.patience / 60);
    for (;;) {
        const auto found = co_await eye.rows(
            "select pid, usename, datname, state, coalesce(wait_event, ''), left(query, 80) from pg_stat_activity "
            "where "
            "backend_type = 'client backend' and usename <> 'postgres' and state <> 'idle'");
        if (found.empty()) co_return;
        if (steady::now() > give_up) {
            for (const auto &row : found) {
                std::string text;
                for (const auto &column : row) text += column + " ";
                shared.fail(failure::left_behind, "a backend without a client: " + text);
            }
            co_return;
        }
        co_await pause(0.05);
    }
}

awaitable<void> check_places(world &shared) {
    std::uint64_t number = 0;
    for (std::size_t i = 0; i < shared.opt.logins.size(); ++i) {
        const auto &where = shared.opt.logins[i];
        std::size_t places = where.servers;
        const auto of_database = shared.opt.database_limits.find(where.database);
        if (of_database != shared.opt.database_limits.end()) places = std::min(places, of_database->second);
        const auto of_user = shared.opt.user_limits.find(where.user);
        if (of_user != shared.opt.user_limits.end()) places = std::min(places, of_user->second);
        if (where.mode == pooling::statement || where.timeouts) places = 1;  // nothing can be held there
        std::vector<std::shared_ptr<session>> all;
        for (std::size_t n = 0; n < places; ++n) {
            auto it = std::make_shared<session>(shared, i, 0xff00000000 + number++);
            bool good = co_await it->start(false);
            if (good && where.mode != pooling::statement) {
                auto begin = it->make();
                begin.query({{.sql = "begin", .tag = "BEGIN", .what = effect::begin}});
                good = co_await it->run(begin) == outcome::fine;
            }
            if (!good) {
                shared.fail(failure::left_behind, where.user + "@" + where.database + ": only " + std::to_string(n) +
                                                      " of " + std::to_string(places) + " places can be had");
                break;
            }
            all.push_back(std::move(it));
        }
        for (const auto &it : all) co_await it->leave();
        co_await pause(0.1);
    }
}

awaitable<void> check_tables(world &shared) {
    std::unordered_map<std::string, std::uint32_t> numbers;
    for (std::uint32_t i = 0; i < shared.tokens.size(); ++i) numbers.emplace(shared.tokens[i], i);
    std::unordered_map<std::uint64_t, std::size_t> by_key;  // session and seq to work
    const auto key = [](std::uint64_t session, std::uint64_t seq) { return session << 32 | seq; };
    for (std::size_t i = 0; i < shared.works.size(); ++i) {
        by_key.emplace(key(shared.works[i].session, shared.works[i].seq), i);
        if (shared.works[i].state == work_state::in_doubt) ++shared.count.in_doubt;
    }
    std::vector<bool> seen(shared.works.size());
    std::unordered_map<std::string, std::string> owners;  // of xids
    std::map<std::string, bool> databases;
    for (const auto &where : shared.opt.logins) databases[where.database] = true;
    for (const auto &[database, used] : databases) {
        control eye(shared);
        co_await eye.open(database);
        const auto found = co_await eye.rows(
            "select token, seq, count(*), count(distinct part), bit_or(1::bigint << part), count(distinct xid), "
            "count(distinct pid), min(su), max(su), min(db), max(db), bool_and(position(token in app) > 0), "
            "extract(epoch from max(at)), min(xid) from commits group by token, seq");
        for (const auto &row : found) {
            const std::string name = database + ": token " + row[0] + " seq " + row[1];
            const auto number = numbers.find(row[0]);
            const auto work_at =
                number == numbers.end() ? by_key.end() : by_key.find(key(number->second, std::stoull(row[1])));
            if (work_at == by_key.end()) {
                shared.fail(failure::phantom, name + ": nobody wrote this");
                continue;
            }
            seen[work_at->second] = true;
            const auto &its = shared.works[work_at->second];
            const auto &record = shared.sessions[its.session];
            const auto &where = shared.opt.logins[record.where];
            const auto parts = static_cast<std::uint64_t>(std::stoll(row[4]));
            if (row[2] != row[3])
                shared.fail(failure::doubled, name + ": " + row[2] + " rows, " + row[3] + " different");
            if (its.state == work_state::open || its.state == work_state::aborted) {
                shared.fail(failure::phantom,
                            name + ": there, though " +
                                (its.state == work_state::open ? "its commit was not sent" : "rolled back") +
                                "\n    parts " + row[4] + ", row written " + row[12] + ", gone " +
                                std::to_string(record.gone) + ", " + record.end);
            } else if (its.state == work_state::loose ? (parts & ~its.tried) != 0 : parts != its.parts) {
                shared.fail(its.state == work_state::committed ? failure::lost : failure::torn,
                            name + ": parts " + row[4] + ", not " + std::to_string(its.parts));
            }
            if (its.state != work_state::loose) {
                if (row[5] != "1" || row[6] != "1") {
                    shared.fail(failure::torn, name + ": " + row[5] + " xids on " + row[6] + " servers");
                }
                const auto [owner, fresh] = owners.emplace(row[13], name);
                if (!fresh) shared.fail(failure::shared_xid, name + " and " + owner->second + ": xid " + row[13]);
            }
            if (row[7] != where.user || row[8] != where.user || row[9] != where.database || row[10] != where.database ||
                row[11] != "t") {
                shared.fail(failure::wrong_identity, name + ": written as " + row[7] + "/" + row[8] + "@" + row[9] +
                                                         ", application_name its own: " + row[11]);
            }
            if (record.gone > 0 && std::stod(row[12]) > record.gone + late_seconds) {
                shared.fail(failure::late, name + ": written " + std::to_string(std::stod(row[12]) - record.gone) +
                                               " s after its client had left");
            }
        }
    }
    for (std::size_t i = 0; i < shared.works.size(); ++i) {
        const auto &its = shared.works[i];
        if (seen[i] || its.state != work_state::committed || its.parts == 0) continue;
        shared.fail(failure::lost, "token " + shared.token(its.session) + " seq " + std::to_string(its.seq) +
                                       ": acknowledged, and not there");
    }
}

void check_ends(world &shared) {
    for (std::size_t i = 0; i < shared.opt.logins.size(); ++i) {
        const auto &where = shared.opt.logins[i];
        if (where.faulty || shared.ends[i] <= shared.kills[i]) continue;
        shared.fail(failure::wrong_reply, where.user + "@" + where.database + ": " + std::to_string(shared.ends[i]) +
                                              " connections ended by the server's end, but only " +
                                              std::to_string(shared.kills[i]) + " backends were killed");
    }
}

}  // namespace oracle
