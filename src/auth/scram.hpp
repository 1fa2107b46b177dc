// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both ends, without input or output: messages in, messages out, nonces and the
// data of channel binding passed in. Sources: RFC 5802, RFC 7677, RFC 5929 (tls-server-end-point); PostgreSQL manual,
// "SASL Authentication". Not here: the wire's framing, and where the work is done: a login by password costs
// `iterations` HMACs, which scram_work lets another thread do. An object belongs to one thread; functions may be called
// by any. All throw only when OpenSSL or memory fails.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/secret.hpp"

namespace pgsluice::auth {

inline constexpr std::string_view scram_sha_256 = "SCRAM-SHA-256";
inline constexpr std::string_view scram_sha_256_plus = "SCRAM-SHA-256-PLUS";
inline constexpr std::size_t scram_key_bytes = 32;
inline constexpr std::size_t scram_nonce_bytes = 18;          ///< raw bytes of our nonces, as PostgreSQL's
inline constexpr std::size_t scram_salt_bytes = 16;           ///< raw bytes of our salts, as PostgreSQL's
inline constexpr std::size_t scram_message_max_bytes = 4096;  ///< longer messages are refused before they are read
inline constexpr int scram_iterations_min = 4096;       ///< RFC 7677 section 4; a server that asks for fewer is refused
inline constexpr int scram_iterations_max = 1'000'000;  ///< a server that asks for more would only burn our CPU

/// A key, wiped when it goes and compared in constant time only.
struct scram_key : std::array<unsigned char, scram_key_bytes> {
    ~scram_key() { OPENSSL_cleanse(data(), size()); }
    bool operator==(const scram_key &) const = delete;
    std::string_view reveal() const { return {reinterpret_cast<const char *>(data()), size()}; }
    bool equals(const scram_key &other) const { return base::equal_constant_time(reveal(), other.reveal()); }
};

/// What a server stores: SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
struct scram_verifier {
    int iterations = 0;
    std::string salt;  ///< raw bytes
    scram_key stored_key{};
    scram_key server_key{};
};

/// Keys that let us log in to a server without the password: ClientKey from the client's proof, ServerKey from the
/// verifier. Good for servers whose verifier has the same salt and iteration count.
struct scram_keys {
    scram_key client_key{};
    scram_key server_key{};
};

/// Keys with what they were derived for: a caller may keep them, by password, to spare the next login the derivation.
struct scram_derived {
    std::string salt;  ///< raw bytes
    int iterations = 0;
    scram_keys keys;
};

/// What takes long, as a value that may go to another thread: keys from a password, for as many HMACs as iterations.
struct scram_work {
    base::secret password;
    std::string salt;  ///< raw bytes
    int iterations = 0;
};
scram_keys do_work(const scram_work &);

/// Nothing unless `stored` is a whole verifier, as PostgreSQL's parse_scram_secret reads it: any iteration count above
/// zero, since it is the client who pays for it.
std::optional<scram_verifier> parse_scram_verifier(std::string_view stored);
/// Derives a verifier from a password (SASLprep where it applies). Costs `iterations` HMACs.
scram_verifier make_scram_verifier(std::string_view password, std::string_view salt, int iterations);
/// What shows whether it is the password of `stored`; belongs_to() says so then, and the keys are those for
/// pass-through.
scram_work work_for(const scram_verifier &stored, std::string_view password);
bool belongs_to(const scram_verifier &stored, const scram_keys &);
/// A verifier that matches nothing, with a salt that is stable for (process_key, user): what unknown users are shown.
scram_verifier mock_scram_verifier(std::string_view process_key, std::string_view user, int iterations);

enum class scram_error : std::uint8_t {
    none,             ///< no failure so far
    malformed,        ///< not the message that is due, or a broken one
    channel_binding,  ///< the client's is not of the kind, not of this connection, or does not fit what was offered
    bad_nonce,        ///< the peer's nonce does not extend, or does not repeat, what it must
    bad_proof,        ///< the client does not know the password, or there is no such user (mock)
    iterations,       ///< the server asks for too few iterations or too many
    bad_signature,    ///< the server does not know the verifier
    server_error,     ///< the server sent e= in place of its signature
};
const char *to_string(scram_error);

/// The server's end of one login. Feed client-first, then client-final; each call gives the answer or fails, and what
/// comes after a failure, twice or too early fails as malformed.
class scram_server {
public:
    /// `nonce` is raw random bytes (scram_nonce_bytes). `mock` makes the proof fail whatever it is, at the same cost.
    /// `end_point`: what channel binding must show; not empty: SCRAM-SHA-256-PLUS was offered too.
    scram_server(scram_verifier verifier, std::string_view nonce, bool mock, std::string end_point = {});

