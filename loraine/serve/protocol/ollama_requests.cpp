// See ollama.h: the requests.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "loraine/serve/protocol/ollama.h"

namespace loraine {
namespace {

// Ollama's names of options that chat completions have under another or the same name.
const std::map<std::string, std::string>& known_options() {
  static const std::map<std::string, std::string> kNames = {{"temperature", "temperature"},
                                                            {"top_k", "top_k"},
                                                            {"top_p", "top_p"},
                                                            {"min_p", "min_p"},
                                                            {"seed", "seed"},
                                                            {"stop", "stop"},
                                                            {"repeat_penalty", "repetition_penalty"},
                                                            {"presence_penalty", "presence_penalty"},
                                                            {"frequency_penalty", "frequency_penalty"}};
  return kNames;
}

// Options that say how Ollama's runner is to work: here the server's settings do.
const std::set<std::string>& runner_options() {
  static const std::set<std::string> kNames = {"num_ctx",    "num_batch",      "num_gpu",       "main_gpu",        "low_vram", "f16_kv",
                                               "vocab_only", "use_mmap",       "use_mlock",     "num_thread",      "numa",     "num_keep",
                                               "logits_all", "embedding_only", "repeat_last_n", "penalize_newline"};
  return kNames;
}

// Options that would change the answer, with the value that means nothing.
const std::map<std::string, double>& unbuilt_options() {
  static const std::map<std::string, double> kOff = {{"mirostat", 0}, {"tfs_z", 1}, {"typical_p", 1}};
  return kOff;
}

void read_options(const WireJson& options, WireJson& chat) {
  for (const auto& [name, value] : options.items()) {
    if (value.is_null() || runner_options().contains(name) || name == "mirostat_eta" || name == "mirostat_tau") continue;
    if (const auto found = known_options().find(name); found != known_options().end()) {
      if (name == "stop" && value.is_array() && value.empty()) continue;
      if (name == "seed" && value.is_number_integer() && value.get<int64_t>() < 0) continue;  // any
      chat[found->second] = value;
    } else if (name == "num_predict") {
      if (!value.is_number_integer())
        throw ApiError{400, "options.num_predict is " + shown(value) + ", expected was a whole number", "options.num_predict"};
      if (value.get<int64_t>() > 0) chat["max_tokens"] = value;  // -1, -2: as much as there is room for
    } else if (const auto off = unbuilt_options().find(name); off != unbuilt_options().end()) {
      if (!value.is_number() || value.get<double>() != off->second)
        throw ApiError{400, fmt::format("options.{} is not built; leave it out", name), "options." + name, "unsupported_parameter"};
    } else {
      throw ApiError{400, fmt::format("options.{} is not an option of Ollama's protocol that is known here", name), "options." + name,
                     "unknown_parameter"};
    }
  }
}

// What both routes have.
void read_common(Fields& fields, OllamaRequest& request) {
  request.model = fields.required_text("model", 512);
  request.chat["model"] = untagged(request.model);
  if (const WireJson* options = fields.object("options")) read_options(*options, request.chat);
  request.chat["stream"] = fields.boolean("stream").value_or(true);
  if (const WireJson* think = fields.any("think")) {
    if (think->is_boolean()) request.chat["enable_thinking"] = *think;
    else if (think->is_string()) request.chat["reasoning_effort"] = *think;
    else fields.fail("think", "true, false, low, medium or high");
  }
  if (const WireJson* format = fields.any("format"); format && *format != "") {
    if (*format == "json") request.chat["response_format"] = {{"type", "json_object"}};
    else if (format->is_object())
      request.chat["response_format"] = {{"type", "json_schema"},
                                         {"json_schema", {{"name", "format"}, {"schema", *format}, {"strict", true}}}};
    else fields.fail("format", "json or a schema");
  }
  request.logprobs = fields.boolean("logprobs").value_or(false);
  if (request.logprobs) {
    request.chat["logprobs"] = true;
    request.chat["top_logprobs"] = fields.integer("top_logprobs", 0, 20).value_or(0);
  }
  fields.any("keep_alive");
  fields.any("top_logprobs");
  for (const char* shape : {"width", "height", "steps"})
    if (fields.any(shape)) fields.fail(shape, "nothing: images are not built", "unsupported_parameter");
}

void refuse_unread(const Fields& fields) {
  for (const std::string& name : fields.unread())
    throw ApiError{400, fmt::format("{} is not a field of Ollama's protocol that is known here", name), name, "unknown_parameter"};
}

WireJson ollama_message(const WireJson& message, size_t index) {
  if (!message.is_object())
    throw ApiError{400, fmt::format("messages[{}] is {}, expected was an object with role and content", index, shown(message)), "messages"};
  WireJson plain = message;
  if (message.contains("images") && !message["images"].is_null() && !message["images"].empty())
    throw ApiError{400, fmt::format("messages[{}].images: images are not built", index), "messages", "unsupported_parameter"};
  plain.erase("images");
  if (plain.contains("tool_name")) {
    plain["name"] = plain["tool_name"];
    plain.erase("tool_name");
  }
  return plain;
}

}  // namespace

std::string untagged(const std::string& model) {
  constexpr std::string_view kTag = ":latest";
  return model.ends_with(kTag) ? model.substr(0, model.size() - kTag.size()) : model;
}

OllamaRequest read_ollama_chat(const WireJson& body) {
  Fields fields(body);
  OllamaRequest request;
  read_common(fields, request);
  WireJson messages = WireJson::array();
  if (const WireJson* list = fields.array("messages", 4096))
    for (size_t i = 0; i < list->size(); ++i) messages.push_back(ollama_message((*list)[i], i));
  request.only_loads = messages.empty();
  request.chat["messages"] = std::move(messages);
  if (const WireJson* tools = fields.array("tools", 128); tools && !tools->empty()) request.chat["tools"] = *tools;
  refuse_unread(fields);
  return request;
}

OllamaRequest read_ollama_generate(const WireJson& body, int64_t vocab) {
  Fields fields(body);
  OllamaRequest request;
  read_common(fields, request);
  request.prompt = fields.text("prompt").value_or("");
  request.only_loads = request.prompt.empty();
  request.raw = fields.boolean("raw").value_or(false);
  request.chat["return_token_ids"] = !request.raw;  // the context that the answer ends with
  WireJson messages = WireJson::array();
  if (const auto system = fields.text("system"); system && !system->empty()) messages.push_back({{"role", "system"}, {"content", *system}});
  messages.push_back({{"role", "user"}, {"content", request.prompt}});
  request.chat["messages"] = std::move(messages);
  if (const WireJson* context = fields.array("context", static_cast<size_t>(1) << 20))
    for (const WireJson& id : *context) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= vocab)
        fields.fail("context", fmt::format("a list of token ids below {}, as an answer gave it", vocab));
      request.context.push_back(id.get<int32_t>());
    }
  for (const char* name : {"suffix", "template"})
    if (const auto text = fields.text(name); text && !text->empty())
      throw ApiError{400, fmt::format("{} is not built{}", name, name[0] == 't' ? ": a template is code, and not taken from requests" : ""),
                     name, "unsupported_parameter"};
  if (const WireJson* images = fields.any("images"); images && !images->empty())
    throw ApiError{400, "images are not built", "images", "unsupported_parameter"};
  refuse_unread(fields);
  return request;
}

}  // namespace loraine
