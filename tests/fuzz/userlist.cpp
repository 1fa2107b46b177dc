// Fuzz target: auth_file, and single stored secrets. A table that is read obeys every limit; a complaint names a line
// that is there and tells no secret.
#include "auth/userlist.hpp"

#include <algorithm>

#include "fuzz/fuzz.hpp"

using namespace pgsluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const fuzz::memory_watch watch(size);
    const std::string_view text(reinterpret_cast<const char *>(data), size);
    const auto users = auth::parse_userlist(text);
    if (users.has_error()) {
        const auto lines = 1 + std::count(text.begin(), text.end(), '\n');
        fuzz::require(users.error().line >= 1 && users.error().line <= lines, "a line that is not there");
        fuzz::require(users.error().text.size() < 80, "a complaint that quotes the file");
        return 0;
    }
    std::string written;
    const auto field = [&written](std::string_view value) {
        written += '"';
        for (const char c : value) written.append(c == '"' ? 2 : 1, c);
        written += '"';
    };
    for (const auto &[name, it] : *users) {
        fuzz::require(!name.empty() && name.size() <= 127, "a user name that is too long");
        fuzz::require((it.form == auth::secret_form::scram) == it.verifier.has_value(), "a form without its verifier");
        // One line an entry: a name with a line break can not come out of a file that is read by lines.
        fuzz::require(name.find_first_of(std::string_view("\n\0", 2)) == std::string::npos, "a name over two lines");
        field(name);
        written += ' ';
        field(it.text.reveal());
        written += '\n';
    }
    const auto again = auth::parse_userlist(written);
    fuzz::require(again.has_value() && again->size() == users->size(), "a table written again can not be read");
    for (const auto &[name, it] : *users) {
        const auto same = again->find(name);
        fuzz::require(same != again->end() && same->second.form == it.form && same->second.text.equals(it.text),
                      "a table written again differs");
    }
    return 0;
}
