// Notices that files have changed, by looking at them now and then: their times, sizes and places. A change counts when
// it has stood still from one look to the next, since a key and its certificate are seldom replaced in one step.
// Belongs to the control thread. Not inotify: files are replaced by renaming, by symbolic links of whole directories,
// on network file systems; a look every half a second sees all of them.
#pragma once

#include <string>
#include <vector>

namespace pgsluice::net {

class file_watch {
public:
    /// What is looked at from now on, and how it is now. Empty names are none.
    void of(std::vector<std::string> paths);
    /// True once for each change.
    bool changed();

private:
    std::string look() const;

    std::vector<std::string> paths_;
    std::string known_, seen_;
};

}  // namespace pgsluice::net
