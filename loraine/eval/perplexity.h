// Perplexity of texts with a sliding window. Called by evaluate.cpp.
#pragma once
#include <string>
#include <vector>

#include "loraine/eval/figures.h"
#include "loraine/eval/subject.h"

namespace loraine {

struct Text {
  std::vector<int32_t> ids;
  size_t bytes = 0;
};

// Files ending in .jsonl or .json hold rows with a field `text`, each a text of its own; any other file is one text. Special tokens are
// added as the tokenizer does.
std::vector<Text> read_texts(const std::string& file, const Tokenizer& tokenizer);

// Windows of up to `window` tokens, each beginning `stride` tokens behind the one before, 0 < stride < window. A token's loss is taken in
// the first window that holds it, so each token but a text's first counts once, with at least window − stride tokens before it from the
// second window on.
std::vector<Example> sliding_windows(const std::vector<Text>& texts, int64_t window, int64_t stride);

// Adds ppl_perplexity (exp of the mean loss per token), ppl_loss, ppl_bits_per_byte, ppl_tokens.
void measure_perplexity(const Subject& subject, const std::vector<Text>& texts, int64_t window, int64_t stride, int64_t batch_size,
                        EvalResult& result);

}  // namespace loraine
