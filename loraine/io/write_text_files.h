// The text side of a model folder: tokenizer, template and generation settings, written beside weights or an adapter. Used by train,
// export.
#pragma once
#include <string>

#include "loraine/io/model_files.h"

namespace loraine {

// tokenizer.json, tokenizer_config.json and chat_template.jinja, those that there are.
void write_tokenizer_files(const ModelFiles& files, const std::string& folder);
// config.json and generation_config.json.
void write_config_files(const ModelFiles& files, const std::string& folder);

}  // namespace loraine
