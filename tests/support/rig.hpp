// One client_session and the server_sessions it is given, joined by the smallest driver there can be: what net/ does,
// without sockets and without a ledger. Bytes go in on both sides; what comes out is collected. The clock is virtual.
// Scripts say what each side sends and what must come out, and are run with every cut of their bytes.
#pragma once

#include <cstdio>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/client_session.hpp"
#include "core/server_session.hpp"
#include "support/messages.hpp"

namespace pgsluice::test {

/// "Random" bytes that are not, so that what depends on them can be written down.
class counting_random final : public core::random_source {
public:
    std::string bytes(std::size_t count) override {
        std::string all(count, '\0');
        for (auto &it : all) it = static_cast<char>(next_++);
        return all;
    }

private:
    unsigned char next_ = 1;
};

/// PostgreSQL 15's words at login, in its order; values by which a test may tell them.
inline const pairs &usual_parameters() {
    static const pairs it{{"application_name", ""},
                          {"client_encoding", "UTF8"},
                          {"DateStyle", "ISO, MDY"},
                          {"integer_datetimes", "on"},
                          {"IntervalStyle", "postgres"},
                          {"is_superuser", "off"},
                          {"server_encoding", "UTF8"},
                          {"server_version", "15.14"},
                          {"session_authorization", "app"},
                          {"standard_conforming_strings", "on"},
                          {"TimeZone", "UTC"}};
    return it;
}

/// The bytes of a login without a password, as a server sends them.
inline std::string server_hello(const pairs &parameters = usual_parameters()) {
    std::string all = be::auth(0);
    for (const auto &[name, value] : parameters) all += be::parameter(name, value);
    return all + be::key(4711, "\1\2\3\4") + be::ready('I');
}

/// Everything a session needs around it. Change `settings` and `pool` before the first connection.
struct world {
    config::settings settings;
    config::pool_settings pool;
    core::statement_store statements;
    core::known_starts starts;
    core::environment env;
    counting_random random;
    base::time_point now{std::chrono::hours(1000)};
    core::client_facts facts;  ///< of the clients

    world() {
        settings.global.auth_type = config::auth_type::any;
        settings.global.max_packet_size = 1 << 30;
        pool.database = pool.server_dbname = "db";
        pool.user = "app";
        pool.hosts = {"127.0.0.1"};
        pool.pool_mode = config::pool_mode::transaction;
        pool.server_reset_query = "DISCARD ALL";
        pool.server_check_query = ";";
        limits.query_wait_timeout = base::seconds(120);
    }
    config::client_limits limits;
    base::duration query_wait_notify{0};

    void build() {
        env.settings = std::make_shared<config::settings>(settings);
        env.statements = &statements;
        env.starts = &starts;
        env.random = &random;
        env.mock_key = "mock";
        shared_pool = std::make_shared<config::pool_settings>(pool);
    }
    std::shared_ptr<const config::pool_settings> shared_pool;

    core::shared_route route(const std::string &user = "app",
                             const std::shared_ptr<const core::replication_start> &replicates = nullptr) const {
        auto it = std::make_shared<core::route>();
        it->database = pool.database;
        it->user = user;
        it->settings = shared_pool;
        it->limits = limits;
        it->query_wait_notify = query_wait_notify;
        it->client_login_timeout = settings.global.client_login_timeout;
        it->max_packet_size = settings.global.max_packet_size;
        if (replicates) {  // as the ledger makes it
            auto own = std::make_shared<config::pool_settings>(*shared_pool);
            own->pool_mode = config::pool_mode::session;
            own->server_reset_query.clear();
            own->client_disconnect_action = config::disconnect_action::close;
            it->settings = own;
            it->replicates = replicates->kind;
        }
        return it;
    }
    std::unique_ptr<core::server_session> new_server(core::server_secret secret = {}) {
        if (secret.user.empty()) secret.user = pool.user;
        return std::make_unique<core::server_session>(shared_pool, std::move(secret),
                                                      random.bytes(auth::scram_nonce_bytes));
    }
    /// Logged in without a password.
    std::unique_ptr<core::server_session> idle_server(const pairs &parameters = usual_parameters()) {
        auto it = new_server();
        core::effects fx;
        it->on_connected(fx);
        fx.clear();
        it->on_bytes(server_hello(parameters), fx);
        return it;
    }
};

/// A client and a stock of servers.
class rig {
public:
    explicit rig(world &around, std::size_t servers = 1) : world_(around) {
        if (!world_.shared_pool) world_.build();
        client_ = std::make_unique<core::client_session>(base::client_id{7}, world_.env, world_.now, world_.facts);
        for (std::size_t i = 0; i < servers; ++i) add_server(world_.idle_server());
    }
    void add_server(std::unique_ptr<core::server_session> it) { idle_.push_back(std::move(it)); }

