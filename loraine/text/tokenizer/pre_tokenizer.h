// The "pre_tokenizer" of tokenizer.json: cuts normalized text into words, which BPE then encodes one by one. Called by tokenizer.cpp.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "loraine/text/tokenizer/text_pattern.h"
#include "loraine/text/tokenizer/word_scanner.h"

namespace loraine::tokens {

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

struct PreTokenizer {
  enum class Kind { none, sequence, split, byte_level, metaspace, digits, punctuation, whitespace_split };
  enum class Prepend { always, never, first };
  Kind kind = Kind::none;
  TextPattern pattern;                      // split, byte_level, metaspace
  WordPattern scanner = WordPattern::none;  // what does the pattern's work where it is a known one
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;            // split
  bool use_pattern = true;        // byte_level (use_regex), metaspace (split)
  bool add_prefix_space = false;  // byte_level
  bool leave_bytes = false;       // byte_level: words stay as they are; who encodes them knows the stand-ins
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
bool ends_with_byte_level(const PreTokenizer& pre_tokenizer);
void leave_bytes(PreTokenizer& pre_tokenizer);  // of one that ends so: its last step no longer spells bytes with their stand-ins
// at_start: the text begins where the whole input begins (Metaspace's "first" asks).
void pre_tokenize(const PreTokenizer& pre_tokenizer, Words& words, bool at_start);

}  // namespace loraine::tokens
