// See rule_file.hpp. One class holds what survives an inclusion: the open files and how many there were.
#include "auth/rule_file.hpp"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string_view>
#include <system_error>

namespace pgsluice::auth {

namespace {

constexpr std::size_t depth_max = 10;
constexpr int files_max = 1000;
constexpr std::size_t word_max_bytes = 10240;

bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

enum class outcome : std::uint8_t { word, nothing, bad };

/// The words of one line, as PostgreSQL divides it.
class line_reader {
public:
    explicit line_reader(std::string_view line) : line_(line) {}

    bool at_end() const { return at_ == line_.size(); }
    const char *problem() const { return problem_; }

    /// `more`: a comma followed, so that the field goes on.
    outcome next(rule_word &into, bool &more) {
        more = false;
        into = {};
        while (at_ < line_.size() && (is_blank(line_[at_]) || line_[at_] == ',')) ++at_;
        bool in_quote = false, was_quote = false, saw_quote = false;
        while (at_ < line_.size() && (in_quote || !is_blank(line_[at_]))) {
            const char c = line_[at_];
            if (c == '#' && !in_quote) {
                at_ = line_.size();
                break;
            }
            ++at_;
            if (c == ',' && !in_quote) {
                more = true;
                break;
            }
            if (c != '"' || was_quote) into.text += c;
            was_quote = in_quote && c == '"' && !was_quote;
            if (c == '"') {
                if (!saw_quote && into.text.empty()) into.quoted = true;
                in_quote = !in_quote;
                saw_quote = true;
            }
        }
        if (in_quote) return bad("a double quote is not closed on its line");
        if (into.text.size() > word_max_bytes) return bad("a word is too long");
        return saw_quote || !into.text.empty() ? outcome::word : outcome::nothing;
    }

private:
    outcome bad(const char *why) {
        problem_ = why;
        return outcome::bad;
    }

    std::string_view line_;
    std::size_t at_ = 0;
    const char *problem_ = nullptr;
};

/// The text's next line without its end, those joined that a backslash continues. `lines`: how many that took.
std::string take_line(std::string_view &text, int &lines) {
    std::string line;
    std::size_t joined = 0;  // a backslash that a join has brought to the end continues nothing
    lines = 0;
    while (!text.empty()) {
        const auto end = text.find('\n');
        line += text.substr(0, end);
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        ++lines;
        while (line.size() > joined && line.back() == '\r') line.pop_back();
        if (line.size() <= joined || line.back() != '\\') break;
        line.pop_back();
        joined = line.size();
    }
    return line;
}

class reader {
public:
    explicit reader(const rule_reader &read) : read_(read) {}

    /// What is wrong with the file as a whole; nothing when it was read.
    std::optional<std::string> include(const std::string &path) {
        std::string text;
        if (auto failed = open(path, text)) return failed;
        take_lines(text, path, [this](rule_line &&line) { take(std::move(line)); });
        open_.pop_back();
        return std::nullopt;
    }

    rule_file result;

private:
    std::optional<std::string> open(const std::string &path, std::string &text) {
        if (std::find(open_.begin(), open_.end(), path) != open_.end()) return "\"" + path + "\" includes itself";
        if (open_.size() > depth_max) return "files are nested more than " + std::to_string(depth_max) + " deep";
        if (++files_ > files_max) return "more than " + std::to_string(files_max) + " files are included";
        is_missing_ = false;
        // For the reader that means its list of names, which are no rules.
        if (path.ends_with('/')) return "\"" + path + "\" is a folder, not a file";
        auto found = read_(path);
        if (found.has_error()) {
            is_missing_ = found.error() == std::generic_category().message(ENOENT);
            return (open_.empty() ? "" : "\"" + path + "\": ") + found.error();
        }
        text = std::move(*found);
        open_.push_back(path);
        return std::nullopt;
    }

    void complain(const std::string &file, int line, std::string text) {
        result.problems.push_back({file, line, std::move(text)});
    }

