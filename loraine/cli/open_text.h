// Tokenizer and chat template of a model, when it has them. Used by train, chat and tokenize.
#pragma once
#include <memory>

#include "loraine/io/model_files.h"
#include "loraine/text/chat_template.h"
#include "loraine/text/tokenizer.h"

namespace loraine {

struct ModelText {
  std::unique_ptr<Tokenizer> tokenizer;         // nullptr without tokenizer.json
  std::unique_ptr<ChatTemplate> chat_template;  // nullptr without one
};
ModelText open_text(const ModelFiles& files);

}  // namespace loraine
