// Files in memory for the tests of pg_hba.conf and pg_ident.conf. A path that ends in '/' lists its folder.
#pragma once

#include <cerrno>
#include <map>
#include <string>
#include <system_error>

#include "auth/rule_file.hpp"

namespace pgsluice::auth::test {

using files = std::map<std::string, std::string>;

inline rule_reader reader_of(files all) {
    return [all = std::move(all)](const std::string &path) -> boost::system::result<std::string, std::string> {
        const auto found = all.find(path);
        if (found != all.end()) return {boost::system::in_place_value, found->second};
        std::string names;
        if (path.ends_with('/'))
            for (const auto &[name, text] : all)
                if (name.starts_with(path)) names.insert(0, name.substr(path.size()) + "\n");  // not in order
        if (!names.empty()) return {boost::system::in_place_value, names};
        return {boost::system::in_place_error, std::generic_category().message(ENOENT)};
    };
}

/// "file:line: text", a line each.
inline std::string text_of(const std::vector<rule_problem> &problems) {
    std::string all;
    for (const auto &it : problems) all += it.file + ":" + std::to_string(it.line) + ": " + it.text + "\n";
    return all;
}

}  // namespace pgsluice::auth::test
