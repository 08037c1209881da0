// See chat_prompt.h.
#include "loraine/api/chat_prompt.h"

#include <fmt/format.h>

#include "loraine/core/error.h"

namespace loraine {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string text_of(const OrderedJson& message, const char* key) {
  const auto found = message.find(key);
  return found != message.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// The calls of an answer as the named templates take them: {"name", "arguments"}, one or a list.
std::string template_calls(const OrderedJson& calls) {
  OrderedJson list = OrderedJson::array();
  for (const OrderedJson& call : calls) list.push_back(call.contains("function") ? call["function"] : call);
  return (list.size() == 1 ? list[0] : list).dump();
}

ChatPrompt named_prompt(const ChatFormat& format, const Tokenizer& tokenizer, const OrderedJson& messages, const OrderedJson& kwargs,
                        bool split) {
  Conversation conversation = conversation_of(messages);
  ChatFormat asked = format;
  for (const auto& [key, value] : kwargs.items()) {
    if (key == "tools") {
      conversation.tools = value.dump();
    } else if (key == "enable_thinking" && value.is_boolean()) {
      asked.choice.enable_thinking = value.get<bool>();
    } else if (key == "reasoning_effort" && kwargs.contains("enable_thinking")) {
      continue;  // a named template thinks or does not
    } else if (!(key == "add_generation_prompt" && value == true) && !(key == "continue_final_message" && value == false)) {
      throw Error(ErrorKind::usage, fmt::format("{} has no effect on the template {}, which is a named one", key, format.named->name),
                  "leave it out, or serve the model with its own chat template");
    }
  }
  if (conversation.messages.size() % 2 == 0)
    throw Error(ErrorKind::usage, "messages: the last one is no question", "end with a message of the role user or tool");
  ChatPrompt prompt;
  prompt.ids = asked.prompt_ids(tokenizer, conversation, split);
  prompt.text = tokenizer.decode(prompt.ids);
  return prompt;
}

}  // namespace

Conversation conversation_of(const OrderedJson& messages) {
  Conversation conversation;
  for (size_t i = 0; i < messages.size(); ++i) {
    const OrderedJson& message = messages[i];
    const std::string role = text_of(message, "role");
    if (i == 0 && role == "system") {
      conversation.system = text_of(message, "content");
      continue;
    }
    const auto calls = message.find("tool_calls");
    const bool calls_tools = role == "assistant" && calls != message.end() && calls->is_array() && !calls->empty();
    const bool asks = role == "user" || role == "tool";
    if ((!asks && role != "assistant") || asks != (conversation.messages.size() % 2 == 0))
      throw Error(ErrorKind::usage, fmt::format("messages: the role {} stands in place {}", role, i + 1),
                  "with this template, system may come first, then user (or tool) and assistant take turns");
    if (asks) conversation.messages.push_back({role == "user" ? Role::user : Role::observation, text_of(message, "content")});
    else if (calls_tools) conversation.messages.push_back({Role::function, template_calls(*calls)});
    else conversation.messages.push_back({Role::assistant, text_of(message, "content")});
  }
  return conversation;
}

ChatPrompt chat_prompt(const ChatFormat& format, const Tokenizer& tokenizer, const OrderedJson& messages, const OrderedJson& kwargs,
                       bool split) {
  if (format.named) return named_prompt(format, tokenizer, messages, kwargs, split);
  if (!format.own)
    throw Error(ErrorKind::usage, "the model has no chat template, so it takes no messages",
                "ask /v1/completions with a text, or start the server with a template, such as template chatml");
  OrderedJson with = kwargs;
  if (!with.contains("add_generation_prompt")) with["add_generation_prompt"] = true;
  if (format.choice.enable_thinking && !with.contains("enable_thinking")) with["enable_thinking"] = *format.choice.enable_thinking;
  OrderedJson written = messages;
  const std::string& system = format.choice.default_system.value_or("");
  if (!system.empty() && (written.empty() || text_of(written[0], "role") != "system"))
    written.insert(written.begin(), OrderedJson{{"role", "system"}, {"content", system}});
  ChatPrompt prompt;
  if (split) {
    const std::string guarded = format.own->render(guarded_messages(written, tokenizer), with).text;
    prompt.ids = tokenizer.encode_guarded(guarded);
    prompt.text = format.own->render(written, with).text;
  } else {
    prompt.text = format.own->render(written, with).text;
    prompt.ids = tokenizer.encode(prompt.text);
  }
  return prompt;
}

}  // namespace loraine