    /// The server that was last in use.
    std::unique_ptr<core::server_session> take_idle() {
        auto it = std::move(idle_.front());
        idle_.pop_front();
        return it;
    }
    /// The next grant gives another server than the last.
    void rotate() {
        idle_.push_back(std::move(idle_.front()));
        idle_.pop_front();
    }

    // ---- what goes in ----

    void client_sends(std::string_view bytes) {
        from_client_ += bytes;
        pump();
    }
    /// The answer to looks_up.
    void named(const std::string &host_name) {
        fx_.clear();
        looks_up = false;
        client_->on_named(host_name, fx_);
        collect();
        if (step()) pump();
    }
    /// The answer to `asked`.
    void checked(auth::password_verdict::kind what, const std::string &for_the_log = {}) {
        fx_.clear();
        asked.reset();
        client_->on_checked({what, for_the_log}, world_.now, fx_);
        collect();
        if (step()) pump();
    }
    void server_sends(std::string_view bytes) {
        if (server_ == nullptr) {
            stray += bytes;
            return;
        }
        from_server_ += bytes;
        fx_.clear();
        const auto used = server_->on_bytes(from_server_, fx_);
        if (server_->client() != nullptr) client_->on_progress(world_.now, fx_);
        collect();
        from_server_.erase(0, used);
        const auto next = fx_.client;
        if (client_gone && server_->client() == nullptr && fx_.server != core::server_next::errand_done)
            return after_farewell();
        if (fx_.server == core::server_next::cancel && server_->begin_cancel()) ++cancels;
        if (fx_.server == core::server_next::release) release();
        if (fx_.server == core::server_next::errand_done) {
            idle_.push_back(std::move(server_));
            from_server_.clear();
        }
        if (fx_.server == core::server_next::lose) return lose(next == core::client_next::close);
        if (next == core::client_next::close) return end_client();
        if (next == core::client_next::resume) pump();
    }
    /// A client that wants a server waits from now on, until grant().
    void hold() { hold_ = true; }
    void grant() {
        hold_ = false;
        if (idle_.empty() || client_->state() != core::client_state::waiting) return;
        if (link()) pump();
    }
    void server_dies() {
        if (server_ != nullptr) lose(false);
    }
    void client_dies() { end_client(); }
    /// The client goes of its own: with Terminate, or without a word.
    void client_vanishes() {
        leaves = core::parting::vanished;
        end_client();
    }
    /// A CancelRequest with this client's key.
    core::cancel_answer cancel() {
        const auto answer = server_->on_cancel();
        if (answer == core::cancel_answer::begin && server_->begin_cancel()) ++cancels;
        return answer;
    }
    /// The cancel connection is over.
    void cancel_over(bool in_time = true) {
        fx_.clear();
        server_->on_cancel_over(in_time, fx_);
        collect();
        if (client_gone) return after_farewell();
        if (fx_.server == core::server_next::cancel && server_->begin_cancel()) ++cancels;
        if (fx_.server == core::server_next::release) release();
        if (fx_.server == core::server_next::lose) lose(false);
    }
    /// The driver took what on_cancel_unsent() has taken.
    void drop_unread(std::size_t count) { from_client_.erase(0, count); }
    void slow() {
        fx_.clear();
        server_->on_farewell_slow(fx_);
        collect();
        after_farewell();
    }
    /// What the driver's timer does at the client's deadline.
    void ring() {
        fx_.clear();
        client_->on_deadline(world_.now, fx_);
        collect();
        if (step()) pump();
    }
    void pass(base::duration time) { world_.now += time; }
    void refuse(core::refusal reason) {
        fx_.clear();
        client_->on_refused(reason, {}, fx_);
        collect();
        end_client();
    }
    /// With hold_welcome set: the pool's first server is there.
    void welcome() {
        greet();
        pump();
    }

    // ---- what came out ----

    std::string to_client, to_server, why;
    std::string stray;                            ///< what "the server" sent while the client had none
    core::parting leaves = core::parting::ended;  ///< how a client that dies goes
    bool client_gone = false, wants_cancel = false, hold_welcome = false, looks_up = false;
    std::optional<auth::password_check> asked;  ///< that PAM or LDAP is to answer
    std::size_t asked_key_bytes = 0;
    int releases = 0, grants = 0, cancels = 0;
    bool released_unclean = false;

    core::client_session &client() { return *client_; }
    core::server_session *server() { return server_.get(); }
    std::size_t idle() const { return idle_.size(); }
    std::size_t lost() const { return lost_.size(); }
    std::string take_client() { return std::exchange(to_client, {}); }
    std::string take_server() { return std::exchange(to_server, {}); }

