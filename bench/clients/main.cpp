// Clients for bench/storm, idle, stalls and compare: many of one kind in one thread, cheap enough to leave the machine
// to the pooler. They log in again and again, or ask `select 1` again and again, or log in and hold still. The keys of
// SCRAM are derived once a salt, so that a login costs a handful of HMACs here. Each query must be answered by one row
// with the value it asked for, and an idle server; what was not asked for ends the program with status 1.
//   bench_clients --port N --user U --password P --database D --clients N --seconds S [--tls] KIND
//                 [--address A] [--query TEXT] [--each]
//   KIND: --storm | --ask [--pause-us N] | --hold
//   --query: asks that once, ahead of the rest: `select 1`, or `row BYTES`, to which it adds a tag (shared/value.hpp)
//   --each: says every latency too, in microseconds
// Prints "ready" once all have logged in (--ask, --hold), and one line of JSON at the end; --hold ends with its input.
// After its seconds a storm begins no more logins and waits for those under way: they are counted too, in_time are the
// others, and those that get no answer are failures.
#include <arpa/inet.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../shared/sockets.hpp"
#include "../shared/value.hpp"
#include "auth/scram.hpp"
#include "wire/frame.hpp"
#include "wire/frontend.hpp"
#include "wire/startup.hpp"

namespace {

using namespace pgsluice;
using namespace pgsluice::bench;
using clock_type = std::chrono::steady_clock;
using time_point = clock_type::time_point;

struct options {
    enum class kind : std::uint8_t { storm, ask, hold };
    kind what = kind::storm;
    std::uint16_t port = 0;
    in_addr address{};  ///< 0: 127.0.0.1
    std::string user, password, database, query;
    std::size_t clients = 1;
    double seconds = 1;
    std::size_t row_bytes = 0;  ///< of the row that `query` asks for; 0: it asks for something else
    long pause_us = 0;
    bool tls = false, each = false;
};

/// What all clients share.
struct world {
    options how;
    int epoll = -1;
    SSL_CTX *tls = nullptr;
    std::optional<auth::scram_derived> derived;
    time_point counting = time_point::max();  ///< what has begun before this is not counted
    time_point end = time_point::max();
    std::vector<float> took_us;  ///< logins of a storm, answers of askers
    std::size_t failures = 0, ready = 0, in_time = 0;
    std::string last_failure;
};

class client {
public:
    client(world &all, std::size_t number) : all_(all), number_(static_cast<std::uint32_t>(number)) {}
    client(const client &) = delete;
    client &operator=(const client &) = delete;
    ~client() { hang_up(); }

    void connect() {
        fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd_ < 0) fail("socket: " + std::string(std::strerror(errno)));
        auto to = loopback(all_.how.port);
        if (all_.how.address.s_addr != 0) to.sin_addr = all_.how.address;
        no_delay(fd_);
        began_ = clock_type::now();
        step_ = step::connecting;
        if (::connect(fd_, reinterpret_cast<const sockaddr *>(&to), sizeof to) != 0 && errno != EINPROGRESS)
            return lost("connect: " + std::string(std::strerror(errno)));
        epoll_event event{.events = EPOLLOUT, .data = {.ptr = this}};
        ::epoll_ctl(all_.epoll, EPOLL_CTL_ADD, fd_, &event);
    }

    void on_ready() {
        switch (step_) {
            case step::connecting: {
                want(EPOLLIN);
                std::string first;
                if (!all_.how.tls) return begin();
                wire::append_ssl_request(first);
                step_ = step::ssl_answer;
                return send(first);
            }
            case step::ssl_answer: {
                char answer = 0;
                if (::recv(fd_, &answer, 1, 0) != 1 || answer != 'S') return lost("no TLS");
                ssl_ = SSL_new(all_.tls);
                SSL_set_fd(ssl_, fd_);
                SSL_set_connect_state(ssl_);
                step_ = step::handshake;
                [[fallthrough]];
            }
            case step::handshake: {
                const int result = SSL_do_handshake(ssl_);
                if (result == 1) return begin();
                if (SSL_get_error(ssl_, result) != SSL_ERROR_WANT_READ) return lost("the handshake failed");
                return;
            }
            case step::talking:
                return receive();
            case step::waiting:
                return;
        }
    }

    /// Its pause is over.
    void ask() {
        std::string out;
        wire::frontend::append_query(out, "select 1");
        began_ = clock_type::now();
        send(out);
    }

    time_point due() const { return due_; }
    bool connected() const { return fd_ >= 0; }

private:
    enum class step : std::uint8_t { waiting, connecting, ssl_answer, handshake, talking };

