// What a server still owes: one entry for every request sent to it, in order. From the type of each reply alone it says
// whose the reply is and whether the server may send it now (protocol_table.hpp). After an error it skips to Sync as
// PostgreSQL does. It sees no bytes beyond the type, and decides nothing about pools. Belongs to the worker of its
// server. Source: PostgreSQL manual, "Message Flow" (Extended Query, Pipelining, COPY Operations, Function Call).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/protocol_table.hpp"

namespace pgsluice::core {

/// Who gets the reply: the client that asked, or the pooler, which swallows it.
enum class asker : std::uint8_t { client, pooler };

/// What to do with a reply.
enum class fate : std::uint8_t {
    to_client,
    swallow,
    parse_complete,  ///< to the client, as a ParseComplete: the reply to a known_parse
    hold,            ///< a ReadyForQuery while sounding: to the client when another one follows, void when none does
    violation
};

/// How a request with a note ended.
enum class outcome : char {
    done = 'd',
    failed = 'f',   ///< the server answered it with an error
    dropped = 'x',  ///< the server skipped it, because of an error before it
};

class owed_replies {
public:
    /// A request goes to the server now. `noted`: its end is told by take_outcomes(). False: the server skips it, there
    /// is no entry, and nothing will be told.
    bool sent(request what, asker who, bool noted = false);
    /// A reply of `type` came. Not for what may come at any time: NoticeResponse, ParameterStatus,
    /// NotificationResponse.
    fate received(char type);
    /// `type` is a part of what the client is owed next, such as a row: it is the client's, and received() would change
    /// nothing.
    bool passes(char type) const {
        return may_be_part(type) && owed() > 0 && (queue_[head_] & (pooler_bit | noted_bit)) == 0 &&
               doubt_ == doubt::none && maybe_syncs_ == 0 && step_of(type, head()) == step::part;
    }

    /// Nothing is owed, no batch is open, no error waits for its Sync, and all of that is beyond doubt.
    bool settled() const {
        return owed() == 0 && !unsynced_ && stands_ == frontend_state::linked && !copy_in_ && doubt_ == doubt::none;
    }
    std::size_t owed() const { return queue_.size() - head_; }
    /// Counts the Parses that were sent.
    std::uint64_t parses() const { return parses_; }
    /// Who gets what comes next; the client when nothing is owed.
    asker next_asker() const { return owed() > 0 && (queue_[head_] & pooler_bit) != 0 ? asker::pooler : asker::client; }
    /// What is answered next; only when something is owed.
    request next_request() const { return head(); }
    /// The request that is answered next has a note.
    bool next_noted() const { return owed() > 0 && (queue_[head_] & noted_bit) != 0; }
    /// An extended message was sent and no Sync after it.
    bool batch_open() const { return unsynced_; }
    bool copying_in() const { return copy_in_; }
    /// A COPY waits for data, and neither its end nor anything else was sent behind it.
    bool copy_open() const { return copy_in_ && !copy_ended_; }
    /// linked; skipping until a Sync (or what ends a batch like one) was sent after the last error; copying_both until
    /// the sender of the query says CopyDone or the server that it is over.
    frontend_state stands() const { return stands_; }
    bool skipping() const { return stands_ == frontend_state::skipping; }
    /// For a server that is told nothing but its client's own words: there is no sounding, doubt stays.
    void never_sound() { sounds_ = false; }
    /// Counts the batches sent: two messages with the same number stand or fall together.
    std::uint64_t batch() const { return batches_; }
    /// Of these, those that are answered: messages of a lower number are over.
    std::uint64_t answered_batches() const { return batches_ - ends_; }
    /// The end of an earlier batch is owed: what status the next one begins with is open.
    bool end_owed() const { return ends_ > 0; }
    /// What is to come belongs to one batch, whose end is the last thing owed, or is not sent yet.
    bool last_batch() const { return ends_ == 0 || (ends_ == 1 && !unsynced_); }
    /// A cancel that the client has not asked for does no more than end what runs. With another batch behind it, it
    /// could strike a BEGIN, and what was meant for that transaction would be committed by itself.
    bool may_be_cut_short() const { return last_batch(); }
    /// What is to come can not be told now: an error ended a COPY while Syncs were on their way, of which the COPY may
    /// have eaten any number, and no reply to what was sent behind them will tell; or the server reported an error that
    /// nobody asked for, and is about to go. All of it goes to the client, and the server does not go back to its pool.
    /// With requests of the pooler's among it, the first reply that may be to one of those is a violation.
    bool doubtful() const { return doubt_ != doubt::none; }
    /// The latter.
    bool leaving() const { return doubt_ == doubt::leaving; }
    /// The doubt can be ended by a Sync, a Close of nothing and a Sync of the pooler's, behind everything that
    /// was sent: see sounded(). Until its answer came, nothing else may be sent.
    bool needs_sounding() const { return doubt_ == doubt::open; }
    bool sounding() const { return doubt_ == doubt::sounding || doubt_ == doubt::marked; }
    /// Those three go to the server now.
    void sounded();
    /// The next reply is swallowed.
    void take_over_next() { queue_[head_] = static_cast<char>(queue_[head_] | pooler_bit); }

