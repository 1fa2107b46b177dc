// One login to one server, step by step, for pgsluice --check --connect: the name, the port, TLS, the login, and then
// what is asked of it. It blocks, on a thread and a socket of its own, and speaks by the same machine as the pooler's
// own connections (core/server_session). No ledger, no pool. Used before anything else runs.
#pragma once

#include <memory>
#include <string>

#include "core/auth_query.hpp"
#include "core/server_session.hpp"
#include "net/tls_context.hpp"

namespace pgsluice::net {

/// Which link of the chain is wrong; none: all is well.
enum class chain_link : std::uint8_t { none, name, port, tls, password, database, connect_query, server, auth_query };
const char *to_string(chain_link);

class probe {
public:
    /// `host`: one of those of `settings`. `tls`: null where server_tls_sslmode is disable.
    probe(std::shared_ptr<const config::pool_settings> settings, std::string host, core::server_secret,
          std::shared_ptr<const tls_context> tls);
    ~probe();
    probe(const probe &) = delete;
    probe &operator=(const probe &) = delete;

    /// Connects and logs in; every address of a name is tried in turn.
    chain_link log_in();
    /// What is wrong, in one line; or what it came to: "127.0.0.1:5432, TLSv1.3/..., PostgreSQL 15.4".
    const std::string &text() const { return text_; }

    // ---- after log_in() has come to none ----

    /// The first column of the first row; "" when that can not be had.
    std::string ask(const std::string &sql);
    chain_link ask_auth_query(core::secret_question);

private:
    struct address;
    bool resolve();
    bool connect(const address &);
    chain_link speak();
    bool shake_hands(core::effects &);
    bool send(std::string_view);
    /// Adds to in_; false when the connection has ended or the time is over.
    bool receive();
    void hang_up();
    chain_link fail(chain_link, std::string why);
    static chain_link link_of(const core::login_error &);

    std::shared_ptr<const config::pool_settings> settings_;
    std::string host_;
    core::server_secret secret_;
    std::shared_ptr<const tls_context> tls_;
    std::vector<address> addresses_;
    std::unique_ptr<core::server_session> session_;
    std::unique_ptr<tls_session> secured_;
    int fd_ = -1;
    bool tcp_ = false;
    base::time_point until_ = base::never;
    std::string in_, text_;
};

}  // namespace pgsluice::net
