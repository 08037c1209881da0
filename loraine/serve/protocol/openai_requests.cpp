// See openai.h: the requests.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/openai.h"
#include "loraine/serve/protocol/prompts.h"
#include "loraine/serve/service.h"

namespace loraine {
namespace {

constexpr size_t kMostMessages = 4096, kMostPrompts = 128;

[[noreturn]] void bad_message(size_t index, const std::string& why) {
  throw ApiError{400, fmt::format("messages[{}]{}", index, why), fmt::format("messages[{}]", index)};
}

// A content as one text: a string, null, or parts of the type text.
std::string content_text(const WireJson& message, size_t index) {
  const auto found = message.find("content");
  if (found == message.end() || found->is_null()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) bad_message(index, ".content is " + shown(*found) + ", expected was a string, null or a list of parts");
  std::string text;
  for (const WireJson& part : *found) {
    const bool is_text = part.is_object() && (part.value("type", WireJson()) == "text" || part.value("type", WireJson()) == "input_text") &&
                         part.contains("text") && part["text"].is_string();
    if (!is_text) bad_message(index, ".content has a part that is no text: only {\"type\": \"text\", \"text\": …} is taken");
    if (!text.empty()) text += '\n';
    text += part["text"].get<std::string>();
  }
  return text;
}

WireJson plain_calls(const WireJson& calls, size_t index) {
  if (!calls.is_array() || calls.size() > 128)
    bad_message(index, ".tool_calls is " + shown(calls) + ", expected was a list of at most 128 calls");
  WireJson plain = calls;
  for (WireJson& call : plain) {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object() || !call["function"].contains("name") ||
        !call["function"]["name"].is_string())
      bad_message(index, ".tool_calls has a call without function.name");
    WireJson& function = call["function"];
    function["arguments"] = read_arguments(function.value("arguments", WireJson()), fmt::format("messages[{}].tool_calls", index));
  }
  return plain;
}

WireJson plain_message(const WireJson& message, size_t index) {
  static constexpr const char* kRoles[] = {"system", "developer", "user", "assistant", "tool", "function", "observation"};
  if (!message.is_object()) bad_message(index, " is " + shown(message) + ", expected was an object with role and content");
  const auto role = message.find("role");
  if (role == message.end() || !role->is_string() || std::ranges::find(kRoles, role->get_ref<const std::string&>()) == std::end(kRoles))
    bad_message(index, ".role is " + (role == message.end() ? std::string("missing") : shown(*role)) +
                           ", expected was one of: system, developer, user, assistant, tool, function");
  std::string name = role->get<std::string>();
  if (name == "developer") name = "system";
  if (name == "function" || name == "observation") name = "tool";
  WireJson plain = {{"role", name}, {"content", content_text(message, index)}};
  for (const auto& [key, value] : message.items()) {
    if (key == "role" || key == "content" || value.is_null()) continue;
    if (key == "tool_calls") {
      if (name != "assistant") bad_message(index, ".tool_calls stands in a message that is not the assistant's");
      if (!value.empty()) plain[key] = plain_calls(value, index);
    } else if (key == "name" || key == "tool_call_id" || key == "reasoning_content" || key == "reasoning" || key == "thinking") {
      if (!value.is_string()) bad_message(index, "." + key + " is " + shown(value) + ", expected was a string");
      plain[key == "reasoning" ? "reasoning_content" : key] = value;
    }
  }
  return plain;
}

// system first, then who asks and who answers take turns, ending with a question.
void check_turns(const WireJson& messages) {
  size_t turns = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string role = messages[i]["role"].get<std::string>();
    if (i == 0 && role == "system") continue;
    const bool asks = role == "user" || role == "tool";
    if (role == "system" || asks != (turns++ % 2 == 0))
      bad_message(i, fmt::format(": the role {} stands where it may not: user or tool, then assistant, take turns", role));
  }
  if (turns % 2 == 0)
    throw ApiError{400, "messages: only system, user, assistant, user, … is taken: an odd number without system", "messages"};
}

// Answers of tools get the name of the tool whose call they answer: some templates write it.
void name_answers(WireJson& messages) {
  std::map<std::string, std::string> names;
  for (WireJson& message : messages) {
    if (message.contains("tool_calls"))
      for (const WireJson& call : message["tool_calls"])
        if (const WireJson id = call.value("id", WireJson()); id.is_string()) names[id.get<std::string>()] = call["function"]["name"];
    if (message["role"] != "tool" || message.contains("name") || !message.contains("tool_call_id")) continue;
    const auto found = names.find(message["tool_call_id"].get<std::string>());
    if (found != names.end()) message["name"] = found->second;
  }
}

}  // namespace

WireJson read_arguments(const WireJson& arguments, const std::string& place) {
  WireJson object = arguments;
  if (arguments.is_null() || (arguments.is_string() && arguments.get_ref<const std::string&>().empty())) return WireJson::object();
  if (arguments.is_string()) try {
      object = parse_json_value(arguments.get<std::string>());
    } catch (const ApiError&) { throw ApiError{400, place + " has a call whose arguments are not JSON", place}; }
  if (!object.is_object())
    throw ApiError{400, place + " has a call whose arguments are " + shown(object) + ", an object was expected", place};
  return object;
}