    /// Past the login, with the welcome dropped.
    rig &welcomed(const pairs &parameters = {{"user", "app"}, {"database", "db"}}) {
        client_sends(startup(parameters));
        to_client.clear();
        return *this;
    }

private:
    void collect() {
        to_client += fx_.to_client.text();
        to_server += fx_.to_server.text();
        if (why.empty()) why = fx_.why;
    }

    void pump() {
        bool go_on = !client_gone;
        while (go_on) {
            fx_.clear();
            const auto used = client_->on_bytes(from_client_, world_.now, fx_);
            collect();
            from_client_.erase(0, used);
            const bool over = fx_.server == core::server_next::release;
            go_on = step();
            if (over && server_ != nullptr) release();
        }
    }
    /// Does what the client's machine asked for; true when it may go on with its bytes.
    bool step() {
        switch (fx_.client) {
            case core::client_next::none:
                return false;
            case core::client_next::resume:
                return true;
            case core::client_next::admit:
                fx_.clear();
                client_->on_admitted(fx_);
                collect();
                return fx_.client == core::client_next::none || step();
            case core::client_next::find_name:
                looks_up = true;
                return false;
            case core::client_next::check_password:
                asked = client_->take_check();
                return false;
            case core::client_next::find_secret:
                return false;  // on_secret() is the test's to call
            case core::client_next::derive: {
                const auto keys = auth::do_work(client_->work());
                fx_.clear();
                client_->on_derived(keys, world_.now, fx_);
                collect();
                return fx_.client != core::client_next::none && step();
            }
            case core::client_next::join:
                client_->on_joined(world_.route(client_->user(), client_->login()->replicates()), world_.now);
                if (hold_welcome) return false;
                if (client_->replicates()) return !idle_.empty() && link();
                greet();
                return true;
            case core::client_next::want:
                return !hold_ && !idle_.empty() && link();
            case core::client_next::secure:
            case core::client_next::command:  // tests of the console have a driver of their own
                return false;
            case core::client_next::cancel:
                wants_cancel = client_gone = true;
                return false;
            case core::client_next::close:
                end_client();
                return false;
        }
        return false;
    }
    void greet() {
        fx_.clear();
        asked_key_bytes = client_->login()->cancel_key_bytes();
        const auto greeting = client_->replicates() ? server_->greeting() : world_.idle_server()->greeting();
        client_->on_welcome(*greeting, {42, "\1\2\3\4"}, world_.now, fx_);
        collect();
    }
    bool link() {
        server_ = std::move(idle_.front());
        idle_.pop_front();
        ++grants;
        if (client_->state() == core::client_state::joining) greet();
        fx_.clear();
        client_->on_granted(*server_, world_.now, fx_);
        collect();
        return fx_.client == core::client_next::resume;
    }
    void release() {
        released_unclean = released_unclean || !server_->clean();
        server_->unlink();
        client_->on_released(world_.now);
        ++releases;
        if (!server_->same_identity()) return lose(true);
        idle_.push_front(std::move(server_));
    }
    void lose(bool client_knows) {
        const bool mid = server_->relaying_message() || server_->said_last_words();
        const bool linked = server_->client() != nullptr;
        server_->close();
        lost_.push_back(std::move(server_));
        from_server_.clear();
        if (!linked || client_gone) return;
        if (client_knows) return end_client();
        fx_.clear();
        client_->on_server_lost(mid, fx_);
        collect();
        if (fx_.client == core::client_next::close) end_client();
    }
    void end_client() {
        if (std::exchange(client_gone, true) || server_ == nullptr) return;
        fx_.clear();
        server_->farewell(leaves, "ended", fx_);
        collect();
        after_farewell();
    }

    void after_farewell() {
        if (fx_.server == core::server_next::lose) return lose(true);
        if (fx_.server == core::server_next::cancel && server_->begin_cancel()) ++cancels;
        if (fx_.server != core::server_next::release) return;
        released_unclean = released_unclean || !server_->clean();
        idle_.push_front(std::move(server_));
        from_server_.clear();
        ++releases;
    }