    /// The ends of noted requests since the last call, in the order in which they were sent: one `outcome` a byte.
    std::string_view outcomes() const { return outcomes_; }
    void clear_outcomes() { outcomes_.clear(); }

private:
    static constexpr char pooler_bit = 0x40;
    static constexpr char noted_bit = 0x20;
    static constexpr char request_bits = 0x1f;
    static request request_of(char entry) { return static_cast<request>(entry & request_bits); }
    request head() const { return at(head_); }
    request at(std::size_t index) const { return request_of(queue_[index]); }
    [[gnu::always_inline]] inline void push(request what, asker who, bool noted);
    [[gnu::always_inline]] inline void take_next(outcome);
    void end_next(outcome);
    [[gnu::always_inline]] inline void forget_ended();
    void note_end(std::size_t index, outcome);
    void drop_until(std::size_t index, outcome);
    void begin_copy_in();
    void become(request what) {
        queue_[head_] = static_cast<char>((queue_[head_] & ~request_bits) | static_cast<int>(what));
    }
    fate failed();
    bool replies_will_tell() const;
    fate copy_failed();
    fate in_doubt(char type);
    void drop_all();

    std::vector<char> queue_;  ///< one byte an entry: request, pooler_bit, noted_bit
    std::string outcomes_;
    std::size_t head_ = 0;
    std::size_t ends_ = 0;       ///< entries in the queue that end a batch
    std::uint64_t batches_ = 0;  ///< ends sent
    std::uint64_t parses_ = 0;
    std::uint32_t ignored_syncs_ = 0;  ///< of the COPY that runs
    std::uint32_t maybe_syncs_ = 0;    ///< ReadyForQuery that may come ahead of the next reply of another kind
    frontend_state stands_ = frontend_state::linked;
    bool unsynced_ = false;
    bool sounds_ = true;
    bool copy_in_ = false;     ///< CopyInResponse seen, the COPY has not ended
    bool copy_ended_ = false;  ///< CopyDone, CopyFail or a request, which ends it by an error, was sent behind it
    /// Why what is to come can not be told, and how far the way out of it is.
    enum class doubt : std::uint8_t {
        none,
        leaving,   ///< an error came that answers nothing: the server is about to go
        lost,      ///< there is no way out
        mixed,     ///< nor here, and requests of the pooler's were sent behind the COPY
        open,      ///< there is: nothing but Syncs was sent behind the COPY
        sounding,  ///< ReadyForQuery for each Sync that was not eaten, then one for our first
        marked,    ///< the Close was answered: one ReadyForQuery more
    };
    doubt doubt_ = doubt::none;
    bool in_batch_ = false;          ///< the COPY was Execute's: the server skips to a Sync
    std::uint32_t heard_syncs_ = 0;  ///< ReadyForQuery since the doubt began
    std::uint32_t most_heard_ = 0;   ///< of those there can be no more
};

}  // namespace pgsluice::core
