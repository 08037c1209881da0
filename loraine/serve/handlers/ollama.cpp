// Ollama's protocol: answers to messages and prompts, and embeddings.
#include "loraine/serve/protocol/ollama.h"

#include <fmt/format.h>

#include "loraine/serve/chosen_adapter.h"
#include "loraine/serve/embeddings.h"
#include "loraine/serve/handlers/conversation.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/openai.h"

namespace loraine {
namespace {

using Clock = std::chrono::steady_clock;

void answer(Service& service, Call& call, bool generate) {
  const Clock::time_point began = Clock::now();
  const ModelConfig& model = service.loaded->model.config;
  const WireJson body = parse_json_body(call.request.body);
  const OllamaRequest request = generate ? read_ollama_generate(body, model.vocab_size) : read_ollama_chat(body);
  if (request.only_loads) {
    find_adapter(service, untagged(request.model));
    const WireJson loaded = ollama_loaded(request, generate);
    const bool streams = request.chat["stream"].get<bool>();
    return streams ? call.send({.content_type = "application/x-ndjson", .body = wire_text(loaded) + "\n"}) : call.json(loaded);
  }
  AskedChat chat = read_chat(request.chat, service.defaults, model.vocab_size, service.llama_factory, service.loaded->config.strict);
  chat.context_before = request.context;
  if (generate) {
    const auto adapter = chosen_adapter(service, chat.asked.model, chat.asked.lora);
    const ChatFormat& format = adapter ? adapter->format : service.loaded->format;
    if (request.raw || (!format.named && !format.own)) chat.plain = request.prompt;
  }
  start_conversation(service, call, std::move(chat), service.new_id("ollama-"), [&](const Asked& asked, const std::string&) {
    return ollama_form(request, generate, asked, *service.loaded->text.tokenizer, began);
  });
}

struct AskedOllamaEmbeddings {
  std::string model;
  std::vector<std::string> texts;
  bool truncate = true;
  EmbeddingOptions options;
};

AskedOllamaEmbeddings read_embed(const WireJson& body, int64_t hidden, bool several) {
  constexpr size_t kMostTexts = 2048;
  Fields fields(body);
  AskedOllamaEmbeddings asked;
  asked.model = fields.required_text("model", 512);
  const char* field = several ? "input" : "prompt";
  const WireJson* input = fields.any(field);
  const std::string expected = several ? fmt::format("a string or a list of at most {} strings", kMostTexts) : "a string";
  if (input && input->is_string()) asked.texts = {input->get<std::string>()};
  else if (!several || !input || !input->is_array() || input->size() > kMostTexts) fields.fail(field, expected);
  else
    for (const WireJson& one : *input) {
      if (!one.is_string()) fields.fail(field, expected);
      asked.texts.push_back(one.get<std::string>());
    }
  asked.truncate = fields.boolean("truncate").value_or(true);
  asked.options.dimensions = fields.integer("dimensions", 1, hidden);
  return asked;
}

void embed_texts(Service& service, Call& call, bool several) {
  const Clock::time_point began = Clock::now();
  const AskedOllamaEmbeddings asked = read_embed(parse_json_body(call.request.body), service.loaded->model.config.hidden_size, several);
  std::shared_ptr<const ServedAdapter> adapter = chosen_adapter(service, untagged(asked.model), {});
  std::vector<std::vector<int32_t>> texts;
  int64_t tokens = 0;
  {
    const std::shared_lock lock(service.text_mutex);
    for (const std::string& text : asked.texts) {
      texts.push_back(service.loaded->text.tokenizer->encode(text, true));
      if (asked.truncate && static_cast<int64_t>(texts.back().size()) > service.max_model_len)
        texts.back().resize(static_cast<size_t>(service.max_model_len));
      tokens += static_cast<int64_t>(texts.back().size());
    }
  }
  if (texts.empty()) return call.json({{"model", asked.model}, {"embeddings", WireJson::array()}});
  call.request.body = {};
  embed(service, call, std::move(adapter), texts, asked.options,
        [model = asked.model, tokens, several, began](Call& answered, const Embeddings& all) {
          if (!several) return answered.json({{"embedding", all[0]}});
          answered.json({{"model", model},
                         {"embeddings", all},
                         {"total_duration", std::chrono::nanoseconds(Clock::now() - began).count()},
                         {"load_duration", 0},
                         {"prompt_eval_count", tokens}});
        });
}

void when_free(Service& service, Call call, void (*work)(Service&, Call&)) {
  if (!refused_early(service, call)) in_worker(service, std::move(call), work);
}

}  // namespace

void post_ollama_chat(Service& service, Call call) {
  when_free(service, std::move(call), [](Service& s, Call& c) { answer(s, c, false); });
}

void post_ollama_generate(Service& service, Call call) {
  when_free(service, std::move(call), [](Service& s, Call& c) { answer(s, c, true); });
}

void post_ollama_embed(Service& service, Call call) {
  when_free(service, std::move(call), [](Service& s, Call& c) { embed_texts(s, c, true); });
}

void post_ollama_embeddings(Service& service, Call call) {
  when_free(service, std::move(call), [](Service& s, Call& c) { embed_texts(s, c, false); });
}

}  // namespace loraine
