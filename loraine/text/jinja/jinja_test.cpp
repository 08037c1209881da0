// The Jinja engine against Jinja2's own output, and against hostile templates.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/text/jinja/eval.h"

namespace loraine::jinja::jinja_test {
namespace {

using Json = nlohmann::ordered_json;

RenderOptions frozen() {
  RenderOptions options;
  std::tm now{};
  now.tm_year = 126, now.tm_mon = 1, now.tm_mday = 3, now.tm_hour = 4, now.tm_min = 5, now.tm_sec = 6, now.tm_wday = 2, now.tm_yday = 33;
  options.now = now;
  return options;
}

std::string text_of(const std::string& source, const Json& context = Json::object()) {
  return render(parse(source), context, frozen()).text;
}

std::string error_of(const std::string& source, const Json& context = Json::object()) {
  try {
    text_of(source, context);
  } catch (const JinjaError& error) { return error.type; }
  return "none";
}

// Lines of {"template", "context", "output" or "error_type" + "error"}; only raise_exception's message must be the same text.
void check_cases(const std::filesystem::path& path) {
  std::ifstream file(path);
  int total = 0;
  for (std::string line; std::getline(file, line); ++total) {
    Json c = Json::parse(line);
    std::string found, type;
    try {
      found = text_of(c["template"], c["context"]);
    } catch (const JinjaError& error) {
      found = error.what();
      type = error.type;
    }
    std::string wanted_type = c.value("error_type", ""), wanted = c.value(wanted_type.empty() ? "output" : "error", "");
    bool same = wanted_type.empty() ? type.empty() && found == wanted
                                    : !type.empty() && (wanted_type != "TemplateError" || (type == wanted_type && found == wanted));
    EXPECT_TRUE(same) << c["template"] << "\n  found  " << type << ": " << found << "\n  wanted " << wanted_type << ": " << wanted;
  }
  EXPECT_GT(total, 200);
}

TEST(Jinja, GoldenCases) {
  std::filesystem::path path = std::filesystem::path(LORAINE_SOURCE_DIR) / "../shared/golden/jinja/cases.jsonl";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  check_cases(path);
}

TEST(Jinja, OwnCases) { check_cases(std::filesystem::path(LORAINE_SOURCE_DIR) / "tests/golden/jinja/cases.jsonl"); }

TEST(Jinja, KeepsOrderOfKeysAndEvaluates) {
  EXPECT_EQ(text_of("{{ x|tojson }}", Json::parse(R"({"x": {"b": 1, "a": [true, null]}})")), R"({"b": 1, "a": [true, null]})");
  EXPECT_EQ(text_of("{% for k, v in x.items() %}{{ k }}={{ v }};{% endfor %}", Json::parse(R"({"x": {"z": 1, "y": 2}})")), "z=1;y=2;");
  EXPECT_EQ(text_of("{{ strftime_now('%d %b %Y') }}"), "03 Feb 2026");
}

TEST(Jinja, GenerationSpans) {
  Rendered r = render(parse("ab{% generation %}cd{% endgeneration %}ef{% generation %}g{% endgeneration %}"), Json::object());
  EXPECT_EQ(r.text, "abcdefg");
  EXPECT_EQ(r.generation, (std::vector<std::pair<size_t, size_t>>{{2, 4}, {6, 7}}));
}

TEST(Jinja, DeepNestingIsAnError) {
  for (const char* open : {"(", "[", "{1:", "-", "not ", "x[", "f(", "[1]|map("}) {
    std::string source = "{{ ";
    for (int k = 0; k < 20000; ++k) source += open;
    EXPECT_NE(error_of(source + "}}"), "none") << open;
  }
  std::string sum = "{{ 1", blocks, dots = "{{ x", ternary = "{{ 1";
  for (int k = 0; k < 20000; ++k) sum += "+1", blocks += "{% if 1 %}", dots += ".a", ternary += " if 1 else 1";
  EXPECT_NE(error_of(sum + " }}"), "none");
  EXPECT_NE(error_of(blocks), "none");
  EXPECT_NE(error_of(dots + " }}"), "none");
  EXPECT_NE(error_of(ternary + " }}"), "none");
}

TEST(Jinja, EndlessWorkIsAnError) {
  EXPECT_EQ(error_of("{% for i in range(10**9) %}{% endfor %}"), "OverflowError");
  EXPECT_EQ(error_of("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"), "LimitError");
  EXPECT_EQ(error_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), "RecursionError");
  EXPECT_EQ(error_of("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"), "RecursionError");
}

}  // namespace
}  // namespace loraine::jinja::jinja_test
