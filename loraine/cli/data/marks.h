// The text of encoded examples with what becomes of each token: what `train` shows of its first example, and `data` of several.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loraine/data/dataset.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

enum class Mark : uint8_t { prompt, trained, cut };

// Tokens [begin, end) of the same kind.
struct Stretch {
  size_t begin = 0, end = 0;
  Mark mark = Mark::prompt;
  bool special = false;  // one special token, where these are kept apart
};

// Of an example without its padding. special: each special token is a stretch of its own; may be null.
std::vector<Stretch> stretches_of(std::span<const int32_t> labels, const Example& example, const Tokenizer* special);
// An example as it was before it was cut: the tokens that the cut-off removed are among them.
struct MarkedTokens {
  std::vector<int32_t> ids;
  std::vector<Stretch> stretches;
};
MarkedTokens marked_tokens(const Example& example, const WholeSample* whole, const Tokenizer* tokenizer);

// The text of a stretch as it stands in the whole: what a decoder strips at the start of a text stays where it is none. Without a
// tokenizer: token ids.
std::string text_between(std::span<const int32_t> ids, const Stretch& stretch, const Tokenizer* tokenizer);

std::string plain_letters(std::string_view text);  // letters that would steer a terminal, spelt out

}  // namespace loraine
