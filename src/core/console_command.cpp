// Words, then one table of commands.
#include "core/console_command.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "base/text.hpp"
#include "config/values.hpp"

namespace pgsluice::core {

namespace {

using verb = console_command::verb;

// As in PgBouncer: what is longer is refused.
constexpr std::size_t command_max_bytes = 15, argument_max_bytes = 63, value_max_bytes = 255;

struct token {
    enum class kind : std::uint8_t { word, text, sign };
    kind what = kind::word;
    std::string value;

    bool is(std::string_view word) const { return what == kind::word && base::equal_nocase(value, word); }
};

constexpr bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}
constexpr bool is_word(char c) {
    return (c >= '0' && c <= '9') || c == '_' || (base::to_lower(c) >= 'a' && base::to_lower(c) <= 'z') ||
           static_cast<unsigned char>(c) >= 0x80;
}

/// Cuts a text into tokens; false: it is none of the console's.
class scanner {
public:
    explicit scanner(std::string_view text) : rest_(text) {}

    bool run(std::vector<token> &out) {
        while (skip_space(), !rest_.empty()) {
            if (ended_) return false;  // one command only
            const char c = rest_.front();
            if (c == ';') {
                rest_.remove_prefix(1);
                ended_ = true;
            } else if (c == '=') {
                rest_.remove_prefix(1);
                out.push_back({token::kind::sign, "="});
            } else if (c == '\'' || c == '"') {
                token quoted{c == '"' ? token::kind::word : token::kind::text, {}};
                if (!take_quoted(c, quoted.value)) return false;
                out.push_back(std::move(quoted));
            } else {
                const auto end = std::find_if_not(rest_.begin(), rest_.end(), [](char it) {
                    return is_word(it) || it == '.' || it == '-';  // numbers of seconds; a name with - needs quotes
                });
                const auto size = static_cast<std::size_t>(end - rest_.begin());
                if (size == 0) return false;
                out.push_back({token::kind::word, std::string(rest_.substr(0, size))});
                rest_.remove_prefix(size);
            }
        }
        return open_ == 0;
    }

private:
    void skip_space() {
        for (;;) {
            while (!rest_.empty() && is_space(rest_.front())) rest_.remove_prefix(1);
            if (rest_.starts_with("--")) {
                rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
            } else if (rest_.starts_with("/*")) {
                const auto end = rest_.find("*/", 2);
                if (end == std::string_view::npos) {
                    ++open_;
                    rest_ = {};
                    return;
                }
                rest_.remove_prefix(end + 2);
            } else {
                return;
            }
        }
    }
    /// A quote inside is written twice.
    bool take_quoted(char quote, std::string &into) {
        for (std::size_t i = 1; i < rest_.size(); ++i) {
            if (rest_[i] != quote) {
                into += rest_[i];
            } else if (i + 1 < rest_.size() && rest_[i + 1] == quote) {
                into += rest_[i++];
            } else {
                rest_.remove_prefix(i + 1);
                return true;
            }
        }
        return false;
    }

    std::string_view rest_;
    bool ended_ = false;
    int open_ = 0;
};

struct table_name {
    std::string_view word;
    console_table table;
};
constexpr std::array tables = std::to_array<table_name>({
    {"active_sockets", console_table::active_sockets},
    {"clients", console_table::clients},
    {"config", console_table::config},
    {"databases", console_table::databases},
    {"dns_hosts", console_table::dns_hosts},
    {"dns_zones", console_table::dns_zones},
    {"fds", console_table::fds},
    {"help", console_table::help},
    {"lists", console_table::lists},
    {"mem", console_table::mem},
    {"peer_pools", console_table::peer_pools},
    {"peers", console_table::peers},
    {"pools", console_table::pools},
    {"servers", console_table::servers},
    {"sockets", console_table::sockets},
    {"state", console_table::state},
    {"stats", console_table::stats},
    {"stats_averages", console_table::stats_averages},
    {"stats_totals", console_table::stats_totals},
    {"totals", console_table::totals},
    {"users", console_table::users},
    {"version", console_table::version},
    {"why", console_table::why},
});

struct fake_parameter {
    std::string_view name, value;
};
// Drivers ask for them, or set them, when they connect. The first five are PgBouncer's.
constexpr std::array fakes = std::to_array<fake_parameter>({
    {"client_encoding", "UTF-8"},
    {"default_transaction_isolation", "read committed"},
    {"standard_conforming_strings", "on"},
    {"datestyle", "ISO"},
    {"timezone", "GMT"},
    {"application_name", ""},
    {"extra_float_digits", "1"},
    {"client_min_messages", "notice"},
    {"transaction_isolation", "read committed"},
});

struct verb_name {
    std::string_view word;
    verb what;
    enum class argument : std::uint8_t { none, may } database;
};
constexpr std::array verbs = std::to_array<verb_name>({
    {"reload", verb::reload, verb_name::argument::none},
    {"pause", verb::pause, verb_name::argument::may},
    {"resume", verb::resume, verb_name::argument::may},
    {"disable", verb::disable, verb_name::argument::may},
    {"enable", verb::enable, verb_name::argument::may},
    {"reconnect", verb::reconnect, verb_name::argument::may},
    {"kill", verb::kill, verb_name::argument::may},
    {"kill_client", verb::kill_client, verb_name::argument::may},
    {"suspend", verb::suspend, verb_name::argument::none},
    {"shutdown", verb::shutdown, verb_name::argument::may},
    {"wait_close", verb::wait_close, verb_name::argument::may},
});

using outcome = boost::system::result<console_command, console_refusal>;

outcome refuse(refusal why, std::string argument = {}, std::string detail = {}) {
    return {boost::system::in_place_error, console_refusal{why, std::move(argument), std::move(detail)}};
}

std::optional<console_command> parse_show(const std::vector<token> &words) {
    console_command it{verb::show, {}, {}, {}};
    if (words.size() < 2) return std::nullopt;
    for (const auto &known : tables) {
        if (!words[1].is(known.word)) continue;
        it.table = known.table;
        if (words.size() == 3 && known.table == console_table::why) {
            it.name = words[2].value;
            return it;
        }
        return words.size() == 2 ? std::optional(it) : std::nullopt;
    }
    if (words.size() != 2) return std::nullopt;
    for (const auto &fake : fakes) {
        if (!words[1].is(fake.name)) continue;
        it.table = console_table::parameter;
        it.name = fake.name;
        it.value = fake.value;
        return it;
    }
    return std::nullopt;
}

/// SET name = value, SET name TO value; the value as a word or in quotes. DEFAULT is no value of the console's.
std::optional<console_command> parse_set(const std::vector<token> &words) {
    if (words.size() != 4 || words[1].what != token::kind::word || words[3].what == token::kind::sign)
        return std::nullopt;
    if (words[2].value != "=" && !words[2].is("to")) return std::nullopt;
    const bool fake = std::any_of(fakes.begin(), fakes.end(), [&](const auto &it) { return words[1].is(it.name); });
    return console_command{fake ? verb::set_ignored : verb::set, {}, words[1].value, words[3].value};
}

outcome parse_pause(console_command it, std::vector<token> &words, const outcome &invalid) {
    // PAUSE [db] TIMEOUT '2s'
    if (words.size() >= 3 && words[words.size() - 2].is("timeout")) {
        const auto limit = config::parse_seconds(words.back().value);
        if (limit.has_error())
            return refuse(refusal::console_bad_arguments, {}, "TIMEOUT is a number of seconds, as in '2s' or '500ms'.");
        it.value = config::seconds_text(*limit);
        words.resize(words.size() - 2);
    }
    if (words.size() > 2) return invalid;
    if (words.size() == 2) it.name = words[1].value;
    return it;
}

}  // namespace

