// The random transactions.
#include "workload.hpp"

#include <algorithm>
#include <bit>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

namespace oracle {

namespace {

constexpr std::size_t lines_most = 20;    // of a COPY in, a cursor, a portal
constexpr std::size_t rows_most = 200;    // of a result
constexpr std::uint64_t parts_most = 58;  // rows of one transaction: bits of work::parts

/// One turn of a session: a script that grows, is sent now and then, and ends outside of a transaction.
class turn {
public:
    explicit turn(session &who) : who_(who), script_(who.make()), random_(who.random()) {}

    awaitable<outcome> play(bool first);

private:
    // ---- statements ----
    statement identity();
    statement write();
    statement rows(std::size_t count);
    statement simple_value(std::string value);
    static statement command(std::string sql, std::string tag, effect what = effect::none);
    statement set(bool local);
    statement failing();
    statement any();
    std::string content(std::size_t size);

    // ---- forms ----
    struct form {
        bool simple = true;
        std::string name;
    };
    form choose();
    void add_as(const form &, const statement &);
    void add(const statement &it) { add_as(choose(), it); }
    /// For statements that are made for the transaction in which they will run.
    void add_write() {
        const auto how = choose();
        add_as(how, write());
    }
    void add_any() {
        const auto how = choose();
        add_as(how, any());
    }
    void end_batch();
    awaitable<bool> send();
    awaitable<bool> maybe_send(double probability = 0.5);

    // ---- what a transaction is made of ----
    awaitable<bool> item(bool in_transaction);
    awaitable<bool> portal();
    awaitable<bool> cursor();
    awaitable<bool> savepoint();
    awaitable<bool> copy_in();
    awaitable<bool> outstay();
    void copy_out();
    void function_call();
    void statement_errors();
    void deallocate();
    awaitable<bool> unnamed_later();
    void multi();

    // ---- whole turns ----
    awaitable<bool> transaction();
    awaitable<bool> pipeline();
    awaitable<bool> fresh();
    awaitable<bool> session_state();
    awaitable<bool> notifications();

    const std::string &token() const { return who_.token(); }
    model &state() { return who_.state(); }
    bool room() { return state().parts + lines_most + 2 < parts_most; }