    /// server-first-message, or empty on failure (see error()). The user name in it is ignored, as PostgreSQL does.
    /// `plus`: the client has chosen SCRAM-SHA-256-PLUS.
    std::optional<std::string> on_client_first(std::string_view message, bool plus = false);
    /// server-final-message when the proof is right.
    std::optional<std::string> on_client_final(std::string_view message);
    /// The same in steps, for a verifier of which so far only salt and iterations count: its keys come with the last
    /// one. False: see error().
    bool take_client_final(std::string_view message);
    /// Whether the proof is theirs. Decides nothing, and takes as long if it is not.
    bool is_proof_of(const scram_keys &) const;
    std::optional<std::string> server_final(const scram_keys &of_the_password);

    scram_error error() const { return error_; }
    /// After success: what pass-through needs. Zeros before.
    const scram_keys &keys() const { return keys_; }

private:
    enum class step : std::uint8_t { client_first, client_final, server_final, done, failed };
    std::nullopt_t fail(scram_error why);
    std::optional<std::string> server_final();

    scram_verifier verifier_;
    scram_keys keys_;
    std::string nonce_;  ///< ours in base64; after client-first the client's and ours
    std::string client_first_bare_;
    std::string server_first_;
    std::string end_point_;
    std::string channel_binding_;  ///< what c= must be: the gs2 header and the data it asks for, in base64
    std::string auth_message_;
    scram_key proof_{};
    bool mock_;
    step step_ = step::client_first;
    scram_error error_ = scram_error::none;
};

/// What the client's end knows of the connection, and so says of channel binding. Source: RFC 5802 section 6.
struct scram_channel {
    enum class binding : std::uint8_t {
        none,         ///< n: it can not (no TLS)
        not_offered,  ///< y: it could, and the server has not offered to: one that has knows then that someone lied
        bound,        ///< p: SCRAM-SHA-256-PLUS
    };
    binding how = binding::none;
    std::string end_point;  ///< bound: the data of tls-server-end-point
};

/// The client's end of one login, by password or by pass-through keys.
class scram_client {
public:
    /// `nonce` is raw random bytes (scram_nonce_bytes). `cached` must come from this password; it is used when the
    /// server's salt and iterations are those it was derived for.
    scram_client(base::secret password, std::string_view nonce, std::optional<scram_derived> cached = std::nullopt,
                 scram_channel channel = {});
    scram_client(const scram_keys &keys, std::string_view nonce, scram_channel channel = {});

    std::string client_first() const;
    /// Checks all of it. False: see error(). True: client_final() is next, with the keys that work() asks for if it
    /// does.
    bool take_server_first(std::string_view message);
    /// By password without fitting cached keys; once, after take_server_first(). The password is gone from here then.
    std::optional<scram_work> work();
    /// client-final-message. Nothing when it is not due.
    std::optional<std::string> client_final();
    std::optional<std::string> client_final(const scram_keys &made_of_work);
    /// The three of them, in this thread.
    std::optional<std::string> on_server_first(std::string_view message);
    /// True when the server has proved that it knows the verifier.
    bool on_server_final(std::string_view message);

    scram_error error() const { return error_; }
    /// The keys used, and the salt and iterations the server named. Worth keeping only once on_server_final was true.
    const scram_derived &derived() const { return derived_; }
    const scram_keys &keys() const { return derived_.keys; }

private:
    enum class step : std::uint8_t { server_first, client_final, server_final, done, failed };
    std::nullopt_t fail(scram_error why);

    std::optional<base::secret> password_;  ///< none: derived_.keys are used as they are; gone once used
    bool keys_due_ = false;                 ///< work() is under way
    std::string without_proof_;             ///< the beginning of client-final, while it is due
    scram_derived derived_;
    scram_channel channel_;
    std::string nonce_;
    std::string auth_message_;
    step step_ = step::server_first;
    scram_error error_ = scram_error::none;
};

}  // namespace pgsluice::auth
