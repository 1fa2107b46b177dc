// A PostgreSQL backend in small, at the level of bytes: login, simple and extended protocol, transactions, COPY,
// errors, parameters, statements with and without a name. What a request does is in its text: "T<client>.<request>
// <letters>", and every row and error says whose request it answers, and under which application_name (which is
// reported) and my.who (which is not) it ran. Written from the manual and PostgresMain, not from src/. One step is one
// message read or one reply.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "sim/wire.hpp"
#include "support/messages.hpp"

namespace pgsluice::sim {

namespace be = test::be;

class backend {
public:
    enum class mood : std::uint8_t { good, refuses, starts_up, closes_early, full };

    backend(wire &link, dice &luck, mood at_login, std::uint32_t pid)
        : wire_(link), dice_(luck), mood_(at_login), pid_(pid) {}

    bool ended() const { return wire_.ended_by_peer; }
    std::uint32_t pid() const { return pid_; }
    char status() const { return status_; }
    bool logged_in() const { return ready_; }
    /// It was started for replication, and then told something that no player says.
    bool disturbed() const { return disturbed_; }
    /// Nothing runs and no batch is open.
    bool at_rest() const { return !running_ && !skip_ && !batch_; }

    std::string describe() const {
        return now_ + (running_ ? " running" : "") + (copying_ ? " copying" : "") + (skip_ ? " skipping" : "") +
               (batch_ ? " in a batch" : "") + " unread " + std::to_string(in_.size());
    }

    void receive(std::string_view bytes) { in_ += bytes; }
    /// False when there is nothing to do.
    bool step() {
        if (ended()) return false;
        if (wire_.from_peer.size() > 16 * 1024) return false;  // it reads no more while nobody takes its answers
        if (running_ && !copying_) {
            next_word();
            return true;
        }
        return read_message();
    }
    /// A CancelRequest with our key came.
    void cancel() {
        if (!ended() && running_) fail("57014", "canceled");
    }
    /// pg_terminate_backend, or worse.
    void die(bool politely) {
        if (ended()) return;
        if (politely && ready_) {
            say(be::error("FATAL", "57P01", "terminating connection due to administrator command"));
        } else if (!wire_.from_peer.empty()) {
            wire_.from_peer.resize(dice_.pick(wire_.from_peer.size()));
        }
        wire_.reset = !politely && dice_.once_in(2);
        wire_.ended_by_peer = true;
    }
    void hear_end() {
        if (!ended()) wire_.ended_by_peer = true;
    }

private:
    void say(const std::string &bytes) { wire_.from_peer += bytes; }

    bool read_message() {
        if (!ready_ && !started_) return log_in();
        if (in_.size() < 5) return false;
        std::size_t length = 0;
        for (std::size_t i = 1; i < 5; ++i) length = length * 256 + static_cast<unsigned char>(in_[i]);
        if (in_.size() < length + 1) return false;
        const char type = in_[0];
        const std::string body = in_.substr(5, length - 4);
        in_.erase(0, length + 1);
        copying_ ? on_copy(type) : on_message(type, body);
        return true;
    }

    bool log_in() {
        if (in_.size() < 4) return false;
        std::size_t length = 0;
        for (std::size_t i = 0; i < 4; ++i) length = length * 256 + static_cast<unsigned char>(in_[i]);
        if (in_.size() < length) return false;
        read_parameters(in_.substr(8, length - 8));
        in_.erase(0, length);
        started_ = true;
        if (parameters_["my.who"] == "bad" && mood_ == mood::good) {
            say(be::error("FATAL", "22023", "invalid value"));
            wire_.ended_by_peer = true;
            return true;
        }
        switch (mood_) {
            case mood::refuses:
                say(be::error("FATAL", "3D000", "database \"x\" does not exist"));
                break;
            case mood::starts_up:
                say(be::error("FATAL", "57P03", "the database system is starting up"));
                break;
            case mood::full:
                say(be::error("FATAL", "53300", "sorry, too many clients already"));
                break;
            case mood::closes_early:
                say(be::auth(0).substr(0, 3));
                break;
            case mood::good:
                say(be::auth(0) + be::parameter("server_version", "15.14") + be::parameter("client_encoding", "UTF8") +
                    be::parameter("DateStyle", "ISO, MDY") + be::parameter("TimeZone", "UTC") +
                    be::parameter("standard_conforming_strings", "on") +
                    be::parameter("application_name", parameters_["application_name"]) +
                    be::parameter("IntervalStyle", "postgres") + be::key(pid_, "\1\2\3\4") + be::ready('I'));
                ready_ = true;
                return true;
        }
        wire_.ended_by_peer = true;
        return true;
    }

