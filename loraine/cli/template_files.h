// A named or derived chat template as the files other programs read: chat_template.jinja, tokenizer_config.json, Ollama's Modelfile.
// Called by train and export.
#pragma once
#include <string>

#include "loraine/api/open_text.h"
#include "loraine/data/templates/templates.h"

namespace loraine {

// The template as a Jinja text over messages, and as Ollama's Modelfile. Stop words are special.stop.
std::string jinja_of_template(const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special);
std::string modelfile_of_template(const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special);

// The special tokens that a template needs, in every file that speaks of them: tokenizer.json gets the new ones; tokenizer_config.json and,
// where there are such, special_tokens_map.json and added_tokens.json say the same. tokenizer: after apply_template_tokens.
void write_special_tokens(ModelFiles& files, const Tokenizer& tokenizer, const SpecialTokens& special);

// What else LLaMA-Factory changes in the text files when it trains or exports with this template: the chat template where the model has
// none, or where the template's name stands for a format of its own. padding_side: right (train), left (export).
void apply_template_to_files(ModelFiles& files, const Template& chat, const Tokenizer& tokenizer, const SpecialTokens& special,
                             const std::string& padding_side);

// A model that is saved whole names the special tokens it was trained with, as transformers does: config.json and generation_config.json
// get the tokenizer's bos, eos and pad; ids that ended an answer before stay in generation_config.json.
void align_special_tokens(ModelFiles& files, const SpecialTokens& special);

}  // namespace loraine
