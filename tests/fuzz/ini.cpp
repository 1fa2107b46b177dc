// Fuzz target: the ini, alone and as a whole configuration. The input is the main file; "%include" finds further files
// behind 0x1e bytes: the first is "a", the second "b". A complaint names a file and a line that are there.
#include "config/ini.hpp"

#include <algorithm>
#include <vector>

#include "config/connection_string.hpp"
#include "config/load.hpp"
#include "fuzz/fuzz.hpp"

using namespace pgsluice;

namespace {

/// Deriving verifiers from plain passwords costs what scram_iterations says, by intent; here it would only cost time.
bool asks_for_work(std::string_view text) {
    return text.find("scram_iterations") != std::string_view::npos;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const fuzz::memory_watch watch(size * 16);  // ten levels of the same %include may be read
    const std::string_view all(reinterpret_cast<const char *>(data), size);
    std::vector<std::string> files(1);
    for (const char c : all) c == '\x1e' ? static_cast<void>(files.emplace_back()) : files.back().push_back(c);
    int reads = 0;
    using answer = boost::system::result<std::string, std::string>;
    const config::file_reader reader = [&](const std::string &path) {
        // Files that include each other twice a line grow without a cycle; depth is limited, breadth is the author's.
        if (++reads > 64) return answer(boost::system::in_place_error, "No more");
        const std::size_t which = path == "main" ? 0 : path == "a" ? 1 : path == "b" ? 2 : files.size();
        if (which >= files.size()) return answer(boost::system::in_place_error, "No such file or directory");
        return answer(boost::system::in_place_value, files[which]);
    };
    const auto lines_of = [&](const std::string &file) -> std::ptrdiff_t {
        const std::size_t which = file == "main" ? 0 : file == "a" ? 1 : file == "b" ? 2 : files.size();
        fuzz::require(which < files.size(), "a file that is not there");
        return 1 + std::count(files[which].begin(), files[which].end(), '\n');
    };
    const auto check_place = [&](const std::string &file, int line, int first) {
        fuzz::require(line >= first && line <= lines_of(file), "a line that is not there");
    };
    const auto document = config::parse_ini("main", reader);
    if (document.has_error()) {
        check_place(document.error().file, document.error().line, 0);
    } else {
        for (const auto &it : document->entries) check_place(it.file, it.line, 1);
        for (const auto &it : document->sections) check_place(it.file, it.line, 1);
    }
    static_cast<void>(config::parse_connection_string(all));
    if (asks_for_work(all)) return 0;
    reads = 0;
    const auto loaded = config::load("main", reader, "salt");
    fuzz::require(!document.has_error() || loaded.has_error(), "a file that can not be read was loaded");
    if (loaded.has_error()) fuzz::require(!config::to_string(loaded.error()).empty(), "refused without a word");
    return 0;
}
