// The queue of owed replies: what each request adds, and what each reply takes away.
#include "core/owed_replies.hpp"

namespace pgsluice::core {

namespace backend = wire::backend;

namespace {

bool ends_batch(request what) {
    return what == request::sync || what == request::query || what == request::function_call ||
           what == request::copy_both;
}

}  // namespace

void owed_replies::push(request what, asker who, bool noted) {
    const int flags = (who == asker::pooler ? pooler_bit : 0) | (noted ? noted_bit : 0);
    queue_.push_back(static_cast<char>(static_cast<int>(what) | flags));
    parses_ += what == request::parse ? 1 : 0;
    if (!ends_batch(what)) return;
    ++ends_;
    ++batches_;
}

bool owed_replies::sent(request what, asker who, bool noted) {
    if (doubtful()) {
        most_heard_ += what == request::sync ? 1 : 0;
        return false;
    }
    switch (what) {
        case request::copy_end:
            if (stands_ == frontend_state::copying_both) {
                stands_ = frontend_state::linked;
                return true;
            }
            if (copy_open()) copy_ended_ = true;
            // Sent before its CopyInResponse came: its place in the order decides which Syncs the server ignores.
            else if (owed() > 0)
                push(what, who, noted);
            return true;
        case request::sync:
            if (copy_open()) {  // the server reads it as part of the COPY and ignores it
                ++ignored_syncs_;
                return false;
            }
            stands_ = frontend_state::linked;
            unsynced_ = false;
            break;
        case request::query:
        case request::function_call:
            if (skipping()) return false;
            unsynced_ = false;
            copy_ended_ = true;  // none that runs survives it: what follows is not for that one
            break;
        default:
            if (skipping()) return false;
            unsynced_ = true;
            copy_ended_ = true;
            break;
    }
    push(what, who, noted);
    return true;
}

void owed_replies::note_end(std::size_t index, outcome how) {
    if ((queue_[index] & noted_bit) != 0) outcomes_.push_back(static_cast<char>(how));
}

void owed_replies::take_next(outcome how) {
    const char entry = queue_[head_++];
    if ((entry & noted_bit) != 0) outcomes_.push_back(static_cast<char>(how));
    if (ends_batch(request_of(entry))) --ends_;
}

void owed_replies::forget_ended() {
    if (head_ == queue_.size()) {
        queue_.clear();
        head_ = 0;
    } else if (head_ > 4096 && head_ > queue_.size() / 2) {
        queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(head_));
        head_ = 0;
    }
}

/// The request at the head has its answer.
void owed_replies::end_next(outcome how) {
    do take_next(how);
    while (owed() > 0 && head() == request::copy_end);
    forget_ended();
}

void owed_replies::drop_until(std::size_t index, outcome how) {
    while (head_ < index) take_next(how);
    forget_ended();
}

