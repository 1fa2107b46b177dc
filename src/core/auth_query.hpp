// Who looks up a user's secret, and the conversation that does it: auth_query, with the user's name as a bind
// parameter and a search path of ours. Bytes in, bytes out; the connection it talks over is an ordinary one of the
// pooler's own, in a pool that no client shares. Source: PgBouncer documentation, auth_query; PostgreSQL manual,
// "Extended Query".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "auth/secret_mix.hpp"
#include "auth/userlist.hpp"
#include "config/settings.hpp"

namespace pgsluice::core {

/// Whose secret, and where it is to be found.
struct secret_question {
    std::string database;   ///< entry of [databases] whose server is asked
    std::string auth_user;  ///< who asks
    std::string query;
    std::string user;             ///< who is asked about
    bool guessed = false;         ///< the database is what the client says, and only `*` has it: there may be none
    int scram_iterations = 4096;  ///< for SCRAM with a secret that is stored as it is
    bool operator<(const secret_question &other) const {
        const auto all = [](const secret_question &it) {
            return std::tie(it.database, it.auth_user, it.query, it.user, it.scram_iterations, it.guessed);
        };
        return all(*this) < all(other);
    }
};
/// The question for a client that auth_file does not know; nothing where none is to be asked.
std::optional<secret_question> question_for(const config::settings &, const std::string &database,
                                            const std::string &user);

/// Where there would be one, but [databases] lacks whom to ask: that, for the log; else "".
std::string why_not_asked(const config::settings &, const std::string &database, const std::string &user);

struct secret_answer {
    enum class kind : std::uint8_t {
        found,
        unknown,
        failed,
        crowded_out,  ///< not asked: too many others wait
    };
    kind what = kind::failed;
    /// Found: never null. A NULL secret is an empty one, which no password matches.
    std::shared_ptr<auth::credential> credential{};
    std::string problem{};  ///< failed: why, for the log; unknown: what is odd about it, or ""
    /// What others that were found there look like; null before the first.
    std::shared_ptr<const auth::secret_mix> seen{};
};

/// One question over one connection, from the pooler's welcome on. Belongs to one thread.
class auth_query {
public:
    /// A longer answer is no secret.
    static constexpr std::size_t message_max_bytes = 128 * 1024;

    explicit auth_query(secret_question what) : what_(std::move(what)) {}
    /// Takes what the pooler says; what is to be sent is appended to `out`. Returns the bytes taken.
    std::size_t on_bytes(std::string_view bytes, std::string &out);
    /// The connection has ended, or the time.
    void on_end(std::string_view why) { fail(why); }
    bool done() const { return answer_.has_value(); }
    /// When done().
    const secret_answer &answer() const { return *answer_; }

private:
    void ask(std::string &out) const;
    void on_row_description(std::string_view body);
    void on_row(std::string_view body);
    void fail(std::string_view why);
    void tell_unknown(std::string_view oddity);

    secret_question what_;
    std::optional<secret_answer> answer_;
    std::shared_ptr<auth::credential> found_;
    bool asked_ = false, described_ = false;
};

}  // namespace pgsluice::core
