// Playing and writing down. What is normalised, and why, stands at line_of().
#include "differential/conversation.hpp"

#include <algorithm>

#include "differential/due.hpp"

namespace pgsluice::differential {

namespace {

using test::cut;
using test::peer;

bool any_time(char type) {
    return type == 'N' || type == 'S' || type == 'A';
}

std::string printable(std::string_view bytes) {
    static constexpr std::string_view hex = "0123456789abcdef";
    std::string out;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte >= 0x20 && byte < 0x7f) {
            out += c;
        } else {
            out += '\\';
            out += hex[byte >> 4];
            out += hex[byte & 15];
        }
    }
    return out;
}

/// A reply as text. Everything is compared byte by byte, but for:
/// * errors and notices: severity, SQLSTATE, message, detail, hint and position; not the file and line of PostgreSQL's
///   source and the fields that go with them, since what pgsluice answers itself has no such place;
/// * the type of the message that a COPY did not expect: it may be one that pgsluice has put ahead of the client's;
/// * the name of a prepared statement inside a message, which on a shared server is not the client's.
std::string line_of(const cut &message) {
    const auto &[type, body] = message;
    std::string line(1, type);
    if (type == 'E' || type == 'N') {
        for (const char code : std::string_view("VCMDHP")) {
            std::string text = test::field(body, code);
            if (code == 'M') {
                if (text.starts_with("unexpected message type 0x")) text.replace(24, 4, "...");
                const std::string_view before = "prepared statement \"";
                const auto at = text.find(before);
                const auto end = at == std::string::npos ? at : text.find('"', at + before.size());
                if (end != std::string::npos) text.replace(at + before.size(), end - at - before.size(), "...");
            }
            if (!text.empty()) line += std::string(" ") + code + "=" + printable(text);
        }
        return line;
    }
    return line + " " + printable(body);
}

/// The row with the marker has come, and the ReadyForQuery behind it.
bool at_end(const peer &wire) {
    const auto &got = wire.received();
    if (got.size() < 3 || got.back().type != 'Z') return false;
    const auto row =
        std::find_if(got.rbegin(), got.rend(), [](const cut &it) { return it.type == 'D' || it.type == 'T'; });
    return row != got.rend() && row->type == 'D' && row->body.find(marker) != std::string::npos;
}

std::size_t replies(const peer &wire) {
    const auto &got = wire.received();
    return static_cast<std::size_t>(
        std::count_if(got.begin(), got.end(), [](const cut &message) { return !any_time(message.type); }));
}

constexpr auto patience = std::chrono::seconds(8);

/// sent(part) sees every message that goes out; enough(n) says whether the nth wait is over.
template <typename Sent, typename Enough>
transcript play(peer &wire, const pipeline &parts, const pipeline &ending, Sent sent, Enough enough) {
    transcript out;
    wire.clear();
    bool answers = true;
    for (const auto &part : parts) {
        if (!part.waits()) {
            wire.send(part.bytes);
            sent(part);
            answers = std::string_view("SQFH").find(part.type()) != std::string_view::npos;
            continue;
        }
        if (!answers) wire.send(test::fe::flush);
        const auto how = wire.pump([&] { return enough(out.seen_at_wait.size()); }, patience);
        if (how == peer::outcome::timeout) {
            out.trouble = "no reply at wait " + std::to_string(out.seen_at_wait.size() + 1) + " within 8 s";
            break;
        }
        out.seen_at_wait.push_back(replies(wire));
    }
    if (out.trouble.empty()) {
        for (const auto &part : ending) wire.send(part.bytes);
        const auto how = wire.pump([&] { return at_end(wire); }, patience);
        if (how == peer::outcome::timeout) out.trouble = "no end of the pipeline within 8 s";
    }
    for (const auto &message : wire.received()) {
        out.lines.push_back(line_of(message));
        out.kinds.push_back(message.type + (message.type == 'E' ? test::field(message.body, 'C') : ""));
    }
    if (wire.closed()) out.lines.emplace_back("(closed)");
    if (!out.trouble.empty()) out.lines.push_back("(" + out.trouble + ")");
    return out;
}

}  // namespace

transcript play_first(peer &wire, const pipeline &parts, const pipeline &ending) {
    due owed;
    std::size_t told = 0;
    const auto sent = [&](const part &it) { owed.sent(it.type(), it.fails_copy); };
    const auto enough = [&](std::size_t) {
        for (; told < wire.received().size(); ++told) owed.received(wire.received()[told].type);
        return !owed.more();
    };
    return play(wire, parts, ending, sent, enough);
}

transcript play_again(peer &wire, const pipeline &parts, const pipeline &ending, const transcript &first) {
    const auto enough = [&](std::size_t wait) {
        return wait >= first.seen_at_wait.size() || replies(wire) >= first.seen_at_wait[wait];
    };
    return play(
        wire, parts, ending, [](const part &) {}, enough);
}

}  // namespace pgsluice::differential
