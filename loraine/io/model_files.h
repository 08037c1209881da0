// A model as found on disk: a Hugging Face folder or one GGUF file, seen alike. Used by load, chat, export and convert.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "loraine/io/files/json_file.h"
#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

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
void convert_gguf(const std::string& gguf,
                  const std::string& folder);  // writes the Hugging Face folder (model.safetensors in F32/F16/BF16, tokenizer, configs)

}  // namespace loraine
