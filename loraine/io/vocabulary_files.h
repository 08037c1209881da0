// Tokenizers kept in other files than tokenizer.json: vocab.json and merges.txt, SentencePiece's tokenizer.model, tiktoken's files,
// Mistral's tekken.json. Called by model_files.cpp.
#pragma once
#include "loraine/io/model_files.h"

namespace loraine {

// Makes tokenizer_json as transformers' class of that name makes it; what is assumed where none is named, or an unknown one, stands in
// tokenizer_note. Special tokens that the files themselves name become tokenizer_config's where it names none. Where no tokenizer can be
// made, the note says what the folder has; a file that is broken throws bad_data.
void tokenizer_from_vocabulary(ModelFiles& files);

}  // namespace loraine
