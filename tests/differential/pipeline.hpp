// One random conversation of a client with a server: the messages, in order, and the places where the client waits for
// replies. From a seed alone; knows no socket. What it may hold is in generate()'s comment.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pgsluice::differential {

/// A message, or (without bytes) a wait for every reply that is due, with a Flush ahead where one is needed.
struct part {
    std::string bytes;
    std::string text;         ///< for people
    bool fails_copy = false;  ///< CopyData that PostgreSQL will refuse at once

    bool waits() const { return bytes.empty(); }
    char type() const { return bytes[0]; }
};
using pipeline = std::vector<part>;

struct options {
    /// Named statements, and the unnamed one beyond its batch: what needs prepared statements in transaction mode.
    bool statements = true;
    /// SET of every parameter that PostgreSQL reports; else of the five that are always tracked.
    bool all_parameters = true;
};

/// Messages for the table differential.t<slot>. Left out on purpose, because in transaction mode it means something
/// else by design, or because two runs against PostgreSQL itself would differ:
/// * what a session keeps and no pooler can carry over: SET of what the server does not report, temporary tables,
/// LISTEN,
///   advisory locks, SQL PREPARE, WITH HOLD cursors;
/// * DEALLOCATE of a protocol-level statement's name among other statements of a Query, or with other messages between
///   its Parse and its Execute: pgsluice knows the name only in a statement of its own;
/// * an unnamed DEALLOCATE that is bound again later, when the name may mean another statement;
/// * a Sync to a COPY of the extended protocol that is followed by other requests than CopyDone or CopyFail and Sync:
///   whether the COPY has eaten it can not be told from the replies (see core/owed_replies.hpp);
/// * EXECUTE in SQL of a protocol-level statement, or its name in pg_prepared_statements;
/// * a plan whose result type has changed (0A000 is mended by pgsluice, on purpose);
/// * process ids, times, transaction ids;
/// * messages that are not well formed (pgsluice closes where PostgreSQL may go on).
pipeline generate(std::uint64_t seed, const options &, int slot);

/// What ends every pipeline: whatever state it is in, the reply has a row that begins with `marker`.
pipeline ending(const pipeline &, int slot);
inline constexpr std::string_view marker = "the end of this pipeline";

}  // namespace pgsluice::differential
