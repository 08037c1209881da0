// Hostile templates: whatever they do, they end within a second, 200 MB and a clear error.
#include <gtest/gtest.h>

#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>

#include "loraine/text/jinja/eval.h"
#include "tests/support/sanitized.h"

namespace loraine::jinja::limits_test {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kPlainBuild = "time and memory are bounded in the plain build; fuzz_jinja runs the engine under the sanitizers";
constexpr double kSeconds = kSanitized ? 60 : 1.5, kMegabytes = kSanitized ? 1e9 : 200;  // the sanitizers cost both

double resident_mb(const char* key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == key) {
      double kb = 0;
      status >> kb;
      return kb / 1024;
    }
  return 0;
}

// What a template ends with: the type of its error, or "none". Checks time (of the processor) and memory.
std::string outcome(const std::string& source) {
  { std::ofstream("/proc/self/clear_refs") << "5"; }  // the peak counts from here
  double before = resident_mb("VmRSS:");
  std::clock_t start = std::clock();
  std::string type = "none";
  try {
    render(parse(source), Json::object());
  } catch (const JinjaError& error) { type = error.type; }
  double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, grown = resident_mb("VmHWM:") - before;
  EXPECT_LT(seconds, kSeconds) << source.substr(0, 200);
  EXPECT_LT(grown, kMegabytes) << source.substr(0, 200);
  if (std::getenv("LORAINE_SHOW_LIMITS"))
    std::printf("%6.2f s %6.0f MB %-14s %s\n", seconds, grown, type.c_str(), source.substr(0, 90).c_str());
  return type;
}

// A value that doubles with each turn of a loop, then `use` of it.
std::string doubled(const std::string& start, const std::string& step, const std::string& use, int times = 60) {
  return "{% set ns = namespace(s=" + start + ") %}{% for i in range(" + std::to_string(times) + ") %}{% set ns.s = " + step +
         " %}{% endfor %}" + use;
}

TEST(JinjaLimits, TextBombs) {
  if (kSanitized) GTEST_SKIP() << kPlainBuild;
  for (const char* source : {"{{ 'a' * 10**12 }}",
                             "{{ 'a' * 10**9 }}",
                             "{{ 'a' * 2**70 }}",
                             "{{ 10**12 * 'ab' }}",
                             "{{ [1] * 10**12 }}",
                             "{{ [[]] * 10**8 }}",
                             "{{ (1,) * 10**9 }}",
                             "{{ 'a' * 30000000 ~ 'a' * 30000000 }}",
                             "{{ ('a' * 1000000)|replace('a', 'b' * 1000000) }}",
                             "{{ ('a' * 1000000).replace('', 'b' * 1000) }}",
                             "{{ ('a\n' * 1000000)|indent(1000000) }}",
                             "{{ (['a' * 1000] * 1000000)|join('b' * 1000000) }}",
                             "{{ ('x' * 1000000).join(['a'] * 1000000) }}",
                             "{{ [['a' * 1000000] * 1000] * 1000 }}",
                             "{{ ('&' * 30000000)|escape }}",
                             "{{ (' ' * 30000000)|urlencode }}",
                             "{{ ('\\x01' * 20000000)|tojson }}",
                             "{{ ([[1] * 100000] * 1000)|tojson(indent=1000) }}",
                             "{{ [1, [2, [3]]]|tojson(indent=10**9) }}",
                             "{{ ('a' * 1000000)|list|map('upper')|list|join(',' * 1000) }}",
                             "{{ ('a' * 30000000).split('a')|length }}",
                             "{{ ('a ' * 15000000).split()|length }}",
                             "{{ ('a\n' * 15000000).splitlines()|length }}",
                             "{{ ('<b>' * 10000000)|striptags|length ~ ('a<b> ' * 6000000)|striptags }}",
                             "{{ ('www.a.com ' * 3000000)|urlize }}",
                             "{{ ('&' * 30000000)|urlize }}",
                             "{{ ('a-b ' * 7000000)|wordwrap(5) }}",
                             "{{ ('[' ~ '1,' * 14000000 ~ '1]')|from_json|length }}",
                             "{% set x = 'a' * 20000000 %}{% set y = x|list %}"}) {
    std::string type = outcome(source);
    EXPECT_TRUE(type == "LimitError" || type == "OverflowError") << type << ": " << source;
  }
}

