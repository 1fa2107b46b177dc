// The regular expressions of pg_hba.conf and pg_ident.conf (a word that begins with a slash). Not a general engine:
// what PostgreSQL's regular expressions and this one's would read differently is refused when it is compiled. Source:
// PostgreSQL manual 16, "The pg_hba.conf File", "User Name Maps", "POSIX Regular Expressions". Any thread.
#pragma once

#include <boost/system/result.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace pgsluice::auth {

/// `failed`: matching it would have taken too long or too much memory. Whoever asks must refuse then.
enum class pattern_match : std::uint8_t { no, yes, failed };

class name_pattern {
public:
    /// `text` without its slash. The error says what is wrong with it.
    static boost::system::result<name_pattern, std::string> compile(std::string_view text);

    /// True anywhere within `name`, unless the expression has ^ or $; these are the ends of the whole name.
    pattern_match matches(std::string_view name) const;
    /// The same; `first` gets what the first group matched, and is null where it took no part.
    pattern_match matches(std::string_view name, std::unique_ptr<std::string> &first) const;
    bool has_group() const;

private:
    struct engine;
    explicit name_pattern(std::shared_ptr<const engine> it) : engine_(std::move(it)) {}
    std::shared_ptr<const engine> engine_;  ///< copies of a rule share it
};

}  // namespace pgsluice::auth
