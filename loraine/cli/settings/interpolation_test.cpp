// ${…} as OmegaConf 2.4 resolves it; the values here are its own, but for what is refused.
#include "loraine/cli/settings/interpolation.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "loraine/core/error.h"

namespace loraine::interpolation_test {
namespace {

Value resolved(const std::string& yaml, const std::string& key) {
  std::vector<KeyValue> pairs = yaml_pairs(yaml, "a.yaml");
  resolve_interpolations(pairs);
  for (const KeyValue& pair : pairs)
    if (pair.key == key) return pair.value;
  return "no such key";
}

std::string refusal(const std::string& yaml) {
  try {
    resolved(yaml, "a");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::usage);
    return error.what() + ("; " + error.hint);
  }
  return "taken";
}

struct Interpolation : testing::Test {
  void SetUp() override {
    setenv("LORAINE_WORD", "w o", 1);
    setenv("LORAINE_NUMBER", "16", 1);
    setenv("LORAINE_DOLLAR", "${b}", 1);
    unsetenv("LORAINE_ABSENT");
  }
};

TEST_F(Interpolation, KeysKeepTheirTypes) {
  EXPECT_EQ(resolved("a: ${b}\nb: 5", "a"), 5);
  EXPECT_EQ(resolved("a: ${b}\nb: [1, x]", "a"), Value::parse("[1, \"x\"]"));
  EXPECT_EQ(resolved("a: ${b}\nb: ${c}\nc: true", "a"), true);
  EXPECT_EQ(resolved("a: ${b}\nb: null", "a"), nullptr);
  EXPECT_EQ(resolved("a: out/${b}-${c}\nb: x\nc: 1e-4", "a"), "out/x-0.0001");
  EXPECT_EQ(resolved("a: x${b}${c}\nb: true\nc: null", "a"), "xTrueNone");
}

TEST_F(Interpolation, PathsReachIntoMapsAndLists) {
  EXPECT_EQ(resolved("a: ${m.x.y}\nm: {x: {y: 3}}", "a"), 3);
  EXPECT_EQ(resolved("a: ${m.l[1]}\nm: {l: [4, 5]}", "a"), 5);
  EXPECT_EQ(resolved("a: ${m.l.0}\nm: {l: [4, 5]}", "a"), 4);
  EXPECT_EQ(resolved("a: ${.b}\nb: 7", "a"), 7);
  EXPECT_EQ(resolved("m: {x: 1, y: '${.x}', z: {u: '${..x}', v: '${m.y}'}}", "m"), Value::parse(R"({"x":1,"y":1,"z":{"u":1,"v":1}})"));
  EXPECT_EQ(resolved("a: ${${c}}\nb: 2\nc: b", "a"), 2);
}

TEST_F(Interpolation, VariablesAreTexts) {
  EXPECT_EQ(resolved("a: ${oc.env:LORAINE_WORD}", "a"), "w o");
  EXPECT_EQ(resolved("a: ${oc.env:LORAINE_NUMBER}", "a"), "16");
  EXPECT_EQ(resolved("a: ${oc.env:LORAINE_ABSENT,8}", "a"), "8");
  EXPECT_EQ(resolved("a: ${oc.env:LORAINE_ABSENT, 'x, y'}", "a"), "x, y");
  EXPECT_EQ(resolved("a: ${oc.env:LORAINE_ABSENT,null}", "a"), nullptr);
  EXPECT_EQ(resolved("a: ${oc.env:LORAINE_ABSENT,${b}}\nb: q", "a"), "q");
  EXPECT_EQ(resolved("a: in/${oc.env:LORAINE_WORD}/x", "a"), "in/w o/x");
  EXPECT_EQ(resolved("a: ${oc.env:LORAINE_DOLLAR}\nb: 1\nc: ${a}", "c"), "${b}");  // what a variable holds is not looked at again
  std::vector<KeyValue> pairs = yaml_pairs("lora_rank: ${oc.env:LORAINE_NUMBER}\nrun_name: ${oc.env:LORAINE_NUMBER}", "a.yaml");
  resolve_interpolations(pairs);
  EXPECT_TRUE(pairs[0].plain && pairs[1].plain);  // a number for the one, a text for the other
}

TEST_F(Interpolation, TheTwoCharactersCanBeWritten) {
  EXPECT_EQ(resolved(R"(a: \${b})", "a"), "${b}");
  EXPECT_EQ(resolved("a: '\\\\${b}'\nb: 1", "a"), "\\1");
  EXPECT_EQ(resolved("a: $HOME and $5", "a"), "$HOME and $5");
  EXPECT_EQ(resolved(R"(a: C:\x\y)", "a"), R"(C:\x\y)");
}

TEST_F(Interpolation, ErrorsNameKeyVariableAndLine) {
  EXPECT_NE(refusal("b: 1\na: ${oc.env:LORAINE_ABSENT}").find("a.yaml:2:1: a: the environment variable LORAINE_ABSENT is not set"),
            std::string::npos);
  EXPECT_NE(refusal("a: ${nothing}").find("${nothing} names a key that is not given"), std::string::npos);
  EXPECT_NE(refusal("a: ???").find("a.yaml:1:1: a: it is ???"), std::string::npos);
  EXPECT_NE(refusal("m:\n  x: ???").find("m.x=VALUE"), std::string::npos);
  EXPECT_NE(refusal("a: ${b}\nb: ???").find("???"), std::string::npos);
  EXPECT_NE(refusal("a: ${b").find("without its }"), std::string::npos);
  EXPECT_NE(refusal("a: ${oc.decode:x}").find("${oc.decode:…} is not known"), std::string::npos);
  EXPECT_NE(refusal("a: x${b}\nb: [1]").find("a list or a map cannot stand inside"), std::string::npos);
  EXPECT_NE(refusal("a: ${}").find("names no key"), std::string::npos);
  EXPECT_NE(refusal("a: ${...b}\nb: 1").find("further than there are maps"), std::string::npos);
}

TEST_F(Interpolation, CirclesEnd) {
  EXPECT_NE(refusal("a: ${b}\nb: ${a}").find("lead back"), std::string::npos);
  EXPECT_NE(refusal("a: ${a}").find("lead back"), std::string::npos);
  std::string wide = "a0: [1, 2]\n", longer = "b0: xxxxxxxxxxxxxxxx\n";
  for (int i = 1; i < 25; ++i) {
    wide += "a" + std::to_string(i) + ": ['${a" + std::to_string(i - 1) + "}', '${a" + std::to_string(i - 1) + "}']\n";
    longer += "b" + std::to_string(i) + ": ${b" + std::to_string(i - 1) + "}${b" + std::to_string(i - 1) + "}\n";
  }
  EXPECT_NE(refusal(wide).find("values are made of"), std::string::npos);
  EXPECT_NE(refusal(longer).find("; write it shorter"), std::string::npos);
}

}  // namespace
}  // namespace loraine::interpolation_test
