// See responses.h: the requests.
#include <fmt/format.h>

#include "loraine/serve/protocol/openai.h"
#include "loraine/serve/protocol/responses.h"
#include "loraine/serve/service.h"

namespace loraine {
namespace {

constexpr size_t kMostItems = 4096;

[[noreturn]] void bad_item(const std::string& place, const std::string& why) { throw ApiError{400, place + why, place}; }

std::string text_of(const WireJson& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// A text, or parts that are texts of one of these types.
std::string parts_text(const WireJson& value, const std::string& place) {
  if (value.is_null()) return {};
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) bad_item(place, " is " + shown(value) + ", expected was a string or a list of parts");
  std::string text;
  for (const WireJson& part : value) {
    const std::string type = part.is_object() ? text_of(part, "type") : "";
    const char* key = type == "refusal" ? "refusal" : "text";
    const bool known = type == "input_text" || type == "output_text" || type == "text" || type == "refusal" || type == "reasoning_text" ||
                       type == "summary_text";
    if (!known || !part.contains(key) || !part[key].is_string())
      bad_item(place, " has a part that is no text: only input_text and output_text are taken");
    if (!text.empty()) text += '\n';
    text += part[key].get<std::string>();
  }
  return text;
}

// The items of an input as messages. Thoughts and calls belong to the assistant's message beside them.
class Items {
 public:
  void add(const WireJson& item, const std::string& place) {
    if (!item.is_object()) bad_item(place, " is " + shown(item) + ", expected was an object");
    const std::string type = item.contains("type") ? text_of(item, "type") : "message";
    if (type == "message") return message(item, place);
    if (type == "reasoning") {
      std::string text = parts_text(item.value("content", WireJson()), place + ".content");
      if (text.empty()) text = parts_text(item.value("summary", WireJson()), place + ".summary");
      thoughts_ = std::move(text);
      return;
    }
    if (type == "function_call") {
      const std::string name = text_of(item, "name"), id = text_of(item, "call_id");
      if (name.empty() || id.empty()) bad_item(place, " is a function_call without name and call_id");
      assistant()["tool_calls"].push_back(
          {{"id", id},
           {"type", "function"},
           {"function", {{"name", name}, {"arguments", read_arguments(item.value("arguments", WireJson()), place + ".arguments")}}}});
      names_[id] = name;
      return;
    }
    if (type == "function_call_output") {
      const std::string id = text_of(item, "call_id");
      if (id.empty()) bad_item(place, " is a function_call_output without call_id");
      WireJson answer = {
          {"role", "tool"}, {"content", parts_text(item.value("output", WireJson()), place + ".output")}, {"tool_call_id", id}};
      if (const auto found = names_.find(id); found != names_.end()) answer["name"] = found->second;
      messages.push_back(std::move(answer));
      return;
    }
    bad_item(place + ".type",
             " is " + shown(item.value("type", WireJson())) + ", expected was message, reasoning, function_call or function_call_output");
  }
  WireJson messages = WireJson::array();

