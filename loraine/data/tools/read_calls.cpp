// The calls in an answer, by the patterns that LLaMA-Factory looks for. Called through tools.h.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/core/python_json.h"
#include "loraine/data/encode/trimmed.h"
#include "loraine/data/tools/tool_format.h"
#include "loraine/data/tools/tools.h"
#include "loraine/text/calls/gemma_arguments.h"
#include "loraine/text/calls/python_call.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;
using Groups = std::vector<std::string>;
using Calls = std::optional<std::vector<ToolCall>>;

// The groups of all places where the pattern matches; a dot is any character. None where a match takes too long to find.
std::vector<Groups> find_all(const char* pattern, const std::string& text) {
  int number = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP | PCRE2_DOTALL, &number, &offset,
                    nullptr),
      pcre2_code_free);
  if (!code) throw Error(ErrorKind::internal, fmt::format("pattern {}: error {} at {}", pattern, number, offset));
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(pcre2_match_data_create_from_pattern(code.get(), nullptr),
                                                                                  pcre2_match_data_free);
  std::vector<Groups> found;
  for (size_t at = 0; at <= text.size();) {
    const int count = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, 0, match.get(), nullptr);
    if (count < 0) return count == PCRE2_ERROR_NOMATCH ? found : std::vector<Groups>();
    const PCRE2_SIZE* place = pcre2_get_ovector_pointer(match.get());
    Groups groups;
    for (int group = 1; group < count; ++group) groups.push_back(text.substr(place[2 * group], place[2 * group + 1] - place[2 * group]));
    found.push_back(std::move(groups));
    at = place[1] > at ? place[1] : at + 1;
  }
  return found;
}

std::optional<OrderedJson> json_of(const std::string& text) {
  OrderedJson value = OrderedJson::parse(text, nullptr, false);
  return value.is_discarded() ? std::optional<OrderedJson>() : std::move(value);
}

std::string without(std::string text, char letter) {  // at both ends
  text.erase(0, std::min(text.find_first_not_of(letter), text.size()));
  text.erase(text.find_last_not_of(letter) + 1);
  return text;
}

Calls read_actions(const std::string& answer) {
  std::vector<ToolCall> calls;
  for (const Groups& found : find_all(R"(Action:\s*([a-zA-Z0-9_]+)\s*Action Input:\s*(.+?)(?=\s*Action:|\s*$))", answer)) {
    const auto arguments = json_of(without(without(trimmed(found[1]), '"'), '`'));
    if (!arguments) return std::nullopt;
    calls.push_back({found[0], python_json(*arguments)});
  }
  return calls.empty() ? Calls() : calls;
}

Calls read_name_first(const std::string& answer) {
  const size_t line = answer.find('\n');
  if (line == std::string::npos) return std::nullopt;
  const auto arguments = json_of(trimmed(answer.substr(line + 1)));
  if (!arguments) return std::nullopt;
  return std::vector<ToolCall>{{answer.substr(0, line), python_json(*arguments)}};
}

std::optional<ToolCall> call_of(const OrderedJson& object, const char* arguments) {
  if (!object.is_object() || !object.contains("name") || !object["name"].is_string() || !object.contains(arguments)) return std::nullopt;
  return ToolCall{object["name"].get<std::string>(), python_json(object[arguments])};
}

// The whole answer is one object or a list of them.
Calls read_objects(const std::string& answer, const char* arguments) {
  auto objects = json_of(trimmed(answer));
  if (!objects) return std::nullopt;
  if (!objects->is_array()) objects = OrderedJson::array({std::move(*objects)});
  std::vector<ToolCall> calls;
  for (const OrderedJson& object : *objects) {
    auto call = call_of(object, arguments);
    if (!call) return std::nullopt;
    calls.push_back(std::move(*call));
  }
  return calls;
}

Calls read_tagged(const std::string& answer) {
  std::vector<ToolCall> calls;
  for (const Groups& found : find_all(R"(<tool_call>(.+?)</tool_call>(?=\s*<tool_call>|\s*$))", answer)) {
    const auto object = json_of(trimmed(found[0]));
    auto call = object ? call_of(*object, "arguments") : std::nullopt;
    if (!call) return std::nullopt;
    calls.push_back(std::move(*call));
  }
  return calls.empty() ? Calls() : calls;
}

