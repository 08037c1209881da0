// Answers to messages and to texts.
#include <fmt/format.h>

#include "loraine/api/chat_prompt.h"
#include "loraine/serve/answer.h"
#include "loraine/serve/chosen_adapter.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/openai.h"

namespace loraine {

bool refused_early(Service& service, const Call& call) {
  if (service.loop->waiting_requests() < service.config.max_queued_requests) return false;
  call.fail({429, fmt::format("{} requests wait already (max_queued_requests)", service.config.max_queued_requests), "", "queue_full",
             service.retry_after()});
  return true;
}

void note_ignored(const Call& call, const std::string& names) {
  if (!names.empty()) log_line(fmt::format("{}: fields that are not known are ignored: {}", call.request_id, names.substr(0, 200)));
}

namespace {

void chat(Service& service, Call& call) {
  AskedChat chat = read_chat(parse_json_body(call.request.body), service.defaults, service.loaded->model.config.vocab_size,
                             service.llama_factory, service.loaded->config.strict);
  note_ignored(call, chat.ignored);
  std::shared_ptr<const ServedAdapter> adapter = chosen_adapter(service, chat.asked.model, chat.asked.lora);
  PromptState prompt;
  {
    const std::shared_lock lock(service.text_mutex);
    const ChatFormat& format = adapter ? adapter->format : service.loaded->format;
    ChatPrompt made =
        chat_prompt(format, *service.loaded->text.tokenizer, chat.messages, chat.kwargs, service.loaded->config.split_special_tokens);
    prompt.ids = std::move(made.ids);
  }
  call.request.body = {};
  auto form = chat_form(chat.asked, *service.loaded->text.tokenizer);
  std::vector<PromptState> prompts;
  prompts.push_back(std::move(prompt));
  Answer::start(service, call, std::move(chat.asked), std::move(adapter), std::move(prompts), std::move(form), service.new_id("chatcmpl-"));
}

void completion(Service& service, Call& call) {
  AskedCompletion asked = read_completion(parse_json_body(call.request.body), service.defaults, service.loaded->model.config.vocab_size,
                                          service.llama_factory, service.loaded->config.strict);
  note_ignored(call, asked.ignored);
  std::shared_ptr<const ServedAdapter> adapter = chosen_adapter(service, asked.asked.model, asked.asked.lora);
  std::vector<PromptState> prompts;
  {
    const std::shared_lock lock(service.text_mutex);
    const Tokenizer& tokenizer = *service.loaded->text.tokenizer;
    for (std::string& text : asked.texts) prompts.push_back({tokenizer.encode(text, asked.add_special_tokens), std::move(text), {}});
    for (std::vector<int32_t>& ids : asked.ids) prompts.push_back({ids, asked.asked.echo ? tokenizer.decode(ids) : "", {}});
  }
  call.request.body = {};
  auto form = completion_form(asked.asked, *service.loaded->text.tokenizer);
  Answer::start(service, call, std::move(asked.asked), std::move(adapter), std::move(prompts), std::move(form), service.new_id("cmpl-"));
}

}  // namespace

void post_chat(Service& service, Call call) {
  if (!refused_early(service, call)) in_worker(service, std::move(call), chat);
}

void post_completion(Service& service, Call call) {
  if (!refused_early(service, call)) in_worker(service, std::move(call), completion);
}

void post_score(Service&, Call call) { call.fail({405, "the model that is served gives answers, not scores", "", "method_not_allowed"}); }

}  // namespace loraine
