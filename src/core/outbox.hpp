// What is to be sent on one socket, in order: views into a read buffer, or bytes made here. Neighbours are merged, so
// that a relayed batch is one send. It does not send, and keeps no more than base::kept_bytes of each kind beyond
// clear(). Two in each of a worker's effects, reused for every event; views live until the caller drops the buffer they
// point into.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/memory.hpp"

namespace pgsluice::core {

class outbox {
public:
    /// A piece of at most `copied_max_bytes` that comes behind bytes of our own making is copied to them: the kernel
    /// takes longer for one piece more. 0: every byte made here and every byte passed on are pieces apart.
    explicit outbox(std::size_t copied_max_bytes = 512) : copied_max_bytes_(copied_max_bytes) {}

    /// Adds bytes that stay where they are until the outbox is flushed.
    void view(std::string_view bytes) {
        if (bytes.empty()) return;
        size_bytes_ += bytes.size();
        if (!pieces_.empty()) {
            auto &last = pieces_.back();
            if (last.data != nullptr && last.data + last.size == bytes.data()) {
                last.size += bytes.size();
                return;
            }
            if (last.data == nullptr && bytes.size() <= copied_max_bytes_) {
                made_ += bytes;
                last.size += bytes.size();
                return;
            }
        }
        pieces_.push_back({bytes.data(), 0, bytes.size()});
    }

    /// Calls `build(std::string &)`, which appends the bytes of its own making.
    template <class Build>
    void make(Build &&build) {
        const std::size_t before = made_.size();
        build(made_);
        const std::size_t added = made_.size() - before;
        if (added == 0) return;
        size_bytes_ += added;
        if (!pieces_.empty() && pieces_.back().data == nullptr) {
            pieces_.back().size += added;
        } else {
            pieces_.push_back({nullptr, before, added});
        }
    }

    bool empty() const { return pieces_.empty(); }
    std::size_t size_bytes() const { return size_bytes_; }
    std::size_t pieces() const { return pieces_.size(); }
    std::string_view piece(std::size_t index) const {
        const auto &it = pieces_[index];
        return it.data != nullptr ? std::string_view(it.data, it.size)
                                  : std::string_view(made_).substr(it.offset, it.size);
    }
    /// Everything as one string: for tests, and for what a socket did not take.
    std::string text() const {
        std::string all;
        for (std::size_t i = 0; i < pieces_.size(); ++i) all += piece(i);
        return all;
    }
    void clear() {
        if (pieces_.empty()) return;  // nothing was made either
        base::clear(pieces_);
        base::clear(made_);
        size_bytes_ = 0;
    }
    /// What it holds on to, full or empty.
    std::size_t kept_bytes() const { return made_.capacity() + pieces_.capacity() * sizeof(part); }

private:
    struct part {
        const char *data;    ///< null: in made_
        std::size_t offset;  ///< into made_
        std::size_t size;
    };
    std::vector<part> pieces_;
    std::string made_;
    std::size_t size_bytes_ = 0;
    std::size_t copied_max_bytes_;
};

}  // namespace pgsluice::core
