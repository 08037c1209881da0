// The chat template that training writes conversations in. Called by train and data.
#pragma once
#include <string>

#include "loraine/api/chat_format.h"

namespace loraine {

// As given, else the one that the adapter or the model it goes on from was trained with, else the model's own, else `empty`. Said on the
// screen where it matters; `files` and `text` get the adapter's own Jinja text where that counts.
TemplateChoice training_template(const TrainConfig& config, ModelFiles& files, ModelText& text, const std::string& adapter);

// What data/ takes, with the template that was chosen.
DataOptions data_options_with(const TrainConfig& config, const TemplateChoice& choice, const ModelFiles& files, const ModelText& text);

// Tokens that the chosen named template will add to the tokenizer.
int64_t missing_stop_words(const TemplateChoice& choice, const ModelText& text);

}  // namespace loraine
