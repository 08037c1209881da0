// OpenAI's embeddings: the request's JSON and the answer's. Called by the handler of the route.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "loraine/serve/chosen_adapter.h"
#include "loraine/serve/embeddings.h"
#include "loraine/serve/protocol/prompts.h"

namespace loraine {

struct AskedEmbeddings {
  std::string model;
  std::optional<AskedLora> lora;
  Prompts input;
  EmbeddingOptions options;
  bool base64 = false, add_special_tokens = true;
  std::string ignored;  // fields that nobody knows, for the log
};
// hidden: the model's width, as many dimensions there are. Throws ApiError.
AskedEmbeddings read_embeddings(const WireJson& body, int64_t vocab, int64_t hidden, bool strict);

// base64: little-endian f32, as openai-python asks for by itself.
WireJson embeddings_json(const Embeddings& embeddings, const std::string& model, int64_t tokens, bool base64);

}  // namespace loraine
