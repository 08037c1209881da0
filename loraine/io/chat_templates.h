// The chat templates of a model folder, wherever they stand. Called by model_files.cpp and api/chat_format.
#pragma once
#include "loraine/io/model_files.h"

namespace loraine {

// Fills chat_template and chat_templates, in transformers' order: chat_template.jinja ("default") and additional_chat_templates/NAME.jinja,
// else tokenizer_config's chat_template, a string or a list of named ones.
void read_chat_templates(ModelFiles& files);

// The chat template that stands beside an adapter, and the token that ends an answer there: PEFT's users and LLaMA-Factory save the
// tokenizer that was trained with into its folder.
struct FolderTemplate {
  std::optional<std::string> chat_template, eos_token;
};
FolderTemplate read_folder_template(const std::string& folder);

// The spelling of eos_token, bos_token, … in a tokenizer_config.json.
std::optional<std::string> token_text_of(const std::optional<Json>& tokenizer_config, const char* key);

}  // namespace loraine