TEST(JinjaLimits, DoublingBombs) {
  if (kSanitized) GTEST_SKIP() << kPlainBuild;
  EXPECT_EQ(outcome(doubled("'aaaaaaaa'", "ns.s ~ ns.s", "")), "LimitError");
  EXPECT_EQ(outcome(doubled("'aaaaaaaa'", "ns.s + ns.s", "")), "LimitError");
  EXPECT_EQ(outcome(doubled("'aaaaaaaa'", "'%s%s' % (ns.s, ns.s)", "")), "LimitError");
  EXPECT_EQ(outcome(doubled("'aaaaaaaa'", "'{0}{0}'.format(ns.s)", "")), "LimitError");
  EXPECT_EQ(outcome(doubled("[1]", "ns.s + ns.s", "")), "LimitError");
  EXPECT_EQ(outcome("{% set ns = namespace(s='a') %}{% for i in range(60) %}{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}"
                    "{% endfor %}"),
            "LimitError");
  for (const char* use :
       {"{{ ns.s }}", "{{ ns.s|string|length }}", "{{ ns.s|tojson }}", "{{ ns.s|join }}", "{{ ns.s|pprint }}", "{{ '%r' % (ns.s,) }}",
        "{{ '{}'.format(ns.s) }}", "{{ ns.s == ns.t }}", "{{ ns.s in [ns.t] }}", "{{ ns.s < ns.t }}", "{{ ns.s ~ '' }}",
        "{{ [ns.s, ns.t]|sort }}", "{{ ns.s|tojson(indent=2) }}", "{{ [ns.s]|map('string')|list }}", "{{ {'a': ns.s}|string }}"}) {
    std::string twins =
        "{% set ns = namespace(s='a', t='a') %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] "
        "%}{% endfor %}";
    EXPECT_EQ(outcome(twins + use), "LimitError") << use;
  }
  EXPECT_EQ(outcome(doubled("{}", "{'a': ns.s, 'b': ns.s}", "{{ ns.s }}")), "LimitError");
  EXPECT_EQ(outcome(doubled("{}", "{'a': ns.s, 'b': ns.s}", "{{ ns.s|tojson }}")), "LimitError");
  EXPECT_EQ(outcome(doubled("''", "[ns.s, ns.s]", "{{ ns.s }}")), "LimitError");
}

TEST(JinjaLimits, WidthsAndNumbers) {
  for (const char* source : {"{{ '{:999999999999999999999}'.format(1) }}",
                             "{{ '%999999999999999999d' % 1 }}",
                             "{{ '%*d' % (10**15, 1) }}",
                             "{{ '%.999999999f' % 1 }}",
                             "{{ '{:.99999999f}'.format(1.5) }}",
                             "{{ 'x'|center(10**15) }}",
                             "{{ 'x'.ljust(10**15) }}",
                             "{{ 'x'.rjust(2**70) }}",
                             "{{ '5'.zfill(10**10) }}",
                             "{{ 'x'.center(10**9, '\\U0001f600') }}",
                             "{{ 2**(10**9) }}",
                             "{{ 10**(10**10) }}",
                             "{{ (2**60000) * (2**60000) }}",
                             "{{ 2**60000 }}",
                             "{{ 7**7**7**7**7**7 }}",
                             "{{ ('9' * 1000000)|int }}",
                             "{{ '{0:{1}}'.format(1, 10**12) }}",
                             "{{ [1]|batch(10**12, 0)|list }}",
                             "{{ [1]|slice(10**12)|list }}",
                             "{{ range(10**12) }}",
                             "{{ range(0 - 10**18, 10**18) }}",
                             "{{ range(2**70)|list }}",
                             "{{ strftime_now('%c' * 100000) }}",
                             "{{ lipsum(10**6) }}"})
    EXPECT_NE(outcome(source), "none") << source;
  EXPECT_EQ(outcome("{% set ns = namespace(x=3) %}{% for i in range(100000) %}{% set ns.x = ns.x * ns.x %}{% endfor %}"), "LimitError");
  EXPECT_EQ(outcome("{% set ns = namespace(x=2**65000) %}{% for i in range(100000) %}{% set y = ns.x // 3**20000 %}{% endfor %}"),
            "LimitError");
  EXPECT_EQ(outcome("{% for i in range(100000) %}{% set y = 3**40000 %}{% endfor %}"), "LimitError");
  EXPECT_EQ(outcome("{% for i in range(100000) %}{% set y = '%.1000000f' % 1.5 %}{% endfor %}"), "LimitError");
  EXPECT_EQ(outcome("{% for i in range(100000) %}{% for j in range(100000) %}{% set y = 10**4000 ~ '' %}{% endfor %}{% endfor %}"),
            "LimitError");
}

