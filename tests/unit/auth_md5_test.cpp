// MD5 passwords: vectors made with Python's hashlib, and what is no md5 secret.
#include <gtest/gtest.h>

#include <stdexcept>

#include "auth/md5.hpp"

namespace pgsluice::auth {
namespace {

using namespace std::string_view_literals;

TEST(auth_md5, vectors) {
    EXPECT_EQ(md5_secret("secret", "alice"), "md54a0a68b43b6cd5cf266fa02f196e2371");
    EXPECT_EQ(md5_secret("", ""), "md5d41d8cd98f00b204e9800998ecf8427e");
    EXPECT_EQ(md5_secret(std::string(65535, 'x'), "bob"), "md5d1301b4d54d332199d08d6d118b98091");
    EXPECT_EQ(md5_response("md54a0a68b43b6cd5cf266fa02f196e2371", "\x01\x02\x03\x04"),
              "md598a0412b9c31436fc53776e863350083");
    EXPECT_EQ(md5_response("md54a0a68b43b6cd5cf266fa02f196e2371", "\0\xff\0\x80"sv),
              "md508dd3fc50101c2dffb8de594f933fd7a");
}

TEST(auth_md5, tells_the_stored_form) {
    EXPECT_TRUE(is_md5_secret("md5d41d8cd98f00b204e9800998ecf8427e"));
    for (const std::string_view text :
         {""sv, "md5"sv, "md5d41d8cd98f00b204e9800998ecf8427"sv, "md5d41d8cd98f00b204e9800998ecf8427e0"sv,
          "md5D41D8CD98F00B204E9800998ECF8427E"sv, "MD5d41d8cd98f00b204e9800998ecf8427e"sv,
          "md5g41d8cd98f00b204e9800998ecf8427e"sv, "xxxd41d8cd98f00b204e9800998ecf8427e"sv,
          "md5d41d8cd98f00b204e9800998ecf8427\0"sv})
        EXPECT_FALSE(is_md5_secret(text)) << text;
}

TEST(auth_md5, never_answers_for_what_is_not_a_secret) {
    EXPECT_THROW(md5_response("", "salt"), std::invalid_argument);
    EXPECT_THROW(md5_response("a password", "salt"), std::invalid_argument);
}

}  // namespace
}  // namespace pgsluice::auth
