// Where configuration text comes from and how a fault in it is named. Shared by the parsers of this floor.
// Nothing here opens a file: the reader is passed in.
#pragma once

#include <boost/system/result.hpp>
#include <functional>
#include <string>

namespace pgsluice::config {

/// Where and why a configuration is refused (or, as a warning, is doubtful).
struct error {
    std::string file;
    int line = 0;      ///< 1-based; 0 = the file as a whole
    std::string text;  ///< one line, without any secret
};

/// "file:line: text", or "file: text" when the fault has no line.
std::string to_string(const error &);

/// Reads a whole file; of a path that ends in '/', the names in that folder, a line each. The error is the reason only,
/// e.g. "No such file or directory".
using file_reader = std::function<boost::system::result<std::string, std::string>(const std::string &path)>;

}  // namespace pgsluice::config
