// Sockets, deadlines and the scan of every received byte.
#include "connection.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <cstring>

#include "wire/error_response.hpp"
#include "wire/frame.hpp"

namespace oracle {

namespace wire = pgsluice::wire;

namespace {
constexpr auto awaiting = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t usual_bytes = 16 * 1024;
}  // namespace

connection::connection(world &shared, std::uint32_t own)
    : world_(shared), socket_(shared.io), sent_(shared.io), own_(own), buffer_(usual_bytes) {
    if (own != token_index::nobody) scanner_.emplace(shared.tokens, own);
    shared.connections.insert(this);
}

connection::~connection() {
    world_.connections.erase(this);
}

awaitable<bool> connection::connect(std::uint16_t port) {
    const asio::ip::tcp::endpoint where(asio::ip::address_v4::loopback(), port);
    ++world_.count.connects;
    const auto [ec] = co_await socket_.async_connect(where, awaiting);
    if (ec) co_return false;
    error_code ignored;
    socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    const auto local = socket_.local_endpoint(ignored);
    port_ = local.port();
    co_return true;
}

void connection::write(std::string bytes) {
    out_ = std::move(bytes);
    writing_ = true;
    asio::async_write(socket_, asio::buffer(out_), [self = shared_from_this()](error_code, std::size_t) {
        self->writing_ = false;
        self->sent_.cancel();
    });
}

awaitable<void> connection::written() {
    while (writing_) {
        sent_.expires_at(steady::time_point::max());
        co_await sent_.async_wait(awaiting);
    }
}

awaitable<std::optional<message>> connection::read() {
    for (;;) {
        wire::frame found;
        const auto read = wire::read_frame({buffer_.data() + begin_, end_ - begin_}, found);
        if (read == wire::framing::bad_length) {
            world_.fail(failure::wrong_reply, "a length that can not be");
            reset();
            co_return std::nullopt;
        }
        if (read == wire::framing::ok && found.whole()) {
            begin_ += found.here_bytes();
            ++world_.count.messages;
            co_return message{found.type, found.body};
        }
        const std::size_t needed = read == wire::framing::ok ? wire::header_bytes + found.body_bytes : usual_bytes;
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
        if (buffer_.size() < needed) buffer_.resize(needed);
        if (end_ == 0 && buffer_.size() > 16 * usual_bytes && needed < usual_bytes) {
            buffer_ = std::vector<char>(usual_bytes);
        }
        const auto room = asio::buffer(buffer_.data() + end_, buffer_.size() - end_);
        const auto [ec, count] = co_await socket_.async_read_some(room, awaiting);
        if (ec) {
            in_order_ = ec == asio::error::eof;
            co_return std::nullopt;
        }
        if (scanner_) {
            world_.count.bytes += count;
            const auto other = scanner_->feed({buffer_.data() + end_, count});
            if (other) {
                world_.fail(failure::bleed, "session " + std::to_string(own_) + " received of session " +
                                                std::to_string(*other) + ": " +
                                                printable({buffer_.data() + end_, count}, 400));
            }
        }
        end_ += count;
    }
}

void connection::close() {
    error_code ignored;
    socket_.close(ignored);
}

void connection::reset() {
    error_code ignored;
    socket_.set_option(asio::socket_base::linger(true, 0), ignored);
    socket_.close(ignored);
}

void connection::patience(double seconds) {
    deadline_ = steady::now() + std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(seconds));
}

awaitable<void> watch_deadlines(world &shared) {
    for (;;) {
        co_await pause(0.1);
        const auto now = steady::now();
        for (auto *const it : shared.connections) {
            if (now < it->deadline_) continue;
            it->deadline_ = steady::time_point::max();
            it->timed_out_ = true;
            it->reset();
        }
    }
}

awaitable<void> pause(double seconds) {
    asio::steady_timer timer(co_await asio::this_coro::executor);
    timer.expires_after(std::chrono::duration_cast<steady::duration>(std::chrono::duration<double>(seconds)));
    co_await timer.async_wait(awaiting);
}

error_text read_error(std::string_view body) {
    const auto fields = wire::parse_error_fields(body);
    if (!fields) return {"?", "?", printable(body)};
    return {std::string(fields->severity), std::string(fields->sqlstate), std::string(fields->message)};
}

std::string printable(std::string_view body, std::size_t most) {
    std::string out;
    for (const char c : body.substr(0, most)) out += c >= ' ' && c <= '~' ? c : '.';
    if (body.size() > most) out += "... (" + std::to_string(body.size()) + " bytes)";
    return out;
}

}  // namespace oracle
