// A model application: connects, asks at random, and checks every byte it gets: rows, errors and parameters must be its
// own. It knows the protocol, not the pooler. Everything it does comes from the dice.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "sim/wire.hpp"
#include "support/messages.hpp"

namespace pgsluice::sim {

namespace fe = test::fe;

class player {
public:
    struct habits {
        bool session_mode = false, statement_mode = false;
        bool replicates = false;  ///< asks for a server of its own
        bool may_fail = true;     ///< may say wrong things and leave without a word
    };

    player(wire &link, dice &luck, int number, std::string user, std::string database, habits how)
        : wire_(link), dice_(luck), me_("T" + std::to_string(number)), habits_(how) {
        if (dice_.pick(3) == 0) application_ = me_ + "-start";
        test::pairs parameters{{"user", std::move(user)}, {"database", std::move(database)}};
        if (!application_.empty()) parameters.emplace_back("application_name", application_);
        if (dice_.pick(3) == 0) who_ = habits_.may_fail && dice_.once_in(8) ? "bad" : me_ + "-who";
        if (!who_.empty()) parameters.emplace_back("my.who", who_);
        if (habits_.replicates) parameters.emplace_back("replication", "database");
        send(test::startup(parameters));
    }

    bool gone() const { return wire_.ended_by_peer; }
    bool idle() const { return welcomed_ && due_ == 0 && !in_copy_; }
    bool welcomed() const { return welcomed_; }
    bool in_transaction() const { return status_ != 'I'; }
    std::string name() const { return me_; }
    std::uint32_t key_pid() const { return pid_; }
    const std::string &key_secret() const { return secret_; }
    void note_cancel() { canceled_ = true; }
    int answered() const { return answered_; }
    /// For a failure's report.
    std::string describe() const {
        return me_ + " asked " + last_ + ", due " + std::to_string(due_) + (unsynced_ ? " unsynced" : "") +
               (in_copy_ ? " copying" : "") + " status " + status_ + (gone() ? " gone" : "");
    }

    /// Says something, when there is something to say. `closing_time`: only what brings it to an end.
    void act(bool closing_time) {
        if (gone() || !welcomed_) return;
        if (in_copy_) return go_on_copying();
        if (due_ > 0 || unsynced_) {
            if (unsynced_ && !expects_copy_ && (closing_time || dice_.once_in(3))) sync();
            return;
        }
        if (closing_time || dice_.once_in(200)) {
            if (status_ == 'I' || dice_.once_in(3)) return leave(dice_.once_in(2));
            return query("rc");
        }
        if (status_ != 'I') return inside();
        outside();
    }
    void leave(bool with_terminate) {
        if (gone()) return;
        if (with_terminate) {
            send(fe::terminate);
        } else if (!wire_.from_peer.empty() && habits_.may_fail) {
            wire_.from_peer.resize(dice_.pick(wire_.from_peer.size() + 1));  // lost with the connection
        }
        wire_.reset = habits_.may_fail && dice_.once_in(2);
        wire_.ended_by_peer = true;
    }

