// Options described once: setting, refusing, nearest word.
#include "loraine/core/describe.h"

#include <gtest/gtest.h>

#include "loraine/core/error.h"

namespace loraine {
namespace {

Setting flag(const std::string& text) { return {.key = "x", .text = text, .typed = false, .bare = false, .where = "--x"}; }
Setting typed(const std::string& json) { return {.key = "x", .text = json, .typed = true, .bare = false, .where = "f.yaml:1:1"}; }

TEST(Describe, NumbersAndBounds) {
  int64_t rank = 8;
  Option option{"x", "g", &rank, "help", {.lowest = 1}};
  set_option(option, flag("1_6"));
  EXPECT_EQ(rank, 16);
  set_option(option, typed("1e2"));
  EXPECT_EQ(rank, 100);
  for (const char* bad : {"0", "1.5", "x", "", "9999999999999999999", "_1", "1_", "1__0"})
    EXPECT_THROW(set_option(option, flag(bad)), Error) << bad;
  for (const char* bad : {"0", "1.5", "\"8\"", "true", "null", "[1]", "1e300"}) EXPECT_THROW(set_option(option, typed(bad)), Error) << bad;
  EXPECT_EQ(rank, 100);
  double rate = 0;
  Option real{"x", "g", &rate, "help"};
  set_option(real, flag("2e-4"));
  EXPECT_DOUBLE_EQ(rate, 2e-4);
  set_option(real, typed("3"));
  EXPECT_DOUBLE_EQ(rate, 3);
  EXPECT_THROW(set_option(real, flag("nan")), Error);  // outside every range
}

TEST(Describe, BoolsAndNull) {
  std::optional<bool> maybe = true;
  Option option{"x", "g", &maybe, "help"};
  set_option(option, typed("null"));
  EXPECT_FALSE(maybe.has_value());
  set_option(option, {.key = "x", .text = "", .typed = false, .bare = true, .where = "--x"});
  EXPECT_EQ(maybe, true);
  set_option(option, flag("NO"));
  EXPECT_EQ(maybe, false);
  EXPECT_THROW(set_option(option, flag("maybe")), Error);
}

TEST(Describe, ChoicesListsAndMaps) {
  std::string text;
  Option choice{"x", "g", &text, "help", {.choices = {"no", "steps", "epoch"}, .built = {"no", "steps"}}};
  set_option(choice, typed("false"));  // YAML reads a bare `no` so
  EXPECT_EQ(text, "no");
  EXPECT_THROW(set_option(choice, typed("\"never\"")), Error);
  try {
    set_option(choice, typed("\"epoch\""));
    FAIL();
  } catch (const Error& error) { EXPECT_EQ(error.kind, ErrorKind::unsupported); }
  Option list{"x", "g", &text, "help", {.comma_list = true}};
  set_option(list, typed("[\"q_proj\",\"v_proj\"]"));
  EXPECT_EQ(text, "q_proj,v_proj");
  Option map{"x", "g", &text, "help", {.json = true}};
  set_option(map, flag("{\"a\": 1}"));
  EXPECT_EQ(text, "{\"a\":1}");
  EXPECT_THROW(set_option(map, flag("{")), Error);
  EXPECT_THROW(set_option(map, typed("[1]")), Error);
}

TEST(Describe, NearestWord) {
  std::vector<std::string> known = {"lora_rank", "lora_alpha", "learning_rate"};
  EXPECT_EQ(nearest_word("lora_rnak", known), "lora_rank");
  EXPECT_EQ(nearest_word("learningrate", known), "learning_rate");
  EXPECT_EQ(nearest_word("zzzzzz", known), "");
}

}  // namespace
}  // namespace loraine
