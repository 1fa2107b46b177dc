// Reading and asking user name maps. See ident_map.hpp.
#include "auth/ident_map.hpp"

#include <algorithm>

namespace pgsluice::auth {

namespace {

constexpr std::string_view first_group = "\\1";

std::optional<std::string> parse(const rule_line &line, ident_entry &into) {
    // PostgreSQL does not look at what stands behind the three.
    const auto &fields = line.fields;
    if (fields.size() < 3) return "a line is a map, a system user and a database user";
    for (std::size_t i = 0; i < 3; ++i)
        if (fields[i].size() != 1) return "a field is one name, not a list";
    const auto &system = fields[1].front();
    const auto &user = fields[2].front();
    into.file = line.file;
    into.line = line.line;
    into.map = fields[0].front().text;
    if (into.map.empty()) return "the map has no name";
    if (system.text.starts_with('/')) {
        auto pattern = name_pattern::compile(std::string_view(system.text).substr(1));
        if (pattern.has_error()) return system.text + ": " + pattern.error();
        into.system_pattern = std::move(*pattern);
    } else {
        into.system_user = system.text;
    }
    if (user.is("all")) {
        into.any_user = true;
    } else if (!user.quoted && user.text.starts_with('+')) {
        return user.text + ": who is a member of what is known to PostgreSQL alone; name the users";
    } else if (user.text.starts_with('/')) {
        auto pattern = name_pattern::compile(std::string_view(user.text).substr(1));
        if (pattern.has_error()) return user.text + ": " + pattern.error();
        into.user_pattern = std::move(*pattern);
    } else {
        into.user = user.text;
        const bool wants_group = into.system_pattern && into.user.find(first_group) != std::string::npos;
        if (wants_group && !into.system_pattern->has_group()) return "\\1 needs a group, as in /^(.*)@example\\.com$";
    }
    return std::nullopt;
}

bool fits(const ident_entry &entry, std::string_view system_user, std::string_view user) {
    std::unique_ptr<std::string> group;
    if (entry.system_pattern) {
        if (entry.system_pattern->matches(system_user, group) != pattern_match::yes) return false;
    } else if (entry.system_user != system_user) {
        return false;
    }
    if (entry.any_user) return true;
    if (entry.user_pattern) return entry.user_pattern->matches(user) == pattern_match::yes;
    const auto place = entry.user.find(first_group);
    if (!entry.system_pattern || place == std::string::npos) return entry.user == user;
    // What the group matched is a name and nothing else: an "all" in it is the user of that name.
    if (!group) return false;
    return std::string(entry.user).replace(place, first_group.size(), *group) == user;
}

}  // namespace

bool ident_maps::allows(std::string_view map, std::string_view system_user, std::string_view user) const {
    if (system_user.empty() || user.empty()) return false;
    if (map.empty()) return system_user == user;
    return std::any_of(entries_.begin(), entries_.end(),
                       [&](const ident_entry &it) { return it.map == map && fits(it, system_user, user); });
}

bool ident_maps::has(std::string_view map) const {
    return std::any_of(entries_.begin(), entries_.end(), [&](const ident_entry &it) { return it.map == map; });
}

ident_file read_ident(const std::string &path, const rule_reader &read) {
    auto file = read_rule_file(path, read);
    std::vector<ident_entry> entries;
    for (const auto &line : file.lines) {
        ident_entry entry;
        if (auto failed = parse(line, entry))
            file.problems.push_back({line.file, line.line, std::move(*failed)});
        else
            entries.push_back(std::move(entry));
    }
    return {ident_maps(std::move(entries)), std::move(file.problems)};
}

}  // namespace pgsluice::auth
