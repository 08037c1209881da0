// Training examples from the model's own chat template, with masks by position. Called through encode.h.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/data/encode.h"

namespace loraine {
namespace {

using Json = nlohmann::ordered_json;
using Range = std::pair<size_t, size_t>;

std::string content_of(const Json& message) {
  const auto found = message.find("content");
  return found != message.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool is_assistant(const Json& message) {
  const auto found = message.find("role");
  return found != message.end() && found->is_string() && found->get_ref<const std::string&>() == "assistant";
}

bool starts_with_at(const std::string& text, size_t at, std::string_view part) { return text.compare(at, part.size(), part) == 0; }

// Byte ranges of the assistant's turns in `text`. Start: the rendering up to the turn with the generation prompt. End: the rendering
// that includes the turn; where a template writes a last turn differently, the turn's text and what follows it there.
std::vector<Range> assistant_ranges(const ChatTemplate& chat, const Json& messages, const Json& kwargs, const std::string& text) {
  std::vector<Range> ranges;
  size_t from = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!is_assistant(messages[i])) continue;
    const auto head = [&](size_t count, bool generate) {
      Json list = Json::array(), with = kwargs;
      for (size_t m = 0; m < count; ++m) list.push_back(messages[m]);
      with["add_generation_prompt"] = generate;
      return chat.render(list, with).text;
    };
    const std::string before = head(i, true);
    // With the generation prompt the text may go on (an empty thought) where the whole conversation does not: the shared part counts.
    const size_t start = static_cast<size_t>(std::mismatch(before.begin(), before.end(), text.begin(), text.end()).first - before.begin());
    const std::string bare = head(i, false);
    const bool same_start = start == before.size() || (start >= bare.size() && starts_with_at(text, 0, bare));
    const std::string through = i + 1 == messages.size() ? text : head(i + 1, false);
    size_t end = std::string::npos;
    if (same_start && starts_with_at(text, 0, through)) {
      end = through.size();
    } else if (same_start) {
      std::string content = content_of(messages[i]);
      if (const size_t thought = content.rfind("</think>"); thought != std::string::npos) content.erase(0, thought + 8);
      content.erase(0, std::min(content.find_first_not_of(" \t\r\n"), content.size()));
      content.erase(content.find_last_not_of(" \t\r\n") + 1);
      const size_t here = text.find(content, start), there = through.rfind(content);
      if (!content.empty() && here != std::string::npos && there != std::string::npos) {
        const std::string tail = through.substr(there + content.size());
        if (starts_with_at(text, here + content.size(), tail)) end = here + content.size() + tail.size();
      }
    }
    if (end == std::string::npos || start < from || end < start)
      throw Error(ErrorKind::bad_data,
                  fmt::format("chat template: where the answer of message {} begins and ends cannot be told from its renderings", i + 1),
                  "put {% generation %} … {% endgeneration %} around the assistant's text in the template, or name a template");
    ranges.emplace_back(start, end);
    from = end;
  }
  return ranges;
}

// Index of the first token that does not lie wholly before byte `at`; `crossed`: that token began before it.
size_t token_at(const Tokenizer& tokenizer, const std::string& text, size_t at, const std::vector<int32_t>& ids, bool split,
                bool& crossed) {
  crossed = false;
  if (at >= text.size()) return ids.size();
  const auto head = tokenizer.encode(std::string_view(text).substr(0, at), false, split);
  const size_t limit = std::min(head.size(), ids.size());
  const size_t same =
      static_cast<size_t>(std::mismatch(head.begin(), head.begin() + static_cast<std::ptrdiff_t>(limit), ids.begin()).first - head.begin());
  crossed = same < head.size();
  return same;
}

}  // namespace

std::vector<Turn> chat_template_turns(const ChatTemplate& chat, const Tokenizer& tokenizer, const Json& messages, const Json& kwargs,
                                      const EncodeOptions& options) {
  Json with = kwargs.is_object() ? kwargs : Json::object();
  if (!with.contains("add_generation_prompt")) with["add_generation_prompt"] = false;
  if (options.enable_thinking && !with.contains("enable_thinking")) with["enable_thinking"] = *options.enable_thinking;
  const RenderedChat rendered = chat.render(messages, with);
  const auto ranges = chat.has_generation_blocks() ? rendered.generation : assistant_ranges(chat, messages, with, rendered.text);
  const auto ids = tokenizer.encode(rendered.text, false, options.split_special_tokens);
  std::vector<Turn> turns;
  size_t from = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin >= end) continue;
    bool crossed = false;
    const size_t first = std::max(from, token_at(tokenizer, rendered.text, begin, ids, options.split_special_tokens, crossed));
    size_t last = token_at(tokenizer, rendered.text, end, ids, options.split_special_tokens, crossed);
    last = std::clamp(last + (crossed ? 1 : 0), first, ids.size());
    const auto at = [&](size_t i) { return ids.begin() + static_cast<std::ptrdiff_t>(i); };
    turns.push_back({{at(from), at(first)}, {at(first), at(last)}});
    from = last;
  }
  return turns;  // what follows the last answer trains nothing and is left out
}

Encoded encode_with_chat_template(const ChatTemplate& chat, const Tokenizer& tokenizer, const Json& messages, const Json& kwargs,
                                  const EncodeOptions& options) {
  const auto turns = chat_template_turns(chat, tokenizer, messages, kwargs, options);
  return assemble_turns(turns, options, std::nullopt);
}

Json template_messages(const Conversation& conversation, const std::string& default_system, Json& kwargs) {
  Json messages = Json::array();
  const std::string& system = conversation.system.empty() ? default_system : conversation.system;
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
  const auto parse = [](const std::string& text, const char* what) {
    Json value = Json::parse(text, nullptr, false);
    if (value.is_discarded())
      throw Error(ErrorKind::bad_data, fmt::format("{}: not JSON", what), "write the list of tools or of calls as JSON text");
    return value.is_array() ? value : Json::array({value});
  };
  if (!conversation.tools.empty()) {
    Json tools = Json::array();
    for (const Json& tool : parse(conversation.tools, "tools"))
      tools.push_back(tool.is_object() && tool.contains("function") ? tool : Json{{"type", "function"}, {"function", tool}});
    kwargs["tools"] = std::move(tools);
  }
  for (const Message& message : conversation.messages) {
    switch (message.role) {
      case Role::user: messages.push_back({{"role", "user"}, {"content", message.content}}); break;
      case Role::assistant: messages.push_back({{"role", "assistant"}, {"content", message.content}}); break;
      case Role::observation: messages.push_back({{"role", "tool"}, {"content", message.content}}); break;
      case Role::function: {
        Json calls = Json::array();
        for (const Json& call : parse(message.content, "function call")) calls.push_back({{"type", "function"}, {"function", call}});
        messages.push_back({{"role", "assistant"}, {"content", ""}, {"tool_calls", calls}});
        break;
      }
    }
  }
  return messages;
}

}  // namespace loraine