    template <class Use>
    void take_lines(std::string_view text, const std::string &path, Use use) {
        for (int number = 1, lines = 0; !text.empty(); number += lines) {
            const std::string line = take_line(text, lines);
            rule_line found{path, number, {}};
            auto problem = divide(line, found);
            if (problem)
                complain(path, number, std::move(*problem));
            else if (!found.fields.empty())
                use(std::move(found));
        }
    }

    std::optional<std::string> divide(std::string_view line, rule_line &into) {
        if (line.find('\0') != std::string_view::npos) return "NUL byte in the line";
        line_reader words(line);
        while (!words.at_end()) {
            rule_field field;
            bool more = true, any = false;
            while (more) {
                rule_word word;
                const auto got = words.next(word, more);
                if (got == outcome::bad) return words.problem();
                if (got == outcome::nothing) break;
                any = true;
                if (!word.quoted && word.text.size() > 1 && word.text.front() == '@') {
                    if (auto failed = expand(beside(into.file, word.text.substr(1)), field)) return failed;
                } else {
                    field.push_back(std::move(word));
                }
            }
            if (any) into.fields.push_back(std::move(field));
        }
        return std::nullopt;
    }

    /// The words of the file, whatever its lines and fields are.
    std::optional<std::string> expand(const std::string &path, rule_field &into) {
        std::string text;
        if (auto failed = open(path, text)) return failed;
        const auto before = result.problems.size();
        take_lines(text, path, [&](rule_line &&line) {
            for (auto &field : line.fields)
                for (auto &word : field) into.push_back(std::move(word));
        });
        open_.pop_back();
        // A list that lacks some of its names is not the list that was meant.
        if (result.problems.size() > before) return "\"" + path + "\" has a bad line";
        return std::nullopt;
    }

    void take(rule_line &&line) {
        const auto &fields = line.fields;
        if (fields.size() == 2 && fields[0].size() == 1 && fields[1].size() == 1 && !fields[0][0].quoted) {
            const auto &directive = fields[0][0].text;
            const auto path = beside(line.file, fields[1][0].text);
            if (directive == "include" || directive == "include_if_exists") {
                is_missing_ = false;
                auto failed = include(path);
                if (failed && !(is_missing_ && directive == "include_if_exists"))
                    complain(line.file, line.line, std::move(*failed));
                return;
            }
            if (directive == "include_dir") return include_folder(path, line);
        }
        result.lines.push_back(std::move(line));
    }

    void include_folder(const std::string &path, const rule_line &from) {
        const auto folder = path.ends_with('/') ? path : path + "/";
        const auto listed = read_(folder);
        if (listed.has_error()) return complain(from.file, from.line, "\"" + path + "\": " + listed.error());
        std::vector<std::string> names;
        for (std::string_view text = *listed; !text.empty();) {
            const auto name = text.substr(0, text.find('\n'));
            text.remove_prefix(std::min(name.size() + 1, text.size()));
            if (name.ends_with(".conf") && !name.starts_with('.')) names.emplace_back(name);
        }
        std::sort(names.begin(), names.end());
        for (const auto &name : names)
            if (auto failed = include(folder + name)) complain(from.file, from.line, std::move(*failed));
    }

    static std::string beside(const std::string &file, const std::string &name) {
        const auto slash = file.rfind('/');
        return name.starts_with('/') || slash == std::string::npos ? name : file.substr(0, slash + 1) + name;
    }

    const rule_reader &read_;
    std::vector<std::string> open_;
    int files_ = 0;
    bool is_missing_ = false;  ///< the file that open() has failed for last does not exist
};

}  // namespace

rule_file read_rule_file(const std::string &path, const rule_reader &read) {
    reader work(read);
    if (auto failed = work.include(path)) work.result.problems.push_back({path, 0, std::move(*failed)});
    return std::move(work.result);
}

}  // namespace pgsluice::auth