outcome parse_console(std::string_view text) {
    std::vector<token> words;
    auto invalid = refuse(refusal::console_invalid_command, std::string(text));
    if (!scanner(text).run(words)) return invalid;
    if (words.empty()) return console_command{};
    if (words.front().what != token::kind::word) return invalid;
    if (words.front().value.size() > command_max_bytes) return refuse(refusal::console_bad_arguments);
    for (std::size_t i = 1; i < words.size(); ++i) {
        const bool value = i == 3 && words.front().is("set");
        if (words[i].value.size() > (value ? value_max_bytes : argument_max_bytes))
            return refuse(refusal::console_bad_arguments);
    }
    const auto found = [&](std::optional<console_command> it) { return it ? outcome(std::move(*it)) : invalid; };
    if (words.front().is("show") || words.front().is("select")) return found(parse_show(words));
    if (words.front().is("set")) return found(parse_set(words));
    for (const auto &known : verbs) {
        if (!words.front().is(known.word)) continue;
        console_command it{known.what, {}, {}, {}};
        if (known.what == verb::pause) return parse_pause(std::move(it), words, invalid);
        if (words.size() > 2 || (known.database == verb_name::argument::none && words.size() > 1)) return invalid;
        if (words.size() == 2) it.name = words[1].value;
        if (known.what == verb::shutdown && words.size() == 2) {
            it.name.clear();
            if (words[1].is("wait_for_servers")) {
                it.what = verb::shutdown_wait_for_servers;
            } else if (words[1].is("wait_for_clients")) {
                it.what = verb::shutdown_wait_for_clients;
            } else {
                return invalid;
            }
        }
        return it;
    }
    return invalid;
}

std::string tag_of(const console_command &it) {
    switch (it.what) {
        case verb::nothing:
            return {};
        case verb::show:
            return "SHOW";
        case verb::set:
            return "SET " + it.name + "=" + it.value;
        case verb::set_ignored:
            return "SET";
        case verb::reload:
            return "RELOAD";
        case verb::pause:
            return "PAUSE";
        case verb::resume:
            return "RESUME";
        case verb::disable:
            return "DISABLE";
        case verb::enable:
            return "ENABLE";
        case verb::reconnect:
            return "RECONNECT";
        case verb::kill:
            return "KILL";
        case verb::kill_client:
            return "KILL_CLIENT";
        case verb::suspend:
            return "SUSPEND";
        case verb::shutdown:
        case verb::shutdown_wait_for_servers:
        case verb::shutdown_wait_for_clients:
            return "SHUTDOWN";
        case verb::wait_close:
            return "WAIT_CLOSE";
    }
    return {};
}

std::string text_of(const console_command &it) {
    auto text = it.what == verb::set ? "SET" : tag_of(it);
    if (it.what == verb::show) {
        for (const auto &[word, table] : tables)
            if (table == it.table) text.append(" ").append(word);
    }
    return it.name.empty() ? text : text + " " + it.name;
}

refusal what_lacks(const console_command &it) {
    if (!it.name.empty()) return refusal::none;
    switch (it.what) {
        case verb::disable:
        case verb::enable:
            return refusal::console_database_required;
        case verb::kill_client:
            return refusal::console_bad_client;
        default:
            return refusal::none;
    }
}

bool may_stats_users(const console_command &it) {
    switch (it.what) {
        case verb::nothing:
        case verb::set_ignored:
            return true;
        case verb::show:
            return it.table != console_table::fds;
        default:
            return false;
    }
}

}  // namespace pgsluice::core
