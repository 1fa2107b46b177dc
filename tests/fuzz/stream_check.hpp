// The second framer: reads one direction of one connection as its receiver would, one byte at a time, and never looks
// back. Of another make than wire::read_frame, and it knows no session. What the pooler writes must always be well
// formed; what it makes itself must be whole messages, at a place where a message may begin, with bodies that parse.
// Source: PostgreSQL manual, "Message Formats".
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz/fuzz.hpp"

namespace pgsluice::fuzz {

class stream_check {
public:
    enum class way : std::uint8_t {
        to_client,    ///< 'N' without a length answers an SSLRequest or GSSENCRequest before the first message
        to_server,    ///< begins with a startup packet, which has no type
        from_server,  ///< a peer's bytes: counted, not judged
    };
    explicit stream_check(way direction) : way_(direction), place_(start()) {}

    /// Passed on from a peer: may begin and end anywhere.
    void passed(std::string_view bytes) {
        for (const char c : bytes) next(static_cast<unsigned char>(c), false);
    }
    /// Of the pooler's own making. To a server, the last may be only the head of a Bind or Describe: a statement's name
    /// is replaced, and the rest is the client's.
    void made(std::string_view bytes) {
        require(at_boundary(), "the pooler speaks in the middle of a message");
        for (const char c : bytes) next(static_cast<unsigned char>(c), true);
        const bool head = way_ == way::to_server && place_ == place::body && (type_ == 'B' || type_ == 'D');
        require(at_boundary() || head, "the pooler made half a message");
    }

    bool at_boundary() const { return place_ == start() || place_ == place::type; }
    /// Messages of this type whose header is complete.
    std::uint64_t count(char type) const { return counts_[static_cast<unsigned char>(type)]; }
    std::uint64_t messages() const { return messages_; }
    char last_type() const { return static_cast<char>(type_); }
    /// Of the last ReadyForQuery.
    char status() const { return status_; }
    void forget_counts() { counts_.fill(0); }

private:
    enum class place : std::uint8_t { startup, prelude, type, length, body };

    place start() const {
        if (messages_ > 0 || way_ == way::from_server) return place::type;
        return way_ == way::to_client ? place::prelude : place::startup;
    }

    void next(unsigned char c, bool own) {
        switch (place_) {
            case place::prelude:
                if (c == 'N') {
                    require(++refusals_ <= 2, "encryption was refused more often than it can be asked for");
                    return;
                }
                [[fallthrough]];
            case place::type:
                type_ = c;
                begin_length();
                return;
            case place::startup:
                type_ = 0;
                begin_length();
                [[fallthrough]];
            case place::length:
                left_ = left_ << 8 | c;
                if (--due_ > 0) return;
                require(way_ == way::from_server || (left_ >= 4 && left_ <= 0x7fffffff), "a length that can not be");
                left_ = left_ < 4 ? 0 : left_ - 4;
                on_header(own);
                if (left_ == 0) on_message(own);
                return;
            case place::body:
                if (own) body_ += static_cast<char>(c);
                if (first_) status_ = type_ == 'Z' && way_ != way::to_server ? static_cast<char>(c) : status_;
                first_ = false;
                if (--left_ == 0) on_message(own);
                return;
        }
    }
    void begin_length() {
        place_ = place::length;
        left_ = 0;
        due_ = 4;
    }
    void on_header(bool own) {
        static constexpr std::string_view from_backend = "RKS123CDEGHINTVWZcdnstvA", from_frontend = "BCDEFHPQSXcdf";
        const auto type = static_cast<char>(type_);
        if (way_ == way::to_client)
            require(from_backend.find(type) != std::string_view::npos, "a client got a message of unknown type");
        // 'p' answers an authentication request: the pooler's business, never a client's.
        if (way_ == way::to_server && messages_ > 0)
            require((own && type == 'p') || from_frontend.find(type) != std::string_view::npos,
                    "a server got a message of unknown type");
        ++counts_[type_];
        ++messages_;
        place_ = place::body;
        first_ = true;
        body_.clear();
    }
    void on_message(bool own) {
        place_ = place::type;
        if (own && way_ != way::from_server) check_own();
    }

    /// Takes a zero-terminated string off `rest`.
    static std::string_view text(std::string_view &rest) {
        const auto end = rest.find('\0');
        require(end != std::string_view::npos, "the pooler made a string without its end");
        const auto taken = rest.substr(0, end);
        rest.remove_prefix(end + 1);
        return taken;
    }
    void check_own() const {
        std::string_view rest = body_;
        const auto type = static_cast<char>(type_);
        if (way_ == way::to_server) {
            if (type == 'Q') static_cast<void>(text(rest));
            if (type == 'P') static_cast<void>(text(rest));  // what follows the name is the client's
            if (type == 'Q') require(rest.empty(), "the pooler made a query with something behind it");
            if (type == 'C') require(rest.size() >= 2 && rest.back() == '\0', "the pooler made a broken Close");
            return;
        }
        switch (type) {
            case 'E':
            case 'N': {
                std::string codes;
                while (!rest.empty() && rest[0] != '\0') {
                    codes += rest[0];
                    rest.remove_prefix(1);
                    require(!text(rest).empty() || codes.back() == 'M', "the pooler made an error with an empty field");
                }
                require(rest == std::string_view("\0", 1), "the pooler made an error without its end");
                for (const char needed : {'S', 'C', 'M'})
                    require(codes.find(needed) != std::string::npos, "the pooler made an error without a field");
                return;
            }
            case 'Z':
                return require(rest == "I" || rest == "T" || rest == "E", "the pooler made a broken ReadyForQuery");
            case 'S':
                require(!text(rest).empty(), "the pooler reported a parameter without a name");
                static_cast<void>(text(rest));
                return require(rest.empty(), "the pooler made a broken ParameterStatus");
            case 'K':
                return require(rest.size() >= 8 && rest.size() <= 260, "the pooler made a broken BackendKeyData");
            case 'R':
                return require(rest.size() >= 4, "the pooler made a broken Authentication");
            default:
                return;
        }
    }

    way way_;
    place place_ = place::type;
    std::array<std::uint64_t, 256> counts_{};
    std::uint64_t messages_ = 0, left_ = 0;
    unsigned char type_ = 0;
    int due_ = 0, refusals_ = 0;
    char status_ = '?';
    bool first_ = false;
    std::string body_;  ///< of a message of the pooler's own
};

}  // namespace pgsluice::fuzz