    void want(std::uint32_t events) {
        epoll_event event{.events = events, .data = {.ptr = this}};
        ::epoll_ctl(all_.epoll, EPOLL_CTL_MOD, fd_, &event);
    }

    void begin() {
        step_ = step::talking;
        std::string out;
        wire::append_startup(out, wire::protocol_3_0, {{"user", all_.how.user}, {"database", all_.how.database}});
        send(out);
    }

    /// Nothing here is long enough to fill the buffer of a socket.
    void send(std::string_view bytes) {
        const auto length = static_cast<int>(bytes.size());
        const bool sent = ssl_ != nullptr ? SSL_write(ssl_, bytes.data(), length) == length
                                          : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == length;
        if (!sent) lost("send: " + std::string(std::strerror(errno)));
    }

    void receive() {
        std::array<char, 8192> room;
        for (;;) {
            const auto count = ssl_ != nullptr ? SSL_read(ssl_, room.data(), static_cast<int>(room.size()))
                                               : static_cast<int>(::recv(fd_, room.data(), room.size(), 0));
            if (count <= 0) {
                const bool nothing = ssl_ != nullptr ? SSL_get_error(ssl_, count) == SSL_ERROR_WANT_READ
                                                     : count < 0 && (errno == EAGAIN || errno == EINTR);
                if (nothing) return;
                return lost("the connection ended");
            }
            in_.append(room.data(), static_cast<std::size_t>(count));
            if (!read_messages()) return;
            if (ssl_ == nullptr) return;  // level-triggered: the rest is told again
        }
    }

    /// False: this connection is over.
    bool read_messages() {
        std::size_t used = 0;
        wire::frame message;
        const auto connection = connections_;
        while (wire::read_frame(std::string_view(in_).substr(used), message) == wire::framing::ok && message.whole()) {
            used += message.here_bytes();
            on_message(message);
            if (connections_ != connection) return false;
        }
        in_.erase(0, used);
        return true;
    }

    void on_message(const wire::frame &message) {
        if (message.type == 'E') {
            const auto text = message.body.find("\0M");
            return lost(std::string(message.body.substr(text == std::string_view::npos ? 0 : text + 2)).c_str());
        }
        if (message.type == 'R') return authenticate(message.body);
        const bool query_runs = asked_ || logged_in_;
        if (std::string_view(query_runs ? "TDCZSN" : "KSNZv").find(message.type) == std::string_view::npos)
            wrong(message);
        if (message.type == 'D' && (++rows_ > 1 || !is_asked_for(message.body))) wrong(message);
        if (message.type != 'Z') return;
        if (message.body != "I" || rows_ != (query_runs ? 1 : 0)) wrong(message);
        rows_ = 0;
        std::string out;
        if (!all_.how.query.empty() && !std::exchange(asked_, true)) {
            auto text = all_.how.query;
            if (all_.how.row_bytes > 0) {
                write_tag(tag_.data(), number_, ++tags_);
                text.append(" ").append(tag_.data(), tag_.size());
            }
            wire::frontend::append_query(out, text);
            return send(out);
        }
        if (all_.how.what == options::kind::storm) {
            note();
            wire::frontend::append_terminate(out);
            const auto connection = connections_;
            send(out);
            if (connections_ == connection) again();
            return;
        }
        if (!std::exchange(logged_in_, true)) {
            ++all_.ready;
            return;
        }
        note();
        // Spread, so that they do not march in step.
        const long pause = all_.how.pause_us;
        if (pause == 0) return ask();
        due_ = clock_type::now() + std::chrono::microseconds(pause / 2 + std::rand() % pause);
        waiting_ = true;
    }

public:
    bool waiting_ = false;

private:
    [[noreturn]] void wrong(const wire::frame &message) const {
        std::string shown;
        for (const char it : message.body.substr(0, 200)) shown += it >= ' ' && it <= '~' ? it : '.';
        fail("a wrong answer of type '" + std::string(1, message.type) + "', row " + std::to_string(rows_) + ": " +
             shown);
    }

    /// A row of one column: with the tag of the first question, and 1 for all others.
    bool is_asked_for(std::string_view row) const {
        wire::reader in(row);
        const auto columns = in.u16();
        const auto size = in.u32();
        const auto value = in.rest();
        if (columns != 1 || size != value.size()) return false;
        if (logged_in_ || all_.how.row_bytes == 0) return value == "1";
        return size == all_.how.row_bytes && value.starts_with(std::string_view(tag_.data(), tag_.size())) &&
               value.substr(tag_bytes) == pattern(0, size - tag_bytes);
    }

