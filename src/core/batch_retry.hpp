// The start of a batch, kept so that it can be sent once more: PostgreSQL refuses a Bind or Describe of a prepared
// statement whose table has changed, or which it no longer has, before anything of the batch has run. Only a batch that
// begins outside a transaction with such a message, and consists of messages that leave no trace by themselves and deal
// in that one statement, is kept. It does not decide when to send again: server_session does. Source: PostgreSQL
// manual, "Extended Query", and the server's error "cached plan must not change result type" (0A000).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/memory.hpp"
#include "core/protocol_table.hpp"

namespace pgsluice::core {

class batch_retry {
public:
    /// Longer beginnings are not kept: the client sees the error then.
    static constexpr std::size_t keep_max_bytes = 64 << 10;

    enum class state : std::uint8_t {
        off,
        keeping,  ///< the server has not answered anything of it yet
        failed,   ///< it was refused; what the server still says of it is awaited
    };

    /// `told`: the client knows what the statement's rows are. `binds_as_told`: and what its parameters are, which it
    /// sends as such.
    void begin(std::uint64_t statement, bool told, bool binds_as_told) {
        clear();
        state_ = state::keeping;
        statement_ = statement;
        told_ = told;
        binds_as_told_ = binds_as_told;
    }
    /// `name`: of the statement whose rows the client learns by this request, a Describe.
    void add(request what, std::string_view name = {}) {
        if (state_ != state::keeping) return;
        // Behind its Sync the next batch begins: with that at the server the order could not be kept any more.
        if (is_whole()) return drop();
        keep(what, name);
    }
    void add(std::string_view bytes) {
        if (state_ == state::keeping) keep(bytes);
    }
    /// The batch is answered, or is not of the kind that may be sent again.
    void clear() {
        if (state_ != state::off) drop();
    }
    void fail() {
        state_ = state::failed;
        held_.clear();
    }
    /// A reply that does not tell yet whether the batch is refused: a Describe's ParameterDescription comes before the
    /// error. The client gets it when that is known.
    bool may_hold(char reply, std::uint32_t body_bytes) const {
        return state_ == state::keeping && reply == wire::backend::parameter_description && body_bytes <= 4096;
    }
    void hold(std::string_view reply) { held_ = reply; }
    bool holds() const { return !held_.empty(); }
    std::string take_held() { return std::exchange(held_, {}); }

    state now() const { return state_; }
    std::uint64_t statement() const { return statement_; }  ///< its number in server_statements
    std::string_view bytes() const { return bytes_; }
    std::string_view requests() const { return requests_; }  ///< one a byte: see request_of()
    static request request_of(char code) { return static_cast<request>(code & ~told_bit); }
    static bool is_told(char code) { return (code & told_bit) != 0; }
    const std::vector<std::string> &names() const { return names_; }  ///< of those that are told, in order
    /// The client was told of its rows before, and does not ask in this batch; or of its parameters.
    bool relies_on_description() const { return told_ || binds_as_told_; }

private:
    bool is_whole() const { return !requests_.empty() && request_of(requests_.back()) == request::sync; }
    void keep(request what, std::string_view name) {
        requests_.push_back(static_cast<char>(static_cast<int>(what) | (name.empty() ? 0 : told_bit)));
        if (!name.empty()) names_.emplace_back(name);
        told_ = told_ && what != request::describe;
    }
    void keep(std::string_view bytes) {
        if (bytes_.size() + bytes.size() > keep_max_bytes) return drop();
        bytes_.append(bytes);
    }
    void drop() {
        state_ = state::off;
        requests_.clear();
        names_.clear();
        bytes_.clear();
        if (bytes_.capacity() > 4096) base::give_back(bytes_);
    }

    static constexpr char told_bit = 0x40;
    state state_ = state::off;
    std::uint64_t statement_ = 0;
    std::string bytes_;
    std::string requests_;
    std::vector<std::string> names_;
    bool told_ = false;
    bool binds_as_told_ = false;
    std::string held_;
};

}  // namespace pgsluice::core
