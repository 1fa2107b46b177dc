// Reads auth_file line by line. See userlist.hpp. Stricter than PgBouncer where that would guess: fields stay on their
// line, and only blanks stand between them. Error texts name a place and a rule, never what stood there.
#include "auth/userlist.hpp"

#include <algorithm>
#include <unordered_map>

#include "auth/md5.hpp"

namespace pgsluice::auth {

namespace {

constexpr std::size_t user_max_bytes = 127;      // PgBouncer's MAX_USERNAME less its NUL
constexpr std::size_t secret_max_bytes = 65535;  // PostgreSQL's longest password message
constexpr std::string_view blanks = " \t\r\v\f";

void skip_blanks(std::string_view &text) {
    text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
}

/// One field, the quotes removed. `problem` is set when there is none; otherwise `text` goes on behind it.
struct field {
    std::string value;
    const char *problem = nullptr;
    field() = default;
    field(const field &) = delete;
    field &operator=(const field &) = delete;
    ~field() { base::wipe(value); }

    void read(std::string_view &text, std::size_t max_bytes) {
        if (!text.starts_with('"')) {
            problem = "must begin with a double quote";
            return;
        }
        // A value has at most as many bytes as its text: one allocation, no copies of a secret left behind.
        value.reserve(text.size());
        for (std::size_t at = 1; at < text.size(); ++at) {
            if (text[at] != '"') {
                value += text[at];
            } else if (at + 1 < text.size() && text[at + 1] == '"') {
                value += text[at++];
            } else {
                text.remove_prefix(at + 1);
                if (value.size() > max_bytes) problem = "is too long";
                if (value.find('\0') != std::string::npos) problem = "holds a NUL byte";
                return;
            }
        }
        problem = "has no closing double quote";
    }
};

}  // namespace

credential parse_secret(std::string_view stored) {
    // In PostgreSQL's order (get_password_type): whatever is neither form in full is a password.
    credential result;
    result.text = base::secret(stored);
    if (is_md5_secret(stored))
        result.form = secret_form::md5;
    else if ((result.verifier = parse_scram_verifier(stored)))
        result.form = secret_form::scram;
    return result;
}

boost::system::result<userlist, userlist_error> parse_userlist(std::string_view text) {
    userlist users;
    std::unordered_map<std::string_view, int> lines;  // views of the keys in `users`, which do not move
    for (int number = 1; !text.empty(); ++number) {
        std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        skip_blanks(line);
        if (line.empty() || line.starts_with(';')) continue;

        field user;
        user.read(line, user_max_bytes);
        if (!user.problem && user.value.empty()) user.problem = "is empty";
        if (user.problem) return userlist_error{number, std::string("user name ") + user.problem};
        skip_blanks(line);
        field secret;
        secret.read(line, secret_max_bytes);
        if (secret.problem) return userlist_error{number, std::string("secret ") + secret.problem};

        const auto [place, is_new] = users.try_emplace(user.value);
        if (!is_new)
            return userlist_error{number, "user was named before, on line " + std::to_string(lines[place->first])};
        place->second = parse_secret(secret.value);
        lines.emplace(place->first, number);
    }
    return users;
}

}  // namespace pgsluice::auth