TEST(JinjaLimits, EndlessWork) {
  if (kSanitized) GTEST_SKIP() << kPlainBuild;
  for (const char* source :
       {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{{ range(99999)|list|length }}{% endfor %}",
        "{% for a in range(99999) %}{{ range(99999)|sum }}{% endfor %}",
        "{% for a in range(99999) %}{{ range(99999)|sort|length }}{% endfor %}",
        "{% for a in range(99999) %}{{ ('a' * 30000000).upper()|length }}{% endfor %}", "{{ range(99999)|unique|list|length }}",
        "{{ range(99999)|map('string')|unique|map('int')|unique|list|length }}",
        "{% set x = 'a' * 30000000 %}{% for a in range(99999) %}{{ x.count('b') }}{% endfor %}",
        "{% set x = 'a' * 30000000 %}{% for a in range(99999) %}{{ x == x ~ '' }}{% endfor %}",
        "{% set x = 'a' * 30000000 %}{% for a in range(99999) %}{{ 'b' in x }}{% endfor %}",
        "{% set x = 'a' * 30000000 %}{% for a in range(99999) %}{% if x.startswith('b') %}{% endif %}{{ x[::2]|length }}{% endfor %}",
        "{% set x = ['a' * 1000] * 100000 %}{% for a in range(9999) %}{{ x|sort|length }}{% endfor %}",
        "{% set x = range(99999)|list %}{% for a in range(99999) %}{% if -1 in x %}{% endif %}{% endfor %}",
        "{% for a in range(99999) %}{{ strftime_now('%c' * 2000) }}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% for x in [1, 1] recursive %}{% if loop.depth < 60 %}{{ loop([1, 1]) }}{% endif %}{% endfor %}",
        "{% for a in range(99999) %}{% macro m() %}{% endmacro %}{% endfor %}",
        "{% for a in range(99999) %}{% set n = namespace(a=a) %}{% endfor %}"})
    EXPECT_EQ(outcome(source), "LimitError") << source;
}

// Searches that are quadratic when done letter by letter, and long runs for the parser: these may succeed, but must be quick.
TEST(JinjaLimits, LongTextsStayLinear) {
  if (kSanitized) GTEST_SKIP() << kPlainBuild;
  for (const char* source :
       {"{{ ('a' * 30000000).find('a' * 10000000 ~ 'b') }}", "{{ ('a' * 20000000).rfind('b' ~ 'a' * 10000000) }}",
        "{{ ('a' * 9000000).strip('b' * 9000000 ~ 'a')|length }}", "{{ ('a' * 20000000).count('a' * 10000000 ~ 'b') }}",
        "{{ ('a' * 4000000).rsplit('b' ~ 'a' * 1000000)|length }}", "{{ ('a' * 20000000).replace('a' * 10000000 ~ 'b', '')|length }}",
        "{{ ('a' * 10000000 ~ 'b') in ('a' * 30000000) }}", "{{ ('ab ' * 100000).rsplit(None, 5000)|length }}",
        "{{ ('\xce\xa3.' * 1000000).lower()|length }}", "{{ (' ' * 10000000 ~ 'a')|trim }}", "{{ ('a' * 5000000)|wordcount }}",
        "{{ ('a-' * 2000000)|title|length }}", "{{ ('\xf0\x9f\x98\x80' * 1000000)[::-1]|length }}"})
    outcome(source);
  std::string long_if = "{% if 1 %}a", names = "{{ [", dict = "{{ {";
  for (int k = 0; k < 30000; ++k)
    long_if += "{% elif " + std::to_string(k) + " %}b", names += "x,", dict += "'" + std::to_string(k) + "':1,";
  EXPECT_EQ(outcome(long_if + "{% endif %}"), "none");
  EXPECT_EQ(outcome(names + "]|length }}"), "none");
  EXPECT_EQ(outcome(dict + "}|length }}"), "none");
  EXPECT_EQ(outcome(std::string(600'000, 'a')), "TemplateSyntaxError");
  EXPECT_NE(outcome(std::string(500'000, '{')), "");
}

TEST(JinjaLimits, DeepValuesAndCycles) {
  EXPECT_EQ(outcome("{% set ns = namespace(s=1) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}"), "RecursionError");
  EXPECT_EQ(outcome("{% set ns = namespace(s=1) %}{% for i in range(9999) %}{% set ns.s = {'a': ns.s} %}{% endfor %}"), "RecursionError");
  EXPECT_EQ(outcome("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}"), "RecursionError");
  EXPECT_EQ(outcome("{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x == ns.x }}"), "none");
  EXPECT_EQ(outcome("{% for i in [1, 2] %}{{ loop.changed(loop) }}{% endfor %}"), "none");
  EXPECT_EQ(
      outcome(
          "{% set ns = namespace(x=1) %}{% for k in range(9999) %}{% for i in [ns.x] %}{% set ns.x = [loop] %}{% endfor %}{% endfor %}"),
      "RecursionError");
  EXPECT_EQ(
      outcome("{% set ns = namespace(x=1) %}{% for k in range(15000) %}{% set n = namespace(x=ns.x) %}{% set ns.x = n %}{% endfor %}"),
      "none");
  EXPECT_EQ(outcome("{% macro f(x) %}{{ f([x]) }}{% endmacro %}{{ f(1) }}"), "RecursionError");
  EXPECT_EQ(outcome("{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}"), "RecursionError");
}

}  // namespace
}  // namespace loraine::jinja::limits_test
