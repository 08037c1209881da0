// See anthropic.h: the requests.
#include <fmt/format.h>

#include <map>

#include "loraine/serve/protocol/anthropic.h"
#include "loraine/serve/protocol/openai.h"
#include "loraine/serve/service.h"

namespace loraine {
namespace {

constexpr size_t kMostMessages = 4096;
constexpr int64_t kUsualTokens = 4096, kLeastBudget = 1024;

[[noreturn]] void bad(const std::string& place, const std::string& why) { throw ApiError{400, place + why, place}; }

std::string text_of(const WireJson& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string type_of(const WireJson& block) { return block.is_object() ? text_of(block, "type") : std::string(); }

void append(std::string& text, const std::string& more) {
  if (!text.empty() && !more.empty()) text += '\n';
  text += more;
}

// A text, or blocks of the type text.
std::string blocks_text(const WireJson& content, const std::string& place) {
  if (content.is_null()) return {};
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) bad(place, " is " + shown(content) + ", expected was a string or a list of blocks");
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const WireJson& block = content[i];
    if (type_of(block) != "text" || !block.contains("text") || !block["text"].is_string())
      bad(fmt::format("{}[{}]", place, i), " is no block of the type text, and no other is taken here");
    append(text, block["text"].get<std::string>());
  }
  return text;
}

class Turns {
 public:
  void add(const WireJson& message, const std::string& place) {
    if (!message.is_object()) bad(place, " is " + shown(message) + ", expected was an object with role and content");
    const std::string role = text_of(message, "role");
    if (role != "user" && role != "assistant")
      bad(place + ".role", " is " + shown(message.value("role", WireJson())) + ", expected was user or assistant");
    const WireJson content = message.value("content", WireJson());
    if (content.is_string()) return messages.push_back({{"role", role}, {"content", content}});
    if (!content.is_array()) bad(place + ".content", " is " + shown(content) + ", expected was a string or a list of blocks");
    if (role == "user") question(content, place + ".content");
    else answer(content, place + ".content");
  }
  WireJson messages = WireJson::array();

 private:
  // Results of tools are messages of their own, before the text beside them.
  void question(const WireJson& content, const std::string& where) {
    std::string text;
    bool some = false;
    for (size_t i = 0; i < content.size(); ++i) {
      const WireJson& block = content[i];
      const std::string place = fmt::format("{}[{}]", where, i), type = type_of(block);
      if (type == "text") {
        append(text, blocks_text(WireJson::array({block}), place));
        some = true;
      } else if (type == "tool_result") {
        const std::string id = text_of(block, "tool_use_id");
        if (id.empty()) bad(place + ".tool_use_id", " is missing");
        WireJson result = {
            {"role", "tool"}, {"content", blocks_text(block.value("content", WireJson()), place + ".content")}, {"tool_call_id", id}};
        if (const auto found = names_.find(id); found != names_.end()) result["name"] = found->second;
        messages.push_back(std::move(result));
      } else {
        bad(place + ".type", " is " + shown(block.is_object() ? block.value("type", WireJson()) : block) +
                                 ", expected was text or tool_result: images and documents are not taken");
      }
    }
    if (some || content.empty()) messages.push_back({{"role", "user"}, {"content", text}});
  }