    world &world_;
    core::effects fx_;
    std::unique_ptr<core::client_session> client_;
    std::unique_ptr<core::server_session> server_;
    std::deque<std::unique_ptr<core::server_session>> idle_;
    std::vector<std::unique_ptr<core::server_session>> lost_;
    std::string from_client_, from_server_;
    bool hold_ = false;
};

// ---- scripts ----

struct action {
    enum class kind : std::uint8_t { client, server, to_client, to_server, closed, released } what;
    std::string bytes{};
};
/// The client sends, the server sends; what comes to the client, to the server; the client is closed; the server is
/// back in the pool.
inline action client(std::string bytes) {
    return {action::kind::client, std::move(bytes)};
}
inline action server(std::string bytes) {
    return {action::kind::server, std::move(bytes)};
}
inline action to_client(std::string bytes) {
    return {action::kind::to_client, std::move(bytes)};
}
inline action to_server(std::string bytes) {
    return {action::kind::to_server, std::move(bytes)};
}
inline const action closed{action::kind::closed};
inline const action released{action::kind::released};

using script = std::vector<action>;

/// How a script's bytes are cut: whole; byte by byte; or in two at `at`, for the action number `which`.
struct cutting {
    bool bytewise = false;
    std::size_t which = ~std::size_t{0}, at = 0;
};

/// Runs it; the first thing that is not as written, or "". An expected text may come in any part of the step before it.
inline std::string run(rig &it, const script &lines, cutting how = {}, std::size_t stop_at = ~std::size_t{0}) {
    for (std::size_t i = 0; i < lines.size() && i < stop_at; ++i) {
        const auto &line = lines[i];
        const auto feed = [&](auto &&send) {
            if (how.bytewise) {
                for (const char c : line.bytes) send(std::string_view(&c, 1));
            } else if (how.which == i) {
                send(std::string_view(line.bytes).substr(0, how.at));
                send(std::string_view(line.bytes).substr(how.at));
            } else {
                send(std::string_view(line.bytes));
            }
        };
        const auto differs = [&](const std::string &got) {
            const auto show = [](const std::string &bytes) {
                std::string text;
                for (const char c : bytes) {
                    if (c >= 32 && c < 127) {
                        text += c;
                    } else {
                        char hex[5];
                        static_cast<void>(std::snprintf(hex, sizeof hex, "\\%02x", static_cast<unsigned char>(c)));
                        text += hex;
                    }
                }
                return text;
            };
            return "line " + std::to_string(i) + " (cut " + (how.bytewise ? "bytewise" : std::to_string(how.which)) +
                   " at " + std::to_string(how.at) + ")\n  got  " + show(got) + "\n  want " + show(line.bytes);
        };
        switch (line.what) {
            case action::kind::client:
                feed([&](std::string_view part) { it.client_sends(part); });
                break;
            case action::kind::server:
                feed([&](std::string_view part) { it.server_sends(part); });
                break;
            case action::kind::to_client:
                if (const auto got = it.take_client(); got != line.bytes) return differs(got);
                break;
            case action::kind::to_server:
                if (const auto got = it.take_server(); got != line.bytes) return differs(got);
                break;
            case action::kind::closed:
                if (!it.client_gone) return "line " + std::to_string(i) + ": the client is not closed";
                break;
            case action::kind::released:
                if (it.server() != nullptr || it.lost() > 0 || it.released_unclean)
                    return "line " + std::to_string(i) + ": the server did not go back";
                break;
        }
    }
    if (!it.stray.empty()) return "the server sent without a client";
    if (it.released_unclean) return "a server went back unclean";
    return {};
}

/// Runs it on fresh rigs: whole, byte by byte, with every cut in two; then with either peer gone at every step, which
/// must leave no server in the pool that is not clean. `make` gives a rig by pointer.
template <class Make>
std::string run_every_way(Make &&make, const script &lines) {
    const auto once = [&](cutting how) {
        auto it = make();
        return run(*it, lines, how);
    };
    if (auto wrong = once({}); !wrong.empty()) return wrong;
    if (auto wrong = once({.bytewise = true}); !wrong.empty()) return wrong;
    for (std::size_t i = 0; i < lines.size(); ++i) {
        if (lines[i].what != action::kind::client && lines[i].what != action::kind::server) continue;
        const auto size = lines[i].bytes.size();
        const std::size_t step = size > 2000 ? size / 500 : 1;
        for (std::size_t at = 1; at < size; at += step) {
            if (auto wrong = once({.which = i, .at = at}); !wrong.empty()) return wrong;
        }
    }
    for (std::size_t i = 0; i <= lines.size(); ++i) {
        for (const bool client_dies : {true, false}) {
            auto it = make();
            static_cast<void>(run(*it, lines, {}, i));
            const bool owed = it->server() != nullptr && !it->server()->clean();
            const bool linked = it->server() != nullptr;
            client_dies ? it->client_dies() : it->server_dies();
            const auto at = "peer gone before line " + std::to_string(i);
            if (it->released_unclean) return at + ": a server went back unclean";
            if (client_dies && owed && it->lost() == 0) return at + ": an unclean server was kept";
            if (!client_dies && linked && !it->client_gone) return at + ": the client outlives its server";
        }
    }
    return {};
}

}  // namespace pgsluice::test