void owed_replies::begin_copy_in() {
    copy_in_ = true;
    copy_ended_ = false;
    ignored_syncs_ = 0;
    std::size_t kept = head_ + 1;
    for (std::size_t i = kept; i < queue_.size(); ++i) {
        const bool end = !copy_ended_ && at(i) == request::copy_end;
        const bool eaten = !copy_ended_ && at(i) == request::sync;
        copy_ended_ = copy_ended_ || !eaten;  // by its end, or by a request, which it does not survive
        ignored_syncs_ += eaten ? 1 : 0;
        ends_ -= eaten ? 1 : 0;
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

void owed_replies::drop_all() {
    drop_until(queue_.size(), outcome::dropped);
    copy_in_ = unsynced_ = false;
    stands_ = frontend_state::linked;
}

/// A COPY failed that Syncs were sent to, each of which was eaten by it or is answered by ReadyForQuery. The first
/// reply of another kind, to what was sent behind them, ends that question; unless that itself may be skipped, or the
/// reply be to something further behind: then the server is skipping to a Sync, and does not meet one first.
bool owed_replies::replies_will_tell() const {
    bool syncs = false;
    for (std::size_t i = head_ + 1; i < queue_.size(); ++i) {
        if (at(i) == request::copy_end) continue;
        if (at(i) != request::sync) return syncs || head() != request::execute;
        if ((queue_[i] & pooler_bit) != 0) return false;
        syncs = true;
    }
    return false;
}

/// A COPY failed that Syncs were sent to. Which of them the server had read by then, only the server knows: a trigger,
/// a cancel or bad data end it at different places.
fate owed_replies::copy_failed() {
    bool only_syncs = true, ours = false;
    most_heard_ = ignored_syncs_ + (head() == request::execute ? 1 : 2);  // its own when it is a query, and our Sync's
    for (std::size_t i = head_ + 1; i < queue_.size(); ++i) {
        most_heard_ += at(i) == request::sync ? 1 : 0;
        only_syncs = only_syncs && (at(i) == request::copy_end || at(i) == request::sync);
        ours = ours || (queue_[i] & pooler_bit) != 0 || at(i) == request::known_parse;
    }
    in_batch_ = head() == request::execute;
    note_end(head_, outcome::failed);
    queue_[head_] = static_cast<char>(queue_[head_] & ~noted_bit);
    drop_all();
    heard_syncs_ = 0;
    doubt_ = only_syncs && sounds_ ? doubt::open : ours ? doubt::mixed : doubt::lost;
    return fate::to_client;
}

void owed_replies::sounded() {
    doubt_ = doubt::sounding;
    ++batches_;
}

fate owed_replies::in_doubt(char type) {
    if (!is_reply(type)) return fate::violation;
    switch (doubt_) {
        case doubt::open:
        case doubt::sounding:
            if (type == backend::ready_for_query) {
                return ++heard_syncs_ > most_heard_ ? fate::violation : fate::hold;
            }
            if (doubt_ == doubt::open || type != backend::close_complete) return fate::violation;
            doubt_ = doubt::marked;
            return fate::swallow;
        case doubt::marked:
            if (type != backend::ready_for_query) return fate::violation;
            doubt_ = doubt::none;
            // Only our own Sync was heard: all of the client's were eaten, and its batch still waits for one.
            if (in_batch_ && heard_syncs_ == 1) stands_ = frontend_state::skipping;
            return fate::swallow;
        case doubt::mixed:
            return type == backend::ready_for_query ? fate::to_client : fate::violation;
        case doubt::leaving:
        case doubt::lost:
        case doubt::none:
            break;
    }
    return fate::to_client;
}

fate owed_replies::failed() {
    if (owed() == 0) {
        if (needs_sounding() || sounding()) return fate::violation;  // whose it is can not be told
        drop_all();
        if (doubt_ == doubt::none) doubt_ = doubt::leaving;
        return fate::to_client;
    }
    maybe_syncs_ = 0;
    if (copy_in_ && ignored_syncs_ > 0) {
        if (!replies_will_tell()) return copy_failed();
        maybe_syncs_ = ignored_syncs_;
    }
    copy_in_ = false;
    if (head() == request::copy_both) become(request::query);
    if (stands_ == frontend_state::copying_both) stands_ = frontend_state::linked;
    const request what = head();
    note_end(head_, outcome::failed);
    queue_[head_] = static_cast<char>(queue_[head_] & ~noted_bit);          // told
    if (maybe_syncs_ > 0 && what == request::query) become(request::sync);  // only its ReadyForQuery is to come
    // Errors of what we put into a client's batch are the client's: the server skips the rest of its batch for it.
    const bool ours = next_asker() == asker::pooler && ends_batch(what);
    if (!ends_batch(what)) {
        std::size_t next = head_;
        while (next < queue_.size() && at(next) != request::sync) ++next;
        stands_ = next == queue_.size() ? frontend_state::skipping : frontend_state::linked;
        drop_until(next, outcome::dropped);
    }
    return ours ? fate::swallow : fate::to_client;
}

fate owed_replies::received(char type) {
    if (type == backend::error_response) return failed();
    if (doubtful()) return in_doubt(type);
    if (owed() == 0) return fate::violation;
    const char entry = queue_[head_];
    const request what = request_of(entry);
    if (maybe_syncs_ > 0) {
        if (type == backend::ready_for_query && what != request::sync) {
            --maybe_syncs_;
            return fate::to_client;
        }
        if (type != backend::ready_for_query) maybe_syncs_ = 0;
    }
    const fate good = (entry & pooler_bit) != 0      ? fate::swallow
                      : what == request::known_parse ? fate::parse_complete
                                                     : fate::to_client;
    switch (step_of(type, what)) {
        case step::violation:
            return fate::violation;
        case step::fails:  // handled above: also when nothing is owed
        case step::part:
            break;
        case step::copies_in:
            begin_copy_in();
            break;
        case step::copies_both:
            become(request::copy_both);
            // The client may have said CopyDone, or gone on to something else, ahead of it.
            if (owed() == 1) stands_ = frontend_state::copying_both;
            break;
        case step::copied:
            become(request::query);
            if (type == backend::command_complete) stands_ = frontend_state::linked;
            break;
        case step::completes:
            copy_in_ = false;
            if (what != request::execute) break;
            [[fallthrough]];
        case step::last:
            if (ends_batch(what)) copy_in_ = false;
            end_next(outcome::done);
            break;
    }
    return good;
}

}  // namespace pgsluice::core
