// See connection_string.hpp.
#include "config/connection_string.hpp"

#include "config/text.hpp"

namespace pgsluice::config {
namespace {

std::string at(std::string what, std::size_t position) {
    return "syntax error: " + std::move(what) + " at position " + std::to_string(position + 1);
}

}  // namespace

boost::system::result<std::vector<connection_option>, std::string> parse_connection_string(std::string_view text) {
    std::vector<connection_option> options;
    std::size_t i = 0;
    const auto skip_space = [&] {
        while (i < text.size() && is_space(text[i])) ++i;
    };
    for (skip_space(); i < text.size(); skip_space()) {
        const auto key_begin = i;
        while (i < text.size() && text[i] != '=' && !is_space(text[i])) ++i;
        connection_option option{std::string(text.substr(key_begin, i - key_begin)), {}};
        skip_space();
        if (option.key.empty() || i == text.size() || text[i] != '=') return at("expected key=value", key_begin);
        ++i;
        skip_space();
        const auto value_begin = i;
        if (i < text.size() && text[i] == '\'') {
            const auto quoted = unquote(text, i);
            if (!quoted) return at("a quoted value has no closing quote", value_begin);
            option.value = quoted->text;
            i = quoted->end;
            if (i < text.size() && !is_space(text[i])) return at("expected a space after the quoted value", i);
        } else {
            while (i < text.size() && !is_space(text[i])) ++i;
            option.value = text.substr(value_begin, i - value_begin);
            if (option.value.empty()) return at("empty value", value_begin);
        }
        options.push_back(std::move(option));
    }
    return options;
}

}  // namespace pgsluice::config
