// The line of questions, and the socket of each.
#include "net/secret_lookup.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/write.hpp>

#include "net/log.hpp"
#include "net/worker.hpp"

namespace pgsluice::net {

namespace {
constexpr std::size_t scram_salt_bytes = 16;
}

/// One question on its way. Kept alive by the operations of its socket.
class secret_lookups::conversation : public std::enable_shared_from_this<conversation> {
public:
    conversation(secret_lookups &owner, const core::secret_question &what, int fd)
        : owner_(&owner),
          what_(what),
          query_(what),
          socket_(owner.all_.control, asio::generic::stream_protocol(AF_UNIX, 0), fd),
          limit_(owner.all_.control) {}

    void start() {
        limit_.expires_after(time_limit);
        limit_.async_wait([self = shared_from_this()](error_code ec) {
            if (!ec) self->end("no answer in time");
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
    core::auth_query query_;
    stream_socket socket_;
    timer limit_;
    std::array<char, 8192> room_;
    std::string have_;
};

secret_lookups::~secret_lookups() {
    for (const auto &[what, it] : under_way_) it->forget();
}

void secret_lookups::find(core::secret_question what, then done) {
    asio::post(all_.control, [this, what = std::move(what), done = std::move(done)] {
        const auto now = std::chrono::steady_clock::now();
        // Only while others wait in line, whom it spares: how soon it is answered may tell who is not there.
        const auto known = unknown_.find(what);
        if (known != unknown_.end() && !in_line_.empty() && now < known->second.until)
            return answer_unknown(known->second.took, done);
        auto &who = asked_[what];
        who.all.push_back(done);
        if (who.all.size() > 1) return;
        who.since = now;
        in_line_.push_back(what);
        next();
    });
}

void secret_lookups::answer_unknown(base::duration after, then done) {
    const auto wait = std::make_shared<timer>(all_.control);
    wait->expires_after(after);
    wait->async_wait([wait, done = std::move(done)](error_code ec) {
        if (!ec) done({core::secret_answer::kind::unknown});
    });
}

void secret_lookups::next() {
    while (!in_line_.empty() && under_way_.size() < at_once) {
        const auto what = std::move(in_line_.front());
        in_line_.pop_front();
        begin(what);
    }
}

void secret_lookups::begin(const core::secret_question &what) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        return finished(what, {core::secret_answer::kind::failed, nullptr, "no socket for auth_query"});
    }
    auto it = std::make_shared<conversation>(*this, what, ends[0]);
    under_way_.emplace(what, it);
    it->start();
    // The least loaded: its pool may have idle servers anywhere, and they come.
    const auto best = std::min_element(all_.workers.begin(), all_.workers.end(),
                                       [](const auto &a, const auto &b) { return a->load() < b->load(); });
    (*best)->adopt_own(ends[1], what.database, what.auth_user);
}

void secret_lookups::finished(const core::secret_question &what, core::secret_answer answer) {
    under_way_.erase(what);
    if (answer.what == core::secret_answer::kind::failed) {
        log::warning("auth_query for user \"{}\" in database \"{}\" failed: {}", what.user, what.database,
                     answer.problem);
    }
    if (answer.what == core::secret_answer::kind::unknown) {
        if (unknown_.size() >= unknown_max) unknown_.clear();
        const auto now = std::chrono::steady_clock::now();
        const auto took = std::chrono::duration_cast<base::duration>(now - asked_[what].since);
        unknown_.insert_or_assign(what, unknown_user{now + unknown_for, took});
    }
    if (answer.credential) derive(what, *answer.credential);
    const auto all = std::move(asked_[what].all);
    asked_.erase(what);
    next();
    for (const auto &done : all) done(answer);
}

/// SCRAM with a secret that is stored as it is needs a verifier; the workers shall not spend their time on it.
void secret_lookups::derive(const core::secret_question &what, auth::credential &it) {
    constexpr std::size_t remembered_max = 1024;
    if (it.form != auth::secret_form::plain || it.text.empty()) return;
    auto &known = derived_[what];
    if (!known.verifier || !known.text.equals(it.text)) {
        known = it;
        known.verifier =
            auth::make_scram_verifier(it.text.reveal(), random_.bytes(scram_salt_bytes), what.scram_iterations);
    }
    it.verifier = known.verifier;
    if (derived_.size() > remembered_max) derived_.clear();
}

}  // namespace pgsluice::net
