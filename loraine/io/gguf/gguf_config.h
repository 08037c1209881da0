// The metadata of a GGUF file as Hugging Face's configuration, tokenizer and chat template. Called by gguf_model.
#pragma once
#include <string>

#include "loraine/io/files/json_file.h"
#include "loraine/io/gguf/gguf.h"

namespace loraine {

Json gguf_config(const GgufFile& file, const TensorSource& tensors);  // config.json
std::string gguf_tokenizer_json(const GgufFile& file);                // bytes of tokenizer.json
Json gguf_tokenizer_config(const GgufFile& file);                     // tokenizer_config.json, chat_template included
bool has_gguf_tokenizer(const GgufFile& file);

}  // namespace loraine
