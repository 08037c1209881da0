// Vocabularies of bytes by rank: tiktoken's files (base64 and a rank on each line) and Mistral's tekken.json. Called by
// vocabulary_files.cpp.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loraine/io/vocabulary/tokenizer_text.h"

namespace loraine {

using TokenRanks = std::vector<std::pair<std::string, int64_t>>;  // bytes and rank, by rising rank

bool is_tiktoken(std::string_view bytes);  // its first line is base64, a space and a number
// `file` names it in errors (bad_data).
TokenRanks read_tiktoken(std::string_view bytes, const std::string& file);

struct Tekken {
  std::string pattern;               // how text is cut into words
  TokenRanks ranks;                  // their ids begin behind the special tokens
  std::vector<std::string> special;  // by id
};
Tekken read_tekken(const Json& content, const std::string& file);

// All but added_tokens and post_processor: byte-level BPE whose merges are every split of a token into two, by the token's rank.
// A token's id is first_id and its rank. Throws bad_data where a byte is no token.
TokenizerParts token_rank_parts(const TokenRanks& ranks, int64_t first_id, const char* words, const std::string& file);

}  // namespace loraine
