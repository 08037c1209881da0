// Tokenizer, chat template and special tokens of a model, when it has them. Used by the commands and by the other files of api/.
#pragma once
#include <memory>

#include "loraine/core/error.h"
#include "loraine/data/dataset.h"
#include "loraine/data/templates/templates.h"
#include "loraine/io/model_files.h"
#include "loraine/text/chat_template.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

struct ModelText {
  std::unique_ptr<Tokenizer> tokenizer;         // nullptr without tokenizer.json
  std::shared_ptr<ChatTemplate> chat_template;  // nullptr without one
};
ModelText open_text(const ModelFiles& files);
// What to say where text or a conversation is to be encoded and the model has no tokenizer or no chat template.
Error no_tokenizer(const ModelFiles& files);
Error no_chat_template(const ModelFiles& files);
int64_t embedding_rows(const ModelFiles& files);  // vocab_size of config.json; 0 where it does not say
// What reading data must know of the model; a model without any chat template gets LLaMA-Factory's `empty`.
void fit_to_model(DataOptions& options, const ModelFiles& files, const ModelText& text);
// A Jinja text over the special tokens of the model. name: for messages.
std::shared_ptr<ChatTemplate> open_chat_template(const ModelFiles& files, const std::string& jinja, const std::string& name);
SpecialTokens special_tokens_of(const ModelFiles& files, const Tokenizer& tokenizer);

}  // namespace loraine
