// PgBouncer's INI grammar: text in, a flat list of entries with file and line out. It knows no setting by name.
// Our own, since Debian's libinih cuts lines at 200 characters, takes " ;" for an inline comment and an indented line
// for a continuation, and reports no line of an entry; a drop-in can afford none of these.
// Grammar: comments (; or #) only at the start of a line; keys [A-Za-z0-9_.*-]+ or 'quoted' ('' inside = '); values
// verbatim to the end of the line, trimmed; "%include file" (relative to the working directory) keeps the section.
#pragma once

#include <string>
#include <vector>

#include "config/source.hpp"

namespace pgsluice::config {

inline constexpr int include_depth_max = 10;

struct ini_entry {
    std::string file;
    int line = 0;
    std::string section;
    std::string key;
    std::string value;  ///< "" when nothing follows the '='
};

/// A section header; the same name may come again.
struct ini_section {
    std::string file;
    int line = 0;
    std::string name;
};

struct ini_document {
    std::vector<ini_section> sections;  ///< in the order read
    std::vector<ini_entry> entries;     ///< in the order read
};

/// Reads `path` and what it includes.
boost::system::result<ini_document, error> parse_ini(const std::string &path, const file_reader &);
/// The same, but goes on after what it refuses: every line that is wrong, and in `document` what is good.
std::vector<error> read_ini(const std::string &path, const file_reader &, ini_document &document);

}  // namespace pgsluice::config