    void note() {
        const auto now = clock_type::now();
        if (began_ < all_.counting) return;
        const bool in_time = now <= all_.end;
        all_.in_time += in_time ? 1 : 0;
        if (!in_time && all_.how.what != options::kind::storm) return;
        all_.took_us.push_back(std::chrono::duration<float, std::micro>(now - began_).count());
    }

    void authenticate(std::string_view body) {
        wire::reader in(body);
        std::string out;
        switch (in.u32()) {
            case 0:
                if (scram_ && !signed_) lost("the server lets it in without its signature");
                return;
            case 12:
                signed_ = scram_ && scram_->on_server_final(in.rest());
                if (!signed_) lost("the server's signature is wrong");
                return;
            case 3:
                wire::frontend::append_password(out, all_.how.password);
                break;
            case 10: {
                std::array<char, auth::scram_nonce_bytes> nonce;
                RAND_bytes(reinterpret_cast<unsigned char *>(nonce.data()), static_cast<int>(nonce.size()));
                scram_.emplace(base::secret(all_.how.password), std::string_view(nonce.data(), nonce.size()),
                               all_.derived);
                wire::frontend::append_sasl_initial_response(out, auth::scram_sha_256, scram_->client_first());
                break;
            }
            case 11: {
                const auto answer = scram_ ? scram_->on_server_first(in.rest()) : std::nullopt;
                if (!answer) return lost("SCRAM failed");
                all_.derived = scram_->derived();  // good for this salt, whatever the server says next
                wire::frontend::append_sasl_response(out, *answer);
                break;
            }
            default:
                return lost("another way to log in than SCRAM or a password");
        }
        send(out);
    }

    void hang_up() {
        if (ssl_ != nullptr) SSL_free(ssl_);
        ssl_ = nullptr;
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
        ++connections_;
        logged_in_ = asked_ = signed_ = false;
        rows_ = 0;
        in_.clear();
        scram_.reset();
    }

    void again() {
        hang_up();
        if (clock_type::now() < all_.end) connect();
    }

    void lost(const std::string &why) {
        ++all_.failures;
        all_.last_failure = why;
        if (all_.how.what != options::kind::storm) fail(why);
        hang_up();
        step_ = step::waiting;
        due_ = clock_type::now() + std::chrono::milliseconds(10);
        waiting_ = true;
    }

    world &all_;
    std::uint32_t number_;
    int fd_ = -1;
    std::size_t connections_ = 0;  ///< ended; a descriptor's number may come again at once
    SSL *ssl_ = nullptr;
    step step_ = step::waiting;
    bool logged_in_ = false, asked_ = false, signed_ = false;
    int rows_ = 0;  ///< of the answer under way
    std::uint64_t tags_ = 0;
    std::array<char, tag_bytes> tag_{};  ///< of the question that was asked first
    std::string in_;
    std::optional<auth::scram_client> scram_;
    time_point began_, due_;
};

options read(arguments in) {
    options how;
    while (in.next()) {
        if (in.is("--port")) {
            how.port = in.number<std::uint16_t>();
        } else if (in.is("--address")) {
            if (::inet_pton(AF_INET, in.text(), &how.address) != 1) fail("--address");
        } else if (in.is("--user")) {
            how.user = in.text();
        } else if (in.is("--password")) {
            how.password = in.text();
        } else if (in.is("--database")) {
            how.database = in.text();
        } else if (in.is("--clients")) {
            how.clients = in.number<std::size_t>();
        } else if (in.is("--seconds")) {
            how.seconds = in.number<double>();
        } else if (in.is("--pause-us")) {
            how.pause_us = in.number<long>();
        } else if (in.is("--query")) {
            how.query = in.text();
            if (how.query.starts_with("row ")) how.row_bytes = std::strtoul(how.query.c_str() + 4, nullptr, 10);
            if (how.query != "select 1" && how.row_bytes < tag_bytes) fail("--query: select 1, or row BYTES");
        } else if (in.is("--tls")) {
            how.tls = true;
        } else if (in.is("--each")) {
            how.each = true;
        } else if (in.is("--storm")) {
            how.what = options::kind::storm;
        } else if (in.is("--ask")) {
            how.what = options::kind::ask;
        } else if (in.is("--hold")) {
            how.what = options::kind::hold;
        } else {
            in.unknown();
        }
    }
    return how;
}

double quantile(const std::vector<float> &sorted, double part) {
    if (sorted.empty()) return 0;
    const auto at = static_cast<std::size_t>(part * static_cast<double>(sorted.size()));
    return static_cast<double>(sorted[std::min(at, sorted.size() - 1)]);
}

