// Boost.Regex behind a narrow door: it matches without recursion and gives up on what explodes.
#include "auth/name_pattern.hpp"

// Backtracking has an end: a name is short, and a pattern that needs more steps than this for it counts as failed. The
// default is a hundred times as many: fuzzing found pairs for which that took seconds.
#define BOOST_REGEX_MAX_STATE_COUNT 1000000
#include <boost/regex.hpp>

namespace pgsluice::auth {

namespace {

using answer = boost::system::result<name_pattern, std::string>;

answer bad(std::string why) {
    return {boost::system::in_place_error, "regular expression: " + std::move(why)};
}

constexpr std::size_t pattern_max_bytes = 1000;

/// Above 255, PostgreSQL's largest bound; `bound` is digits and commas.
bool has_big_number(std::string_view bound) {
    int value = 0;
    for (const char c : bound) {
        value = c == ',' ? 0 : value * 10 + (c - '0');
        if (value > 255) return true;
    }
    return false;
}

/// What both engines take to mean the same; the rest would silently match other names than it does in PostgreSQL.
const char *unlike_postgresql(std::string_view text) {
    bool in_brackets = false;
    int quantifiers = 0;  // that stand right before; one may have a ? behind it
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (static_cast<unsigned char>(c) >= 0x80) return "letters beyond ASCII are not in this version";
        if (in_brackets) {
            if (c == '\\') return "a backslash within [] is not in this version";
            if (c == '[' && i + 1 < text.size() && (text[i + 1] == '.' || text[i + 1] == '='))
                return "[. and [= are not in this version";
            if (c == '[' && i + 1 < text.size() && text[i + 1] == ':') {
                i = text.find(":]", i + 2);
                if (i == std::string_view::npos) return "[: has no :]";
                ++i;
            } else if (c == ']') {
                in_brackets = false;
            }
            continue;
        }
        if (std::string_view("*+?{").find(c) != std::string_view::npos) {
            if (quantifiers > 1 || (quantifiers == 1 && c != '?')) return "a quantifier behind a quantifier";
            ++quantifiers;
            if (c == '{') {
                const auto end = text.find_first_not_of("0123456789,", i + 1);
                if (end == std::string_view::npos || end == i + 1 || text[i + 1] == ',' || text[end] != '}')
                    return "{ has no bound behind it";
                if (has_big_number(text.substr(i + 1, end - i - 1))) return "a bound is more than 255";
                i = end;
            }
            continue;
        }
        quantifiers = 0;
        if (c == '[') {
            in_brackets = true;
            if (i + 1 < text.size() && text[i + 1] == '^') ++i;
            if (i + 1 < text.size() && text[i + 1] == ']') ++i;  // a first ] is one of the characters
        } else if (c == '\\') {
            if (++i == text.size()) return "it ends in a backslash";
            const char next = text[i];
            const bool is_word =
                (next >= 'a' && next <= 'z') || (next >= 'A' && next <= 'Z') || (next >= '0' && next <= '9');
            if (is_word && std::string_view("dwsDWS").find(next) == std::string_view::npos)
                return "of the escapes only \\d \\w \\s \\D \\W \\S are in this version";
        } else if (c == '(' && i + 1 < text.size() && text[i + 1] == '?') {
            if (i + 2 == text.size() || std::string_view(":=!").find(text[i + 2]) == std::string_view::npos)
                return "of (? only (?: (?= (?! are in this version";
            i += 2;
        }
    }
    return nullptr;
}

}  // namespace

struct name_pattern::engine {
    boost::regex compiled;
};

boost::system::result<name_pattern, std::string> name_pattern::compile(std::string_view text) {
    if (text.empty()) return bad("it is empty");
    if (text.size() > pattern_max_bytes) return bad("it is longer than 1000 bytes");
    if (const auto *why = unlike_postgresql(text)) return bad(why);
    try {
        auto made = std::make_shared<engine>();
        made->compiled.assign(text.begin(), text.end(), boost::regex::perl);
        return name_pattern(std::move(made));
    } catch (const std::exception &) {
        return bad("it is not well formed");
    }
}

pattern_match name_pattern::matches(std::string_view name) const {
    std::unique_ptr<std::string> first;
    return matches(name, first);
}

pattern_match name_pattern::matches(std::string_view name, std::unique_ptr<std::string> &first) const {
    first.reset();
    try {
        boost::match_results<std::string_view::const_iterator> found;
        // ^ and $ are the ends of the name, not of a line in it: a name may hold a line break.
        if (!boost::regex_search(name.begin(), name.end(), found, engine_->compiled, boost::match_single_line))
            return pattern_match::no;
        if (found.size() > 1 && found[1].matched) first = std::make_unique<std::string>(found[1].str());
        return pattern_match::yes;
    } catch (const std::exception &) {
        return pattern_match::failed;
    }
}

bool name_pattern::has_group() const {
    return engine_->compiled.mark_count() > 0;
}

}  // namespace pgsluice::auth
