// The chain, link by link.
#include "net/probe.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "net/random.hpp"
#include "net/tls_session.hpp"
#include "wire/backend.hpp"
#include "wire/frontend.hpp"
#include "wire/startup.hpp"

namespace pgsluice::net {

namespace {

constexpr base::seconds time_without_a_limit{15};
namespace backend = wire::backend;

std::string words_of(int code) {
    return std::generic_category().message(code);
}

}  // namespace

struct probe::address {
    sockaddr_storage bytes{};
    socklen_t length = 0;
    std::string text;
};

const char *to_string(chain_link link) {
    switch (link) {
        case chain_link::none:
            return "none";
        case chain_link::name:
            return "name";
        case chain_link::port:
            return "port";
        case chain_link::tls:
            return "TLS";
        case chain_link::password:
            return "password";
        case chain_link::database:
            return "database";
        case chain_link::connect_query:
            return "connect_query";
        case chain_link::server:
            return "server";
        case chain_link::auth_query:
            return "auth_query";
    }
    return "?";
}

probe::probe(std::shared_ptr<const config::pool_settings> settings, std::string host, core::server_secret secret,
             std::shared_ptr<const tls_context> tls)
    : settings_(std::move(settings)), host_(std::move(host)), secret_(std::move(secret)), tls_(std::move(tls)) {}

probe::~probe() {
    hang_up();
}

void probe::hang_up() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    secured_.reset();
    in_.clear();
}

chain_link probe::fail(chain_link link, std::string why) {
    text_ = std::move(why);
    return link;
}

// ---- name and port ----

bool probe::resolve() {
    if (host_.starts_with('/') || host_.starts_with('@')) {
        address it;
        sockaddr_un local{};
        local.sun_family = AF_UNIX;
        it.text = host_ + "/.s.PGSQL." + std::to_string(settings_->port);
        if (it.text.size() >= sizeof local.sun_path) return fail(chain_link::name, "the path is too long"), false;
        std::memcpy(local.sun_path, it.text.data(), it.text.size());
        const bool abstract = host_.starts_with('@');
        if (abstract) local.sun_path[0] = '\0';
        it.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + it.text.size() + (abstract ? 0 : 1));
        std::memcpy(&it.bytes, &local, sizeof local);
        addresses_.push_back(std::move(it));
        return true;
    }
    tcp_ = true;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo *found = nullptr;
    const int code = ::getaddrinfo(host_.c_str(), std::to_string(settings_->port).c_str(), &hints, &found);
    if (code != 0) return fail(chain_link::name, "cannot resolve " + host_ + ": " + ::gai_strerror(code)), false;
    for (const auto *each = found; each != nullptr; each = each->ai_next) {
        address it;
        std::memcpy(&it.bytes, each->ai_addr, each->ai_addrlen);
        it.length = each->ai_addrlen;
        std::array<char, NI_MAXHOST> text{};
        ::getnameinfo(each->ai_addr, each->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
        it.text = std::string(text.data()) + ":" + std::to_string(settings_->port);
        addresses_.push_back(std::move(it));
    }
    ::freeaddrinfo(found);
    return true;
}

bool probe::connect(const address &to) {
    const auto limit = settings_->server_connect_timeout;
    until_ = std::chrono::steady_clock::now() + (limit > base::duration::zero() ? limit : time_without_a_limit);
    fd_ = ::socket(to.bytes.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const auto *const name = reinterpret_cast<const sockaddr *>(&to.bytes);
    int problem = fd_ < 0 || ::connect(fd_, name, to.length) != 0 ? errno : 0;
    if (problem == EINPROGRESS) {
        pollfd waits{fd_, POLLOUT, 0};
        const auto left = std::chrono::ceil<base::milliseconds>(until_ - std::chrono::steady_clock::now());
        socklen_t size = sizeof problem;
        if (::poll(&waits, 1, static_cast<int>(left.count())) <= 0)
            problem = ETIMEDOUT;
        else
            ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &problem, &size);
    }
    if (problem == 0) return true;
    fail(chain_link::port, "cannot connect to " + to.text + ": " + words_of(problem));
    hang_up();
    return false;
}

// ---- bytes ----

bool probe::send(std::string_view bytes) {
    std::string records;
    if (secured_) {
        if (!secured_->encrypt(bytes, records)) return false;
        bytes = records;
    }
    while (!bytes.empty()) {
        const auto count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (count > 0) {
            bytes.remove_prefix(static_cast<std::size_t>(count));
            continue;
        }
        if (errno != EAGAIN && errno != EINTR) return false;
        pollfd waits{fd_, POLLOUT, 0};
        if (std::chrono::steady_clock::now() >= until_) return false;
        ::poll(&waits, 1, 100);
    }
    return true;
}

bool probe::receive() {
    std::array<char, 16 * 1024> buffer{};
    for (;;) {
        const auto count = ::recv(fd_, buffer.data(), buffer.size(), 0);
        if (count == 0) return false;
        if (count < 0) {
            if (errno != EAGAIN && errno != EINTR) return false;
            pollfd waits{fd_, POLLIN, 0};
            const auto left = std::chrono::ceil<base::milliseconds>(until_ - std::chrono::steady_clock::now());
            if (left.count() <= 0 || ::poll(&waits, 1, static_cast<int>(left.count())) == 0) return false;
            continue;
        }
        const std::string_view came(buffer.data(), static_cast<std::size_t>(count));
        if (!secured_) {
            in_ += came;
            return true;
        }
        std::string plain(came.size() + tls_session::record_max_bytes, '\0'), to_peer;
        const long read = secured_->decrypt(came, plain.data(), plain.size(), to_peer);
        if (read < 0) return false;
        if (read == 0) continue;
        in_.append(plain, 0, static_cast<std::size_t>(read));
        return true;
    }
}

