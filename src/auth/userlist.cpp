// Reads auth_file line by line. See userlist.hpp. Stricter than PgBouncer where that would guess: a field stays on its
// line, and nothing but blanks and commas stands between the two. Error texts name a place and a rule, never what stood
// there.
#include "auth/userlist.hpp"

#include <algorithm>
#include <unordered_map>

#include "auth/md5.hpp"

namespace pgsluice::auth {

namespace {

constexpr std::size_t user_max_bytes = 127;      // PgBouncer's MAX_USERNAME less its NUL
constexpr std::size_t secret_max_bytes = 65535;  // PostgreSQL's longest password message
constexpr std::string_view blanks = " \t\r\v\f";
constexpr std::string_view separators = " \t\r\v\f,";

void skip(std::string_view &text, std::string_view what) {
    text.remove_prefix(std::min(text.find_first_not_of(what), text.size()));
}

std::string_view take_line(std::string_view &text) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    skip(line, blanks);
    return line;
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

/// As in PgBouncer a secret may be on the next line, but here only where it is alone there: of two fields the first is
/// the name of another user, whom a forgotten secret shall not make the password of this one.
std::string_view take_secret_line(std::string_view &text, int &number) {
    auto rest = text;
    int lines = 0;
    std::string_view line;
    for (; line.empty() && !rest.empty(); ++lines) line = take_line(rest);
    auto behind = line;
    field secret;
    secret.read(behind, secret_max_bytes);
    skip(behind, blanks);
    if (secret.problem || !behind.empty()) return {};
    text = rest;
    number += lines;
    return line;
}

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

std::vector<userlist_error> read_userlist(std::string_view text, userlist &users) {
    std::vector<userlist_error> problems;
    const auto refuse = [&](int line, std::string why) { problems.push_back({line, std::move(why), false}); };
    std::unordered_map<std::string_view, int> lines;  // views of the keys in `users`, which do not move
    for (int number = 1; !text.empty(); ++number) {
        auto line = take_line(text);
        if (line.empty() || line.starts_with(';')) continue;

        field user;
        user.read(line, user_max_bytes);
        if (user.problem) {
            refuse(number, std::string("user name ") + user.problem);
            continue;
        }
        const int user_line = number;
        skip(line, separators);
        if (line.empty()) line = take_secret_line(text, number);
        field secret;
        secret.read(line, secret_max_bytes);
        if (secret.problem) {
            refuse(number, std::string("secret ") + secret.problem);
            continue;
        }
        if (user.value.empty()) {
            problems.push_back({user_line, "user name is empty: nobody can log in by it", true});
            continue;
        }
        const auto [place, is_new] = users.try_emplace(user.value);
        if (!is_new) {
            problems.push_back(
                {user_line, "user was named before, on line " + std::to_string(lines[place->first]), true});
        }
        place->second = parse_secret(secret.value);
        lines[place->first] = user_line;
    }
    return problems;
}

boost::system::result<userlist, userlist_error> parse_userlist(std::string_view text) {
    userlist users;
    for (auto &it : read_userlist(text, users))
        if (!it.harmless) return std::move(it);
    return users;
}

}  // namespace pgsluice::auth
