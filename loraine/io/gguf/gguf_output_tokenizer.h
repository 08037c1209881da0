// tokenizer.json as the tokenizer.ggml keys of a GGUF, and chat templates. Called by export.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "loraine/io/files/json_file.h"
#include "loraine/io/gguf/gguf_write.h"

namespace loraine {

struct GgufTokenizerSource {
  std::string tokenizer_json;  // bytes; empty: the model has none
  Json tokenizer_config = Json::object();
  Json config = Json::object();  // for ids that the tokenizer does not name
  std::vector<int32_t> stop;     // ids that end an answer, eos among them
  int64_t rows = 0;              // of the embedding
  std::optional<std::string> chat_template;
  std::vector<std::pair<std::string, std::string>> chat_templates;      // named ones
  std::function<std::optional<float>(const std::string& piece)> score;  // of tokenizer.model, where there is one
};

// Throws unsupported for a tokenizer that llama.cpp has no name for. Rows without a token are filled up with "[PAD17]".
void put_gguf_tokenizer(GgufMetadata& metadata, const GgufTokenizerSource& source);

}  // namespace loraine