    void read_parameters(const std::string &pairs) {
        for (std::size_t at = 0; at < pairs.size() && pairs[at] != '\0';) {
            const std::string name(pairs.c_str() + at);
            at += name.size() + 1;
            const std::string value(pairs.c_str() + at);
            at += value.size() + 1;
            replicates_ = replicates_ || name == "replication";
            if (name == "application_name" || name == "my.who") parameters_[name] = value;
        }
    }

    void on_message(char type, const std::string &body) {
        const auto text = body.substr(0, body.find('\0'));
        disturbed_ = disturbed_ || (replicates_ && (type == 'C' || (type == 'Q' && !text.starts_with('T'))));
        switch (type) {
            case 'X':
                wire_.ended_by_peer = true;
                return;
            case 'S':
                skip_ = batch_ = extended_ = false;
                say(be::ready(status_));
                return;
            case 'H':
            case 'd':
            case 'c':
            case 'f':
                return;
            case 'Q':
                if (skip_) return;
                extended_ = batch_ = false;
                statements_.erase("");
                return start(text);
            case 'F':
                if (skip_) return;
                extended_ = batch_ = false;
                say(test::message('V', test::be32(4) + "abcd") + be::ready(status_));
                return;
            default:
                break;
        }
        if (skip_) return;
        extended_ = batch_ = true;
        switch (type) {
            case 'P': {
                const auto sql = body.substr(text.size() + 1);
                if (text.empty()) statements_.erase(text);
                now_ = sql.substr(0, sql.find('\0'));
                if (now_.find('p') != std::string::npos) return fail("42601", "syntax error");
                if (!statements_.emplace(text, now_).second) return fail("42P05", "prepared statement already exists");
                return say(be::parse_complete);
            }
            case 'B': {
                const auto found = statements_.find(body.c_str() + text.size() + 1);
                if (found == statements_.end()) return fail("26000", "prepared statement does not exist");
                portal_ = now_ = found->second;
                return say(be::bind_complete);
            }
            case 'D': {
                const auto found = body[0] == 'S' ? statements_.find(body.c_str() + 1) : statements_.end();
                if (body[0] == 'S') {
                    if (found == statements_.end()) return fail("26000", "prepared statement does not exist");
                    say(be::parameter_description);
                }
                const auto &what = body[0] == 'S' ? found->second : portal_;
                return say(what.find('r') != std::string::npos ? be::columns("c") : be::no_data);
            }
            case 'C':
                if (body[0] == 'S') statements_.erase(body.c_str() + 1);
                return say(be::close_complete);
            case 'E':
                return start(portal_);
            default:
                say(be::error("FATAL", "08P01", "invalid frontend message type"));
                wire_.ended_by_peer = true;
        }
    }

    void start(const std::string &sql) {
        now_ = sql;
        before_.reset();
        running_ = true;
        described_ = false;
        at_ = sql.starts_with('T') ? std::min(sql.size(), sql.find(' ') + 1) : sql.size();
        ends_ = sql == "ROLLBACK" || (sql.starts_with('T') && sql.find('c', at_) != std::string::npos);
        if (status_ == 'E' && !ends_) return fail("25P02", "current transaction is aborted");
    }