// ---- the login ----

bool probe::shake_hands(core::effects &fx) {
    const bool direct = settings_->server_tls.negotiation == config::tls_negotiation::direct;
    if (!tls_) return session_->on_handshake_failed("it is switched off", fx), false;
    auto tls = tls_->connect(host_, direct);
    std::string to_peer, plain;
    auto came_to = tls->shake_hands({}, to_peer, plain);
    for (;;) {
        if (!to_peer.empty() && !send(to_peer)) break;
        to_peer.clear();
        if (came_to == tls_session::progress::failed) return session_->on_handshake_failed(tls->problem(), fx), false;
        if (came_to == tls_session::progress::done) {
            auto channel = tls->channel();
            secured_ = std::move(tls);
            in_ = std::move(plain);
            session_->on_secured(std::move(channel), fx);
            return true;
        }
        in_.clear();
        if (!receive()) break;
        came_to = tls->shake_hands(in_, to_peer, plain);
    }
    session_->on_handshake_failed("server closed the connection", fx);
    return false;
}

chain_link probe::speak() {
    core::effects fx;
    session_->on_connected(fx, tcp_);
    for (;;) {
        if (!fx.to_server.empty() && !send(fx.to_server.text()))
            return fail(chain_link::server, "the server closed the connection");
        const auto next = fx.server;
        fx.clear();
        switch (next) {
            case core::server_next::secure:
                shake_hands(fx);
                break;
            case core::server_next::derive:
                session_->on_derived(auth::do_work(session_->work()), fx);
                break;
            case core::server_next::logged_in:
                return chain_link::none;
            case core::server_next::login_failed:
            case core::server_next::lose: {
                const auto &error = session_->error();
                return fail(link_of(error), error.text());
            }
            default: {
                const auto used = in_.empty() ? 0 : session_->on_bytes(in_, fx);
                in_.erase(0, used);
                const bool moved = !fx.to_server.empty() || fx.server != core::server_next::none;
                if (moved || receive()) break;
                return fail(chain_link::server, "server closed the connection during login, or said nothing");
            }
        }
    }
}

/// Sources: PostgreSQL manual, Appendix A; the words of core/server_encryption.
chain_link probe::link_of(const core::login_error &error) {
    const auto &message = error.message;
    if (!error.from_server && (message.find("SSL") != std::string::npos || message.find("TLS") != std::string::npos))
        return chain_link::tls;
    if (message.starts_with("exec_on_connect query failed") || message.starts_with("connect_query"))
        return chain_link::connect_query;
    if (error.sqlstate.starts_with("28")) return chain_link::password;
    if (error.sqlstate == "3D000") return chain_link::database;
    return chain_link::server;
}

chain_link probe::log_in() {
    if (!resolve()) return chain_link::name;
    auto link = chain_link::port;
    for (const auto &each : addresses_) {
        session_ =
            std::make_unique<core::server_session>(settings_, secret_, openssl_random().bytes(auth::scram_nonce_bytes));
        for (bool again = true; again;) {
            if (!connect(each)) break;
            link = speak();
            again = link != chain_link::none &&
                    session_->try_other_way(session_->error(), openssl_random().bytes(auth::scram_nonce_bytes));
            if (link != chain_link::none) hang_up();
        }
        if (link == chain_link::none) {
            text_ = each.text + (secured_ ? ", " + secured_->cipher() : ", without TLS");
            return link;
        }
        if (link != chain_link::port) return link;
    }
    return link;
}

// ---- what is asked ----

std::string probe::ask(const std::string &sql) {
    std::string out, answer;
    wire::frontend::append_query(out, sql);
    if (!send(out)) return {};
    for (;;) {
        wire::frame message;
        if (wire::read_frame(in_, message) != wire::framing::ok || !message.whole()) {
            if (!receive()) return {};
            continue;
        }
        if (message.type == backend::data_row && answer.empty() && message.body.size() > 6) {
            const auto length = wire::load_u32(message.body.data() + 2);
            if (length <= message.body.size() - 6) answer = message.body.substr(6, length);
        }
        const bool over = message.type == backend::ready_for_query;
        in_.erase(0, message.here_bytes());
        if (over) return answer;
    }
}

chain_link probe::ask_auth_query(core::secret_question what) {
    core::auth_query asks(std::move(what));
    std::string out;
    in_.clear();
    backend::append_ready_for_query(in_, backend::status_idle);  // as its own connections are welcomed
    while (!asks.done()) {
        in_.erase(0, asks.on_bytes(in_, out));
        if (!out.empty() && !send(out)) asks.on_end("server closed the connection");
        out.clear();
        if (!asks.done() && !receive()) asks.on_end("no answer");
    }
    if (asks.answer().what == core::secret_answer::kind::failed)
        return fail(chain_link::auth_query, asks.answer().problem);
    return chain_link::none;
}

}  // namespace pgsluice::net
