// Both messages: a length, a letter for the version, then every member in order. See password_check.hpp.
#include "auth/password_check.hpp"

namespace pgsluice::auth {

namespace {

/// Of question and answer together: program and helper of two versions do not understand each other.
constexpr char version = 'a';

class message_writer {
public:
    message_writer() : bytes_(message_length_bytes, '\0') { bytes_ += version; }
    ~message_writer() { base::wipe(bytes_); }
    message_writer(const message_writer &) = delete;
    message_writer &operator=(const message_writer &) = delete;

    void number(std::uint32_t value) { append(bytes_, value); }
    void text(std::string_view value) {
        number(static_cast<std::uint32_t>(value.size()));
        // Grown by hand: what append() would leave behind is not wiped.
        if (bytes_.capacity() < bytes_.size() + value.size()) {
            std::string larger;
            larger.reserve(2 * (bytes_.size() + value.size()));
            larger = bytes_;
            base::wipe(bytes_);
            bytes_.swap(larger);
        }
        bytes_.append(value);
    }
    std::string done() {
        std::string length;
        append(length, static_cast<std::uint32_t>(bytes_.size() - message_length_bytes));
        bytes_.replace(0, message_length_bytes, length);
        return std::move(bytes_);
    }

private:
    static void append(std::string &to, std::uint32_t value) {
        for (int shift = 24; shift >= 0; shift -= 8) to += static_cast<char>(value >> shift & 255U);
    }

    std::string bytes_;
};

class message_reader {
public:
    explicit message_reader(std::string_view bytes) : rest_(bytes) {
        good_ = rest_.starts_with(version);
        if (good_) rest_.remove_prefix(1);
    }

    std::uint32_t number() {
        if (!good_ || rest_.size() < 4) {
            good_ = false;
            return 0;
        }
        const auto value = message_length(rest_);
        rest_.remove_prefix(4);
        return static_cast<std::uint32_t>(value);
    }
    std::string_view text() {
        const auto size = number();
        if (!good_ || rest_.size() < size) {
            good_ = false;
            return {};
        }
        const auto value = rest_.substr(0, size);
        rest_.remove_prefix(size);
        return value;
    }
    template <class Enum>
    Enum choice(Enum last) {
        const auto value = number();
        if (value > static_cast<std::uint32_t>(last)) good_ = false;
        return static_cast<Enum>(value);
    }
    bool done() const { return good_ && rest_.empty(); }

private:
    std::string_view rest_;
    bool good_ = true;
};

}  // namespace

std::size_t message_length(std::string_view bytes) {
    std::size_t value = 0;
    for (const char c : bytes.substr(0, message_length_bytes)) value = value << 8 | static_cast<unsigned char>(c);
    return value;
}

std::string to_bytes(const password_check &it) {
    message_writer out;
    out.number(static_cast<std::uint32_t>(it.what));
    out.text(it.user);
    out.text(it.password.reveal());
    out.text(it.service);
    out.text(it.remote_host);
    out.number(it.resolve_host ? 1 : 0);
    out.text(it.uris);
    out.number(it.start_tls ? 1 : 0);
    out.number(it.search ? 1 : 0);
    out.text(it.name);
    out.text(it.bind_dn);
    out.text(it.bind_password.reveal());
    out.text(it.base_dn);
    out.text(it.filter);
    out.number(static_cast<std::uint32_t>(it.scope));
    out.number(static_cast<std::uint32_t>(it.limit.count()));
    return out.done();
}

std::optional<password_check> parse_password_check(std::string_view bytes) {
    message_reader in(bytes);
    password_check it;
    it.what = in.choice(password_check::kind::ldap);
    it.user = in.text();
    it.password = base::secret(in.text());
    it.service = in.text();
    it.remote_host = in.text();
    it.resolve_host = in.number() != 0;
    it.uris = in.text();
    it.start_tls = in.number() != 0;
    it.search = in.number() != 0;
    it.name = in.text();
    it.bind_dn = in.text();
    it.bind_password = base::secret(in.text());
    it.base_dn = in.text();
    it.filter = in.text();
    it.scope = in.choice(ldap_scope::sub);
    it.limit = std::chrono::milliseconds(in.number());
    if (!in.done()) return std::nullopt;
    return it;
}

std::string to_bytes(const password_verdict &it) {
    message_writer out;
    out.number(static_cast<std::uint32_t>(it.what));
    out.text(it.why);
    return out.done();
}

std::optional<password_verdict> parse_password_verdict(std::string_view bytes) {
    message_reader in(bytes);
    password_verdict it;
    it.what = in.choice(password_verdict::kind::failed);
    it.why = in.text();
    if (!in.done()) return std::nullopt;
    return it;
}

}  // namespace pgsluice::auth
