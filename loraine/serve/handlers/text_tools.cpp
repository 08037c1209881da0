// Text to tokens, back, and messages to the text of a prompt; in vLLM's and llama-server's forms.
#include <fmt/format.h>

#include "loraine/serve/handlers/conversation.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/openai.h"

namespace loraine {
namespace {

ChatPrompt prompt_of(Service& service, Fields& fields) {
  const auto adapter = find_adapter(service, fields.text("model", 512).value_or(""));
  AskedChat chat;
  chat.messages = read_messages(fields);
  chat.kwargs = read_template_kwargs(fields);
  chat.asked.tools = read_tools(fields);
  const std::shared_lock lock(service.text_mutex);
  return conversation_prompt(service, chat, adapter.get());
}

WireJson pieces(const Service& service, const std::vector<int32_t>& ids) {
  WireJson list = WireJson::array();
  for (const int32_t id : ids) list.push_back(service.loaded->text.tokenizer->token_bytes(id));
  return list;
}

void tokenize(Service& service, Call& call) {
  const WireJson body = parse_json_body(call.request.body);
  Fields fields(body);
  const Tokenizer& tokenizer = *service.loaded->text.tokenizer;
  if (const auto content = fields.text("content")) {  // llama-server's form
    const bool special = fields.boolean("add_special").value_or(false), parse = fields.boolean("parse_special").value_or(true),
               with_pieces = fields.boolean("with_pieces").value_or(false);
    const std::shared_lock lock(service.text_mutex);
    const std::vector<int32_t> ids = tokenizer.encode(*content, special, !parse);
    if (!with_pieces) return call.json({{"tokens", ids}});
    WireJson list = WireJson::array();
    for (const int32_t id : ids) list.push_back({{"id", id}, {"piece", service.loaded->text.tokenizer->token_bytes(id)}});
    return call.json({{"tokens", list}});
  }
  std::vector<int32_t> ids;
  if (fields.any("messages")) {
    ids = prompt_of(service, fields).ids;
  } else {
    const auto prompt = fields.text("prompt");
    if (!prompt) fields.fail("prompt", "a string (or messages, or content)");
    const bool special = fields.boolean("add_special_tokens").value_or(true);
    const std::shared_lock lock(service.text_mutex);
    ids = tokenizer.encode(*prompt, special);
  }
  const bool strings = fields.boolean("return_token_strs").value_or(false);
  const std::shared_lock lock(service.text_mutex);
  call.json({{"count", ids.size()},
             {"max_model_len", service.max_model_len},
             {"tokens", ids},
             {"token_strs", strings ? pieces(service, ids) : WireJson()}});
}

void detokenize(Service& service, Call& call) {
  const WireJson body = parse_json_body(call.request.body);
  Fields fields(body);
  const WireJson* list = fields.array("tokens", SIZE_MAX);
  const int64_t vocab = service.loaded->model.config.vocab_size;
  std::vector<int32_t> ids;
  if (!list) fields.fail("tokens", "a list of token ids");
  for (const WireJson& id : *list) {
    const bool too_large = id.is_number_unsigned() && id.get<uint64_t>() >= static_cast<uint64_t>(vocab);
    const bool fits = id.is_number_integer() && !too_large && id.get<int64_t>() >= 0 && id.get<int64_t>() < vocab;
    if (!fits) fields.fail("tokens", fmt::format("a list of token ids from 0 to {}; it has {}", vocab - 1, shown(id)));
    ids.push_back(id.get<int32_t>());
  }
  const std::shared_lock lock(service.text_mutex);
  const std::string text = service.loaded->text.tokenizer->decode(ids);
  call.json({{"prompt", text}, {"content", text}});
}

void apply_template(Service& service, Call& call) {
  const WireJson body = parse_json_body(call.request.body);
  Fields fields(body);
  call.json({{"prompt", prompt_of(service, fields).text}});
}

}  // namespace

void post_tokenize(Service& service, Call call) { in_worker(service, std::move(call), tokenize); }
void post_detokenize(Service& service, Call call) { in_worker(service, std::move(call), detokenize); }
void post_apply_template(Service& service, Call call) { in_worker(service, std::move(call), apply_template); }

}  // namespace loraine
