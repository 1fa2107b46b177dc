// A line in which everybody has an equal share: the first of each is taken in turn, so that one who brings much holds
// up itself. Knows no locks.
#pragma once

#include <cstddef>
#include <deque>
#include <list>
#include <string>
#include <unordered_map>
#include <utility>

namespace pgsluice::core {

template <class T>
class fair_line {
public:
    void push(const std::string &whose, T it) {
        auto found = shares_.find(whose);
        if (found == shares_.end()) found = shares_.emplace(whose, turns_.insert(turns_.end(), share{whose, {}})).first;
        found->second->waiting.push_back(std::move(it));
        ++size_;
    }
    /// It must not be empty.
    T pop() {
        const auto first = turns_.begin();
        T it = std::move(first->waiting.front());
        first->waiting.pop_front();
        --size_;
        first->waiting.empty() ? drop(first) : turns_.splice(turns_.end(), turns_, first);
        return it;
    }
    /// The first of them that `is` it leaves the line. False: there is none.
    template <class Is>
    bool remove(const std::string &whose, Is is) {
        const auto found = shares_.find(whose);
        if (found == shares_.end()) return false;
        auto &waiting = found->second->waiting;
        for (auto it = waiting.begin(); it != waiting.end(); ++it) {
            if (!is(*it)) continue;
            waiting.erase(it);
            --size_;
            if (waiting.empty()) drop(found->second);
            return true;
        }
        return false;
    }
    void clear() {
        shares_.clear();
        turns_.clear();
        size_ = 0;
    }
    bool empty() const { return size_ == 0; }
    std::size_t size() const { return size_; }

private:
    struct share {
        std::string whose;
        std::deque<T> waiting;
    };
    using place = typename std::list<share>::iterator;
    void drop(place it) {
        shares_.erase(it->whose);
        turns_.erase(it);
    }

    std::list<share> turns_;  ///< the next one first; none is empty
    std::unordered_map<std::string, place> shares_;
    std::size_t size_ = 0;
};

}  // namespace pgsluice::core
