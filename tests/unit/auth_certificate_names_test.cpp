// verify-full: what libpq of PostgreSQL 15 said to each certificate and host, with an openssl certificate a line.
#include <gtest/gtest.h>

#include "auth/certificate_names.hpp"

namespace pgsluice::auth {
namespace {

using namespace std::string_literals;

const auto v4 = "\x7f\0\0\1"s, other_v4 = "\x0a\0\0\1"s, v6 = std::string(15, '\0') + "\1";

TEST(auth_certificate_names, as_libpq) {
    const struct {
        std::string_view host;
        certificate_names names;
        bool fits;
    } table[] = {
        {"127.0.0.1", {"127.0.0.1", {}, {}}, true},
        {"127.0.0.1", {"x", {"127.0.0.1"}, {}}, true},
        {"127.0.0.1", {"127.0.0.1", {"other"}, {}}, true},
        {"127.0.0.1", {"127.0.0.1", {}, {other_v4}}, false},
        {"127.0.0.1", {"x", {"127.0.0.1"}, {other_v4}}, true},
        {"127.0.0.1", {"x", {}, {other_v4, v4}}, true},
        {"127.0.0.1", {"x", {}, {v6}}, false},
        {"127.1", {"127.1", {}, {other_v4}}, false},
        {"::1", {"x", {"::1"}, {}}, true},
        {"::1", {"::1", {}, {}}, true},
        {"::1", {"x", {}, {v6}}, true},
        {"0:0::1", {"x", {}, {v6}}, true},
        {"::ffff:127.0.0.1", {"x", {}, {v4}}, false},
        {"localhost", {"localhost", {}, {}}, true},
        {"localhost", {"LOCALHOST", {}, {}}, true},
        {"localhost", {"localhost", {}, {v4}}, true},
        {"localhost", {"localhost", {"other"}, {}}, false},
        {"localhost", {"", {}, {}}, false},
        {"pg.internal", {"x", {"other", "PG.Internal"}, {}}, true},
        {"pg.internal", {"x", {"*.internal"}, {}}, true},
        {"pg.internal", {"x", {"*.INTERNAL"}, {}}, true},
        {"pg.internal", {"*.internal", {}, {}}, true},
        {"pg.internal", {"*.internal", {"other"}, {}}, false},
        {"pg.internal", {"x", {"p*.internal"}, {}}, false},
        {"pg.internal", {"x", {"*internal"}, {}}, false},
        {"pg.internal", {"x", {"*"}, {}}, false},
        {"pg.internal", {"*", {}, {}}, false},
        {"pg.internal", {"x", {"*.*"}, {}}, false},
        {"pg.internal", {"x", {"*."}, {}}, false},
        {"pg.internal", {"x", {"pg.internal."}, {}}, false},
        {"pg.internal", {"x", {".internal"}, {}}, false},
        {"pg.internal", {"x", {"internal"}, {}}, false},
        {"a.pg.internal", {"x", {"*.internal"}, {}}, false},
        {"a.pg.internal", {"x", {"*.pg.internal"}, {}}, true},
        {"internal", {"x", {"*.internal"}, {}}, false},
        {"internal.", {"x", {"*."}, {}}, false},
        {".internal", {"x", {"*.internal"}, {}}, false},
    };
    for (const auto &line : table)
        EXPECT_EQ(names_host(line.names, line.host), line.fits)
            << line.host << " " << line.names.common_name << " "
            << (line.names.dns.empty() ? "" : line.names.dns.front());
}

TEST(auth_certificate_names, stricter_than_libpq) {
    // It takes both; no address has labels that a wildcard could stand for.
    EXPECT_FALSE(names_host({"*.0.0.1", {}, {}}, "127.0.0.1"));
    EXPECT_FALSE(names_host({"x", {"*.0.0.1"}, {}}, "127.0.0.1"));
    // What could not be read names nobody, and keeps the common name out all the same.
    EXPECT_FALSE(names_host({"localhost", {""}, {}}, "localhost"));
    EXPECT_FALSE(names_host({"", {""}, {""}}, ""));
}

}  // namespace
}  // namespace pgsluice::auth
