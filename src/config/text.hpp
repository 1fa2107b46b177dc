// Small text tools that the parsers of this floor share. ASCII only: no locale has a say in a configuration.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pgsluice::config {

inline bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

inline std::string_view trim(std::string_view text) {
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    return text;
}

inline std::string to_lower(std::string_view text) {
    std::string lower(text);
    for (char &c : lower)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return lower;
}

struct quoted_text {
    std::string text;
    std::size_t end = 0;  ///< first position after the closing quote
};

/// Reads 'text' at `begin`, where '' stands for one quote. Nothing when the closing quote is missing.
inline std::optional<quoted_text> unquote(std::string_view from, std::size_t begin) {
    quoted_text result;
    for (std::size_t i = begin + 1; i < from.size(); ++i) {
        if (from[i] == '\'') {
            if (i + 1 == from.size() || from[i + 1] != '\'') {
                result.end = i + 1;
                return result;
            }
            ++i;
        }
        result.text += from[i];
    }
    return std::nullopt;
}

/// The parts of "a, b,c", trimmed; empty parts are kept.
inline std::vector<std::string> split_list(std::string_view text) {
    std::vector<std::string> parts;
    while (true) {
        const auto comma = text.find(',');
        parts.emplace_back(trim(text.substr(0, comma)));
        if (comma == std::string_view::npos) return parts;
        text.remove_prefix(comma + 1);
    }
}

}  // namespace pgsluice::config
