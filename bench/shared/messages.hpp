// Cuts what arrives into messages. Small ones reach the handler whole, long ones in parts, so that neither a long row
// nor a message that arrives byte by byte costs more than its bytes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "arguments.hpp"
#include "wire/frame.hpp"

namespace pgsluice::bench {

class message_cutter {
public:
    static constexpr std::size_t whole_bytes = 8192;  ///< bodies up to this arrive whole
    static constexpr std::size_t first_bytes = 64;    ///< at least so many are in the first part of a longer one

    /// Calls handler.on_message(type, body) and handler.on_part(type, total, offset, piece); a view lives for the call.
    template <class Handler>
    void take(std::string_view bytes, Handler &handler) {
        while (!held_.empty()) {
            const auto want = wanted();
            if (held_.size() == want) {
                begin(held_, handler);
                held_.clear();
                break;
            }
            const auto count = std::min(want - held_.size(), bytes.size());
            if (count == 0) return;
            held_.append(bytes.substr(0, count));
            bytes.remove_prefix(count);
        }
        while (!bytes.empty()) {
            if (left_ > 0) {
                const auto piece = bytes.substr(0, left_);
                handler.on_part(type_, total_, total_ - static_cast<std::uint32_t>(left_), piece);
                left_ -= piece.size();
                bytes.remove_prefix(piece.size());
                continue;
            }
            wire::frame message;
            const auto read = wire::read_frame(bytes, message);
            if (read == wire::framing::bad_length) fail("not a message");
            if (read == wire::framing::need_header || message.body.size() < at_once(message)) {
                held_ = bytes;
                return;
            }
            const auto here = message.here_bytes();
            begin(bytes.substr(0, here), handler);
            bytes.remove_prefix(here);
        }
    }

private:
    static std::size_t at_once(const wire::frame &message) {
        return message.body_bytes <= whole_bytes ? message.body_bytes : first_bytes;
    }
    std::size_t wanted() const {
        wire::frame message;
        if (wire::read_frame(held_, message) != wire::framing::ok) return wire::header_bytes;
        return wire::header_bytes + at_once(message);
    }
    /// `bytes` is a message, or at least first_bytes of a long one.
    template <class Handler>
    void begin(std::string_view bytes, Handler &handler) {
        wire::frame message;
        wire::read_frame(bytes, message);
        if (message.body_bytes <= whole_bytes) return handler.on_message(message.type, message.body);
        type_ = message.type;
        total_ = message.body_bytes;
        left_ = message.missing_bytes();
        handler.on_part(type_, total_, 0, message.body);
    }

    std::string held_;
    char type_ = 0;
    std::uint32_t total_ = 0;
    std::size_t left_ = 0;
};

}  // namespace pgsluice::bench
