// Answers to messages and to texts.
#include "loraine/serve/answer.h"
#include "loraine/serve/chosen_adapter.h"
#include "loraine/serve/handlers/conversation.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/openai.h"

namespace loraine {
namespace {

void chat(Service& service, Call& call) {
  AskedChat chat = read_chat(parse_json_body(call.request.body), service.defaults, service.loaded->model.config.vocab_size,
                             service.llama_factory, service.loaded->config.strict);
  start_conversation(service, call, std::move(chat), service.new_id("chatcmpl-"),
                     [&](const Asked& asked, const std::string&) { return chat_form(asked, *service.loaded->text.tokenizer); });
}

void completion(Service& service, Call& call) {
  AskedCompletion asked = read_completion(parse_json_body(call.request.body), service.defaults, service.loaded->model.config.vocab_size,
                                          service.llama_factory, service.loaded->config.strict);
  if (asked.asked.thought_tokens)
    throw ApiError{400, "thinking_token_budget goes with conversations: a plain prompt has no marks of thoughts; leave it out",
                   "thinking_token_budget", "unsupported_parameter"};
  note_ignored(call, asked.ignored);
  const Tokenizer& tokenizer = *service.loaded->text.tokenizer;
  AnswerStart start;
  start.adapter = chosen_adapter(service, asked.asked.model, asked.asked.lora);
  start.id = service.new_id("cmpl-");
  {
    const std::shared_lock lock(service.text_mutex);
    for (std::string& text : asked.texts)
      start.prompts.push_back({.ids = tokenizer.encode(text, asked.add_special_tokens), .text = std::move(text)});
    for (std::vector<int32_t>& ids : asked.ids)
      start.prompts.push_back({.ids = ids, .text = asked.asked.echo ? tokenizer.decode(ids) : ""});
    start.grammar = shape_grammar(service, asked.asked, start.adapter.get());
  }
  call.request.body = {};
  start.form = completion_form(asked.asked, tokenizer);
  start.asked = std::move(asked.asked);
  Answer::start(service, call, std::move(start));
}

}  // namespace

void post_chat(Service& service, Call call) {
  if (!refused_early(service, call)) in_worker(service, std::move(call), chat);
}

void post_completion(Service& service, Call call) {
  if (!refused_early(service, call)) in_worker(service, std::move(call), completion);
}

}  // namespace loraine