    /// What the pooler sent; the first thing that is wrong with it, or "".
    std::string hear(std::string_view bytes) {
        in_ += bytes;
        while (in_.size() >= 5) {
            std::size_t length = 0;
            for (std::size_t i = 1; i < 5; ++i) length = length * 256 + static_cast<unsigned char>(in_[i]);
            if (length < 4 || length > 1'000'000) return me_ + " got a length that can not be";
            if (in_.size() < length + 1) break;
            const char type = in_[0];
            const std::string body = in_.substr(5, length - 4);
            in_.erase(0, length + 1);
            if (auto wrong = on_message(type, body); !wrong.empty())
                return me_ + " " + wrong + " in answer to " + last_;
        }
        return {};
    }

private:
    void send(const std::string &bytes) {
        if (!wire_.ended_by_peer) wire_.from_peer += bytes;
    }
    std::string text(std::string_view letters) {
        last_ = me_ + "." + std::to_string(++count_) + " " + std::string(letters);
        reset_ = reset_ || letters.find('u') != std::string_view::npos;
        return last_;
    }
    void query(std::string_view letters) {
        sync_ahead_ = false;
        send(fe::query(text(letters)));
        ++due_;
    }
    void sync() {
        send(fe::sync);
        ++due_;
        sync_ahead_ = unsynced_;
        unsynced_ = false;
    }
    /// A COPY of a batch whose Sync was sent already has eaten it, unless it failed before: it needs another one, and
    /// there may be a ReadyForQuery too many.
    void sync_again() {
        if (!std::exchange(sync_ahead_, false)) return;
        send(fe::sync);
        ++spare_;
        loose_ = true;
    }
    void batch(std::string_view letters, bool with_parse = true) {
        const auto sql = text(letters);
        std::string all = with_parse ? fe::parse("", sql) : "";
        all += fe::bind("", "");
        if (dice_.once_in(2)) all += fe::describe('P', "");
        send(all + fe::execute(""));
        unsynced_ = true;
    }

    void outside() {
        switch (dice_.pick(habits_.statement_mode ? 9 : 14)) {
            case 0:
                return query("r");
            case 1:
                return query(dice_.once_in(2) ? "rrnr" : "RRRR");
            case 2:
                for (int i = dice_.pick(4); i >= 0; --i) dice_.once_in(3) ? pipeline_batch() : query("r");
                return;
            case 3:
                return pipeline_batch();
            case 4:
                return copy();
            case 5:
                return query(dice_.once_in(3) ? "o" : dice_.once_in(2) ? "rx" : "");
            case 6:
                return dice_.once_in(3) ? sync() : query("n");
            case 7:
                if (dice_.once_in(8)) return misbehave();
                send(fe::function_call);
                ++due_;
                return;
            case 8:
                if (!habits_.session_mode && dice_.once_in(3)) {  // not there, or its own; never another's
                    batch("r", false);
                    return sync();
                }
                return query("r");
            case 9:
                return query(dice_.once_in(3) ? "ru" : "a");
            case 10:
                batch("br");
                send(fe::flush);
                return;
            default:
                return query("br");
        }
    }
    void inside() {
        switch (dice_.pick(8)) {
            case 0:
                return query("r");
            case 1:
                batch(dice_.once_in(4) ? "rx" : "rr");
                if (dice_.once_in(2)) send(fe::flush);
                return;
            case 2:
                return query(dice_.once_in(2) ? "x" : "RR");
            case 3:
                return copy();
            case 4:
                if (dice_.once_in(10)) return;  // idle in transaction
                return query("r");
            default:
                return query("rc");
        }
    }
    void pipeline_batch() {
        batch(dice_.once_in(6) ? "p" : dice_.once_in(6) ? "rxr" : "rr");
        if (dice_.once_in(4)) batch("r");
        sync();
    }
    void copy() {
        const bool bad = dice_.once_in(4);
        if (dice_.once_in(3)) {
            send(fe::query(text(bad ? "ix" : "i")) + fe::copy_data("1\n") + fe::copy_data("2\n") + fe::copy_done);
        } else if (dice_.once_in(2)) {
            send(fe::query(text(bad ? "ix" : "i")));
        } else {
            batch(bad ? "ix" : "i");
            send(fe::flush);
            expects_copy_ = true;  // a Sync sent now would be eaten by the COPY
            return;
        }
        ++due_;
    }
    void go_on_copying() {
        if (!dice_.once_in(3)) return send(fe::copy_data(std::string(dice_.pick(std::size_t{300}), 'x')));
        send(dice_.once_in(4) ? fe::copy_fail("enough") : fe::copy_done);
        in_copy_ = false;
        sync_again();
    }
    /// Things that end the connection, or get an answer of the pooler's own.
    void misbehave() {
        if (!habits_.may_fail) return query("r");
        switch (dice_.pick(4)) {
            case 0:
                return send(test::message('?', "what"));
            case 1:
                return send(test::header('Q', 3));
            case 2:
                if (habits_.session_mode) return query("r");
                send(fe::parse("named", text("r")) + fe::bind("", "named"));
                return sync();
            default:
                return leave(false);
        }
    }

