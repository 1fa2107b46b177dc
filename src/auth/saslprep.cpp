// SASLprep: map, normalise (libunistring's NFKC), prohibit, check bidi. See saslprep.hpp.
#include "auth/saslprep.hpp"

#include <openssl/crypto.h>
#include <uninorm.h>
#include <unistr.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "auth/saslprep_tables.hpp"

namespace pgsluice::auth {

namespace {

using saslprep_tables::range;

/// Code points of a password: wiped at the end. Reserved once, so that growth leaves no copy behind.
struct code_points {
    explicit code_points(std::size_t most) { values.reserve(most); }
    code_points(const code_points &) = delete;
    code_points &operator=(const code_points &) = delete;
    ~code_points() { OPENSSL_cleanse(values.data(), values.size() * sizeof(ucs4_t)); }
    std::vector<ucs4_t> values;
};

/// What libunistring allocated: wiped, then freed.
struct normalised {
    ucs4_t *data = nullptr;
    std::size_t size = 0;
    normalised() = default;
    normalised(const normalised &) = delete;
    normalised &operator=(const normalised &) = delete;
    ~normalised() {
        OPENSSL_cleanse(data, size * sizeof(ucs4_t));
        std::free(data);
    }
};

template <std::size_t N>
bool in(const range (&table)[N], ucs4_t code) {
    const range *after = std::ranges::upper_bound(table, code, {}, &range::first);
    return after != std::begin(table) && code <= std::prev(after)->last;
}

bool is_ascii(std::string_view text) {
    return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

/// RFC 4013 section 2.1: other spaces become a space, some characters go. False when `text` is not UTF-8.
bool decode_and_map(std::string_view text, std::vector<ucs4_t> &codes) {
    const auto *bytes = reinterpret_cast<const std::uint8_t *>(text.data());
    for (std::size_t at = 0; at < text.size();) {
        ucs4_t code = 0;
        const int length = u8_mbtoucr(&code, bytes + at, text.size() - at);
        if (length <= 0) return false;
        at += static_cast<std::size_t>(length);
        // U+200B is in both tables; PostgreSQL looks for spaces first.
        if (in(saslprep_tables::non_ascii_space, code))
            codes.push_back(' ');
        else if (!in(saslprep_tables::mapped_to_nothing, code))
            codes.push_back(code);
    }
    return true;
}

/// RFC 4013 sections 2.3 to 2.5. RFC 3454 would look at the normalised text; PostgreSQL looks at the mapped one, and
/// what counts is to hash as it does.
bool permitted(const std::vector<ucs4_t> &codes) {
    using namespace saslprep_tables;
    if (codes.empty()) return false;
    if (std::ranges::any_of(codes, [](ucs4_t c) { return in(prohibited, c) || in(unassigned, c); })) return false;
    const auto right_to_left = [](ucs4_t c) { return in(bidi_r_or_al, c); };
    if (std::ranges::none_of(codes, right_to_left)) return true;
    return right_to_left(codes.front()) && right_to_left(codes.back()) &&
           std::ranges::none_of(codes, [](ucs4_t c) { return in(bidi_l, c); });
}

base::secret encode(const normalised &codes) {
    constexpr std::size_t longest = 4;  // bytes of UTF-8 per code point
    std::string text(codes.size * longest, '\0');
    auto *out = reinterpret_cast<std::uint8_t *>(text.data());
    std::size_t used = 0;
    for (std::size_t i = 0; i < codes.size; ++i)
        used += static_cast<std::size_t>(u8_uctomb(out + used, codes.data[i], longest));
    text.resize(used);
    return base::secret(std::move(text));
}

}  // namespace

base::secret saslprep(std::string_view password) {
    if (is_ascii(password)) return base::secret(password);
    code_points mapped(password.size());
    if (!decode_and_map(password, mapped.values) || !permitted(mapped.values)) return base::secret(password);
    normalised result;
    result.data = u32_normalize(UNINORM_NFKC, mapped.values.data(), mapped.values.size(), nullptr, &result.size);
    if (result.data == nullptr) throw std::bad_alloc();
    return encode(result);
}

}  // namespace pgsluice::auth
