// The form that pg_hba.conf and pg_ident.conf share: text in, lines of fields of words out. Knows no rule by its
// meaning. Blanks divide fields, commas the words of one; "..." keeps blanks, commas and # ("" is a quote) and takes a
// word's special meaning from it; # begins a comment; a backslash at the end of a line goes on with the next; @file
// stands for the words of that file; include, include_if_exists and include_dir for the lines of others. Source:
// PostgreSQL manual 16, "The pg_hba.conf File", "User Name Maps". Files come through the reader. Any thread.
#pragma once

#include <boost/system/result.hpp>
#include <functional>
#include <string>
#include <vector>

namespace pgsluice::auth {

/// Reads a whole file; the error is the reason only. A path that ends in '/' is a folder: its names, a line each.
using rule_reader = std::function<boost::system::result<std::string, std::string>(const std::string &path)>;

struct rule_word {
    std::string text;
    bool quoted = false;  ///< it began with a quote: no keyword, no group

    bool is(std::string_view keyword) const { return !quoted && text == keyword; }
};

/// One field; more than one word where commas or an @file stood. None only where an @file was empty.
using rule_field = std::vector<rule_word>;

struct rule_line {
    std::string file;
    int line = 0;                    ///< 1-based: the first one, where it goes on over several
    std::vector<rule_field> fields;  ///< at least one
};

/// Why a line counts for nothing.
struct rule_problem {
    std::string file;
    int line = 0;  ///< 0: the file as a whole
    std::string text;
};

struct rule_file {
    std::vector<rule_line> lines;        ///< in the order in which they count
    std::vector<rule_problem> problems;  ///< in the order met; lines with one are not in `lines`
};

/// Reads `path` and all that it names; names are relative to the folder of the file that holds them.
/// Bounds: 10 files deep, 1000 files in all, 10 240 bytes a word.
rule_file read_rule_file(const std::string &path, const rule_reader &);

}  // namespace pgsluice::auth
