// Bytes as a Jinja template, rendered over a small conversation. A template may fail, but only with an Error. See ./dev fuzz.
#include <nlohmann/json.hpp>

#include "loraine/text/jinja/eval.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto context = nlohmann::ordered_json::parse(R"({"messages": [{"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "é日\ud83d\udc4d"}]}, {"role": "assistant", "content": "a</think>b", "tool_calls":
    [{"function": {"name": "f", "arguments": {"x": 1.5, "y": [true, null]}}}]}], "tools": [{"name": "f"}], "bos_token": "<s>", "n": 3,
    "add_generation_prompt": true})");
  jinja::RenderOptions options;
  options.now = std::tm{};
  options.budget.steps = 100'000;  // so that many inputs run per second
  options.budget.bytes = 8 << 20;
  options.budget.live = options.budget.largest = 2 << 20;
  try {
    jinja::render(jinja::parse(std::string_view(reinterpret_cast<const char*>(data), size)), context, options);
  } catch (const Error&) {}
  return 0;
}
