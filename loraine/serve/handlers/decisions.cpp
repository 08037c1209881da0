// Questions with few answers, decided by the probabilities of their labels.
#include "loraine/serve/decisions.h"

#include "loraine/api/chat_prompt.h"
#include "loraine/serve/chosen_adapter.h"
#include "loraine/serve/handlers/conversation.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/decisions_form.h"
#include "loraine/serve/protocol/json_body.h"

namespace loraine {
namespace {

std::vector<LabelledPrompt> prompts_of(Service& service, const AskedDecisions& asked, const ServedAdapter* adapter) {
  const std::shared_lock lock(service.text_mutex);
  const Tokenizer& tokenizer = *service.loaded->text.tokenizer;
  const ChatFormat& format = adapter ? adapter->format : service.loaded->format;
  const WireJson kwargs = {{"add_generation_prompt", true}, {"enable_thinking", false}};
  std::vector<LabelledPrompt> prompts;
  for (const DecisionQuestion& question : asked.questions) {
    LabelledPrompt prompt;
    prompt.ids = chat_prompt(format, tokenizer, messages_with(asked, question), kwargs, service.loaded->config.split_special_tokens).ids;
    for (const std::string& label : question.labels) {
      prompt.labels.push_back(tokenizer.encode(label));
      if (prompt.labels.back().empty()) throw ApiError{400, "the model's tokenizer has no token for the label " + label, "questions"};
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

template <class Read, class Write>
void decide_asked(Service& service, Call& call, const char* param, const Read& read, const Write& write) {
  AskedDecisions asked = read(parse_json_body(call.request.body), service.loaded->config.strict);
  note_ignored(call, asked.ignored);
  std::shared_ptr<const ServedAdapter> adapter = chosen_adapter(service, asked.model, {});
  const std::vector<LabelledPrompt> prompts = prompts_of(service, asked, adapter.get());
  const std::string model = asked.model.empty() ? service.model_name : asked.model;
  call.request.body = {};
  decide(service, call, std::move(adapter), prompts, param,
         [asked = std::move(asked), model, write](Call& answered, const Decided& decided) { answered.json(write(asked, decided, model)); });
}

}  // namespace

void post_decisions(Service& service, Call call) {
  if (refused_early(service, call)) return;
  in_worker(service, std::move(call), [](Service& s, Call& c) { decide_asked(s, c, "input", read_decisions, decisions_json); });
}

void post_system_one(Service& service, Call call) {
  if (refused_early(service, call)) return;
  in_worker(service, std::move(call), [](Service& s, Call& c) { decide_asked(s, c, "state", read_system_one, system_one_json); });
}

}  // namespace loraine