bool input_has_ended() {
    pollfd it{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    return ::poll(&it, 1, 0) > 0;
}

}  // namespace

int main(int count, char **values) {
    program = "bench_clients";
    world all;
    all.how = read(arguments(count, values));
    take_all_descriptors();
    all.epoll = ::epoll_create1(EPOLL_CLOEXEC);
    if (all.how.tls) {
        all.tls = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_session_cache_mode(all.tls, SSL_SESS_CACHE_OFF);
    }
    pattern(0, 0);  // made before anything is counted
    const auto length =
        std::chrono::duration_cast<clock_type::duration>(std::chrono::duration<double>(all.how.seconds));
    const bool storm = all.how.what == options::kind::storm;
    bool counting = false;
    const auto start_counting = [&] {
        counting = true;
        all.counting = clock_type::now();
        if (all.how.what != options::kind::hold) all.end = all.counting + length;
    };
    if (storm) start_counting();
    std::vector<std::unique_ptr<client>> clients;
    std::array<epoll_event, 256> events;
    constexpr auto longest_wait = std::chrono::milliseconds(20);
    const auto wait_until = [&](time_point when) {
        const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(when - clock_type::now());
        const timespec limit{0, std::max<long>(left.count(), 0)};
        const int found = ::epoll_pwait2(all.epoll, events.data(), static_cast<int>(events.size()), &limit, nullptr);
        for (int i = 0; i < found; ++i) static_cast<client *>(events[static_cast<std::size_t>(i)].data.ptr)->on_ready();
    };
    while (clock_type::now() < all.end) {
        // A storm's first one derives the keys that the others use.
        const bool alone = storm && !all.derived && all.took_us.empty() && all.failures == 0;
        const auto wanted = alone ? std::size_t{1} : all.how.clients;
        // Some at a time: what is measured is not how a listening socket's queue overflows.
        for (int i = 0; i < 16 && clients.size() < wanted && clients.size() < all.ready + 128; ++i) {
            clients.push_back(std::make_unique<client>(all, clients.size()));
            clients.back()->connect();
            if (storm) ++all.ready;
        }
        if (!counting && all.ready == all.how.clients) {
            start_counting();
            std::puts("ready");
            std::fflush(stdout);
            if (all.how.what == options::kind::ask)
                for (const auto &it : clients) it->ask();
        }
        auto next = clock_type::now() + longest_wait;
        for (const auto &it : clients)
            if (it->waiting_) next = std::min(next, it->due());
        wait_until(next);
        const auto now = clock_type::now();
        for (const auto &it : clients) {
            if (!it->waiting_ || it->due() > now) continue;
            it->waiting_ = false;
            storm ? it->connect() : it->ask();
        }
        if (all.how.what == options::kind::hold && counting && input_has_ended()) break;
    }
    // So that the logins and what they cost belong together, and one that hangs is not overlooked.
    constexpr auto patience = std::chrono::seconds(5);
    const auto under_way = [&] {
        return storm ? std::count_if(clients.begin(), clients.end(), [](const auto &it) { return it->connected(); })
                     : 0;
    };
    auto until = clock_type::now() + patience;
    for (auto before = under_way(); before > 0 && clock_type::now() < until;) {
        wait_until(clock_type::now() + longest_wait);
        const auto now = under_way();
        if (std::exchange(before, now) != now) until = clock_type::now() + patience;
    }
    if (const auto left = static_cast<std::size_t>(under_way()); left > 0) {
        all.failures += left;
        all.last_failure = "no answer for 5 s";
    }
    for (char &it : all.last_failure)  // it stands in a JSON string
        if (it == '"' || it == '\\' || static_cast<unsigned char>(it) < ' ') it = '\'';
    std::sort(all.took_us.begin(), all.took_us.end());
    std::printf(
        "{\"count\": %zu, \"in_time\": %zu, \"failures\": %zu, \"p50_us\": %.0f, \"p99_us\": %.0f, \"max_us\": %.0f, ",
        all.took_us.size(), all.in_time, all.failures, quantile(all.took_us, 0.5), quantile(all.took_us, 0.99),
        quantile(all.took_us, 1));
    if (all.how.each) {
        const char *before = "\"took_us\": [";
        for (const float it : all.took_us) std::printf("%s%.0f", std::exchange(before, ", "), static_cast<double>(it));
        std::printf("%s], ", all.took_us.empty() ? before : "");
    }
    std::printf("\"said\": \"%s\"}\n", all.last_failure.c_str());
    return 0;
}
