// An admin's connection as a machine: its messages become commands, and what comes of those becomes replies. Speaks the
// simple and the extended protocol, one command at a time; what needs more than its text is asked of the driver
// (client_next::command), and what follows waits. Lives inside client_session; belongs to the client's worker.
// Sources: PgBouncer documentation, "Admin console"; PostgreSQL manual, "Message Flow".
#pragma once

#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/console_command.hpp"
#include "core/console_table.hpp"
#include "core/effects.hpp"
#include "core/traffic.hpp"
#include "wire/frame.hpp"

namespace pgsluice::core {

/// What a command came to.
struct console_outcome {
    console_refusal refused{};         ///< refusal::none: its tag follows
    std::vector<std::string> notices;  ///< ahead of it
};

class console_session {
public:
    /// `counts` may be null, and outlives this.
    console_session(console_rights rights, traffic *counts) : rights_(rights), counts_(counts) {}

    /// AuthenticationOk, the parameters that drivers want, then those of them that the client asked for in its own
    /// words, the key, ReadyForQuery.
    static void welcome(std::uint32_t pid, std::string_view secret,
                        const std::vector<std::pair<std::string, std::string>> &asked, effects &);

    /// Takes the messages that are whole, up to one whose command the driver is asked for.
    std::size_t on_bytes(std::string_view bytes, effects &);
    /// A command is under way: the driver owes rows and their end.
    bool running() const { return running_; }
    const console_command &command() const { return command_; }
    console_rights rights() const { return rights_; }
    void on_rows(const std::vector<console_row> &, effects &);
    void on_done(const console_outcome &, effects &);
    /// What commands were refused with since the last call: for the log.
    std::vector<std::string> take_errors() { return std::exchange(errors_, {}); }

private:
    struct portal {
        console_command what;
        result_formats formats;
        bool finished = false;
        std::deque<std::string> rest{};  ///< of a portal that Execute's limit has suspended
    };

    void on_message(const wire::frame &, effects &);
    void on_query(std::string_view body, effects &);
    void on_parse(std::string_view body, effects &);
    void on_bind(std::string_view body, effects &);
    void on_describe(std::string_view body, effects &);
    void on_execute(std::string_view body, effects &);
    void on_close(std::string_view body, effects &);
    void begin(effects &);
    void describe(const console_command &, const result_formats &, effects &);
    void complete(effects &);
    void fail(const console_refusal &, effects &);
    void bad_packet(effects &);
    void close_with(refusal, std::string_view argument, effects &);
    void ready(effects &) const;
    std::vector<console_column> columns() const { return columns(command_); }
    static std::vector<console_column> columns(const console_command &);

    console_rights rights_;
    traffic *counts_;
    std::map<std::string, console_command, std::less<>> statements_;
    std::map<std::string, portal, std::less<>> portals_;
    console_command command_;
    std::vector<std::string> errors_;
    std::string portal_;  ///< whose command runs
    result_formats formats_;
    std::uint32_t rows_max_ = 0;  ///< of Execute; 0: all
    std::uint32_t rows_sent_ = 0;
    bool simple_ = true;
    bool running_ = false;
    bool described_ = false;  ///< a simple query's rows have their description
    bool skip_to_sync_ = false;
};

}  // namespace pgsluice::core
