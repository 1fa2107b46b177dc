// The looks: stat(2) of each file.
#include "net/file_watch.hpp"

#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>

namespace pgsluice::net {

void file_watch::of(std::vector<std::string> paths) {
    paths_ = std::move(paths);
    std::erase(paths_, "");
    known_ = seen_ = look();
}

bool file_watch::changed() {
    if (paths_.empty()) return false;
    auto now = look();
    const bool still = now == seen_;
    seen_ = std::move(now);
    if (!still || seen_ == known_) return false;
    known_ = seen_;
    return true;
}

std::string file_watch::look() const {
    std::string all;
    for (const auto &path : paths_) {
        struct stat it {};
        if (::stat(path.c_str(), &it) != 0) it = {};
        all += fmt::format("{}.{}.{}.{}.{};", it.st_dev, it.st_ino, it.st_size, it.st_mtim.tv_sec, it.st_mtim.tv_nsec);
    }
    return all;
}

}  // namespace pgsluice::net
