// Base64: the vectors of RFC 4648 section 10, and every way of being slightly wrong.
#include <gtest/gtest.h>

#include "auth/base64.hpp"

namespace pgsluice::auth {
namespace {

using namespace std::string_view_literals;

TEST(auth_base64, rfc_4648_vectors) {
    const std::pair<std::string_view, std::string_view> table[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xff\xfe\xfd"sv, "//79"},
        {"\0\0\0\0"sv, "AAAAAA=="},
    };
    for (const auto &[bytes, text] : table) {
        EXPECT_EQ(base64_encode(bytes), text);
        EXPECT_EQ(base64_decode(text), bytes);
    }
}

TEST(auth_base64, every_length_comes_back) {
    std::string bytes;
    for (int i = 0; i < 300; ++i) {
        EXPECT_EQ(base64_decode(base64_encode(bytes)), bytes);
        bytes += static_cast<char>(i * 37);
    }
}

TEST(auth_base64, refuses_every_other_spelling) {
    for (const std::string_view text :
         {"Z"sv,    "Zg"sv,    "Zg="sv,       "Zg==="sv,  "Zg==Zg=="sv, "Zh=="sv,    "Zm9="sv,
          "Zm8"sv,  "Zm8 "sv,  " Zm8="sv,     "Zm8=\n"sv, "Zm9v\n"sv,   "\nZm9v"sv,  "Zm9v\n\n\n\n"sv,
          "    "sv, "Zm 9v"sv, "Zm\n9v   "sv, "===="sv,   "Z==="sv,     "=m9v"sv,    "Z=9v"sv,
          "Zm=v"sv, "Zm9-"sv,  "Zm_v"sv,      "Zm9\0"sv,  "\0\0\0\0"sv, "Zm9\xff"sv, "Zg==    "sv})
        EXPECT_FALSE(base64_decode(text)) << text;
}

}  // namespace
}  // namespace pgsluice::auth
