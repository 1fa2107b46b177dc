// What the ledger tells workers to do. Plain values with ids: an order may reach its worker after the client or server
// it names has gone, and is then dropped by the worker that looks the id up.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.hpp"
#include "core/errors.hpp"
#include "core/route.hpp"
#include "core/server_session.hpp"
#include "core/welcome.hpp"

namespace pgsluice::core {

struct secret_question;

struct order {
    enum class kind : std::uint8_t {
        open,              ///< open `server` as `connection` says; `seat` is its place in the ledger; `client`, if
                           ///< any, gets it out of reserve_pool_size
        close,             ///< close `server`, because of `why`
        move,              ///< send `server` to worker `to`, for `client`
        end_session,       ///< close `server`, and its client with `refused`, when no transaction is open
        check,             ///< run server_check_query on `server`, then give it back
        welcome,           ///< welcome `client` with `greeting`
        refuse,            ///< end `client` with `refused` and `argument`
        refuse_by_server,  ///< end `client` with the server's own `error`
        drop,              ///< close `client` without a word, because of `why`
        reroute,           ///< `client` has another route now: that of its seat
        forward_cancel,    ///< `client` is a CancelRequest: hand it on as `forward_to` says
        find_secret,       ///< ask `question`; the answer goes to ledger::found_anew() for `pool`
    };
    /// What opening a connection takes.
    struct connection {
        std::shared_ptr<const config::pool_settings> settings;
        server_secret secret;
        std::size_t host = 0;        ///< index into settings->hosts
        std::uint32_t protocol = 0;  ///< the version to ask for
    };

    /// What handing a cancel to a peer takes.
    struct peer_connection {
        int peer = 0;
        std::string host;
        int port = 0;
        cancel_key key;
    };

    kind what = kind::open;
    base::worker_index worker = 0;  ///< who carries it out
    base::client_id client{};
    base::server_id server{};
    base::worker_index to = 0;
    void *seat = nullptr;
    std::string_view why{};  ///< a literal
    refusal refused = refusal::none;
    std::string argument{};
    std::shared_ptr<const connection> connect{};
    std::shared_ptr<const login_error> error{};
    shared_welcome greeting{};
    std::shared_ptr<const peer_connection> forward_to{};
    pool_index pool = 0;
    std::shared_ptr<const secret_question> question{};
};

using orders = std::vector<order>;

}  // namespace pgsluice::core
