// Reads the attributes of one SCRAM message, strictly in order. Source: RFC 5802 section 7. Inside auth only: called by
// scram_server.cpp and scram_client.cpp. Not here: what the values mean. Views into the message; one thread.
#pragma once

#include <optional>
#include <string_view>

#include "auth/scram.hpp"

namespace pgsluice::auth {

/// Walks over `name=value` pairs between commas. A message that is too long or holds a NUL has no attributes at all.
class scram_reader {
public:
    explicit scram_reader(std::string_view message)
        : rest_(message),
          more_(message.size() <= scram_message_max_bytes && message.find('\0') == std::string_view::npos) {}

    /// The value of attribute `name` if that is the next one; it may be empty.
    std::optional<std::string_view> take(char name) {
        if (!next_is(name)) return std::nullopt;
        const std::size_t comma = rest_.find(',');
        more_ = comma != std::string_view::npos;
        const std::string_view value = rest_.substr(2, more_ ? comma - 2 : comma);
        rest_.remove_prefix(more_ ? comma + 1 : rest_.size());
        return value;
    }

    bool next_is(char name) const { return more_ && rest_.size() >= 2 && rest_[0] == name && rest_[1] == '='; }

    /// Skips one optional extension, which RFC 5802 section 5.1 wants ignored. The names it defines are none: here they
    /// would be doubled or out of order, and m= is the extension that must be refused.
    bool skip_extension() {
        if (rest_.empty()) return false;
        const char name = rest_.front();
        const bool letter = (name >= 'a' && name <= 'z') || (name >= 'A' && name <= 'Z');
        if (!letter || std::string_view("anmrcsipve").find(name) != std::string_view::npos) return false;
        const auto value = take(name);
        return value && !value->empty();
    }

    /// True when nothing but optional extensions follow.
    bool finish() {
        while (more_)
            if (!skip_extension()) return false;
        return true;
    }

    bool at_end() const { return !more_; }
    /// What is not read yet.
    std::string_view rest() const { return rest_; }

private:
    std::string_view rest_;
    bool more_;  ///< another attribute is due: at the start, and after a comma
};

/// RFC 5802 section 7, `printable`: ASCII from '!' to '~' without the comma; at least one.
inline bool is_scram_nonce(std::string_view text) {
    for (const char c : text)
        if (c < '!' || c > '~' || c == ',') return false;
    return !text.empty();
}

}  // namespace pgsluice::auth
