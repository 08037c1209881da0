// A model as found on disk: a Hugging Face folder or one GGUF file, seen alike. Used by load, chat, export and convert.
#pragma once
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "loraine/io/tensor_source.h"

namespace loraine {

using Json = nlohmann::json;

struct ModelFiles {
  std::string path;
  std::unique_ptr<TensorSource> tensors;
  Json config;  // config.json (made from the metadata of a GGUF)
  std::optional<Json> generation_config;
  std::optional<std::string> tokenizer_json;  // bytes of tokenizer.json (made from the metadata of a GGUF)
  std::optional<Json> tokenizer_config;       // includes chat_template when the folder has chat_template.jinja
  std::optional<std::string>
      chat_template;  // chat_template.jinja, else tokenizer_config's chat_template (the one named "default" of a list)
};

ModelFiles open_model_files(const std::string& path);  // folder or *.gguf
Json parse_json_file(const std::string& path);         // bad_data with file, line and column; duplicate keys refused; depth limited
nlohmann::ordered_json parse_json_file_in_order(const std::string& path);  // keys as they stand in the file
void convert_gguf(const std::string& gguf,
                  const std::string& folder);  // writes the Hugging Face folder (model.safetensors in F32/F16/BF16, tokenizer, configs)

}  // namespace loraine