Calls read_call_lines(const std::string& answer) {
  const auto blocks = find_all(R"(<tool_calls>\s*(.+?)\s*</tool_calls>)", answer);
  if (blocks.empty()) return std::nullopt;
  std::vector<ToolCall> calls;
  const std::string& block = blocks[0][0];
  for (size_t at = 0; at < block.size();) {
    const size_t end = std::min(block.find('\n', at), block.size());
    const auto object = json_of(trimmed(block.substr(at, end - at)));
    if (auto call = object ? call_of(*object, "arguments") : std::nullopt) calls.push_back(std::move(*call));
    at = end + 1;
  }
  return calls.empty() ? Calls() : calls;
}

// Values in tags: JSON, or else the text, with the blanks around it or without.
std::string tagged_arguments(const char* pattern, const std::string& block, bool trims) {
  OrderedJson arguments = OrderedJson::object();
  for (const Groups& found : find_all(pattern, block)) {
    const auto value = json_of(trimmed(found[1]));
    arguments[found[0]] = value ? *value : OrderedJson(trims ? trimmed(found[1]) : found[1]);
  }
  return python_json(arguments);
}

Calls read_tags(const std::string& answer, const char* call, const char* parameter, bool trims) {
  std::vector<ToolCall> calls;
  for (const Groups& found : find_all(call, answer)) calls.push_back({trimmed(found[0]), tagged_arguments(parameter, found[1], trims)});
  return calls.empty() ? Calls() : calls;
}

Calls read_invocations(const std::string& answer) {
  const auto blocks = find_all(R"(<minimax:tool_call>\s*(.+?)\s*</minimax:tool_call>)", answer);
  if (blocks.empty()) return std::nullopt;
  return read_tags(blocks[0][0], R"re(<invoke name="(.*?)">(.*?)</invoke>)re", R"re(<parameter name="(.*?)">(.*?)</parameter>)re", false);
}

Calls read_python(const std::string& answer) {
  constexpr std::string_view kOpen = "<|tool_call_start|>", kClose = "<|tool_call_end|>";
  const size_t open = answer.find(kOpen), close = open == std::string::npos ? open : answer.find(kClose, open);
  if (close == std::string::npos) return std::nullopt;
  return read_python_calls(trimmed(answer.substr(open + kOpen.size(), close - open - kOpen.size())));
}

Calls read_gemma(const std::string& answer) {
  std::vector<ToolCall> calls;
  for (const Groups& found : find_all(R"(<\|tool_call>call:([^{\s]+)\{(.*?)\}<tool_call\|>)", answer)) {
    const std::string text = trimmed(found[1]);
    auto arguments = json_of(gemma_json("{" + text + "}"));
    if (!arguments) arguments = json_of(text);
    calls.push_back({found[0], !arguments ? text : arguments->is_string() ? arguments->get<std::string>() : python_json(*arguments)});
  }
  return calls.empty() ? Calls() : calls;
}

}  // namespace

Calls read_calls(const std::string& format, const std::string& answer) {
  constexpr const char* kParameter = R"(<parameter=(.*?)>(.*?)</parameter>)";
  switch (tool_format(format).calls) {
    case CallStyle::action: return read_actions(answer);
    case CallStyle::name_first: return read_name_first(answer);
    case CallStyle::parameters: return read_objects(answer, "parameters");
    case CallStyle::list: return read_objects(answer, "arguments");
    case CallStyle::tagged:
    case CallStyle::argument_pairs: return read_tagged(answer);  // glm4_moe is read like qwen
    case CallStyle::function_tags:
      return read_tags(answer, R"(<tool_call>\s*<function=\s*([^\s<>]+)\s*(.*?)\s*</function>\s*</tool_call>)", kParameter, true);
    case CallStyle::seed_tags:
      return read_tags(answer, R"(<seed:tool_call>\s*<function=\s*([^\s<]+)\s*(.*?)\s*</function>\s*</seed:tool_call>)", kParameter, false);
    case CallStyle::python_calls: return read_python(answer);
    case CallStyle::call_lines: return read_call_lines(answer);
    case CallStyle::invoke_tags: return read_invocations(answer);
    case CallStyle::gemma_calls: return read_gemma(answer);
  }
  return std::nullopt;
}

}  // namespace loraine
