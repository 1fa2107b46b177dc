// Files for the targets hba and ident: the input is the file "main"; behind 0x1e bytes follow "a", "d/b.conf" and
// "d/c.conf". The folder "d/" lists its two.
#pragma once

#include <algorithm>
#include <vector>

#include "auth/rule_file.hpp"
#include "fuzz/fuzz.hpp"

namespace pgsluice::fuzz {

class rule_files {
public:
    explicit rule_files(std::string_view all) : texts_(1) {
        for (const char c : all) c == '\x1e' ? static_cast<void>(texts_.emplace_back()) : texts_.back().push_back(c);
    }

    auth::rule_reader reader() {
        return [this](const std::string &path) -> boost::system::result<std::string, std::string> {
            // Files that include each other twice a line grow without a cycle; depth is limited, breadth the author's.
            if (++reads_ > 64) return {boost::system::in_place_error, "No more"};
            if (path == "d/") return {boost::system::in_place_value, "c.conf\nx\nb.conf\n"};
            const auto which = index_of(path);
            if (which >= texts_.size()) return {boost::system::in_place_error, "No such file or directory"};
            return {boost::system::in_place_value, texts_[which]};
        };
    }

    /// `line` of `file` is there, or is 0 where that is allowed.
    void check_place(const std::string &file, int line, int first) const {
        if (line == 0 && first == 0) return;
        const auto which = index_of(file);
        require(which < texts_.size(), "a file that is not there");
        const auto lines = 1 + std::count(texts_[which].begin(), texts_[which].end(), '\n');
        require(line >= 1 && line <= lines, "a line that is not there");
    }
    void check(const std::vector<auth::rule_problem> &problems) const {
        for (const auto &it : problems) {
            check_place(it.file, it.line, 0);
            require(!it.text.empty() && it.text.find('\n') == std::string::npos, "a complaint that is no line");
        }
    }

private:
    static std::size_t index_of(const std::string &path) {
        return path == "main" ? 0 : path == "a" ? 1 : path == "d/b.conf" ? 2 : path == "d/c.conf" ? 3 : 99;
    }

    std::vector<std::string> texts_;
    int reads_ = 0;
};

}  // namespace pgsluice::fuzz
