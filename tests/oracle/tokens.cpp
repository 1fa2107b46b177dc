// The index of tokens and the streaming search.
#include "tokens.hpp"

#include <array>
#include <utility>

namespace oracle {

namespace {

constexpr std::size_t window = 8;
constexpr std::uint8_t no_digit = 0xff;

constexpr auto digit_values = [] {
    std::array<std::uint8_t, 256> table{};
    for (auto &value : table) value = no_digit;
    for (unsigned i = 0; i < 10; ++i) table['0' + i] = static_cast<std::uint8_t>(i);
    for (unsigned i = 0; i < 6; ++i) table['a' + i] = static_cast<std::uint8_t>(10 + i);
    return table;
}();

std::optional<std::uint32_t> eight_digits(const char *at) {
    std::uint32_t value = 0;
    for (std::size_t i = window; i-- > 0;) {  // from the end: most text fails at once
        const auto digit = digit_values[static_cast<unsigned char>(at[i])];
        if (digit == no_digit) return std::nullopt;
        value |= static_cast<std::uint32_t>(digit) << (4 * i);
    }
    return value;
}

std::size_t place(std::uint32_t key, std::size_t slots) {
    return (key * 2654435761U) & (slots - 1);
}

/// How many bytes around `at` are those of `token` around `offset`.
std::size_t agreement(std::string_view bytes, std::size_t at, std::string_view token, std::size_t offset) {
    std::size_t left = 0;
    while (left < at && left < offset && bytes[at - left - 1] == token[offset - left - 1]) ++left;
    std::size_t right = 0;
    while (at + right < bytes.size() && offset + right < token.size() && bytes[at + right] == token[offset + right]) {
        ++right;
    }
    return left + right;
}

}  // namespace

std::uint32_t token_index::add(std::string token) {
    const auto number = static_cast<std::uint32_t>(tokens_.size());
    tokens_.push_back(std::move(token));
    if ((used_ + token_digits) * 2 > slots_.size()) {
        auto old = std::exchange(slots_, std::vector<slot>(slots_.size() * 2));
        for (const auto &it : old) {
            if (it.token != nobody) insert(it);
        }
    }
    const auto &text = tokens_.back();
    for (std::uint32_t offset = 0; offset + window <= text.size(); ++offset) {
        insert({*eight_digits(text.data() + offset), number, offset});
        ++used_;
    }
    return number;
}

void token_index::insert(const slot &it) {
    auto at = place(it.key, slots_.size());
    while (slots_[at].token != nobody) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = it;
}

std::optional<std::uint32_t> token_index::foreign(std::string_view bytes, std::uint32_t own) const {
    for (std::size_t at = 0; at + window <= bytes.size(); at += window) {
        const auto key = eight_digits(bytes.data() + at);
        if (!key) continue;
        for (auto i = place(*key, slots_.size()); slots_[i].token != nobody; i = (i + 1) & (slots_.size() - 1)) {
            const auto &it = slots_[i];
            if (it.key != *key || it.token == own) continue;
            if (agreement(bytes, at, tokens_[it.token], it.offset) >= proof_digits) return it.token;
        }
    }
    return std::nullopt;
}

std::optional<std::uint32_t> scanner::feed(std::string_view bytes) {
    constexpr std::size_t edge = token_digits - 1;
    tail_.append(bytes.substr(0, edge));
    auto found = index_.foreign(tail_, own_);
    if (bytes.size() > edge) {
        if (!found) found = index_.foreign(bytes, own_);
        tail_ = bytes.substr(bytes.size() - edge);
    } else if (tail_.size() > edge) {
        tail_.erase(0, tail_.size() - edge);
    }
    return found;
}

}  // namespace oracle