  void answer(const WireJson& content, const std::string& where) {
    WireJson message = {{"role", "assistant"}, {"content", ""}};
    std::string text, thoughts;
    for (size_t i = 0; i < content.size(); ++i) {
      const WireJson& block = content[i];
      const std::string place = fmt::format("{}[{}]", where, i), type = type_of(block);
      if (type == "text") {
        append(text, blocks_text(WireJson::array({block}), place));
      } else if (type == "thinking") {
        append(thoughts, text_of(block, "thinking"));
      } else if (type == "tool_use") {
        const std::string id = text_of(block, "id"), name = text_of(block, "name");
        if (id.empty() || name.empty()) bad(place, " is a tool_use without id and name");
        message["tool_calls"].push_back(
            {{"id", id},
             {"type", "function"},
             {"function", {{"name", name}, {"arguments", read_arguments(block.value("input", WireJson()), place + ".input")}}}});
        names_[id] = name;
      } else if (type != "redacted_thinking") {  // nobody here can read those
        bad(place + ".type",
            " is " + shown(block.is_object() ? block.value("type", WireJson()) : block) + ", expected was text, thinking or tool_use");
      }
    }
    message["content"] = std::move(text);
    if (!thoughts.empty()) message["reasoning_content"] = std::move(thoughts);
    messages.push_back(std::move(message));
  }
  std::map<std::string, std::string> names_;  // of calls, by their ids
};

AskedTools read_anthropic_tools(Fields& fields) {
  AskedTools tools;
  if (const WireJson* list = fields.array("tools", 128))
    for (size_t i = 0; i < list->size(); ++i) {
      const std::string place = fmt::format("tools[{}]", i);
      const WireJson& tool = (*list)[i];
      if (const std::string type = type_of(tool); !type.empty() && type != "custom")
        throw ApiError{
            400,
            fmt::format("{}.type is {}; only tools of one's own are taken, with name, description and input_schema", place, shown(type)),
            place + ".type", "unsupported_parameter"};
      WireJson function = plain_function(tool, place, "input_schema");
      add_tool(tools, std::move(function), place);
    }
  const WireJson* choice = fields.object("tool_choice");
  if (!choice) return tools;
  Fields inner(*choice, "tool_choice.");
  const std::string type = inner.text("type", 16).value_or("");
  tools.parallel = !inner.boolean("disable_parallel_tool_use").value_or(false);
  if (type == "none") {
    tools.choice = AskedTools::Choice::none;
    return tools;
  }
  if (type != "auto" && type != "any" && type != "tool") inner.fail("type", "auto, any, tool or none");
  if (tools.list.empty()) fields.fail("tool_choice", "none, since no tools are given");
  if (type == "any") tools.choice = AskedTools::Choice::required;
  if (type == "tool") require_tool(tools, inner.required_text("name", 64), "tool_choice.name");
  return tools;
}

// `thinking`: nothing said means off, as with Anthropic: clients then take the first block for the text.
void read_thinking(Fields& fields, AskedChat& chat) {
  const WireJson* thinking = fields.object("thinking");
  if (chat.kwargs.contains("enable_thinking")) return;
  if (!thinking) {
    chat.kwargs["enable_thinking"] = false;
    return;
  }
  Fields inner(*thinking, "thinking.");
  const std::string type = inner.text("type", 16).value_or("");
  if (type == "enabled") {
    const auto budget = inner.integer("budget_tokens", kLeastBudget, INT64_MAX);
    if (!budget) inner.fail("budget_tokens", fmt::format("a whole number from {}", kLeastBudget));
    if (chat.asked.max_tokens && *budget >= *chat.asked.max_tokens)
      inner.fail("budget_tokens", fmt::format("less than max_tokens, {}", *chat.asked.max_tokens));
    chat.kwargs["enable_thinking"] = true;
    chat.asked.thought_tokens = budget;
    chat.asked.thought_tokens_by_habit = true;
  } else if (type == "disabled") {
    chat.kwargs["enable_thinking"] = false;
  } else if (type != "adaptive") {
    inner.fail("type", "enabled, disabled or adaptive");
  }
}

}  // namespace

AskedChat read_anthropic(const WireJson& body, const SamplingDefaults& defaults, int64_t vocab, bool strict) {
  Fields fields(body);
  AskedChat chat;
  Asked& asked = chat.asked;
  asked = read_asked(fields, defaults, vocab, false);
  if (asked.n != 1) fields.fail("n", "1");
  if (asked.max_tokens == 0) fields.fail("max_tokens", "a whole number from 1");
  asked.most_tokens = kUsualTokens;
  fields.number("temperature", 0, 1);
  if (const WireJson* stops = fields.array("stop_sequences", 16))
    for (const WireJson& one : *stops) {
      if (!one.is_string() || one.get_ref<const std::string&>().empty() || one.get_ref<const std::string&>().size() > 256)
        fields.fail("stop_sequences", "a list of at most 16 strings of 1 to 256 bytes");
      asked.stop.push_back(one.get<std::string>());
    }

  const WireJson* list = fields.array("messages", kMostMessages);
  if (!list || list->empty()) fields.fail("messages", fmt::format("a list of 1 to {} messages", kMostMessages));
  Turns turns;
  if (const WireJson* system = fields.any("system")) {
    const std::string text = blocks_text(*system, "system");
    if (!text.empty()) turns.messages.push_back({{"role", "system"}, {"content", text}});
  }
  for (size_t i = 0; i < list->size(); ++i) turns.add((*list)[i], fmt::format("messages[{}]", i));
  chat.messages = std::move(turns.messages);

  chat.kwargs = read_template_kwargs(fields);
  // The last message is the beginning of the answer.
  if (chat.messages.back()["role"] == "assistant" && !chat.messages.back().contains("tool_calls")) {
    chat.kwargs["add_generation_prompt"] = false;
    chat.kwargs["continue_final_message"] = true;
  }
  asked.tools = read_anthropic_tools(fields);
  std::vector<AskedShape> shapes;
  if (const WireJson* config = fields.object("output_config")) {
    Fields inner(*config, "output_config.");
    if (const auto effort = inner.text("effort", 64)) chat.kwargs["reasoning_effort"] = *effort;
    if (const WireJson* format = inner.object("format")) shapes.push_back(read_format(*format, "output_config.format", false));
  }
  if (const WireJson* format = fields.object("output_format")) shapes.push_back(read_format(*format, "output_format", false));
  if (shapes.size() > 1) fields.fail("output_format", "nothing, since output_config.format is given");
  if (!shapes.empty()) asked.shape = std::move(shapes[0]);
  read_thinking(fields, chat);
  for (const char* nothing : {"cache_control", "inference_geo", "anthropic_version", "betas"}) fields.any(nothing);
  for (const char* unbuilt : {"mcp_servers", "container", "context_management"}) {
    const WireJson* value = fields.any(unbuilt);
    if (value && !(value->is_structured() && value->empty()))
      throw ApiError{400, fmt::format("{} is not built; leave it out", unbuilt), unbuilt, "unsupported_parameter"};
  }
  chat.ignored = refuse_or_ignore(fields, body, strict);
  return chat;
}

}  // namespace loraine
