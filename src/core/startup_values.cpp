// The two startup parameters whose values have a grammar of their own: replication, and libpq's options.
#include "core/startup_values.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace pgsluice::core {

namespace {

/// As PostgreSQL reads a boolean: any beginning of a word that no other word has.
std::optional<bool> parse_boolean(std::string_view text) {
    const auto begins = [&](std::string_view word, std::size_t least) {
        return text.size() >= least && text.size() <= word.size() &&
               base::equal_nocase(text, word.substr(0, text.size()));
    };
    if (begins("true", 1) || begins("yes", 1) || begins("on", 2) || text == "1") return true;
    if (begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0") return false;
    return std::nullopt;
}

}  // namespace

std::optional<replication> parse_replication(std::string_view value) {
    if (value == "database") return replication::logical;
    const auto on = parse_boolean(value);
    if (!on) return std::nullopt;
    return *on ? replication::physical : replication::none;
}

std::optional<std::vector<std::pair<std::string, std::string>>> parse_options(std::string_view text) {
    std::vector<std::string> words;
    bool in_word = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool space = text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r';
        if (space) {
            in_word = false;
            continue;
        }
        if (!in_word) words.emplace_back();
        in_word = true;
        if (text[i] == '\\' && i + 1 < text.size()) ++i;
        words.back() += text[i];
    }
    std::vector<std::pair<std::string, std::string>> found;
    for (std::size_t i = 0; i < words.size(); ++i) {
        std::string_view word = words[i];
        if (word == "-c") {
            if (++i == words.size()) return std::nullopt;
            word = words[i];
        } else if (word.starts_with("-c") || word.starts_with("--")) {
            word.remove_prefix(2);
        } else {
            return std::nullopt;
        }
        const auto equals = word.find('=');
        if (equals == std::string_view::npos || equals == 0) return std::nullopt;
        std::string name(word.substr(0, equals));
        std::replace(name.begin(), name.end(), '-', '_');  // as PostgreSQL reads --some-name
        found.emplace_back(std::move(name), word.substr(equals + 1));
    }
    return found;
}

}  // namespace pgsluice::core
