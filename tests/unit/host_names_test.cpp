// Names of clients' addresses: what is asked, what is known, and for how long.
#include "core/host_names.hpp"

#include <gtest/gtest.h>

namespace pgsluice::core {
namespace {

using base::seconds;
using step = host_names::lookup::step;

const base::time_point start = base::time_point(seconds(1000));

auth::ip_address ip(const std::string &text) {
    return auth::parse_ip(text).value();
}

TEST(host_names, one_question_for_all_that_wait) {
    host_names names;
    EXPECT_EQ(names.find(ip("10.0.0.1"), start).next, step::ask);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(names.find(ip("10.0.0.1"), start).next, step::wait);
    EXPECT_EQ(names.find(ip("10.0.0.2"), start).next, step::ask) << "another one";
    names.answered(ip("10.0.0.1"), "db.example", start + seconds(5));
    const auto known = names.find(ip("10.0.0.1"), start + seconds(5));
    EXPECT_EQ(known.next, step::known);
    EXPECT_EQ(known.name, "db.example");
    names.answered(ip("10.0.0.1"), "late", start + seconds(5));
    EXPECT_EQ(names.find(ip("10.0.0.1"), start + seconds(5)).name, "db.example") << "nobody has asked";
}

TEST(host_names, answers_grow_old) {
    host_names names;
    for (const std::string name : {"db.example", ""}) {
        const auto memory = name.empty() ? host_names::nothing_memory : host_names::name_memory;
        const auto address = ip(name.empty() ? "10.0.0.1" : "10.0.0.2");
        EXPECT_EQ(names.find(address, start).next, step::ask);
        names.answered(address, name, start);
        EXPECT_EQ(names.find(address, start + memory - base::milliseconds(1)).next, step::known);
        EXPECT_EQ(names.find(address, start + memory).next, step::ask);
    }
}

TEST(host_names, whoever_has_many_addresses_has_a_share) {
    host_names names;
    const auto of = [](const char *network, std::size_t i) { return ip(network + std::to_string(i)); };
    for (std::size_t i = 1; i <= host_names::share_max; ++i)
        EXPECT_EQ(names.find(of("2001:db8::", i), start).next, step::ask);
    EXPECT_EQ(names.find(of("2001:db8::", 99), start).next, step::too_many);
    EXPECT_EQ(names.find(of("2001:db8::", 1), start).next, step::wait);
    EXPECT_EQ(names.find(of("2001:db8:0:1::", 1), start).next, step::ask) << "another network";
    names.answered(of("2001:db8::", 1), "", start);
    EXPECT_EQ(names.find(of("2001:db8::", 99), start).next, step::ask);
}

TEST(host_names, those_without_a_name_can_be_forgotten) {
    host_names names;
    for (const char *address : {"10.0.0.1", "10.0.0.2", "10.0.0.3"})
        ASSERT_EQ(names.find(ip(address), start).next, step::ask);
    names.answered(ip("10.0.0.1"), "db.test", start);
    names.answered(ip("10.0.0.2"), "", start);
    ASSERT_EQ(names.find(ip("10.0.0.2"), start).next, step::known);
    names.forget_nameless();
    EXPECT_EQ(names.find(ip("10.0.0.1"), start).name, "db.test");
    EXPECT_EQ(names.find(ip("10.0.0.2"), start).next, step::ask);
    EXPECT_EQ(names.find(ip("10.0.0.3"), start).next, step::wait) << "what is asked is not forgotten";
}

TEST(host_names, has_bounds) {
    host_names names;
    EXPECT_EQ(names.find(ip("10.0.0.1"), start).next, step::ask);
    for (std::uint32_t i = 1; i < host_names::waiting_max; ++i)
        EXPECT_EQ(names.find(ip("10.0.0.1"), start).next, step::wait);
    EXPECT_EQ(names.find(ip("10.0.0.1"), start).next, step::too_many);
    const auto of = [](std::size_t i) {
        return ip("10.1." + std::to_string(i / 250) + "." + std::to_string(1 + i % 250));
    };
    for (std::size_t i = 1; i < host_names::asking_max; ++i) EXPECT_EQ(names.find(of(i), start).next, step::ask);
    EXPECT_EQ(names.find(of(5000), start).next, step::too_many);
    EXPECT_EQ(names.find(of(1), start).next, step::wait);
    for (std::size_t i = 1; i < 3 * host_names::known_max; ++i) {
        names.answered(of(i), "name", start);
        names.find(of(i + 1000), start);
    }
    EXPECT_LE(names.size(), host_names::known_max + 1);
    EXPECT_EQ(names.find(ip("10.0.0.1"), start).next, step::too_many) << "what is asked is not forgotten";
}

}  // namespace
}  // namespace pgsluice::core
