// Columns stay straight whatever stands in them.
#include "loraine/cli/side_by_side.h"

#include <gtest/gtest.h>

namespace loraine::side_by_side_test {
namespace {

TEST(SideBySide, WrapsWordsInColumns) {
  EXPECT_EQ(side_by_side({"base", "fr"}, {"one two three four", "deux"}, 23),
            "base       | fr\n"
            "---------- | ----------\n"
            "one two    | deux\n"
            "three four |\n");
  EXPECT_EQ(side_by_side({"a", "b"}, {"abcdefghijklm no", "x\n\ny"}, 23),
            "a          | b\n"
            "---------- | ----------\n"
            "abcdefghij | x\n"
            "klm no     |\n"
            "           | y\n");
}

TEST(SideBySide, CountsWideCharactersAndSurvivesBadBytes) {
  EXPECT_EQ(side_by_side({"a", "b"}, {"你好你好你好", "\xff\tz"}, 23),
            "a          | b\n"
            "---------- | ----------\n"
            "你好你好你 | \xff z\n"
            "好         |\n");
  EXPECT_EQ(side_by_side({"a"}, {""}, 4), "a\n----\n\n");
}

}  // namespace
}  // namespace loraine::side_by_side_test
