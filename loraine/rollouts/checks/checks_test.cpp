// Every kind of check that needs no model: what it gives, and what of its file is refused.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"
#include "loraine/rollouts/checks/check.h"
#include "loraine/rollouts/checks/child_process.h"
#include "loraine/rollouts/checks/schema_validator.h"
#include "loraine/rollouts/checks/yaml_json.h"

namespace loraine::checks_test {
namespace {

class Checks : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("loraine_checks_" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& text, const std::string& name = "checks.yaml") {
    const std::string path = (folder_ / name).string();
    std::ofstream(path) << text;
    return path;
  }
  std::vector<NamedCheck> open(const std::string& text) { return open_checks(write(text), TrainConfig()); }

  // Rewards of the first check for answers to one question.
  std::vector<double> rewards(const std::string& text, const std::vector<std::string>& answers,
                              const std::optional<std::string>& reference = {}) {
    AskedExample asked;
    asked.conversation.messages = {{Role::user, "why?"}};
    asked.conversation.system = "be short";
    asked.reference = reference;
    std::vector<std::vector<int32_t>> ids;
    for (const std::string& answer : answers) ids.emplace_back(answer.size() + 1, 3);
    std::vector<JudgedAnswer> judged;
    for (size_t i = 0; i < answers.size(); ++i) judged.push_back({&asked, answers[i], ids[i]});
    Context ctx;
    return open(text).at(0).check->judge(ctx, judged);
  }
  void refused(const std::string& text, const std::vector<std::string>& words) {
    try {
      open(text);
      FAIL() << text;
    } catch (const Error& error) {
      const std::string said = std::string(error.what()) + " " + error.hint;
      for (const std::string& word : words) EXPECT_NE(said.find(word), std::string::npos) << said;
    }
  }
  std::filesystem::path folder_;
};

using Numbers = std::vector<double>;

TEST_F(Checks, Regex) {
  EXPECT_EQ(rewards("- {type: regex, pattern: '<a>\\d+</a>'}", {"so <a>12</a>.", "<a>x</a>", ""}), (Numbers{1, 0, 0}));
  EXPECT_EQ(rewards("- {type: regex, pattern: '(?s)<a>.*</a>', match: full, reward: 2, otherwise: -1}", {"<a>1\n2</a>", "<a>1</a> "}),
            (Numbers{2, -1}));
  EXPECT_EQ(rewards("- {type: regex, pattern: 'ÄH', ignore_case: true}", {"äh", "ah", "\xff äh"}), (Numbers{1, 0, 1}));
}

TEST_F(Checks, Exact) {
  EXPECT_EQ(rewards("- type: exact", {" 42\n", "43"}, "42"), (Numbers{1, 0}));
  EXPECT_TRUE(std::isnan(rewards("- type: exact", {"42"})[0]));  // without a reference there is nothing to say
  EXPECT_EQ(rewards("- {type: exact, expected: 7}", {"7", "8"}), (Numbers{1, 0}));
  const std::string tagged = "- {type: exact, extract: '<a>(.*?)</a>', extract_reference: '#### (.*)', as_number: true, take: last}";
  EXPECT_EQ(rewards(tagged, {"<a>3</a> no, <a>$1,200.0</a>", "<a>1200</a> or <a>3</a>", "1200", "<a>x</a>"}, "it is #### 1200"),
            (Numbers{1, 0, 0, 0}));
  EXPECT_EQ(rewards("- {type: exact, ignore_case: true, expected: 'Yes'}", {"yES", "no"}), (Numbers{1, 0}));
}

TEST_F(Checks, Length) {
  EXPECT_EQ(rewards("- {type: length, max: 3, margin: 2}", {"ab", "abc", "abcd", "abcde"}),
            (Numbers{1, 0.5, 0, 0}));  // tokens, the end among them
  EXPECT_EQ(rewards("- {type: length, unit: characters, min: 2, max: 2}", {"äö", "ä"}), (Numbers{1, 0}));
  EXPECT_EQ(rewards("- {type: length, unit: words, min: 3}", {"a  b\nc", "a b"}), (Numbers{1, 0}));
}

TEST_F(Checks, JsonSchema) {
  const std::string schema =
      "- {type: json_schema, schema: {type: object, required: [n], properties: {n: {type: integer}}, additionalProperties: false}, "
      "json_reward: 0.25}";
  EXPECT_EQ(rewards(schema, {R"({"n": 3})", R"({"n": 3.5})", R"({"n": 3, "m": 1})", "n: 3", ""}), (Numbers{1, 0.25, 0.25, 0, 0}));
  write(R"({"type": "array", "items": {"enum": [1, "a"]}, "minItems": 1})", "s.json");
  EXPECT_EQ(rewards("- {type: json_schema, schema_file: s.json, extract: '```json\\n(.*)```'}",
                    {"```json\n[1, \"a\"]```", "[1]", "```json\n[2]```"}),
            (Numbers{1, 0, 0}));
}

bool fits(const char* schema, const char* value) {
  return SchemaValidator(nlohmann::json::parse(schema), "here").fits(nlohmann::json::parse(value));
}

TEST(SchemaValidator, WordsOfTheSpecification) {
  EXPECT_TRUE(fits("true", "1") && !fits("false", "1") && fits("{}", "null"));
  EXPECT_TRUE(fits(R"({"type": ["integer", "null"]})", "2.0") && !fits(R"({"type": "integer"})", "2.5") &&
              !fits(R"({"type": "number"})", "true"));
  EXPECT_TRUE(fits(R"({"const": {"a": [1]}})", R"({"a": [1.0]})") && !fits(R"({"const": 1})", "2"));
  EXPECT_TRUE(fits(R"({"minimum": 1, "exclusiveMaximum": 2, "multipleOf": 0.1})", "1.3") && !fits(R"({"exclusiveMaximum": 2})", "2") &&
              !fits(R"({"multipleOf": 2})", "3"));
  EXPECT_TRUE(fits(R"({"minLength": 2, "maxLength": 2, "pattern": "^ä"})", R"("äx")") && !fits(R"({"maxLength": 1})", R"("äx")"));
  EXPECT_TRUE(fits(R"({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}, "uniqueItems": true})", R"(["a", 1, 2])"));
  EXPECT_FALSE(fits(R"({"prefixItems": [{"type": "string"}], "items": false})", R"(["a", 1])") ||
               fits(R"({"uniqueItems": true})", "[1, 1.0]"));
  EXPECT_TRUE(fits(R"({"contains": {"type": "null"}, "maxContains": 1})", "[null, 1]") &&
              !fits(R"({"contains": {"type": "null"}})", "[1]"));
  EXPECT_TRUE(fits(R"({"minContains": 0, "contains": false})", "[1]"));
  EXPECT_TRUE(
      fits(R"({"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": {"type": "string"}})", R"({"x1": 1, "y": "a"})"));
  EXPECT_FALSE(fits(R"({"patternProperties": {"^x": {"type": "integer"}}})", R"({"x1": "a"})") ||
               fits(R"({"propertyNames": {"maxLength": 1}})", R"({"ab": 1})"));
  EXPECT_FALSE(fits(R"({"dependentRequired": {"a": ["b"]}})", R"({"a": 1})") || fits(R"({"maxProperties": 0})", R"({"a": 1})"));
  EXPECT_TRUE(fits(R"({"anyOf": [{"type": "string"}, {"minimum": 3}]})", "4") &&
              !fits(R"({"oneOf": [{"minimum": 1}, {"minimum": 2}]})", "3"));
  EXPECT_TRUE(fits(R"({"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"minimum": 2}})", "2") && !fits(R"({"not": {}})", "1"));
  const char* tree =
      R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "additionalProperties": false}}})";
  EXPECT_TRUE(fits(tree, R"({"next": {"next": {}}})") && !fits(tree, R"({"next": {"other": {}}})"));
}

