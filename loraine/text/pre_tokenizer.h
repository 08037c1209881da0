// The "pre_tokenizer" of tokenizer.json: cuts normalized text into words, which BPE then encodes one by one. Called by tokenizer.cpp.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "loraine/text/text_pattern.h"

namespace loraine::tokens {

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct PreTokenizer {
  enum class Kind { none, sequence, split, byte_level, metaspace, digits, punctuation, whitespace_split };
  enum class Prepend { always, never, first };
  Kind kind = Kind::none;
  TextPattern pattern;  // split, byte_level, metaspace
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;            // split
  bool use_pattern = true;        // byte_level (use_regex), metaspace (split)
  bool add_prefix_space = false;  // byte_level
  std::string replacement;        // metaspace
  Prepend prepend = Prepend::always;
  bool individual_digits = false;
  std::vector<PreTokenizer> steps;  // sequence
};

// Words are ranges [begin, end) of text, in order, none of them empty; what lies between them was removed.
struct Words {
  std::string text;
  std::vector<std::pair<size_t, size_t>> ranges;
};

PreTokenizer parse_pre_tokenizer(const Json& value, const Place& place);
// at_start: the text begins where the whole input begins (Metaspace's "first" asks).
void pre_tokenize(const PreTokenizer& pre_tokenizer, Words& words, bool at_start);

}  // namespace loraine::tokens
