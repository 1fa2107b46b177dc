// The line of questions, and the socket of each.
#include "net/secret_lookup.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/write.hpp>

#include "net/console_desk.hpp"
#include "net/log.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

namespace {
constexpr const char *too_late = "no answer in time";
}  // namespace

/// One question on its way. Kept alive by the operations of its socket.
class secret_lookups::conversation : public std::enable_shared_from_this<conversation> {
public:
    conversation(secret_lookups &owner, const core::secret_question &what, base::time_point until)
        : owner_(&owner),
          what_(what),
          until_(until),
          query_(what),
          socket_(owner.all_.control),
          limit_(owner.all_.control) {}

    /// False: the loop can not watch it, and it stays the caller's.
    bool use(int fd) {
        error_code ec;
        socket_.assign(asio::generic::stream_protocol(AF_UNIX, 0), fd, ec);
        return !ec;
    }
    void start() {
        limit_.expires_at(until_);
        limit_.async_wait([self = shared_from_this()](error_code ec) {
            if (!ec) self->time_is_over();
        });
        read();
    }
    void forget() {
        owner_ = nullptr;
        stop();
    }

private:
    void read() {
        socket_.async_read_some(asio::buffer(room_), [self = shared_from_this()](error_code ec, std::size_t count) {
            if (ec) return self->end("the connection ended");
            self->have_.append(self->room_.data(), count);
            self->go_on();
        });
    }
    void go_on() {
        std::string out;
        have_.erase(0, query_.on_bytes(have_, out));
        if (query_.done()) return end({});
        if (out.empty()) return read();
        // A question fits into the buffer of a socket that nothing was written to.
        error_code ec;
        asio::write(socket_, asio::buffer(out), ec);
        ec ? end("the connection ended") : read();
    }
    void time_is_over() {
        if (owner_ == nullptr) return;
        owner_->held_up(what_.database) ? owner_->put_back(what_) : end(too_late);
    }
    void end(std::string_view why) {
        if (owner_ == nullptr) return;
        query_.on_end(why);
        auto *const owner = std::exchange(owner_, nullptr);
        stop();
        owner->finished(what_, query_.answer());
    }
    void stop() {
        limit_.cancel();
        error_code ignored;
        socket_.close(ignored);
    }

    secret_lookups *owner_;
    core::secret_question what_;
    base::time_point until_;
    core::auth_query query_;
    stream_socket socket_;
    timer limit_;
    std::array<char, 8192> room_;
    std::string have_;
};

secret_lookups::~secret_lookups() {
    for (const auto &[what, it] : under_way_) it->forget();
}

secret_lookups::ticket secret_lookups::find(core::secret_question what, then done) {
    auto wanted = std::make_shared<const core::secret_question>(std::move(what));
    asio::post(all_.control, [this, wanted, done = std::move(done)] { ask(wanted, done); });
    return wanted;
}

void secret_lookups::ask(const ticket &wanted, then done) {
    const auto &what = *wanted;
    const auto now = std::chrono::steady_clock::now();
    // Only while others wait in line, whom it spares: how soon it is answered may tell who is not there.
    const auto known = unknown_.find(what);
    if (known != unknown_.end() && !in_line_.empty() && now < known->second.until)
        return answer_unknown(what, known->second.took, std::move(done));
    if (!asked_.contains(what)) {
        if (in_line_.size() >= line_max) return done({core::secret_answer::kind::crowded_out});
        asked_[what] = {{}, now, &in_line_, in_line_.insert(in_line_.end(), what)};
    }
    asked_[what].all.push_back({wanted, std::move(done)});
    next();
}

void secret_lookups::forget(ticket wanted) {
    asio::post(all_.control, [this, wanted = std::move(wanted)] {
        const auto found = asked_.find(*wanted);
        if (found == asked_.end()) return;
        auto &all = found->second.all;
        std::erase_if(all, [&](const asker &one) { return one.wanted == wanted; });
        if (!all.empty() || under_way_.contains(*wanted)) return;
        found->second.in->erase(found->second.place);
        asked_.erase(found);
    });
}

