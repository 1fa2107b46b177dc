// Files in memory for the tests of the config floor, and short ways to load them.
#pragma once

#include <map>
#include <string>

#include "config/load.hpp"

namespace pgsluice::config::test {

struct memory_files {
    std::map<std::string, std::string> files;

    boost::system::result<std::string, std::string> operator()(const std::string &path) const {
        using result = boost::system::result<std::string, std::string>;
        const auto found = files.find(path);
        if (found == files.end()) return result(boost::system::in_place_error, "No such file or directory");
        return result(boost::system::in_place_value, found->second);
    }
};

inline boost::system::result<loaded, error> load_files(std::map<std::string, std::string> files,
                                                       const settings *previous = nullptr) {
    return load("p.ini", memory_files{std::move(files)}, "salt key", previous);
}

/// Loads `ini` as p.ini beside a good users.txt.
inline boost::system::result<loaded, error> load_text(std::string ini) {
    return load_files({{"p.ini", std::move(ini)}, {"users.txt", "\"app\" \"strongpassword\"\n"}});
}

/// What the fault reads like, or "" when the text loads.
inline std::string fault_of(const boost::system::result<loaded, error> &result) {
    return result.has_error() ? to_string(result.error()) : "";
}

/// All warnings, a line each; "" also when the text does not load.
inline std::string warnings_of(const boost::system::result<loaded, error> &result) {
    std::string all;
    if (result.has_value())
        for (const auto &warning : result->warnings) all += to_string(warning) + "\n";
    return all;
}

}  // namespace pgsluice::config::test
