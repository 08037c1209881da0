// A tokenizer kept as vocab.json and merges.txt, as before there was tokenizer.json. Called by model_files.cpp.
#pragma once
#include "loraine/io/model_files.h"

namespace loraine {

// Makes tokenizer_json as transformers' class of that name makes it, for GPT-2's and Qwen2's classes; what is assumed where none is named
// stands in tokenizer_note. Where it cannot be made, the note says what the folder has.
void tokenizer_from_vocabulary(ModelFiles& files);

}  // namespace loraine
