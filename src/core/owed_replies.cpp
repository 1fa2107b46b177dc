// The queue of owed replies: what each request adds, and what each reply takes away.
#include "core/owed_replies.hpp"

#include <string_view>

#include "wire/backend.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;

namespace {

bool ends_batch(request what) {
    return what == request::sync || what == request::query || what == request::function_call;
}

/// What a backend may send after its login, beside what may come at any time.
bool is_reply(char type) {
    constexpr std::string_view all{"123CDEGHITVWZcdnst"};
    return all.find(type) != std::string_view::npos;
}

}  // namespace

void owed_replies::sent(request what, asker who) {
    if (doubtful_) return;
    switch (what) {
        case request::copy_end:
            if (copy_in_ && !copy_ended_) copy_ended_ = true;
            // Sent before its CopyInResponse came: its place in the order decides which Syncs the server ignores.
            else if (owed() > 0)
                push(what, who);
            return;
        case request::sync:
            if (copy_in_ && !copy_ended_) {  // the server reads it as part of the COPY and ignores it
                ++ignored_syncs_;
                return;
            }
            skip_to_sync_ = false;
            unsynced_ = false;
            break;
        case request::query:
        case request::function_call:
            if (skip_to_sync_) return;
            unsynced_ = false;
            break;
        default:
            if (skip_to_sync_) return;
            unsynced_ = true;
            break;
    }
    push(what, who);
}

asker owed_replies::next_asker() const {
    return owed() > 0 && (queue_[head_] & pooler_bit) != 0 ? asker::pooler : asker::client;
}

void owed_replies::push(request what, asker who) {
    queue_.push_back(code(what, who));
    if (what == request::parse) ++parses_;
}

void owed_replies::pop() {
    drop_until(head_ + 1);
    while (owed() > 0 && head() == request::copy_end) drop_until(head_ + 1);
}

void owed_replies::drop_until(std::size_t index) {
    for (; head_ < index; ++head_) {
        if (head() == request::parse) --parses_;
    }
    if (head_ == queue_.size()) {
        queue_.clear();
        head_ = 0;
    } else if (head_ > 4096 && head_ > queue_.size() / 2) {
        queue_.erase(0, head_);
        head_ = 0;
    }
}

void owed_replies::begin_copy_in() {
    copy_in_ = true;
    copy_ended_ = false;
    ignored_syncs_ = 0;
    std::size_t kept = head_ + 1;
    for (std::size_t i = kept; i < queue_.size(); ++i) {
        const bool end = !copy_ended_ && at(i) == request::copy_end;
        const bool eaten = !copy_ended_ && at(i) == request::sync;
        copy_ended_ = copy_ended_ || end;
        ignored_syncs_ += eaten ? 1 : 0;
        if (!end && !eaten) queue_[kept++] = queue_[i];
    }
    queue_.resize(kept);
    // A Sync taken out may have been the one that ended the batch.
    bool open = false;
    for (std::size_t i = head_; i < queue_.size(); ++i) {
        if (at(i) != request::copy_end) open = !ends_batch(at(i));
    }
    unsynced_ = open;
}

fate owed_replies::despair() {
    queue_.clear();
    head_ = 0;
    parses_ = 0;
    copy_in_ = skip_to_sync_ = unsynced_ = false;
    doubtful_ = true;
    return fate::to_client;
}

fate owed_replies::failed() {
    if (owed() == 0) return despair();
    // Which of those Syncs the server had read when the COPY failed, only the server knows: a trigger, a cancel or bad
    // data end it at different places.
    if (copy_in_ && ignored_syncs_ > 0) return despair();
    copy_in_ = false;
    const request what = head();
    // Errors of what we put into a client's batch are the client's: the server skips the rest of its batch for it.
    const bool ours = next_asker() == asker::pooler && ends_batch(what);
    if (!ends_batch(what)) {
        std::size_t next = head_;
        while (next < queue_.size() && at(next) != request::sync) ++next;
        skip_to_sync_ = next == queue_.size();
        drop_until(next);
    }
    return ours ? fate::swallow : fate::to_client;
}

fate owed_replies::received(char type) {
    if (type == backend::error_response) return failed();
    if (doubtful_) return is_reply(type) ? fate::to_client : fate::violation;
    if (owed() == 0) return fate::violation;
    const request what = head();
    const fate good = next_asker() == asker::pooler ? fate::swallow : fate::to_client;
    const auto last_of = [&](bool legal) {
        if (!legal) return fate::violation;
        pop();
        return good;
    };
    const auto one_of = [&](bool legal) { return legal ? good : fate::violation; };
    const bool runs = what == request::query || what == request::execute;
    switch (type) {
        case backend::parse_complete:
            return last_of(what == request::parse);
        case backend::bind_complete:
            return last_of(what == request::bind);
        case backend::close_complete:
            return last_of(what == request::close);
        case backend::parameter_description:
            return one_of(what == request::describe);
        case backend::no_data:
            return last_of(what == request::describe);
        case backend::row_description:
            return what == request::query ? good : last_of(what == request::describe);
        case backend::data_row:
        case backend::copy_out_response:
        case backend::copy_both_response:
        case backend::copy_data:
        case backend::copy_done:
            return one_of(runs);
        case backend::copy_in_response:
            if (!runs) return fate::violation;
            begin_copy_in();
            return good;
        case backend::portal_suspended:
            return last_of(what == request::execute);
        case backend::command_complete:
        case backend::empty_query_response:
            copy_in_ = false;
            return what == request::query ? good : last_of(what == request::execute);
        case backend::function_call_response:
            return one_of(what == request::function_call);
        case backend::ready_for_query:
            copy_in_ = false;
            return last_of(what == request::sync || what == request::query || what == request::function_call);
        default:
            return fate::violation;
    }
}

}  // namespace pgsluice::core