    std::string on_message(char type, const std::string &body) {
        switch (type) {
            case 'K':
                pid_ = static_cast<std::uint32_t>(static_cast<unsigned char>(body[0])) << 24 |
                       static_cast<std::uint32_t>(static_cast<unsigned char>(body[1])) << 16 |
                       static_cast<std::uint32_t>(static_cast<unsigned char>(body[2])) << 8 |
                       static_cast<unsigned char>(body[3]);
                secret_ = body.substr(4);
                return {};
            case 'Z':
                if (!welcomed_) {
                    welcomed_ = true;
                    return {};
                }
                if (due_ == 0) return spare_-- > 0 ? "" : "got a ReadyForQuery too many";
                sync_ahead_ = false;
                --due_;
                ++answered_;
                status_ = body[0];
                in_copy_ = false;
                return {};
            case 'D':
                if (due_ == 0 && !unsynced_ && !loose_) return "got a row without asking";
                return own_row(body.substr(6));
            case 'd':
                return owner(body) ? "" : "got another's COPY data: " + body;
            case 'N': {
                const auto text = test::field(body, 'M');
                return text.starts_with("No server connection") || owner(text) ? "" : "got another's notice: " + text;
            }
            case 'S':
                return own_parameter(body);
            case 'E':
                return own_error(body);
            case 'G':
                in_copy_ = true;
                expects_copy_ = false;
                return {};
            default:
                return {};
        }
    }
    bool owner(std::string_view text) const { return text.starts_with(me_ + "."); }
    std::string own_row(const std::string &value) {
        if (!owner(value)) return "got another's row: " + value;
        const auto bar = value.find('|') + 1;
        const auto application = value.substr(bar, value.find('|', bar) - bar);
        if (application != application_)
            return "ran under application_name '" + application + "', not '" + application_ + "'";
        const auto second = value.find('|', bar) + 1;
        const auto who = value.substr(second, value.find('|', second) - second);
        if (reset_ && habits_.session_mode) return {};
        return who == who_ ? "" : "ran under my.who '" + who + "', not '" + who_ + "'";
    }
    std::string own_parameter(const std::string &body) {
        const auto name = body.substr(0, body.find('\0'));
        const auto value = body.substr(name.size() + 1, body.size() - name.size() - 2);
        if (name != "application_name") return {};
        if (!value.empty() && value != me_ + "-start" && !owner(value)) return "was told application_name " + value;
        application_ = value;  // set by us, or taken back by an error
        return {};
    }
    std::string own_error(const std::string &body) {
        const auto code = test::field(body, 'C'), text = test::field(body, 'M');
        if (who_ == "bad" && code == "22023" && test::field(body, 'S') == "FATAL") return {};
        if (const auto at = text.find('@'); at != std::string::npos && code != "26000") {
            if (!owner(text.substr(at + 1))) return "got another's error: " + text;
            if (code == "57014" && text.starts_with("canceled") && !canceled_) return "was canceled by another";
        }
        if (in_copy_) sync_again();
        in_copy_ = expects_copy_ = false;
        return {};
    }

    wire &wire_;
    dice &dice_;
    std::string me_, in_, last_, application_, who_, secret_;
    habits habits_;
    std::uint32_t pid_ = 0;
    int count_ = 0, due_ = 0, spare_ = 0, answered_ = 0;
    char status_ = 'I';
    bool loose_ = false;  ///< once there may be a ReadyForQuery too many, when a request ends is no longer sure
    bool welcomed_ = false, reset_ = false, in_copy_ = false, expects_copy_ = false, unsynced_ = false,
         sync_ahead_ = false, canceled_ = false;
};

}  // namespace pgsluice::sim
