// Anthropic's messages, and the count of a prompt's tokens.
#include "loraine/serve/chosen_adapter.h"
#include "loraine/serve/handlers/conversation.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/anthropic.h"
#include "loraine/serve/protocol/json_body.h"

namespace loraine {
namespace {

AskedChat read(Service& service, const Call& call) {
  return read_anthropic(parse_json_body(call.request.body), service.defaults, service.loaded->model.config.vocab_size,
                        service.loaded->config.strict);
}

void messages(Service& service, Call& call) {
  start_conversation(service, call, read(service, call), service.new_id("msg_"),
                     [](const Asked&, const std::string&) { return anthropic_form(); });
}

void count_tokens(Service& service, Call& call) {
  const AskedChat chat = read(service, call);
  note_ignored(call, chat.ignored);
  const auto adapter = chosen_adapter(service, chat.asked.model, chat.asked.lora);
  const std::shared_lock lock(service.text_mutex);
  call.json({{"input_tokens", conversation_prompt(service, chat, adapter.get()).ids.size()}});
}

}  // namespace

void post_messages(Service& service, Call call) {
  if (!refused_early(service, call)) in_worker(service, std::move(call), messages);
}

void post_count_tokens(Service& service, Call call) { in_worker(service, std::move(call), count_tokens); }

}  // namespace loraine
