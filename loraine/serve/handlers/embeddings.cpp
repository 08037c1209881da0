// Texts to vectors.
#include "loraine/serve/embeddings.h"

#include "loraine/serve/handlers/conversation.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/embeddings_form.h"
#include "loraine/serve/protocol/json_body.h"

namespace loraine {
namespace {

void embeddings(Service& service, Call& call) {
  const ModelConfig& model = service.loaded->model.config;
  const AskedEmbeddings asked =
      read_embeddings(parse_json_body(call.request.body), model.vocab_size, model.hidden_size, service.loaded->config.strict);
  note_ignored(call, asked.ignored);
  auto adapter = chosen_adapter(service, asked.model, asked.lora);
  std::vector<std::vector<int32_t>> inputs = asked.input.ids;
  {
    const std::shared_lock lock(service.text_mutex);
    for (const std::string& text : asked.input.texts)
      inputs.push_back(service.loaded->text.tokenizer->encode(text, asked.add_special_tokens));
  }
  int64_t tokens = 0;
  for (const std::vector<int32_t>& ids : inputs) tokens += static_cast<int64_t>(ids.size());
  call.request.body = {};
  const std::string name = asked.model.empty() ? service.model_name : asked.model;
  embed(service, call, std::move(adapter), inputs, asked.options,
        [name, tokens, base64 = asked.base64](Call& answered, const Embeddings& all) {
          answered.json(embeddings_json(all, name, tokens, base64));
        });
}

}  // namespace

void post_embeddings(Service& service, Call call) {
  if (!refused_early(service, call)) in_worker(service, std::move(call), embeddings);
}

}  // namespace loraine
