// A PostgreSQL that does nothing, at once: what is measured with it is what stands before it. One thread, one epoll
// set. It lets everybody in, and answers the texts of shared/value.hpp by both query protocols, COPY included. The name
// of a prepared statement may stand for its text (row_100), so that poolers that do not know statements can be measured
// with them. What it does not understand is an error that says so. Not a test server: nothing is stored, nothing can be
// cancelled.
//   bench_nothing --port N [--certificate FILE --key FILE] [--lie N]
//   --lie: every so-many-th value is wrong (a row, what COPY gives, how much it took); shows that the load notices
// Prints "ready"; ends by signal.
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>

#include "../shared/channel.hpp"
#include "../shared/messages.hpp"
#include "../shared/sockets.hpp"
#include "../shared/value.hpp"
#include "wire/backend.hpp"
#include "wire/startup.hpp"

namespace {

using namespace pgsluice;
using namespace pgsluice::bench;
using clock_type = std::chrono::steady_clock;

/// A text, understood; the tag comes with each request.
struct asked {
    enum class kind : std::uint8_t { row, slow, begin, commit, copy_out, copy_in, ping, empty };
    kind what = kind::ping;
    std::size_t count = 0;  ///< bytes, microseconds or pieces
};

class connection;

struct world {
    SSL_CTX *tls = nullptr;
    unsigned long lie_every = 0, values = 0;
    poll_set<connection> sockets;
    std::multimap<clock_type::time_point, connection *> later;
    std::unordered_map<connection *, std::unique_ptr<connection>> all;
    alignas(4096) std::array<char, 1 << 16> room;  ///< as what pgsluice receives into
};

std::string_view first_word(std::string_view &text) {
    const auto end = std::min(text.find_first_of(" _"), text.size());
    const auto word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return word;
}

/// Takes what it understands off `text`: what remains is the tag.
std::optional<asked> understand(std::string_view &text) {
    using enum asked::kind;
    const auto word = first_word(text);
    const auto number = [&] {
        std::size_t value = 0;
        for (const char digit : first_word(text)) value = value * 10 + static_cast<std::size_t>(digit - '0');
        return value;
    };
    if (word == "row") return asked{row, number()};
    if (word == "begin") return asked{begin};
    if (word == "commit") return asked{commit};
    if (word == "slow") return asked{slow, number()};
    if (word == "copyout") return asked{copy_out, number()};
    if (word == "copyin") return asked{copy_in};
    // `select 1`: of a pooler that looks whether somebody is there, and of bench/clients.
    if (word == "select") return asked{};
    if (word.empty() || word == ";") return asked{empty};
    return std::nullopt;
}

class connection {
public:
    connection(world &all, int fd) : all_(all), channel_(fd, nullptr) { all_.sockets.add(fd, EPOLLIN, this); }
    connection(const connection &) = delete;
    connection &operator=(const connection &) = delete;
    ~connection() {
        if (later_) all_.later.erase(*later_);
        if (ssl_ != nullptr) SSL_free(ssl_);
        ::close(channel_.fd());
    }