    session &who_;
    script script_;
    chance &random_;
    outcome last_ = outcome::fine;
};

// ---- statements ----

statement turn::command(std::string sql, std::string tag, effect what) {
    return {.sql = std::move(sql), .tag = std::move(tag), .what = what};
}

statement turn::identity() {
    const auto &now = state().now;
    statement it{
        .sql =
            "select $1::text, session_user::text, current_database()::text, "
            "current_setting('application_name'), current_setting('TimeZone'), "
            "current_setting('DateStyle'), current_setting('IntervalStyle'), pg_backend_pid()::text",
        .params = {token()},
        .columns = 8,
        .rows = {data_row({token(), who_.where().user, who_.where().database, now[0], now[1], now[2], now[3]}, true)},
        .tag = "SELECT 1"};
    it.identity = it.pid = true;
    return it;
}

statement turn::write() {
    const auto part = script_.new_part();
    const auto seq = who_.shared().works[script_.open_work()].seq;
    statement it{.sql = "insert into commits(token, seq, part) values ($1::text, $2::int8, $3::int)",
                 .params = {token(), std::to_string(seq), std::to_string(part)},

                 .tag = "INSERT 0 1",
                 .what = effect::write,
                 .part = part};
    if (random_.happens(0.3)) {
        it.sql += " returning token || ':' || seq, pid::text";
        it.columns = 2;
        it.rows = {data_row({token() + ":" + std::to_string(seq)}, true)};
        it.pid = true;
    }
    return it;
}

statement turn::rows(std::size_t count) {
    statement it{.sql = "select $1::text || ':' || g from generate_series(1, $2::int) g",
                 .params = {token(), std::to_string(count)},
                 .columns = 1,

                 .tag = "SELECT " + std::to_string(count)};
    for (std::size_t i = 1; i <= count; ++i) it.rows.push_back(data_row({token() + ":" + std::to_string(i)}));
    return it;
}

/// `size` bytes that are this session's and no other's, and say where they belong.
std::string turn::content(std::size_t size) {
    std::string out;
    out.reserve(size + 48);
    while (out.size() < size) out += token() + "@" + std::to_string(out.size()) + ";";
    out.resize(size);
    return out;
}

statement turn::simple_value(std::string value) {
    return {.sql = "select $1::text", .params = {value}, .columns = 1, .rows = {data_row({value})}, .tag = "SELECT 1"};
}

statement turn::set(bool local) {
    constexpr std::array<const char *, 4> zones{"UTC", "Europe/Rome", "America/Lima", "Asia/Tokyo"};
    constexpr std::array<const char *, 4> dates{"ISO, MDY", "SQL, DMY", "German, DMY", "Postgres, YMD"};
    constexpr std::array<const char *, 4> intervals{"postgres", "iso_8601", "sql_standard", "postgres_verbose"};
    auto it = command("", "SET", local ? effect::set_local : effect::set);
    it.parameter = random_.below(tracked.size());
    const auto which = random_.below(4);
    switch (it.parameter) {
        case 0:
            it.value = "o-" + std::to_string(which) + "'\\" + token();
            break;
        case 1:
            it.value = zones[which];
            break;
        case 2:
            it.value = dates[which];
            break;
        default:
            it.value = intervals[which];
    }
    it.sql = std::string(local ? "set local " : "set ") + tracked[it.parameter] + " = " + quoted(it.value);
    // A list of words is not one word.
    if (it.parameter == 2) it.sql = std::string(local ? "set local " : "set ") + "DateStyle = " + it.value;
    return it;
}

/// A statement that fails, and says the token where the failure has a text.
statement turn::failing() {
    statement it{.sql = "select oracle_raise($1::text)", .params = {token()}, .columns = 1, .tag = "SELECT 1"};
    switch (random_.below(3)) {
        case 0:
            it.error = "P0001";
            break;
        case 1:
            it.sql = "select '" + token() + "' from nowhere_" + token();
            it.params = {};
            it.error = "42P01";
            it.fails_at = stage::parse;
            break;
        default:
            it.sql = "selectt '" + token() + "'";
            it.params = {};
            it.error = "42601";
            it.fails_at = stage::parse;
    }
    return it;
}

statement turn::any() {
    switch (random_.weighted({6, 5, 4, 3, 2, 2, 2, 1})) {
        case 0:
            return room() ? write() : rows(1);
        case 1:
            return rows(random_.size(rows_most));
        case 2:
            return identity();
        case 3: {
            // Small ones mostly; the largest is rare, for it costs a second.
            const auto most = random_.happens(0.1) ? who_.shared().opt.most : std::size_t{64} << 10;
            const auto size = random_.size(std::min(most, who_.shared().opt.most));
            return simple_value(content(random_.happens(0.004) ? who_.shared().opt.most : size));
        }
        case 4: {
            const auto count = random_.size(4000);
            statement it{.sql = "select repeat($1::text, $2::int)",
                         .params = {token(), std::to_string(count)},
                         .columns = 1,

                         .tag = "SELECT 1"};
            std::string all;
            for (std::size_t i = 0; i < count; ++i) all += token();
            it.rows = {data_row({all})};
            return it;
        }
        case 5: {
            statement it{.sql = "select oracle_notice($1::text)",
                         .params = {token()},
                         .columns = 1,
                         .rows = {data_row({token()})},
                         .tag = "SELECT 1"};
            it.notice = true;
            return it;
        }
        case 6: {
            const auto milliseconds = random_.size(30);
            return {
                .sql = "select $1::text || pg_sleep($2::float8)::text",
                .params = {token(), "0.0" + std::string(milliseconds < 10 ? "0" : "") + std::to_string(milliseconds)},
                .columns = 1,
                .rows = {data_row({token()})},
                .tag = "SELECT 1"};
        }
        default: {
            if (!who_.has_acknowledged()) return rows(1);
            const auto &its = who_.shared().works[who_.acknowledged_work()];
            return {.sql = "select $1::text || ':' || count(*) from commits where token = $1::text and seq = $2::int8",
                    .params = {token(), std::to_string(its.seq)},
                    .columns = 1,
                    .rows = {data_row({token() + ":" + std::to_string(std::popcount(its.parts))})},
                    .tag = "SELECT 1"};
        }
    }
}

// ---- forms ----

void turn::end_batch() {
    if (script_.batch_open()) script_.sync();
}

/// A Query, the unnamed statement or a named one.
turn::form turn::choose() {
    const bool named = who_.shared().opt.named || who_.where().mode == pooling::session;
    switch (random_.weighted({4, 3, named ? 3U : 0U})) {
        case 0:
            // After a cancel replies can be counted only where no Query follows an open batch.
            if (who_.cancels() || random_.happens(0.5)) end_batch();
            return {.simple = true, .name = ""};
        case 1:
            return {.simple = false, .name = ""};
        default:
            // The same names for other texts in other sessions, and the same texts under other names.
            return {.simple = false, .name = "s" + std::to_string(random_.below(4))};
    }
}

void turn::add_as(const form &how, const statement &it) {
    if (how.simple) return script_.query({it});
    script_.extended(it, how.name, random_.happens(0.5), it.columns > 0 && random_.happens(0.3));
    if (random_.happens(0.6)) script_.sync();
}

/// Sends what there is and reads the replies. False: this turn is over.
awaitable<bool> turn::send() {
    if (last_ != outcome::fine) co_return false;
    if (script_.batch_open()) {
        if (random_.happens(0.3) && !script_.skipping()) {
            script_.flush();
        } else {
            script_.sync();
        }
    }
    last_ = co_await who_.run(script_);
    script_.next();
    co_return last_ == outcome::fine;
}

awaitable<bool> turn::maybe_send(double probability) {
    if (!random_.happens(probability)) co_return true;
    co_return co_await send();
}

// ---- what a transaction is made of ----

awaitable<bool> turn::portal() {
    const auto it = rows(random_.size(lines_most));
    script_.portal_open(it, "p1");
    for (std::size_t from = 0;;) {
        const auto count = random_.between(1, lines_most);
        script_.portal_piece(it, "p1", from, count);
        if (from + count > it.rows.size()) break;
        from += count;
        if (random_.happens(0.3)) {
            script_.flush();
            last_ = co_await who_.run(script_);
            script_.next();
            if (last_ != outcome::fine) co_return false;
        } else if (state().status == 'T' && random_.happens(0.3)) {
            script_.sync();
            if (!co_await maybe_send()) co_return false;
        }
    }
    script_.close('P', "p1");
    co_return co_await maybe_send();
}

awaitable<bool> turn::cursor() {
    const auto it = rows(lines_most);
    add(command("declare c1 cursor for select '" + token() + ":' || g from generate_series(1, " +
                    std::to_string(lines_most) + ") g",
                "DECLARE CURSOR"));
    const auto pieces = random_.between(1, 3);
    for (std::size_t piece = 0; piece < pieces; ++piece) {
        constexpr std::size_t count = 5;
        auto fetch = command("fetch 5 from c1", "FETCH 5");
        fetch.columns = 1;
        fetch.rows.assign(it.rows.begin() + static_cast<std::ptrdiff_t>(piece * count),
                          it.rows.begin() + static_cast<std::ptrdiff_t>((piece + 1) * count));
        add(fetch);
        if (!co_await maybe_send(0.3)) co_return false;
    }
    add(command("close c1", "CLOSE CURSOR"));
    co_return true;
}

awaitable<bool> turn::savepoint() {
    add(command("savepoint sp", "SAVEPOINT", effect::savepoint));
    add_write();
    if (!co_await maybe_send(0.3)) co_return false;
    const bool fails = random_.happens(0.7);
    if (fails) add(failing());
    end_batch();
    if (fails || random_.happens(0.3)) {
        add(command("rollback to savepoint sp", "ROLLBACK", effect::rollback_to));
        if (!co_await maybe_send(0.3)) co_return false;
    }
    add(command("release savepoint sp", "RELEASE", effect::release));
    end_batch();
    co_return true;
}

awaitable<bool> turn::copy_in() {
    const bool simple = random_.happens(0.5);
    const auto count = random_.size(lines_most);
    const bool fail = random_.happens(0.15), bad = !fail && random_.happens(0.15);
    end_batch();
    auto it = command("copy commits(token, seq, part) from stdin", "COPY " + std::to_string(count));
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < count; ++i) {
        const auto part = script_.new_part();
        const auto seq = who_.shared().works[script_.open_work()].seq;
        lines.push_back(token() + "\t" + std::to_string(seq) + "\t" + std::to_string(part) + (bad ? "\tx\n" : "\n"));
        it.part |= std::uint64_t{1} << part;
    }
    if (fail) it.error = "57014";
    if (bad) it.error = "22P04";
    script_.copy_begin(it, simple);
    if (random_.happens(0.5) && !(simple && who_.cancels())) {
        if (!simple) script_.flush();
        last_ = co_await who_.run(script_);
        script_.next();
        if (last_ != outcome::fine) co_return false;
    }
    script_.copy_lines(lines, it, simple, fail);
    end_batch();
    co_return true;
}

void turn::copy_out() {
    const auto count = random_.size(rows_most);
    auto it = command(
        "copy (select '" + token() + ":' || g from generate_series(1, " + std::to_string(count) + ") g) to stdout",
        "COPY " + std::to_string(count));
    it.copy_out = true;
    for (std::size_t i = 1; i <= count; ++i) it.rows.push_back(token() + ":" + std::to_string(i) + "\n");
    add(it);
}

void turn::function_call() {
    if (who_.cancels()) end_batch();
    const auto count = random_.size(100);
    std::string result;
    for (std::size_t i = 0; i < count; ++i) result += token();
    script_.function_call(who_.shared().function_oid, {token(), std::to_string(count)}, result);
}

/// Mistakes with statement names, which the session survives.
void turn::statement_errors() {
    const bool named = who_.shared().opt.named || who_.where().mode == pooling::session;
    if (!named) return;
    if (random_.happens(0.5) && !state().names.empty() && !state().uncertain_names) {
        script_.parse_double(state().names.begin()->first);
    } else {
        script_.bind_unknown("unknown");
    }
    end_batch();
}

/// SQL's way to drop what the protocol has named. Named itself it would drop what the next Bind needs.
void turn::deallocate() {
    if (state().names.empty() || state().uncertain_names || state().status == 'E') return;
    end_batch();
    const bool all = random_.happens(0.3);
    auto it = command("deallocate all", "DEALLOCATE ALL", effect::deallocate);
    if (!all) {
        it.value = state().names.begin()->first;
        it.sql = "deallocate " + it.value;
        it.tag = "DEALLOCATE";
    }
    add_as({.simple = random_.happens(0.5), .name = ""}, it);
}

/// The unnamed statement outlives its transaction, though the server may be another one.
awaitable<bool> turn::unnamed_later() {
    end_batch();
    if (state().status == 'E') co_return true;
    const auto it = rows(random_.size(lines_most));
    script_.parse_only(it);
    script_.sync();
    if (!co_await maybe_send()) co_return false;
    for (auto left = random_.between(1, 3); left > 0; --left) {
        script_.bind_only(it);
        script_.sync();
        if (!co_await maybe_send()) co_return false;
    }
    co_return true;
}

/// Several statements in one Query: one transaction, unless one is open already.
void turn::multi() {
    if (who_.cancels() || random_.happens(0.5)) end_batch();
    std::vector<statement> list{any()};
    for (auto left = random_.below(4); left > 0; --left) list.push_back(any());
    if (random_.happens(0.2))
        list.insert(list.begin() + static_cast<std::ptrdiff_t>(random_.below(list.size() + 1)), failing());
    // A Query with a syntax error in it fails as a whole.
    for (const auto &it : list) {
        if (it.error == "42601") list = {it};
    }
    script_.query(list);
}

awaitable<bool> turn::item(bool in_transaction) {
    const bool good = state().status == 'T';
    switch (
        random_.weighted({12, 3, 2, in_transaction ? 2U : 0U, in_transaction && good ? 2U : 0U, 2, 1, 1, 1, 1, 1, 1})) {
        case 0:
            add_any();
            break;
        case 1:
            multi();
            break;
        case 2: {
            if (!co_await portal()) co_return false;
            break;
        }
        case 3: {
            if (!co_await cursor()) co_return false;
            break;
        }
        case 4: {
            if (!room()) break;
            if (!co_await savepoint()) co_return false;
            break;
        }
        case 5: {
            if (!room()) break;
            if (!co_await copy_in()) co_return false;
            break;
        }
        case 6:
            copy_out();
            break;
        case 7:
            function_call();
            break;
        case 8:
            statement_errors();
            break;
        case 9:
            deallocate();
            break;
        case 10: {
            if (!co_await unnamed_later()) co_return false;
            break;
        }
        default:
            if (random_.happens(0.5)) {
                script_.describe_only(rows(1));
            } else if (state().status != 'E') {
                add(command("", ""));
            }
    }
    co_return true;
}

/// Longer than the timeouts of the users that have them.
awaitable<bool> turn::outstay() {
    const bool in_query = random_.happens(0.5);
    auto sleep = command("select pg_sleep(3)", "SELECT 1");
    sleep.columns = 1;
    if (in_query) add(sleep);
    const bool good = co_await send();
    if (good && !in_query) co_await pause(2);
    co_return good;
}

// ---- whole turns ----

awaitable<bool> turn::transaction() {
    end_batch();
    const double pace = std::array{0.0, 0.3, 1.0}[random_.below(3)];
    add(command("begin", "BEGIN", effect::begin));
    add(identity());
    if (!co_await maybe_send(pace)) co_return false;
    // SET and errors do not mix here: what a subtransaction takes back is not modelled.
    const bool sets = random_.happens(0.15);
    for (auto left = random_.below(6); left > 0; --left) {
        if (sets) {
            add(random_.happens(0.5) ? set(random_.happens(0.3)) : identity());
        } else if (!co_await item(true)) {
            co_return false;
        }
        if (!co_await maybe_send(pace)) co_return false;
    }
    if (!sets && random_.happens(0.1)) {
        add(failing());
        end_batch();
        if (random_.happens(0.5)) add(rows(1));
    }
    if (who_.where().timeouts && random_.happens(0.02)) {
        if (!co_await outstay()) co_return false;
    }
    end_batch();  // what failed skips to here
    if (state().status == 'T' && random_.happens(0.7)) add(identity());
    end_batch();
    if (random_.happens(0.8)) {
        add(command("commit", "COMMIT", effect::commit));
    } else {
        add(command("rollback", "ROLLBACK", effect::rollback));
    }
    end_batch();
    co_return co_await send();
}

/// Requests that are transactions of their own, many in one go.
awaitable<bool> turn::pipeline() {
    for (auto left = random_.between(1, 8); left > 0; --left) {
        if (!co_await item(false)) co_return false;
        if (random_.happens(0.1)) add(failing());
        if (random_.happens(0.1)) {
            end_batch();
            add(set(false));
            end_batch();
        }
        if (!co_await maybe_send(0.3)) co_return false;
    }
    end_batch();
    co_return co_await send();
}

/// Session mode: nothing of the client before may be there.
awaitable<bool> turn::fresh() {
    script_.query(
        {{.sql = "select $1::text, current_setting('search_path'), current_user::text, "
                 "(select count(*) from pg_prepared_statements)::text, "
                 "(select count(*) from pg_listening_channels())::text, "
                 "(select count(*) from pg_cursors)::text, "
                 "(select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())::text, "
                 "(select count(*) from pg_class where relnamespace = pg_my_temp_schema())::text",
          .params = {token()},
          .columns = 8,
          .rows = {data_row({token(), "\"$user\", public", who_.where().user, "0", "0", "0", "0", "0"})},
          .tag = "SELECT 1",
          .identity = true}});
    co_return co_await send();
}

/// Session mode: state that must be there in the next transaction, and must not reach the next client.
awaitable<bool> turn::session_state() {
    const auto number = std::to_string(state().next_seq) + "_" + std::to_string(random_.below(1000000));
    add(command("set search_path to 'p" + token().substr(0, 8) + "', public", "SET"));
    add(command("create temp table mine" + number + " as select '" + token() + "'::text t", "SELECT 1"));
    add(command("prepare q" + number + " as select '" + token() + "'", "PREPARE"));
    add(command("declare h" + number + " cursor with hold for select 1", "DECLARE CURSOR"));
    end_batch();
    if (!co_await maybe_send()) co_return false;
    add({.sql = "select t from mine" + number, .columns = 1, .rows = {data_row({token()})}, .tag = "SELECT 1"});
    add({.sql = "execute q" + number, .columns = 1, .rows = {data_row({token()})}, .tag = "SELECT 1"});
    add({.sql = "select $1::text || pg_advisory_lock($2::int8)::text",
         .params = {token(), std::to_string(who_.number())},
         .columns = 1,
         .rows = {data_row({token()})},
         .tag = "SELECT 1"});
    end_batch();
    co_return co_await send();
}

/// Session mode: a channel of its own, with the token as payload.
awaitable<bool> turn::notifications() {
    add(command("listen c" + token(), "LISTEN"));
    end_batch();
    for (auto left = random_.between(1, 3); left > 0; --left) {
        auto it = command("notify c" + token() + ", '" + token() + "'", "NOTIFY");
        it.notifies = true;
        add(it);
        end_batch();
        if (!co_await maybe_send()) co_return false;
    }
    if (random_.happens(0.5)) add(command("unlisten *", "UNLISTEN"));
    end_batch();
    co_return co_await send();
}

awaitable<outcome> turn::play(bool first) {
    const auto mode = who_.where().mode;
    const bool own_server = mode == pooling::session;
    if (first && own_server) {
        if (!co_await fresh()) co_return last_;
    }
    switch (random_.weighted({mode == pooling::statement ? 0U : 5U, 4, own_server ? 1U : 0U, own_server ? 1U : 0U})) {
        case 0:
            co_await transaction();
            break;
        case 1:
            co_await pipeline();
            break;
        case 2:
            co_await session_state();
            break;
        default:
            co_await notifications();
    }
    co_return last_;
}

}  // namespace

awaitable<void> virtual_client(world &shared, std::size_t where, std::uint64_t number) {
    chance random(shared.opt.seed, number << 32);
    const auto mode = shared.opt.logins[where].mode;
    for (std::uint64_t life = 1; !shared.over(); ++life) {
        const auto it = std::make_shared<session>(shared, where, number << 32 | life);
        const bool by_proxy = shared.opt.lying != lie::none || (shared.opt.faults && random.happens(0.4));
        if (co_await it->start(by_proxy)) {
            if (shared.opt.lying == lie::cancel) {
                asio::co_spawn(shared.io, session::cancel(it, 0.5, false), asio::detached);
            }
            const auto turns = random.size(mode == pooling::session ? 10 : 60);
            for (std::size_t i = 0; i < turns && it->alive() && !shared.over(); ++i) {
                turn one(*it);
                co_await one.play(i == 0);
                if (random.happens(0.5)) co_await pause(0.01 * random.happens(0.9));
            }
            co_await it->leave();
        }
        co_await pause(0.02);
    }
}

}  // namespace oracle
