// tokenizer.json of a SentencePiece model, as transformers' converters make it. Called by vocabulary_files.cpp.
#pragma once
#include <map>

#include "loraine/io/vocabulary/sentencepiece_file.h"
#include "loraine/io/vocabulary/tokenizer_text.h"

namespace loraine {

enum class PieceRules {
  sentencepiece,  // the file's own settings: what SentencePiece itself encodes
  llama_legacy,   // LlamaTokenizer: a space before every part between special tokens
  llama,          // LlamaTokenizer with legacy: false: a space before the text alone
  gemma           // GemmaTokenizer: no space before
};

struct PieceUse {
  PieceRules rules = PieceRules::sentencepiece;
  bool add_prefix_space = true;            // of the Llama rules
  std::map<int64_t, std::string> renamed;  // pieces that added_tokens_decoder gives another name
};

// Renames pieces as `use` says; the parts after it see the new names.
void rename_pieces(SentencePieceFile& file, const PieceUse& use);
// All but post_processor. `name` names the file in errors. Throws bad_data for a model of words or characters.
TokenizerParts sentencepiece_parts(const SentencePieceFile& file, const PieceUse& use, const std::string& name);
// The pieces that are found in the text before anything else, as entries of added_tokens.
Json sentencepiece_added_tokens(const SentencePieceFile& file, const PieceUse& use);

}  // namespace loraine
