// add_tokens, add_special_tokens, new_special_tokens_config, resize_vocab: a tokenizer with more tokens, and a model with rows for them.
// Called by every command that opens a model with text.
#pragma once
#include <string>

#include "loraine/api/open_text.h"
#include "loraine/train/config/config.h"

namespace loraine {

bool adds_tokens(const TrainConfig& config);
// Adds them to `files` and `text`, which are one model's; `more`: rows for tokens that a template will add, with resize_vocab. Gives what
// was done in words; empty where nothing was to do. As in LLaMA-Factory the rows are rounded up to a multiple of 64.
std::string add_new_tokens(ModelFiles& files, ModelText& text, const TrainConfig& config, int64_t more = 0);

}  // namespace loraine
