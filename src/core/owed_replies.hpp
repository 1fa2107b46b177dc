// What a server still owes: one entry for every request sent to it, in order. From the type of each reply alone it says
// whose the reply is and whether the server may send it now. After an error it skips to Sync as PostgreSQL does.
// It sees no bytes beyond the type, and decides nothing about pools. Belongs to the worker of its server.
// Source: PostgreSQL manual, "Message Flow" (Extended Query, Pipelining, COPY Operations, Function Call).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace pgsluice::core {

/// What was sent. copy_end stands for CopyDone or CopyFail: it is owed no reply, but ends the time in which a server
/// that copies in ignores Sync.
enum class request : std::uint8_t { query, parse, bind, describe, execute, close, sync, function_call, copy_end };

/// Who gets the reply: the client that asked, or the pooler, which swallows it.
enum class asker : std::uint8_t { client, pooler };

/// What to do with a reply.
enum class fate : std::uint8_t { to_client, swallow, violation };

class owed_replies {
public:
    /// A request goes to the server now.
    void sent(request what, asker who);
    /// A reply of `type` came. Not for what may come at any time: NoticeResponse, ParameterStatus,
    /// NotificationResponse.
    fate received(char type);

    /// Nothing is owed, no batch is open, no error waits for its Sync, and all of that is beyond doubt.
    bool settled() const { return owed() == 0 && !unsynced_ && !skip_to_sync_ && !copy_in_ && !doubtful_; }
    std::size_t owed() const { return queue_.size() - head_; }
    /// Who gets what comes next; the client when nothing is owed.
    asker next_asker() const;
    /// An extended message was sent and no Sync after it.
    bool batch_open() const { return unsynced_; }
    /// A Parse of the client's is not answered yet: whose the unnamed statement will be is open.
    bool parse_owed() const { return parses_ > 0; }
    bool copying_in() const { return copy_in_; }
    /// True until a Sync (or what ends a batch like one) was sent after the last error.
    bool skipping() const { return skip_to_sync_; }
    /// What is still to come can not be told any more, so all of it goes to the client, and the server never back to
    /// its pool: an error ended a COPY while Syncs were on their way, of which the COPY may have eaten any number; or
    /// the server reported an error that nobody asked for, and is about to go.
    bool doubtful() const { return doubtful_; }

private:
    static constexpr char pooler_bit = 0x40;
    static char code(request what, asker who) {
        return static_cast<char>(static_cast<char>(what) | (who == asker::pooler ? pooler_bit : 0));
    }
    request head() const { return at(head_); }
    request at(std::size_t index) const { return static_cast<request>(queue_[index] & ~pooler_bit); }
    void push(request what, asker who);
    void pop();
    void drop_until(std::size_t index);
    void begin_copy_in();
    fate failed();
    fate despair();

    std::string queue_;  ///< one byte an entry: code()
    std::size_t head_ = 0;
    std::size_t parses_ = 0;           ///< Parse in the queue
    std::uint32_t ignored_syncs_ = 0;  ///< of the COPY that runs
    bool unsynced_ = false;
    bool skip_to_sync_ = false;
    bool copy_in_ = false;     ///< CopyInResponse seen, the COPY has not ended
    bool copy_ended_ = false;  ///< the client has sent CopyDone or CopyFail for it
    bool doubtful_ = false;
};

}  // namespace pgsluice::core
