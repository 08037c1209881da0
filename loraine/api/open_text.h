// Tokenizer, chat template and special tokens of a model, when it has them. Used by the commands and by the other files of api/.
#pragma once
#include <memory>

#include "loraine/data/templates.h"
#include "loraine/io/model_files.h"
#include "loraine/text/chat_template.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

struct ModelText {
  std::unique_ptr<Tokenizer> tokenizer;         // nullptr without tokenizer.json
  std::unique_ptr<ChatTemplate> chat_template;  // nullptr without one
};
ModelText open_text(const ModelFiles& files);
SpecialTokens special_tokens_of(const ModelFiles& files, const Tokenizer& tokenizer);

}  // namespace loraine