TEST(SchemaValidator, WhatIsRefused) {
  for (const char* schema :
       {R"({"type": "text"})", R"({"unevaluatedProperties": false})", R"({"$ref": "other.json"})", R"({"$ref": "#/$defs/none"})",
        R"({"minLength": -1})", R"({"pattern": "("})", R"({"required": "a"})", R"({"items": 3})", R"({"multipleOf": 0})", "3"})
    EXPECT_THROW(SchemaValidator(nlohmann::json::parse(schema), "here"), Error) << schema;
  EXPECT_THROW(fits(R"({"$ref": "#"})", "1"), Error);  // it refers to itself without an end
}

TEST_F(Checks, Command) {
  const std::string judge = write(
      "import sys, json\nfor line in sys.stdin:\n  a = json.loads(line)\n"
      "  assert a['prompt'] == 'why?' and a['messages'] == [{'role': 'system', 'content': 'be short'}, {'role': 'user', 'content': "
      "'why?'}]\n"
      "  print(json.dumps({'reward': len(a['completion'])} if a['reference'] == 'r' else None))\n",
      "judge.py");
  EXPECT_EQ(rewards("- {type: command, command: [python3, " + judge + "]}", {"a", "", "äö"}, "r"), (Numbers{1, 0, 2}));
  EXPECT_TRUE(std::isnan(rewards("- {type: command, command: 'python3 " + judge + "'}", {"a"})[0]));
  const std::vector<std::string> many(4000, std::string(200, 'x'));  // more than a pipe holds, both ways
  EXPECT_EQ(rewards("- {type: command, command: 'while read -r l; do echo 1; done'}", many), Numbers(4000, 1.0));
}

TEST_F(Checks, CommandsThatFail) {
  const auto fails = [&](const std::string& command, const std::vector<std::string>& words, const std::string& more = "") {
    try {
      rewards("- {name: judge, type: command, command: '" + command + "'" + more + "}", {"a", "b"});
      FAIL() << command;
    } catch (const Error& error) {
      for (const std::string& word : words)
        EXPECT_NE((std::string(error.what()) + error.hint).find(word), std::string::npos) << error.what();
    }
  };
  fails("echo oh no >&2; exit 3", {"(judge)", "exit code 3", "oh no"});
  fails("kill -9 $$", {"signal 9"});
  fails("echo 1", {"read 2 answers and wrote 1 numbers"});
  fails("echo one; echo 2", {"line 1", "'one'"});
  fails("echo NaN; echo 2", {"line 1"});
  fails("sleep 30 & sleep 30", {"within 0.3 seconds", "timeout"}, ", timeout: 0.3");
  fails("cat /dev/zero", {"64 MiB"});
  EXPECT_THROW(rewards("- {type: command, command: [/no/such/program]}", {"a"}), Error);
}

TEST_F(Checks, WhatOfAFileIsRefused) {
  refused("{}", {"expected a list"});
  refused("[]", {"empty"});
  refused("- regex", {"check 1", "map"});
  refused("- {pattern: a}", {"type is not given", "json_schema"});
  refused("- {type: regexp, pattern: a}", {"'regexp'", "did you mean 'regex'"});
  refused("- {type: regex}", {"pattern is not given"});
  refused("- {type: regex, pattern: '('}", {"no regular expression", "check 1 (regex)"});
  refused("- {type: regex, pattern: a, patern: b}", {"unknown key 'patern'", "did you mean 'pattern'"});
  refused("- {type: regex, pattern: a, weight: heavy}", {"weight", "a number"});
  refused("- {type: length}", {"max is not given"});
  refused("- {type: length, min: 3, max: 2}", {"min is 3"});
  refused("- {type: exact, take: all}", {"one of: first, last"});
  refused("- {type: json_schema}", {"schema is not given"});
  refused("- {type: json_schema, schema: {type: text}}", {"#/type"});
  refused("- {type: command, command: []}", {"command"});
  refused("- {type: command, command: cat, timeout: 0}", {"timeout"});
  refused("- {type: regex, pattern: a}\n- {type: regex, pattern: b}", {"check 2", "named 'regex' already"});
  refused("- {type: regex, pattern: a, pattern: b}", {"stands twice"});
  refused("- {type: regex, pattern: [", {"checks.yaml:1"});
  EXPECT_THROW(open_checks((folder_ / "none.yaml").string(), TrainConfig()), Error);
}

TEST_F(Checks, YamlIsReadAsJson) {
  const nlohmann::ordered_json found =
      parse_yaml_file(write("a: 1\nb: '1'\nc: 1.5e3\nd: yes\ne: true\nf: ~\ng: [x, \"true\"]\nh: |\n  12\n"));
  EXPECT_EQ(found.dump(), R"({"a":1,"b":"1","c":1500.0,"d":"yes","e":true,"f":null,"g":["x","true"],"h":"12\n"})");
  EXPECT_EQ(parse_yaml_file(write(R"([{"a": [1, null], "b": "x"}])")).dump(), R"([{"a":[1,null],"b":"x"}])");
}

TEST_F(Checks, WeightsAndNames) {
  const std::vector<NamedCheck> checks = open("- {type: regex, pattern: a, weight: 0.5}\n- {name: short, type: length, max: 9}\n");
  ASSERT_EQ(checks.size(), 2u);
  EXPECT_EQ(checks[0].name + " " + checks[1].name, "regex short");
  EXPECT_EQ(checks[0].weight + checks[1].weight, 1.5);
}

}  // namespace
}  // namespace loraine::checks_test
