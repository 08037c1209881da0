// Base64 both ways, and texts that are none.
#include "loraine/core/base64.h"

#include <gtest/gtest.h>

namespace loraine::base64_test {
namespace {

TEST(Base64, BothWays) {
  for (const auto& [bytes, text] :
       {std::pair<std::string, std::string>{"", ""}, {"a", "YQ=="}, {"ab", "YWI="}, {"abc", "YWJj"}, {"\xff\xfe", "//4="}}) {
    EXPECT_EQ(to_base64(bytes), text);
    EXPECT_EQ(from_base64(text), bytes);
  }
  for (const char* text : {"Y", "YQ", "YQ=", "YR==", "====", "Y===", "Y Q=", "YQ==YQ=="})
    EXPECT_EQ(from_base64(text), std::nullopt) << text;
}

}  // namespace
}  // namespace loraine::base64_test
