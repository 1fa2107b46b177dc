// The secrets of all sessions, and the scanner that looks for other people's in what a session receives.
// A token is 32 hexadecimal digits. A piece of 16 of them in a row is proof enough, wherever reads cut the stream: the
// scanner looks at every eighth place for eight digits of any token, and from there in both directions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace oracle {

inline constexpr std::size_t token_digits = 32;

/// Tokens by number, and by every eight digits in a row of them. They stay for ever: the dead are found too.
class token_index {
public:
    token_index() : slots_(1 << 16) {}

    /// Returns the token's number.
    std::uint32_t add(std::string token);
    const std::string &operator[](std::uint32_t number) const { return tokens_[number]; }
    std::size_t size() const { return tokens_.size(); }

    /// The first token but `own` of which `bytes` holds `proof_digits` digits in a row.
    std::optional<std::uint32_t> foreign(std::string_view bytes, std::uint32_t own) const;

    static constexpr std::uint32_t nobody = 0xffffffff;
    static constexpr std::size_t proof_digits = 16;

private:
    struct slot {
        std::uint32_t key = 0, token = nobody;
        std::uint32_t offset = 0;
    };
    void insert(const slot &);

    std::vector<std::string> tokens_;
    std::vector<slot> slots_;  ///< open addressing; a power of two
    std::size_t used_ = 0;
};

/// One stream of received bytes.
class scanner {
public:
    scanner(const token_index &index, std::uint32_t own) : index_(index), own_(own) {}

    /// The next bytes; a token that they hold, or that ends in them, and is not ours.
    std::optional<std::uint32_t> feed(std::string_view bytes);

private:
    const token_index &index_;
    std::uint32_t own_;
    std::string tail_;  ///< the last token_digits - 1 bytes before
};

}  // namespace oracle
