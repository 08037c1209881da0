// A GGUF file as a Hugging Face model: configuration, tokenizer and chat template from its metadata. Called by open_model_files.
#pragma once
#include <string>

#include "loraine/io/gguf.h"
#include "loraine/io/model_files.h"

namespace loraine {

ModelFiles open_gguf_model(const std::string& path);
Json gguf_config(const GgufFile& file, const TensorSource& tensors);  // config.json
std::string gguf_tokenizer_json(const GgufFile& file);                // bytes of tokenizer.json
Json gguf_tokenizer_config(const GgufFile& file);                     // tokenizer_config.json, chat_template included
bool has_gguf_tokenizer(const GgufFile& file);

}  // namespace loraine
