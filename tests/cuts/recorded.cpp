// Reading the text form: "> " a message, "< " types; \xx is a byte.
#include "cuts/recorded.hpp"

#include <charconv>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace pgsluice::cuts {

namespace {

std::string unescaped(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\') {
            out += text[i];
            continue;
        }
        unsigned byte = 0;
        const auto digits = text.substr(i + 1, 2);
        if (std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16).ec != std::errc{}) {
            throw std::runtime_error("a bad escape: " + std::string(text));
        }
        out += static_cast<char>(byte);
        i += 2;
    }
    return out;
}

}  // namespace

std::size_t recorded::bytes() const {
    std::size_t sum = 0;
    for (const auto &it : turns) sum += it.bytes.size();
    return sum;
}

std::string recorded::replies() const {
    std::string all;
    for (const auto &it : turns) all += it.replies;
    return all;
}

recorded load(const std::string &path) {
    std::ifstream file(path);
    recorded out;
    out.name = std::filesystem::path(path).stem();
    std::string line;
    bool answered = true;
    while (std::getline(file, line)) {
        if (line.size() < 2) throw std::runtime_error(path + ": a bad line: " + line);
        const auto text = std::string_view(line).substr(2);
        if (line[0] == '<') {
            out.turns.back().replies += text;
            answered = true;
            continue;
        }
        const auto message = unescaped(text);
        if (answered) out.turns.emplace_back();
        answered = false;
        out.turns.back().bytes += message;
        if (message[0] == 'P' && out.statement.empty()) out.statement = message.substr(5, message.find('\0', 5) - 5);
    }
    if (out.turns.empty()) throw std::runtime_error(path + ": nothing in it");
    return out;
}

}  // namespace pgsluice::cuts
