// Options described once: setting, refusing, nearest word.
#include "loraine/core/describe.h"

#include <gtest/gtest.h>

#include "loraine/core/error.h"

namespace loraine::describe_test {
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
  for (const char* bad : {"nan", "inf", "-inf", "Infinity", "1e999"}) EXPECT_THROW(set_option(real, flag(bad)), Error) << bad;
}

TEST(Describe, BoundsThatAreLeftOut) {
  double x = 0.5;
  Option decay{"x", "g", &x, "help", {.lowest = 0, .highest = 1, .below_highest = true}};
  set_option(decay, typed("0"));
  set_option(decay, typed("0.999"));
  for (const char* bad : {"1", "1.0", "-0.1", "1e30"}) EXPECT_THROW(set_option(decay, typed(bad)), Error) << bad;
  EXPECT_EQ(type_text(decay), "a number from 0 to below 1");
  Option inside{"x", "g", &x, "help", {.lowest = 0, .highest = 1, .above_lowest = true, .below_highest = true}};
  EXPECT_THROW(set_option(inside, typed("0")), Error);
  EXPECT_EQ(type_text(inside), "a number above 0 and below 1");
  int64_t bits = 4;
  Option some{"x", "g", &bits, "help", {.numbers = {4, 8}}};
  set_option(some, typed("8"));
  EXPECT_THROW(set_option(some, typed("5")), Error);
  EXPECT_EQ(bits, 8);
  EXPECT_EQ(type_text(some), "4 or 8");
}

TEST(Describe, ShareOrCount) {
  double x = 0;
  Option steps{"x", "g", &x, "help", {.lowest = 0, .highest = 1e9, .share_or_count = true}};
  for (const char* good : {"0", "0.25", "1", "1.0", "500", "1e3"}) set_option(steps, flag(good));
  EXPECT_EQ(x, 1000);
  for (const char* bad : {"1.5", "-1", "1e10", "inf"}) EXPECT_THROW(set_option(steps, flag(bad)), Error) << bad;
  EXPECT_EQ(type_text(steps), "a share below 1, or a whole number from 0 to 1000000000");
  Option rows{"x", "g", &x, "help", {.lowest = 0, .highest = 1e9, .share_or_count = true, .point_is_share = true}};
  for (const char* good : {"1", "2.0", "0.1"}) {
    set_option(rows, flag(good));
    set_option(rows, typed(good));
  }
  for (const char* unclear : {"1.0", "1e0"}) {
    EXPECT_THROW(set_option(rows, flag(unclear)), Error) << unclear;
    EXPECT_THROW(set_option(rows, typed(unclear)), Error) << unclear;
  }
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
  bool plain = false;
  Option number{"x", "g", &plain, "help"};
  for (const char* yes : {"1", "true", "\"True\"", "\"yes\""}) {
    plain = false;
    set_option(number, typed(yes));
    EXPECT_TRUE(plain) << yes;
  }
  set_option(number, typed("0"));
  EXPECT_FALSE(plain);
  for (const char* bad : {"2", "-1", "1.0", "null", "[]"}) EXPECT_THROW(set_option(number, typed(bad)), Error) << bad;
}

TEST(Describe, YesAndNoAmongWords) {
  std::string text;
  Option tokens{"x", "g", &text, "help", {.choices = {"no", "all", "non_padding"}}};
  Option start{"x", "g", &text, "help", {.choices = {"auto", "true", "false"}}};
  Option folder{"x", "g", &text, "help", {.yes_or_text = true}};
  auto gives = [&](const Option& option, const Setting& setting) {
    text = "";
    set_option(option, setting);
    return text;
  };
  for (const char* yes : {"True", "true", "1", "yes"}) {
    EXPECT_EQ(gives(tokens, flag(yes)), "all") << yes;
    EXPECT_EQ(gives(start, flag(yes)), "true") << yes;
    EXPECT_EQ(gives(folder, flag(yes)), "true") << yes;
  }
  for (const char* no : {"false", "0"}) {
    EXPECT_EQ(gives(tokens, typed(no)), "no") << no;
    EXPECT_EQ(gives(start, typed(no)), "false") << no;
    EXPECT_EQ(gives(folder, typed(no)), "false") << no;
  }
  EXPECT_EQ(gives(folder, flag("out/checkpoint-5")), "out/checkpoint-5");
  EXPECT_EQ(gives(tokens, {.key = "x", .text = "", .typed = false, .bare = true, .where = "--x"}), "all");
  EXPECT_TRUE(is_switch(tokens) && is_switch(start) && is_switch(folder));
  Option strategy{"x", "g", &text, "help", {.choices = {"no", "steps", "epoch"}}};
  EXPECT_EQ(gives(strategy, flag("False")), "no");
  EXPECT_THROW(set_option(strategy, flag("True")), Error);
  EXPECT_FALSE(is_switch(strategy));
}

TEST(Describe, ChoicesListsAndMaps) {
  std::string text;
  Option choice{"x", "g", &text, "help", {.choices = {"no", "steps", "epoch"}, .built = {"no", "steps"}}};
  set_option(choice, typed("false"));  // YAML reads a bare `no` so
  EXPECT_EQ(text, "no");
  EXPECT_EQ(type_text(choice), "one of: no, steps");  // what is taken
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

TEST(Describe, SecretsAreNotShown) {
  std::optional<std::string> text;
  Option token{"x", "g", &text, "help", {.secret = true}};
  EXPECT_EQ(value_text(token), "null");
  set_option(token, flag("hf_secret"));
  EXPECT_EQ(*text, "hf_secret");
  EXPECT_EQ(value_text(token), "(secret)");
  try {
    set_option(token, typed("[\"hf_secret\"]"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ((error.what() + error.hint).find("hf_secret"), std::string::npos) << error.what() << error.hint;
  }
}

TEST(Describe, NearestWord) {
  std::vector<std::string> known = {"lora_rank", "lora_alpha", "learning_rate"};
  EXPECT_EQ(nearest_word("lora_rnak", known), "lora_rank");
  EXPECT_EQ(nearest_word("learningrate", known), "learning_rate");
  EXPECT_EQ(nearest_word("zzzzzz", known), "");
}

}  // namespace
}  // namespace loraine::describe_test
