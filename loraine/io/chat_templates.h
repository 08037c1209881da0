// The chat templates of a model folder, wherever they stand. Called by model_files.cpp.
#pragma once
#include "loraine/io/model_files.h"

namespace loraine {

// Fills chat_template and chat_templates, in transformers' order: chat_template.jinja ("default") and additional_chat_templates/NAME.jinja,
// else tokenizer_config's chat_template, a string or a list of named ones.
void read_chat_templates(ModelFiles& files);

}  // namespace loraine