 private:
  void message(const WireJson& item, const std::string& place) {
    std::string role = text_of(item, "role");
    if (role == "developer") role = "system";
    if (role != "system" && role != "user" && role != "assistant")
      bad_item(place + ".role", " is " + shown(item.value("role", WireJson())) + ", expected was system, developer, user or assistant");
    std::string text = parts_text(item.value("content", WireJson()), place + ".content");
    if (role != "assistant") {
      messages.push_back({{"role", role}, {"content", std::move(text)}});
      return;
    }
    const bool has_text = !messages.empty() && messages.back()["role"] == "assistant" && messages.back()["content"] != "";
    if (has_text) messages.push_back({{"role", "assistant"}, {"content", ""}});
    assistant()["content"] = std::move(text);
  }
  WireJson& assistant() {  // the one that the last items are of
    if (messages.empty() || messages.back()["role"] != "assistant") messages.push_back({{"role", "assistant"}, {"content", ""}});
    if (!thoughts_.empty()) messages.back()["reasoning_content"] = std::exchange(thoughts_, {});
    return messages.back();
  }
  std::string thoughts_;
  std::map<std::string, std::string> names_;  // of calls, by their ids
};

WireJson read_input(Fields& fields) {
  const WireJson* input = fields.any("input");
  if (input && input->is_string()) return WireJson::array({{{"role", "user"}, {"content", *input}}});
  if (!input || !input->is_array() || input->empty() || input->size() > kMostItems)
    fields.fail("input", fmt::format("a string or a list of 1 to {} items", kMostItems));
  Items items;
  for (size_t i = 0; i < input->size(); ++i) items.add((*input)[i], fmt::format("input[{}]", i));
  return std::move(items.messages);
}

// Tools as chat completions have them, out of the flat form.
AskedTools read_flat_tools(Fields& fields, WireJson& settings) {
  WireJson body = WireJson::object();
  settings["tools"] = WireJson::array();
  if (const WireJson* list = fields.array("tools", 128)) {
    settings["tools"] = *list;
    for (size_t i = 0; i < list->size(); ++i) {
      const WireJson& tool = (*list)[i];
      if (!tool.is_object() || tool.value("type", WireJson()) != "function")
        throw ApiError{400, fmt::format("tools[{}] is not of the type function; tools that a host runs are not built", i),
                       fmt::format("tools[{}].type", i), "unsupported_parameter"};
      body["tools"].push_back({{"type", "function"}, {"function", plain_function(tool, fmt::format("tools[{}]", i))}});
    }
  }
  for (const char* key : {"tool_choice", "parallel_tool_calls"})
    if (const WireJson* value = fields.any(key)) body[key] = *value;
  settings["tool_choice"] = body.value("tool_choice", WireJson("auto"));
  settings["parallel_tool_calls"] = body.value("parallel_tool_calls", WireJson(true));
  Fields inner(body);
  return read_tools(inner);
}

}  // namespace

AskedResponse read_response(const WireJson& body, const SamplingDefaults& defaults, int64_t vocab, bool llama_factory, bool strict) {
  Fields fields(body);
  AskedResponse response;
  AskedChat& chat = response.chat;
  Asked& asked = chat.asked;
  asked = read_asked(fields, defaults, vocab, llama_factory);
  asked.prompt_field = "input";
  if (asked.n != 1) fields.fail("n", "1");
  if (const auto most = fields.integer("max_output_tokens", 1, INT64_MAX)) asked.max_tokens = most;
  for (const char* unbuilt : {"background", "conversation", "prompt"}) {
    const WireJson* value = fields.any(unbuilt);
    if (value && *value != false)
      throw ApiError{400, fmt::format("{} is not built; leave it out", unbuilt), unbuilt, "unsupported_parameter"};
  }
  if (const WireJson* truncation = fields.any("truncation"); truncation && *truncation != "disabled") fields.fail("truncation", "disabled");
  response.instructions = fields.text("instructions").value_or("");
  response.previous = fields.text("previous_response_id", 256).value_or("");
  response.store = fields.boolean("store").value_or(false);
  chat.messages = read_input(fields);
  chat.kwargs = read_template_kwargs(fields);

  WireJson& settings = response.settings;
  const auto echo = [&](const char* key, const WireJson& otherwise) {
    const auto found = body.find(key);
    settings[key] = found == body.end() || found->is_null() ? otherwise : *found;
  };
  echo("instructions", nullptr);
  echo("max_output_tokens", nullptr);
  echo("max_tool_calls", nullptr);
  fields.any("max_tool_calls");
  echo("metadata", WireJson::object());
  echo("previous_response_id", nullptr);
  settings["temperature"] = asked.options.do_sample ? asked.options.temperature : 0.0;
  settings["top_p"] = asked.options.top_p;
  settings["store"] = response.store;
  settings["background"] = false;
  settings["truncation"] = "disabled";
  echo("user", nullptr);
  settings["reasoning"] = {{"effort", nullptr}, {"summary", nullptr}};
  if (const WireJson* reasoning = fields.object("reasoning")) {
    Fields inner(*reasoning, "reasoning.");
    if (const auto effort = inner.text("effort", 64)) {
      settings["reasoning"]["effort"] = *effort;
      set_reasoning_effort(chat.kwargs, *effort);
    }
  }
  settings["text"] = {{"format", {{"type", "text"}}}};
  if (const WireJson* text = fields.object("text")) {
    Fields inner(*text, "text.");
    if (const WireJson* format = inner.object("format")) {
      asked.shape = read_format(*format, "text.format", false);
      settings["text"]["format"] = *format;
    }
  }
  asked.tools = read_flat_tools(fields, settings);
  const auto top = fields.integer("top_logprobs", 0, 20);
  bool logprobs = top.value_or(0) > 0;
  if (const WireJson* include = fields.array("include", 32))
    for (const WireJson& one : *include) {
      if (!one.is_string()) fields.fail("include", "a list of strings");
      logprobs = logprobs || one == "message.output_text.logprobs";
    }
  if (logprobs) asked.options.logprobs = top.value_or(0);
  settings["top_logprobs"] = top.value_or(0);
  chat.ignored = refuse_or_ignore(fields, body, strict);
  return response;
}

WireJson message_of_response(const WireJson& response) {
  Items items;
  for (size_t i = 0; i < response["output"].size(); ++i) items.add(response["output"][i], fmt::format("output[{}]", i));
  return items.messages.empty() ? WireJson{{"role", "assistant"}, {"content", ""}} : items.messages.back();
}

}  // namespace loraine
