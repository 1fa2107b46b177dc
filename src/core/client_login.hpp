// The first part of a client's life: from its first byte to the proof of who it is. Bytes in, effects out.
// Knows nothing of pools; lives inside client_session until the login is over. Belongs to the client's worker.
// Sources: PostgreSQL manual, "Start-up", "SASL Authentication"; PgBouncer documentation, auth_type.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "auth/password_check.hpp"
#include "auth/scram.hpp"
#include "config/settings.hpp"
#include "core/auth_query.hpp"
#include "core/channel.hpp"
#include "core/client_authentication.hpp"
#include "core/console_command.hpp"
#include "core/derived_keys.hpp"
#include "core/effects.hpp"
#include "core/errors.hpp"
#include "core/known_starts.hpp"
#include "core/login_pace.hpp"
#include "core/replication.hpp"
#include "core/welcome.hpp"
#include "wire/frame.hpp"
#include "wire/startup.hpp"

namespace pgsluice::core {

class statement_store;
class traffic_book;

/// Unpredictable bytes, from the driver (tests bring their own).
class random_source {
public:
    virtual ~random_source() = default;
    virtual std::string bytes(std::size_t count) = 0;
};

/// What the machines of one worker share. The settings are exchanged by a reload; the rest stays for the process.
struct environment {
    std::shared_ptr<const config::settings> settings;
    random_source *random = nullptr;
    statement_store *statements = nullptr;  ///< the worker's own
    known_starts *starts = nullptr;         ///< one for the process
    traffic_book *traffic = nullptr;        ///< the worker's own; null in tests that need none
    login_pace *pace = nullptr;             ///< the worker's own; null in tests that need none
    derived_keys *derived = nullptr;        ///< the worker's own; null in tests that need none
    host_facts *host = nullptr;             ///< the worker's own; null in tests that need none
    std::string mock_key;                   ///< one for the process: makes what unknown users are shown stable
};

/// The key a CancelRequest shows.
struct shown_key {
    std::uint32_t pid = 0;
    std::string secret;
};

class client_login {
public:
    explicit client_login(const environment &env, client_facts facts = {}) : env_(&env), facts_(std::move(facts)) {}
    /// Another worker's from here on.
    void move_to(const environment &env) { env_ = &env; }

    /// Returns the bytes taken. Sets fx.client to admit, join, find_name, find_secret, derive, cancel or close when
    /// that point is reached.
    std::size_t on_bytes(std::string_view bytes, effects &);
    /// One of the pooler's own, which proves nothing: on_bytes() is not for it.
    void begin_as(std::string database, std::string user) {
        settings_ = env_->settings;
        database_ = std::move(database);
        user_ = std::move(user);
        stage_ = stage::done;
    }
    /// The driver could encrypt this connection (nothing is said yet), or has done so (client_next::secure).
    void on_channel(channel it) { channel_ = std::move(it); }
    const channel &security() const { return channel_; }
    /// A place under max_client_conn was given: the authentication begins. Sets fx.client to find_name or
    /// find_secret when one of them must be known first.
    void on_admitted(effects &);
    /// After find_secret.
    const secret_question &question() const { return *question_; }
    void on_secret(const secret_answer &, effects &);
    /// After check_password: the question, which is then the caller's alone.
    auth::password_check take_check();
    void on_checked(const auth::password_verdict &, effects &);
    /// After derive (a password's check, or the end of SCRAM): to be done by another thread, for it takes long. Once.
    auth::scram_work work() {
        auto it = *std::move(work_);
        work_.reset();
        return it;
    }
    void on_derived(const auth::scram_keys &, effects &);
    /// After find_name: the name that the client's address has and that has this address; "" when there is none.
    void on_named(const std::string &host_name, effects &);

    /// What the last call has left in `fx` tells whether a password is right, and is not to be told yet: it is taken
    /// out of `fx`, and nothing else happens until kept_until().
    bool keeps_back(base::time_point now, effects &fx);
    bool keeping() const { return kept_.has_value(); }
    base::time_point kept_until() const { return *kept_->until; }
    /// Its time has come.
    void tell_kept(effects &);
    /// For what is found out elsewhere, or for the time of its verdict: until then it takes nothing.
    bool waits_elsewhere() const {
        return keeping() || stage_ == stage::naming || stage_ == stage::lookup || stage_ == stage::checking ||
               stage_ == stage::deriving;
    }