    void on_events(std::uint32_t events) {
        if ((events & EPOLLOUT) != 0) flush();
        while (!over_ && (events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) {
            if (step_ == step::handshake && !shake_hands()) break;
            const auto count = channel_.receive(all_.room.data(), all_.room.size());
            if (count < 0) over_ = true;
            if (count <= 0) break;
            const std::string_view bytes(all_.room.data(), static_cast<std::size_t>(count));
            step_ == step::ready ? cutter_.take(bytes, *this) : on_startup(bytes);
            flush();
            if (!channel_.tls()) break;  // level-triggered: the rest is told again
        }
        if (over_) all_.all.erase(this);
    }

    /// What was slow is done.
    void on_time() {
        later_.reset();
        describe();
        append_row(100, slow_tag_);
        complete("SELECT 1");
        ready();
        flush();
        if (over_) all_.all.erase(this);
    }

    void on_message(char type, std::string_view body) {
        wire::reader in(body);
        if (skipping_ && std::string_view("PBDECH").find(type) != std::string_view::npos) return;
        switch (type) {
            case 'Q':
                return query(in.cstring());
            case 'P': {
                const auto name = std::string(in.cstring());
                auto text = in.cstring();
                const auto found = understand(text);
                if (!found) return refuse(text);
                statements_[name] = *found;
                return wire::backend::append_parse_complete(out_.own());
            }
            case 'B':
                in.cstring();
                return bind(in);
            case 'D':
                if (in.byte() == 'S') wire::writer(out_.own(), 't').u16(1).u32(25).finish();
                return describe();
            case 'E':
                return answer(portal_, portal_tag_);
            case 'S':
                skipping_ = false;
                return ready();
            case 'C':
                if (in.byte() == 'S') statements_.erase(std::string(in.cstring()));
                wire::writer(out_.own(), '3').finish();
                return;
            case 'H':
                return;
            case 'X':
                over_ = true;
                return;
            case 'd':
                return copied(body);
            case 'c':
                copying_ = false;
                complete("COPY " + std::to_string(copy_.bytes() + (lies() ? 1 : 0)));
                return ready();
            default:
                return refuse("a message of type " + std::string(1, type));
        }
    }

    /// Of a long message: COPY's data, or a text of which the beginning says enough.
    void on_part(char type, std::uint32_t total, std::uint32_t offset, std::string_view piece) {
        if (type == 'd') return copied(piece);
        if (type != 'Q') return refuse("a long message of type " + std::string(1, type));
        if (offset == 0) long_text_ = piece;
        if (offset + piece.size() == total) query(long_text_);
    }

private:
    enum class step : std::uint8_t { startup, handshake, ready };

    void on_startup(std::string_view bytes) {
        startup_.append(bytes);
        const auto packet = wire::parse_startup(startup_);
        switch (packet.kind) {
            case wire::startup_kind::incomplete:
                return;
            case wire::startup_kind::gssenc_request:
                out_.own().push_back('N');
                break;
            case wire::startup_kind::ssl_request:
                out_.own().push_back(all_.tls != nullptr ? 'S' : 'N');
                if (all_.tls == nullptr) break;
                flush();
                ssl_ = SSL_new(all_.tls);
                SSL_set_fd(ssl_, channel_.fd());
                SSL_set_accept_state(ssl_);
                channel_ = channel(channel_.fd(), ssl_);
                step_ = step::handshake;
                break;
            case wire::startup_kind::startup:
                welcome(packet);
                break;
            default:
                over_ = true;
        }
        startup_.clear();
    }

    void welcome(const wire::startup_packet &packet) {
        using namespace wire::backend;
        auto &out = out_.own();
        if (packet.protocol != wire::protocol_3_0) wire::append_negotiate_protocol_version(out, wire::protocol_3_0, {});
        append_authentication(out, authentication_code::ok);
        for (const auto &[name, value] : {std::pair{"application_name", ""},
                                          {"client_encoding", "UTF8"},
                                          {"DateStyle", "ISO, MDY"},
                                          {"IntervalStyle", "postgres"},
                                          {"TimeZone", "Etc/UTC"},
                                          {"integer_datetimes", "on"},
                                          {"is_superuser", "off"},
                                          {"server_encoding", "UTF8"},
                                          {"server_version", "15.0"},
                                          {"standard_conforming_strings", "on"},
                                          {"in_hot_standby", "off"},
                                          {"default_transaction_read_only", "off"}}) {
            std::string_view reported = value;
            for (const auto &[asked_name, asked_value] : packet.parameters)
                if (asked_name == name) reported = asked_value;
            append_parameter_status(out, name, reported);
        }
        for (const auto &[name, value] : packet.parameters)
            if (name == "user") append_parameter_status(out, "session_authorization", value);
        append_backend_key_data(out, static_cast<std::uint32_t>(channel_.fd()), "key!");
        ready();
        step_ = step::ready;
    }

    bool shake_hands() {
        const int result = SSL_do_handshake(ssl_);
        if (result == 1) {
            step_ = step::startup;
        } else if (SSL_get_error(ssl_, result) != SSL_ERROR_WANT_READ) {
            over_ = true;
        }
        return result == 1;
    }

    void query(std::string_view text) {
        auto tag = text;
        const auto found = understand(tag);
        if (found && found->what == asked::kind::slow) {
            slow_tag_ = tag;
            later_ = all_.later.emplace(clock_type::now() + std::chrono::microseconds(found->count), this);
            return;
        }
        if (found && (found->what == asked::kind::row || found->what == asked::kind::ping)) describe();
        found ? answer(*found, tag) : refuse(text);
        skipping_ = false;
        if (!copying_) ready();
    }

    void bind(wire::reader &in) {
        const auto name = in.cstring();
        const auto known = statements_.find(std::string(name));
        auto text = name;
        const auto found = known != statements_.end() ? std::optional(known->second) : understand(text);
        if (!found) return refuse(name);
        for (std::uint16_t formats = in.u16(); formats > 0; --formats) in.u16();
        portal_tag_.clear();
        if (in.u16() > 0) portal_tag_ = in.bytes(in.u32());
        portal_ = *found;
        wire::writer(out_.own(), wire::backend::bind_complete).finish();
    }

    void answer(const asked &what, std::string_view tag) {
        using enum asked::kind;
        if (tag.size() < tag_bytes && what.what != begin && what.what != commit && what.what < ping)
            return refuse("a request without a tag");
        tag = tag.substr(0, tag_bytes);
        switch (what.what) {
            case row:
                append_row(what.count, tag);
                return complete("SELECT 1");
            case slow:
                return refuse("slow, but as a simple query");
            case begin:
                status_ = wire::backend::status_in_transaction;
                return complete("BEGIN");
            case commit:
                status_ = wire::backend::status_idle;
                return complete("COMMIT");
            case copy_out:
                wire::writer(out_.own(), 'H').u8(0).u16(1).u16(0).finish();
                wire::writer(out_.own(), 'd').bytes(tag).finish();
                if (lies()) out_.own().back() ^= 1;
                out_.refer(copy_block(what.count));
                wire::writer(out_.own(), 'c').finish();
                return complete("COPY 1");
            case copy_in:
                copying_ = true;
                copy_.start(tag);
                wire::writer(out_.own(), 'G').u8(0).u16(1).u16(0).finish();
                return;
            case empty:
                return wire::writer(out_.own(), wire::backend::empty_query_response).finish();
            case ping:
                wire::writer(out_.own(), 'D').u16(1).u32(1).bytes("1").finish();
                return complete("SELECT 1");
        }
    }

    bool lies() { return all_.lie_every != 0 && ++all_.values % all_.lie_every == 0; }

    void append_row(std::size_t size, std::string_view tag) {
        const auto rest = std::max(size, tag_bytes) - tag_bytes;
        auto &out = out_.own();
        const auto start = out.size();
        const auto length = static_cast<std::uint32_t>(4 + 2 + 4 + tag_bytes + rest);
        // By hand, for a long value is not copied.
        char head[11] = {'D', 0, 0, 0, 0, 0, 1, 0, 0, 0, 0};
        for (unsigned i = 0; i < 4; ++i) {
            head[1 + i] = static_cast<char>(length >> (24 - 8 * i));
            head[7 + i] = static_cast<char>((length - 10) >> (24 - 8 * i));
        }
        out.append(head, sizeof head).append(tag);
        if (lies()) out[start + sizeof head] ^= 1;
        if (rest > 4096) {
            out_.refer(pattern(0, rest));
        } else {
            out.append(pattern(0, rest));
        }
    }

    void describe() {
        static const std::string made = [] {
            std::string out;
            wire::writer(out, 'T')
                .u16(1)
                .cstring("value")
                .u32(0)
                .u16(0)
                .u32(25)
                .u16(0xffff)
                .u32(0xffffffff)
                .u16(0)
                .finish();
            return out;
        }();
        out_.own().append(made);
    }

    void copied(std::string_view piece) {
        if (!copying_) return;
        if (!copy_.take(piece)) {
            copying_ = skipping_ = false;
            refuse("COPY data that was not sent so");
            ready();
        }
    }

    void complete(std::string_view tag) { wire::writer(out_.own(), 'C').cstring(tag).finish(); }
    void ready() { wire::backend::append_ready_for_query(out_.own(), status_); }

    void refuse(std::string_view what) {
        skipping_ = true;
        std::string text = "bench_nothing does not understand: ";
        text.append(what.substr(0, 100));
        wire::writer(out_.own(), 'E')
            .u8('S')
            .cstring("ERROR")
            .u8('V')
            .cstring("ERROR")
            .u8('C')
            .cstring("0A000")
            .u8('M')
            .cstring(text)
            .u8(0)
            .finish();
        std::fprintf(stderr, "%s\n", text.c_str());
    }

    void flush() {
        if (out_.empty()) return;
        const auto came = out_.flush(channel_);
        if (came == outbox::progress::lost) over_ = true;
        const bool blocked = came == outbox::progress::some;
        if (blocked == blocked_) return;
        blocked_ = blocked;
        all_.sockets.change(channel_.fd(), blocked ? EPOLLIN | EPOLLOUT : EPOLLIN, this);
    }

    world &all_;
    channel channel_;
    SSL *ssl_ = nullptr;
    step step_ = step::startup;
    bool over_ = false, blocked_ = false;
    std::string startup_;
    message_cutter cutter_;
    outbox out_;
    char status_ = wire::backend::status_idle;
    bool skipping_ = false;  ///< after an error, until Sync
    std::unordered_map<std::string, asked> statements_;
    asked portal_;
    std::string portal_tag_, long_text_, slow_tag_;
    bool copying_ = false;
    value_check copy_;
    /// When the answer of a slow request is due.
    std::optional<std::multimap<clock_type::time_point, connection *>::iterator> later_;
};

}  // namespace

int main(int count, char **values) {
    program = "bench_nothing";
    world all;
    std::uint16_t port = 0;
    const char *certificate = nullptr, *key = nullptr;
    for (arguments in(count, values); in.next();) {
        if (in.is("--port")) {
            port = in.number<std::uint16_t>();
        } else if (in.is("--certificate")) {
            certificate = in.text();
        } else if (in.is("--key")) {
            key = in.text();
        } else if (in.is("--lie")) {
            all.lie_every = in.number<unsigned long>();
        } else {
            in.unknown();
        }
    }
    take_all_descriptors();
    if (certificate != nullptr) {
        all.tls = SSL_CTX_new(TLS_server_method());
        if (SSL_CTX_use_certificate_chain_file(all.tls, certificate) != 1 ||
            SSL_CTX_use_PrivateKey_file(all.tls, key, SSL_FILETYPE_PEM) != 1)
            fail("the certificate or its key can not be read");
    }
    const int listening = listen_on(port);
    all.sockets.add(listening, EPOLLIN, nullptr);
    pattern(0, 0);
    std::puts("ready");
    std::fflush(stdout);
    for (;;) {
        long limit = -1;
        if (!all.later.empty())
            limit = std::max<long>(std::chrono::nanoseconds(all.later.begin()->first - clock_type::now()).count(), 0);
        all.sockets.wait(limit, [&](connection *it, std::uint32_t events) {
            if (it != nullptr) return it->on_events(events);
            for (int fd = accept_from(listening); fd >= 0; fd = accept_from(listening)) {
                auto made = std::make_unique<connection>(all, fd);
                auto *const key_of = made.get();
                all.all.emplace(key_of, std::move(made));
            }
        });
        while (!all.later.empty() && all.later.begin()->first <= clock_type::now()) {
            auto *const it = all.later.begin()->second;
            all.later.erase(all.later.begin());
            it->on_time();
        }
    }
}
