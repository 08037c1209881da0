// Bytes as an answer, read by the form that the first byte names: never an exception, and what it gives does not depend on where the answer
// was cut. The same of templates of answers. See ./dev fuzz.
#include <cstdlib>

#include "loraine/text/calls/answer_reader.h"
#include "loraine/text/calls/response_template.h"

using namespace loraine;
using Json = nlohmann::ordered_json;

namespace {

struct All {
  std::string reasoning, content, calls;
  bool operator==(const All&) const = default;
  void add(const AnswerPart& part) {
    reasoning += part.reasoning;
    content += part.content;
    for (const ToolCall& call : part.calls) {
      if (Json::parse(call.arguments, nullptr, false).is_discarded()) std::abort();
      calls += call.name + '\0' + call.arguments + '\0';
    }
  }
};

template <class Reader>
All read(Reader reader, std::string_view text, uint32_t random) {
  All all;
  while (!text.empty()) {
    random = random * 1664525 + 1013904223;
    const size_t n = random == 0 ? text.size() : std::min<size_t>(text.size(), 1 + (random >> 16) % 7);
    all.add(reader.push(text.substr(0, n)));
    text.remove_prefix(n);
  }
  all.add(reader.finish());
  return all;
}

template <class Make>
void check(const Make& make, std::string_view text) {
  All whole;
  {
    auto reader = make();
    whole.add(reader.push(text));
    whole.add(reader.finish());
  }
  for (uint32_t seed : {1u, 77u})
    if (read(make(), text, seed + static_cast<uint32_t>(text.size())) != whole) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const auto names = call_formats();
  static const Json tools =
      Json::parse(R"([{"name": "f", "parameters": {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}}])");
  static const ResponseTemplate fields(
      Json::parse(R"json({"fields": {"thinking": {"open": "<think>", "close": "</think>"}, "tool_calls": {"open_pattern":
    "<tool_call>\\s*<function=(?P<name>\\w+)>", "close": "</tool_call>", "content": "xml-inline", "content_args": {"tag_pattern":
    "<parameter=(?P<key>\\w+)>\\s*(?P<value>.*?)\\s*</parameter>", "value_parser": {"name": "json", "args": {"allow_non_json": true, "unquoted_keys": true}}},
    "transform": {"name": "{name}", "arguments": "{content}"}}, "content": {"close": "<|im_end|>"}}})json"),
      "template");
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  AnswerReader::Options options{.calls = &call_format(names[data[0] % names.size()]), .tools = tools};
  if (data[0] & 0x40) options.thoughts = ThoughtMarks{"<think>", "</think>"};
  options.in_thought = options.thoughts && (data[0] & 0x20);
  check([&] { return AnswerReader(options); }, text);
  check([&] { return ResponseTemplate::Reader(fields, "", tools); }, text);
  return 0;
}
