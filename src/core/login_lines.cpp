// Counts by kind, a second at a time.
#include "core/login_lines.hpp"

#include <utility>

namespace pgsluice::core {

namespace {

constexpr base::seconds window{1};

/// Without names, addresses and numbers: those are whatever the peer likes.
std::string_view kind_of(std::string_view why) {
    const auto kind = why.substr(0, why.find_first_of(":\"("));
    const auto end = kind.find_last_not_of(' ');
    return kind.substr(0, end == std::string_view::npos ? 0 : end + 1);
}

}  // namespace

bool login_lines::tells(std::string_view why, base::time_point now) {
    // What was left out is still to be told: it stays of that second.
    if (now >= since_ + window && left_out_.empty()) {
        since_ = now;
        told_.clear();
    }
    auto kind = kind_of(why);
    if (told_.size() >= kinds_max && !told_.contains(kind)) kind = "other reasons";
    auto &told = told_[std::string(kind)];
    if (++told <= most_a_second) return true;
    ++left_out_[std::string(kind)];
    return false;
}

login_lines::counts login_lines::left_out(base::time_point now) {
    if (left_out_.empty() || now < since_ + window) return {};
    return std::exchange(left_out_, {});
}

}  // namespace pgsluice::core