    const std::string &user() const { return user_; }
    const std::string &database() const { return database_; }
    /// It asks for the admin console.
    bool console() const { return is_console(database_); }
    /// What it may do there, once it is logged in.
    std::optional<console_rights> rights() const;
    /// Parameters the client asked for, those of `options` first; of two by one name the later counts.
    const std::vector<std::pair<std::string, std::string>> &parameters() const { return parameters_; }
    /// Null for an ordinary client. Of another, the startup parameters are here and not in parameters().
    const std::shared_ptr<const replication_start> &replicates() const { return replicates_; }
    const shown_key &cancel() const { return cancel_; }
    /// How long a cancel key this client's protocol has room for.
    std::size_t cancel_key_bytes() const {
        return protocol_ >= wire::protocol_3_2 ? cancel_key::long_bytes : cancel_key::short_bytes;
    }
    /// What auth_query has found, or the password that PAM or LDAP has found right; null for users of auth_file.
    const std::shared_ptr<const auth::credential> &found() const { return found_; }
    /// After a login by password or SCRAM with a stored verifier: the keys for pass-through, and the verifier they
    /// belong to.
    const std::optional<auth::scram_keys> &keys() const { return keys_; }

private:
    enum class stage : std::uint8_t {
        startup,
        admission,
        naming,
        lookup,
        cleartext,
        checking,
        deriving,
        md5,
        sasl_first,
        sasl_final,
        done
    };

    std::size_t on_startup(std::string_view bytes, effects &);
    bool offers_tls() const {
        return channel_.may_encrypt && env_->settings->global.client_tls_sslmode != config::sslmode::disable;
    }
    void read_startup(const wire::startup_packet &, effects &);
    void add_host_to_name();
    void take_parameter(std::string_view name, std::string_view value, bool ignored);
    void on_password(std::string_view body, effects &);
    void on_sasl_first(std::string_view body, effects &);
    void on_sasl_final(std::string_view body, effects &);
    bool is_local_admin() const;
    void check_cleartext(std::string_view password, effects &);
    void authenticate(const std::string *host_name, effects &);
    bool is_asked_outside() const { return decided_.step == login_step::ask_outside; }
    void carry_out(effects &);
    auth::secret_look invent() const;
    std::string paced_as() const;
    void begin_md5(effects &);
    void begin_sasl(effects &);
    bool has_keys_to_derive() const;
    void end_sasl(const std::optional<std::string> &server_final, effects &);
    void accept(effects &);
    /// The password was right.
    void accept_password(effects &fx) {
        accept(fx);
        judged_ = true;  // also where there is no such database: a right one waits like a wrong one
    }
    void refuse(refusal, effects &, std::string_view argument = {});
    struct kept_verdict {
        std::string words, why;
        client_next next;
        login_pace::turn until;
    };

    const environment *env_;
    client_facts facts_;
    authentication decided_;
    stage stage_ = stage::startup;
    channel channel_;
    std::optional<kept_verdict> kept_;
    bool judged_ = false;  ///< a password was found right or wrong
    bool ssl_seen_ = false, gssenc_seen_ = false;
    std::string user_, database_;
    /// Its name was longer than any can be, and database_ is the beginning of it: told only to those who prove who they
    /// are.
    bool no_such_database_ = false;
    std::vector<std::pair<std::string, std::string>> parameters_;
    std::shared_ptr<const replication_start> replicates_;
    std::vector<std::string> unknown_protocol_options_;
    std::uint32_t protocol_ = wire::protocol_3_0;  ///< that was asked for; its major version is 3
    shown_key cancel_;
    std::shared_ptr<const config::settings> settings_;  ///< those under which this login began
    std::optional<secret_question> question_;
    std::string note_;                              ///< for the log, where this login is refused; "" = nothing
    std::shared_ptr<const auth::secret_mix> seen_;  ///< what auth_query finds there; null: nothing is known of it
    std::shared_ptr<const auth::credential> found_;
    const auth::credential *credential_ = nullptr;  ///< in settings_ or found_; null for an unknown user
    base::secret given_;                            ///< while checking: the client's password
    std::string salt_;
    std::optional<auth::scram_work> work_;
    std::optional<auth::scram_server> scram_;
    std::optional<auth::scram_work> last_work_;  ///< of SCRAM, to be done when all of the client's messages are here
    std::optional<auth::scram_keys> keys_;
};

}  // namespace pgsluice::core
