// A tokenizer.json put together from its parts. Used by the readers of other tokenizer files in this room.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "loraine/io/files/json_file.h"

namespace loraine {

using TokenIds = std::vector<std::pair<std::string, int64_t>>;         // a vocabulary in the order in which it is written
using TokenScores = std::vector<std::pair<std::string, double>>;       // a Unigram vocabulary: the id is the place
using TokenMerges = std::vector<std::pair<std::string, std::string>>;  // lowest rank first

struct TokenizerParts {
  Json normalizer, pre_tokenizer, post_processor, decoder;
  Json model;  // without what follows
  TokenIds ids;
  TokenScores scores;
  TokenMerges merges;
};

// added_tokens: a list as tokenizer.json has it. Every text must be UTF-8.
std::string tokenizer_text(const TokenizerParts& parts, const Json& added_tokens);

// Parts of tokenizer.json, as it spells them.
Json json_sequence(const char* of, Json steps);  // {"type": "Sequence", of: steps}
Json json_replace(const Json& pattern, const char* content);
Json json_split(const char* regex, const char* behavior);
Json json_byte_level(bool use_regex);
// {"type": "TemplateProcessing"}: the text between these tokens, each given with its id; null where there are none.
Json json_tokens_around(const TokenIds& before, const TokenIds& after);

}  // namespace loraine
