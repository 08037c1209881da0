// Answers to messages and to texts.
#include <fmt/format.h>

#include "loraine/api/chat_prompt.h"
#include "loraine/serve/answer.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/openai.h"

namespace loraine {
namespace {

// The adapter of a request: of `model`; of `lora`, where it names one; else of what POST /lora-adapters set.
std::shared_ptr<const ServedAdapter> adapter_of(Service& service, const Asked& asked) {
  std::shared_ptr<const ServedAdapter> adapter = find_adapter(service, asked.model);
  if (!asked.lora) {
    std::string on;
    {
      const std::lock_guard lock(service.scales_mutex);
      if (!service.default_lora.empty()) on = *service.default_lora.begin();
    }
    return adapter || on.empty() ? adapter : service.adapters->find(on);
  }
  adapter = nullptr;
  for (const auto& [given, scale] : *asked.lora) {
    if (scale == 0) continue;
    if (scale != 1 || adapter) throw ApiError{400, "lora: only one adapter with scale 1 is built", "lora", "unsupported_parameter"};
    std::string name = given;
    const std::vector<AdapterListing> all = service.adapters->list();
    const bool is_number = given.size() < 6 && given.find_first_not_of("0123456789") == given.npos;
    if (is_number && !service.adapters->has(given) && std::stoul(given) < all.size()) name = all[std::stoul(given)].name;
    adapter = service.adapters->find(name);
    if (!adapter) throw ApiError{404, fmt::format("lora: no adapter is called '{}'", name), "lora", "model_not_found"};
  }
  return adapter;
}

// Before a body is even read: there is no place for what it asks.
bool refused_early(Service& service, const Call& call) {
  if (service.loop->waiting_requests() < service.config.max_queued_requests) return false;
  call.fail({429, fmt::format("{} requests wait already (max_queued_requests)", service.config.max_queued_requests), "", "queue_full",
             service.retry_after()});
  return true;
}

void note_ignored(const Call& call, const std::string& names) {
  if (!names.empty()) log_line(fmt::format("{}: fields that are not known are ignored: {}", call.request_id, names.substr(0, 200)));
}

void chat(Service& service, Call& call) {
  AskedChat chat = read_chat(parse_json_body(call.request.body), service.defaults, service.loaded->model.config.vocab_size,
                             service.llama_factory, service.loaded->config.strict);
  note_ignored(call, chat.ignored);
  std::shared_ptr<const ServedAdapter> adapter = adapter_of(service, chat.asked);
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
  std::shared_ptr<const ServedAdapter> adapter = adapter_of(service, asked.asked);
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
