// The "decoder" of tokenizer.json: turns the spellings of tokens back into text. Called by tokenizer.cpp.
#pragma once
#include <string>
#include <vector>

#include "loraine/text/tokenizer/text_pattern.h"

namespace loraine::tokens {

struct TokenDecoder {
  enum class Kind { none, sequence, byte_level, byte_fallback, fuse, strip, replace, metaspace, suffix };
  Kind kind = Kind::none;
  std::string content;          // strip, replace, metaspace (its replacement), suffix
  TextPattern pattern;          // replace, suffix
  int64_t start = 0, stop = 0;  // strip
  bool drop_first = true;       // metaspace: the first token loses its replacement character
  std::vector<TokenDecoder> steps;
};

TokenDecoder parse_decoder(const Json& value, const Place& place);
// What a token is worth between others; whether the first one loses a space.
std::string bytes_of_token(const TokenDecoder& decoder, const std::string& token);
bool drops_first_space(const TokenDecoder& decoder);
std::string decode_tokens(const TokenDecoder& decoder, std::vector<std::string> tokens);

}  // namespace loraine::tokens