    /// One letter of the text: one reply.
    void next_word() {
        if (!now_.starts_with('T')) return run_sql();
        if (at_ >= now_.size()) return complete();
        switch (now_[at_++]) {
            case 'R':
            case 'r': {
                const bool big = now_[at_ - 1] == 'R';
                if (!described_ && !extended_) say(be::columns("c"));
                described_ = true;
                return say(be::row(whose() + "|" + parameters_["application_name"] + "|" + parameters_["my.who"] + "|" +
                                   std::string(big ? 3000 : 0, '.')));
            }
            case 'b':
                status_ = status_ == 'I' ? 'T' : status_;
                return;
            case 'c':
                status_ = 'I';
                return;
            case 'x':
                return fail("22012", "division by zero");
            case 'n':
                return say(be::notice(whose()));
            case 'a':
                before_ = std::exchange(parameters_["application_name"], whose());
                return say(be::parameter("application_name", whose()));
            case 'u':
                resets_ = true;
                return;
            case 'i':
                copying_ = true;
                return say(be::copy_in);
            case 'o':
                return say(be::copy_out + test::message('d', whose()) + test::message('c'));
            default:
                return;
        }
    }

    /// What the pooler says of its own accord: lists of SET and RESET, all or none; check and reset queries.
    void run_sql() {
        auto after = parameters_;
        std::string answers;
        std::size_t at = 0;
        while ((at = now_.find("SET \"", at)) != std::string::npos) {
            const bool reset = at >= 2 && now_.compare(at - 2, 2, "RE") == 0;
            at += 5;
            const auto name = now_.substr(at, now_.find('"', at) - at);
            if (reset) {
                after.erase(name);
                answers += be::complete("RESET");
                continue;
            }
            at = now_.find("='", at) + 2;
            const auto value = now_.substr(at, now_.find('\'', at) - at);
            if (value == "bad") return fail("22023", "invalid value");
            after[name] = value;
            answers += (name == "my.who" ? "" : be::parameter(name, value)) + be::complete("SET");
        }
        parameters_ = std::move(after);
        say(answers);
        if (now_ == "ROLLBACK") status_ = 'I';
        if (now_ == "DISCARD ALL") {
            statements_.clear();
            parameters_.erase("my.who");
            if (!parameters_["application_name"].empty()) say(be::parameter("application_name", ""));
            parameters_["application_name"].clear();
        }
        running_ = false;
        say(be::complete("OK") + be::ready(status_));
    }

    void complete() {
        running_ = false;
        before_.reset();
        if (resets_) parameters_.erase("my.who");
        say(be::complete(std::exchange(resets_, false) ? "RESET" : "DONE"));
        if (!extended_) say(be::ready(status_));
    }

    void on_copy(char type) {
        switch (type) {
            case 'd':
                if (at_ < now_.size() && now_[at_] == 'x') return fail("22P02", "invalid input syntax");
                return;
            case 'S':
            case 'H':
                return;
            case 'c':
                copying_ = false;
                return;
            case 'f':
                return fail("57014", "COPY from stdin failed");
            default:
                say(be::error("ERROR", "08P01", "unexpected message type during COPY from stdin"));
                say(be::error("FATAL", "08P01", "terminating connection because protocol synchronization was lost"));
                wire_.ended_by_peer = true;
        }
    }

    void fail(std::string_view code, std::string_view text) {
        running_ = copying_ = resets_ = false;
        if (before_) {  // rolled back
            parameters_["application_name"] = *before_;
            say(be::parameter("application_name", *std::exchange(before_, std::nullopt)));
        }
        if (status_ == 'T') status_ = 'E';
        say(be::error("ERROR", code, std::string(text) + " @" + whose()));
        if (extended_) {
            skip_ = true;
        } else {
            say(be::ready(status_));
        }
    }

    /// "T12.3" of the text that runs.
    std::string whose() const { return now_.substr(0, now_.find(' ')); }

    wire &wire_;
    dice &dice_;
    mood mood_;
    std::uint32_t pid_;
    std::string in_, now_, portal_;
    std::map<std::string, std::string> statements_;  ///< by name; "" is the unnamed one
    std::optional<std::string> before_;  ///< what application_name was when the request that runs changed it
    std::map<std::string, std::string> parameters_;
    std::size_t at_ = 0;
    char status_ = 'I';
    bool started_ = false, ready_ = false, running_ = false, copying_ = false, skip_ = false, batch_ = false,
         extended_ = false;
    bool described_ = false, ends_ = false;
    bool replicates_ = false, disturbed_ = false;
    bool resets_ = false;  ///< what runs takes my.who back
};

}  // namespace pgsluice::sim
