// See ini.hpp. One class holds what survives an %include: the open files and the current section.
#include "config/ini.hpp"

#include <algorithm>
#include <optional>
#include <string_view>

#include "config/text.hpp"

namespace pgsluice::config {
namespace {

constexpr std::string_view include_directive = "%include";

bool is_key_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '*' || c == '-';
}

class ini_parser {
public:
    explicit ini_parser(const file_reader &reader) : reader_(reader) {}

    /// What is wrong with the file as a whole is reported at `from`: the including line, or the file itself.
    std::optional<error> parse_file(const std::string &path, const error &from) {
        if (std::find(open_files_.begin(), open_files_.end(), path) != open_files_.end())
            return fault(from, "\"" + path + "\" includes itself");
        if (open_files_.size() > include_depth_max)
            return fault(from, "%include is nested more than " + std::to_string(include_depth_max) + " deep");
        const auto text = reader_(path);
        if (text.has_error()) {
            // The main file is named by the error's own place already.
            return fault(from, from.line == 0 ? text.error() : "\"" + path + "\": " + text.error());
        }
        open_files_.push_back(path);
        parse_text(*text, path);
        open_files_.pop_back();
        return std::nullopt;
    }

    ini_document take() { return std::move(document_); }
    std::vector<error> take_problems() { return std::move(problems_); }

private:
    static error fault(const error &at, std::string text) { return {at.file, at.line, std::move(text)}; }

    void parse_text(std::string_view text, const std::string &path) {
        error at{path, 0, {}};
        while (!text.empty()) {
            const auto end = text.find('\n');
            const auto line = text.substr(0, end);
            text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
            ++at.line;
            if (line.find('\0') != std::string_view::npos)
                problems_.push_back(fault(at, "NUL byte in the line"));
            else if (auto failed = parse_line(trim(line), at))
                problems_.push_back(std::move(*failed));
        }
    }

    std::optional<error> parse_line(std::string_view line, const error &at) {
        // PgBouncer reads on after a header in the same line, so "[databases] ; comment" and "[users] a =" are good.
        while (!line.empty() && line.front() == '[') {
            const auto close = line.find(']');
            if (close == std::string_view::npos) return fault(at, "syntax error: a section needs its closing ]");
            document_.sections.push_back({at.file, at.line, std::string(line.substr(1, close - 1))});
            line = trim(line.substr(close + 1));
        }
        if (line.empty() || line.front() == ';' || line.front() == '#') return std::nullopt;
        if (line.front() == '%') return parse_include(line, at);
        return parse_entry(line, at);
    }

    std::optional<error> parse_include(std::string_view line, const error &at) {
        const auto rest = line.substr(std::min(line.size(), include_directive.size()));
        if (line.substr(0, include_directive.size()) != include_directive || (!rest.empty() && !is_space(rest.front())))
            return fault(at, "syntax error: the only directive is %include file");
        const auto path = trim(rest);
        if (path.empty()) return fault(at, "%include needs a file name");
        return parse_file(std::string(path), at);
    }

    std::optional<error> parse_entry(std::string_view line, const error &at) {
        std::string key;
        std::size_t next = 0;
        if (line.front() == '\'') {
            const auto quoted = unquote(line, 0);
            if (!quoted) return fault(at, "syntax error: a quoted name needs its closing quote");
            key = quoted->text;
            next = quoted->end;
        } else {
            while (next < line.size() && is_key_char(line[next])) ++next;
            key = line.substr(0, next);
        }
        const auto rest = trim(line.substr(next));
        // The line itself is not shown: it may hold a password.
        if (key.empty() || rest.empty() || rest.front() != '=') return fault(at, "syntax error: expected name = value");
        if (document_.sections.empty()) return fault(at, "\"" + key + "\" stands before the first section");
        const auto value = trim(rest.substr(1));
        document_.entries.push_back(
            {at.file, at.line, document_.sections.back().name, std::move(key), std::string(value)});
        return std::nullopt;
    }

    const file_reader &reader_;
    ini_document document_;
    std::vector<error> problems_;
    std::vector<std::string> open_files_;
};

}  // namespace

std::string to_string(const error &e) {
    return e.file + (e.line > 0 ? ":" + std::to_string(e.line) : "") + ": " + e.text;
}

std::vector<error> read_ini(const std::string &path, const file_reader &reader, ini_document &document) {
    ini_parser parser(reader);
    auto failed = parser.parse_file(path, {path, 0, {}});
    document = parser.take();
    auto problems = parser.take_problems();
    if (failed) problems.push_back(std::move(*failed));
    return problems;
}

boost::system::result<ini_document, error> parse_ini(const std::string &path, const file_reader &reader) {
    ini_document document;
    auto problems = read_ini(path, reader, document);
    if (!problems.empty()) return std::move(problems.front());
    return document;
}

}  // namespace pgsluice::config
