// pg_ident.conf: which user of the system (or name in a certificate) may be which user of the database, map by map.
// Text in, maps out; a pair of names in, yes or no out. Who the system's user is, the caller knows.
// Sources: PostgreSQL manual 16, "User Name Maps"; PgBouncer documentation, "auth_ident_file". Any thread may read it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "auth/name_pattern.hpp"
#include "auth/rule_file.hpp"

namespace pgsluice::auth {

struct ident_entry {
    std::string file;  ///< where it stands
    int line = 0;
    std::string map;
    std::string system_user;                     ///< where there is no pattern for it
    std::optional<name_pattern> system_pattern;  ///< /regex
    bool any_user = false;                       ///< all
    /// Where there is no pattern for it. Behind a system_pattern, \1 in it stands for what its first group matched.
    std::string user;
    std::optional<name_pattern> user_pattern;  ///< /regex
};

class ident_maps {
public:
    ident_maps() = default;
    explicit ident_maps(std::vector<ident_entry> entries) : entries_(std::move(entries)) {}

    /// May `system_user` be `user`? With map "" the names must be equal; a map without entries lets nobody in.
    bool allows(std::string_view map, std::string_view system_user, std::string_view user) const;
    bool has(std::string_view map) const;
    const std::vector<ident_entry> &all() const { return entries_; }

private:
    std::vector<ident_entry> entries_;
};

struct ident_file {
    ident_maps maps;                     ///< of the good lines; each only lets in, so without the bad ones fewer get in
    std::vector<rule_problem> problems;  ///< bad lines
};

ident_file read_ident(const std::string &path, const rule_reader &);

}  // namespace pgsluice::auth
