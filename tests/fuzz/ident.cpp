// Fuzz target: pg_ident.conf with what it includes. Every entry that names both sides plainly lets exactly that pair
// in; nobody gets in by a map without entries. See rule_files.hpp.
#include "auth/ident_map.hpp"
#include "fuzz/rule_files.hpp"

using namespace pgsluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const fuzz::memory_watch watch(size * 64);
    fuzz::rule_files files({reinterpret_cast<const char *>(data), size});
    const auto found = auth::read_ident("main", files.reader());
    files.check(found.problems);
    bool any_pattern = false;
    for (const auto &entry : found.maps.all()) {
        files.check_place(entry.file, entry.line, 1);
        fuzz::require(!entry.map.empty() && found.maps.has(entry.map), "an entry without its map");
        any_pattern = any_pattern || entry.system_pattern || entry.user_pattern || entry.any_user;
        const bool plain = !entry.system_pattern && !entry.user_pattern && !entry.any_user;
        if (plain && !entry.system_user.empty() && !entry.user.empty())
            fuzz::require(found.maps.allows(entry.map, entry.system_user, entry.user), "an entry lets nobody in");
        static_cast<void>(found.maps.allows(entry.map, "ann@example.com", "ann"));
    }
    if (!any_pattern)
        for (const auto &entry : found.maps.all())
            fuzz::require(!found.maps.allows(entry.map, "\x01nobody", "\x01nobody"), "a stranger got in");
    fuzz::require(!found.maps.allows("\x01no map", "u", "u"), "a map without entries let somebody in");
    return 0;
}
