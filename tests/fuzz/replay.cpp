// Runs every file of the given folders once through the target it is linked with; no fuzzer, any compiler. With the
// tests (label unit) it replays the corpus. Prints the file it is at when a target complains.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "fuzz/fuzz.hpp"

namespace {

std::string at;  // NOLINT: for the signal's handler

void tell(int) {
    std::fprintf(stderr, "in %s\n", at.c_str());
    std::signal(SIGABRT, SIG_DFL);
}

}  // namespace

int main(int count, char **arguments) {
    std::vector<std::filesystem::path> files;
    for (int i = 1; i < count; ++i) {
        if (!std::filesystem::is_directory(arguments[i])) {
            files.emplace_back(arguments[i]);
            continue;
        }
        for (const auto &entry : std::filesystem::directory_iterator(arguments[i])) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    if (files.empty()) {
        std::fprintf(stderr, "no input: %s FILE|FOLDER ...\n", arguments[0]);
        return 2;
    }
    std::signal(SIGABRT, tell);
    std::size_t bytes = 0;
    for (const auto &path : files) {
        at = path.string();
        std::ifstream file(path, std::ios::binary);
        // Of its exact size, so that a sanitizer sees a read behind the end.
        const std::vector<char> text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
        if (!file) {
            std::fprintf(stderr, "can not read %s\n", at.c_str());
            return 2;
        }
        const std::vector<std::uint8_t> exact(text.begin(), text.end());
        LLVMFuzzerTestOneInput(exact.data(), exact.size());
        bytes += exact.size();
    }
    std::printf("%zu files, %zu bytes\n", files.size(), bytes);
    return 0;
}