WireJson read_messages(Fields& fields) {
  const WireJson* list = fields.array("messages", kMostMessages);
  if (!list || list->empty()) fields.fail("messages", fmt::format("a list of 1 to {} messages", kMostMessages));
  WireJson messages = WireJson::array();
  for (size_t i = 0; i < list->size(); ++i) messages.push_back(plain_message((*list)[i], i));
  name_answers(messages);
  return messages;
}

WireJson read_template_kwargs(Fields& fields) {
  if (fields.any("chat_template"))
    throw ApiError{403, "chat_template is not taken from requests: a template is code", "chat_template", "chat_template_forbidden"};
  WireJson kwargs = WireJson::object();
  if (const WireJson* given = fields.object("chat_template_kwargs")) {
    for (const char* reserved : {"messages", "chat_template", "tokenize", "tools", "add_generation_prompt", "continue_final_message"})
      if (given->contains(reserved)) fields.fail("chat_template_kwargs", fmt::format("an object without the key {}", reserved));
    kwargs = *given;
  }
  if (const auto thinking = fields.boolean("enable_thinking")) kwargs["enable_thinking"] = *thinking;
  if (const auto effort = fields.text("reasoning_effort", 64)) set_reasoning_effort(kwargs, *effort);
  const auto add = fields.boolean("add_generation_prompt"), go_on = fields.boolean("continue_final_message");
  if (go_on.value_or(false) && add.value_or(false)) fields.fail("continue_final_message", "false, since add_generation_prompt is true");
  kwargs["add_generation_prompt"] = add.value_or(!go_on.value_or(false));
  kwargs["continue_final_message"] = go_on.value_or(false);
  return kwargs;
}

AskedChat read_chat(const WireJson& body, const SamplingDefaults& defaults, int64_t vocab, bool llama_factory, bool strict) {
  Fields fields(body);
  AskedChat chat;
  chat.asked = read_asked(fields, defaults, vocab, llama_factory);
  if (chat.asked.max_tokens == 0)
    fields.fail(body.contains("max_completion_tokens") ? "max_completion_tokens" : "max_tokens", "a whole number from 1");
  chat.messages = read_messages(fields);
  if (llama_factory) check_turns(chat.messages);
  chat.kwargs = read_template_kwargs(fields);
  chat.asked.tools = read_tools(fields);
  chat.asked.shape = read_shape(fields);
  chat.asked.include_reasoning = fields.boolean("include_reasoning").value_or(true);
  const bool logprobs = fields.boolean("logprobs").value_or(false);
  const auto top = fields.integer("top_logprobs", 0, 20);
  if (top.value_or(0) > 0 && !logprobs) fields.fail("top_logprobs", "nothing, since logprobs is not true");
  if (logprobs) chat.asked.options.logprobs = top.value_or(0);
  chat.asked.echo = fields.boolean("echo").value_or(false);
  if (chat.asked.echo) fields.fail("echo", "false: the messages are not given back");
  chat.ignored = refuse_or_ignore(fields, body, strict);
  return chat;
}

AskedCompletion read_completion(const WireJson& body, const SamplingDefaults& defaults, int64_t vocab, bool llama_factory, bool strict) {
  Fields fields(body);
  AskedCompletion completion;
  completion.asked = read_asked(fields, defaults, vocab, llama_factory);
  Asked& asked = completion.asked;
  asked.prompt_field = "prompt";
  asked.shape = read_shape(fields);
  if (!asked.max_tokens) asked.max_tokens = 16;
  asked.echo = fields.boolean("echo").value_or(false);
  if (*asked.max_tokens == 0 && !asked.echo) fields.fail("max_tokens", "a whole number from 1, or 0 with echo");
  if (*asked.max_tokens == 0 && asked.stream) fields.fail("max_tokens", "a whole number from 1, since stream is true");
  const auto best = fields.integer("best_of", 1, 16);
  if (best && *best != asked.n) fields.fail("best_of", "the same as n");
  const auto logprobs = fields.integer("logprobs", 0, 20);
  if (logprobs) asked.options.logprobs = *logprobs;
  if (logprobs && asked.echo) asked.options.prompt_logprobs = std::max(asked.options.prompt_logprobs, *logprobs);
  if (asked.stream && asked.echo && logprobs) fields.fail("echo", "false, since stream is true and logprobs are asked for");
  completion.add_special_tokens = fields.boolean("add_special_tokens").value_or(true);

  Prompts prompts = read_prompts(fields, "prompt", vocab, kMostPrompts);
  completion.texts = std::move(prompts.texts);
  completion.ids = std::move(prompts.ids);
  completion.ignored = refuse_or_ignore(fields, body, strict);
  return completion;
}

}  // namespace loraine
