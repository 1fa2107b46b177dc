// What a client sends in one go, and the exact replies PostgreSQL owes for it. Building a script moves a model of the
// session along: transaction status, the batch that skips to Sync after an error, named statements, parameters, and
// which rows are written by which transaction. Sources: PostgreSQL manual, "Message Flow", "Pipelining".
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "world.hpp"

namespace oracle {

inline constexpr std::array<const char *, 4> tracked{"application_name", "TimeZone", "DateStyle", "IntervalStyle"};
using parameters = std::array<std::string, tracked.size()>;

/// What a statement does to the model when it succeeds.
enum class effect : std::uint8_t {
    none,
    write,
    begin,
    commit,
    rollback,
    savepoint,
    rollback_to,
    release,
    set,
    set_local,
    deallocate
};

/// Where a statement that must fail does so.
enum class stage : std::uint8_t { parse, bind, execute };

struct statement {
    std::string sql{};                  ///< with $1, $2 ... for the parameters
    std::vector<std::string> params{};  ///< text
    std::size_t columns = 0;            ///< of the result, all of them text; 0: none
    std::vector<std::string> rows{};    ///< bodies of DataRow (of CopyData where copy_out)
    std::string tag{};                  ///< empty: an empty query
    effect what = effect::none;
    std::uint64_t part = 0;  ///< write: the bit of the row
    std::size_t parameter = 0;
    std::string value{};  ///< set; deallocate: the name, empty for all
    std::string error{};  ///< the SQLSTATE it must fail with
    stage fails_at = stage::execute;
    bool notice = false;    ///< a NOTICE with the token comes first
    bool identity = false;  ///< a wrong row is a wrong identity
    bool pid = false;       ///< the last column of the row is the backend's pid, not in `rows`
    bool copy_out = false;
    bool notifies = false;  ///< a channel that this session listens to; outside of a transaction
};

/// How a transaction ends, told when a certain ReadyForQuery arrives.
struct settlement {
    std::size_t work = 0;  ///< of world::works
    bool committed = false;
    std::size_t sent_by = 0;  ///< bytes of the script up to the message that commits
};

struct expected {
    char type = 0;
    std::string body{};  ///< what it begins with; error: the SQLSTATE
    bool whole = false;  ///< ... and ends with
    bool identity = false, pid = false;
    std::vector<settlement> settled{};     ///< ReadyForQuery
    std::optional<parameters> reported{};  ///< ReadyForQuery: what the client must have been told by now
};

/// What a session knows of its own state.
struct model {
    char status = 'I';
    std::optional<std::size_t> open;  ///< the work of the transaction in progress
    std::uint64_t parts_at_savepoint = 0;
    unsigned parts = 0;  ///< used so far in the transaction in progress
    std::uint32_t next_seq = 1;
    parameters now, lasting, at_commit;
    std::map<std::string, std::string> names;  ///< named statements and their text
    bool uncertain_names = false;              ///< after a cancel: close a name before it is used again
};

class script {
public:
    script(world &shared, model &session, std::uint32_t number) : world_(shared), model_(session), session_(number) {}

    /// One Query with these statements.
    void query(const std::vector<statement> &);
    /// Parse, Bind, perhaps Describe, Execute; no Sync. With a name: Parse only where it is not there already.
    void extended(const statement &, const std::string &name = {}, bool describe = false, bool binary = false);
    /// A portal read in pieces of `rows` rows; between them `between` is called, which may flush or sync.
    void portal_open(const statement &, const std::string &portal);
    void portal_piece(const statement &, const std::string &portal, std::size_t from, std::size_t rows);
    void close(char kind, const std::string &name);
    void describe_only(const statement &);
    /// The two halves of an unnamed statement, for different batches.
    void parse_only(const statement &);
    void bind_only(const statement &);
    /// Bind to a statement that is not there.
    void bind_unknown(const std::string &name);
    /// Parse under a name that is taken.
    void parse_double(const std::string &name);
    void sync();
    void flush();
    void function_call(std::uint32_t oid, const std::vector<std::string> &arguments, const std::string &result);
    /// COPY FROM STDIN: the request, then in a later script or the same one the lines.
    void copy_begin(const statement &, bool simple);
    /// `error`: the SQLSTATE; with `fail` a CopyFail ends it.
    void copy_lines(const std::vector<std::string> &lines, const statement &, bool simple, bool fail);

    /// The part of a new row, for its statement.
    std::uint64_t new_part();
    /// The work that is being written, made where there is none.
    std::size_t open_work();

    bool batch_open() const { return batch_open_; }
    bool skipping() const { return skipping_; }
    bool empty() const { return bytes_.empty(); }
    const std::string &bytes() const { return bytes_; }
    const std::vector<expected> &replies() const { return replies_; }
    const std::vector<std::size_t> &touched() const { return touched_; }
    /// What these bytes commit.
    const std::vector<settlement> &commits() const { return commits_; }
    /// These bytes SET something, or end a transaction that has.
    bool sets() const { return sets_; }
    /// After it was sent and answered: the same batch goes on.
    void next();

private:
    void expect(char type, std::string_view body = {}, bool whole = false);
    void expect_error(const std::string &sqlstate);
    void results(const statement &, bool with_description);
    void succeeded(const statement &);
    void fail_statement();
    void settle(bool committed);
    void ready();
    bool refused_in_failed(const statement &) const;
    void append_parse(const std::string &name, const std::string &sql);
    void append_bind(const std::string &portal, const std::string &name, const std::vector<std::string> &params,
                     bool binary);
    void append_execute(const std::string &portal, std::size_t rows);

    world &world_;
    model &model_;
    std::uint32_t session_;
    std::string bytes_;
    std::vector<expected> replies_;
    std::vector<settlement> settlements_, commits_;
    std::vector<std::size_t> touched_;
    bool batch_open_ = false, skipping_ = false, sets_ = false, notification_due_ = false;
};

/// Bodies of DataRow messages with these columns; `more` leaves a place for one column that is not known.
std::string data_row(const std::vector<std::string> &columns, bool more = false);
/// A string literal.
std::string quoted(std::string_view);

}  // namespace oracle