void secret_lookups::answer_unknown(const core::secret_question &what, base::duration after, then done) {
    const auto wait = std::make_shared<timer>(all_.control);
    wait->expires_after(after);
    wait->async_wait([wait, done = std::move(done), seen = seen_.of(what.database)](error_code ec) {
        if (!ec) done({core::secret_answer::kind::unknown, nullptr, {}, seen});
    });
}

void secret_lookups::next() {
    const auto now = std::chrono::steady_clock::now();
    while (!in_line_.empty() && under_way_.size() < at_once) {
        auto &who = asked_[in_line_.front()];
        if (held_up(in_line_.front().database)) {
            stand(who, held_up_[in_line_.front().database], in_line_);
            continue;
        }
        const auto what = std::move(in_line_.front());
        in_line_.pop_front();
        who.in = nullptr;
        // The line is in the order of asking, so those ahead of this one have all been answered by then.
        const auto until = who.since + time_limit;
        if (now < until)
            begin(what, until);
        else
            tell(what, {core::secret_answer::kind::failed, nullptr, too_late});
    }
}

/// The first of the one line becomes the last of the other.
void secret_lookups::stand(askers &who, line &at_end_of, line &from) {
    at_end_of.splice(at_end_of.end(), from, from.begin());
    who.in = &at_end_of;
}

bool secret_lookups::held_up(const std::string &database) {
    return all_.console->suspended() ||
           all_.with_ledger([&](core::ledger &ledger, core::orders &) { return ledger.waits_for_resume(database); });
}

void secret_lookups::tick() {
    const auto now = std::chrono::steady_clock::now();
    for (auto it = held_up_.begin(); it != held_up_.end();) {
        auto &[database, aside] = *it;
        if (!aside.empty() && held_up(database)) {
            ++it;
            continue;
        }
        while (!aside.empty()) {
            auto &who = asked_[aside.front()];
            who.since = now;
            stand(who, in_line_, aside);
        }
        it = held_up_.erase(it);
    }
    next();
}

/// Others need its place more.
void secret_lookups::put_back(const core::secret_question &what) {
    under_way_.extract(what).mapped()->forget();
    const auto who = asked_.find(what);
    if (who->second.all.empty()) {
        asked_.erase(who);
    } else {
        auto &aside = held_up_[what.database];
        who->second.in = &aside;
        who->second.place = aside.insert(aside.end(), what);
    }
    next();
}

void secret_lookups::begin(const core::secret_question &what, base::time_point until) {
    auto it = std::make_shared<conversation>(*this, what, until);
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) != 0 || !it->use(ends[0])) {
        for (const int fd : ends)
            if (fd >= 0) ::close(fd);
        return tell(what, {core::secret_answer::kind::failed, nullptr, "no socket for auth_query"});
    }
    under_way_.emplace(what, it);
    it->start();
    // The least loaded: its pool may have idle servers anywhere, and they come.
    const auto serving = all_.serving();
    const auto best = std::min_element(serving.begin(), serving.end(),
                                       [](const auto &a, const auto &b) { return a->load() < b->load(); });
    (*best)->adopt_own(ends[1], what.database, what.auth_user);
}

void secret_lookups::finished(const core::secret_question &what, core::secret_answer answer) {
    under_way_.erase(what);
    tell(what, std::move(answer));
    next();
}

void secret_lookups::tell(const core::secret_question &what, core::secret_answer answer) {
    const auto who = std::move(asked_[what]);
    asked_.erase(what);
    if (answer.what == core::secret_answer::kind::failed) {
        log::warning("auth_query for user \"{}\" in database \"{}\" failed: {}", what.user, what.database,
                     answer.problem);
    }
    if (answer.what == core::secret_answer::kind::unknown) {
        if (unknown_.size() >= unknown_max) unknown_.clear();
        const auto now = std::chrono::steady_clock::now();
        const auto took = std::chrono::duration_cast<base::duration>(now - who.since);
        unknown_.insert_or_assign(what, unknown_user{now + unknown_for, took});
    }
    if (answer.credential) seen_.note(what, *answer.credential);
    answer.seen = seen_.of(what.database);
    for (const auto &one : who.all) one.done(answer);
}

}  // namespace pgsluice::net
