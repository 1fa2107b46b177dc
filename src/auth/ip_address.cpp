// Reading and masking addresses. See ip_address.hpp. Written out, since inet_pton() is of the socket floor.
#include "auth/ip_address.hpp"

#include <algorithm>

namespace pgsluice::auth {

namespace {

constexpr std::array<std::uint8_t, 12> mapped_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr std::size_t groups_of_v6 = 8;

bool parse_v4(std::string_view text, std::uint8_t *out) {
    for (int part = 0; part < 4; ++part) {
        if (part > 0) {
            if (!text.starts_with('.')) return false;
            text.remove_prefix(1);
        }
        std::size_t digits = 0;
        int value = 0;
        while (digits < text.size() && digits < 4 && text[digits] >= '0' && text[digits] <= '9')
            value = value * 10 + (text[digits++] - '0');
        // A leading zero would be octal to some readers and decimal to others.
        if (digits == 0 || digits > 3 || value > 255 || (digits > 1 && text.front() == '0')) return false;
        out[part] = static_cast<std::uint8_t>(value);
        text.remove_prefix(digits);
    }
    return text.empty();
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool parse_v6(std::string_view text, std::array<std::uint8_t, 16> &out) {
    std::array<std::uint8_t, 16> found{};
    std::size_t groups = 0;
    std::optional<std::size_t> gap;  // groups ahead of "::"
    if (text.starts_with("::")) {
        gap = 0;
        text.remove_prefix(2);
    }
    while (!text.empty()) {
        if (groups == groups_of_v6) return false;
        if (text.find(':') == std::string_view::npos && text.find('.') != std::string_view::npos) {
            if (groups > groups_of_v6 - 2 || !parse_v4(text, &found[groups * 2])) return false;
            groups += 2;
            break;
        }
        std::size_t digits = 0;
        unsigned value = 0;
        while (digits < text.size() && digits < 5 && hex_digit(text[digits]) >= 0)
            value = value * 16 + static_cast<unsigned>(hex_digit(text[digits++]));
        if (digits == 0 || digits > 4) return false;
        found[groups * 2] = static_cast<std::uint8_t>(value >> 8);
        found[groups * 2 + 1] = static_cast<std::uint8_t>(value & 0xff);
        ++groups;
        text.remove_prefix(digits);
        if (text.empty()) break;
        if (!text.starts_with(':')) return false;
        text.remove_prefix(1);
        if (text.starts_with(':')) {
            if (gap) return false;
            gap = groups;
            text.remove_prefix(1);
        } else if (text.empty()) {
            return false;
        }
    }
    if (gap ? groups >= groups_of_v6 : groups != groups_of_v6) return false;
    if (gap) {
        const auto tail = (groups - *gap) * 2;
        std::copy_backward(found.begin() + static_cast<std::ptrdiff_t>(*gap * 2),
                           found.begin() + static_cast<std::ptrdiff_t>(groups * 2), found.end());
        std::fill(found.begin() + static_cast<std::ptrdiff_t>(*gap * 2),
                  found.end() - static_cast<std::ptrdiff_t>(tail), std::uint8_t{0});
    }
    out = found;
    return true;
}

}  // namespace

bool ip_address::is_mapped() const {
    return family == ip_family::v6 && std::equal(mapped_prefix.begin(), mapped_prefix.end(), bytes.begin());
}

ip_address ip_address::unmapped() const {
    if (!is_mapped()) return *this;
    ip_address result{ip_family::v4, {}};
    std::copy_n(bytes.begin() + mapped_prefix.size(), 4, result.bytes.begin());
    return result;
}

std::string ip_address::share() const {
    const bool v6 = family == ip_family::v6 && !is_mapped();
    const auto whole = unmapped();
    return {whole.bytes.data(), whole.bytes.data() + (v6 ? 8 : whole.bytes.size())};
}

bool ip_network::contains(const ip_address &it) const {
    if (it.family == ip_family::none || it.family != address.family) return false;
    for (std::size_t i = 0; i < it.bytes.size(); ++i)
        if (((it.bytes[i] ^ address.bytes[i]) & mask.bytes[i]) != 0) return false;
    return true;
}

std::optional<ip_address> parse_ip(std::string_view text) {
    ip_address result;
    if (text.find(':') != std::string_view::npos) {
        result.family = ip_family::v6;
        if (!parse_v6(text, result.bytes)) return std::nullopt;
    } else {
        result.family = ip_family::v4;
        if (!parse_v4(text, result.bytes.data())) return std::nullopt;
    }
    return result;
}

std::string to_text(const ip_address &it) {
    std::string text;
    const auto count = static_cast<std::size_t>(it.bits() / 8);
    if (it.family == ip_family::v4) {
        for (std::size_t i = 0; i < count; ++i) text += (i > 0 ? "." : "") + std::to_string(it.bytes[i]);
        return text;
    }
    constexpr std::string_view digits = "0123456789abcdef";
    for (std::size_t i = 0; i < count; i += 2) {
        const unsigned group = it.bytes[i] * 256U + it.bytes[i + 1];
        if (i > 0) text += ':';
        for (unsigned shift = 16; shift > 0;) {
            shift -= 4;
            if (shift == 0 || group >> shift != 0) text += digits[group >> shift & 15U];
        }
    }
    return text;
}

ip_address prefix_mask(ip_family family, int prefix_bits) {
    ip_address mask{family, {}};
    for (int bit = 0; bit < std::min(prefix_bits, mask.bits()); ++bit) {
        auto &byte = mask.bytes[static_cast<std::size_t>(bit / 8)];
        byte = static_cast<std::uint8_t>(byte | (0x80 >> (bit % 8)));
    }
    return mask;
}

}  // namespace pgsluice::auth
