// Pretraining rows (stage pt): plain text with an end token; by default all texts end to end, cut into blocks of cutoff_len tokens. Called
// by dataset.cpp.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "loraine/data/encode/make_examples.h"
#include "loraine/data/templates/templates.h"

namespace loraine {

struct PretrainOptions {
  int64_t cutoff_len = 2048;  // tokens of a block, or the most of a text
  bool packing = true;
  int64_t workers = 1;             // they share the texts, and batches begin anew at each share
  int64_t texts_at_a_time = 1000;  // LLaMA-Factory's preprocessing_batch_size: blocks do not reach beyond so many texts
  std::string end;                 // text of the token that ends a text
  std::optional<int32_t> pad;      // this id is not trained (it is what transformers pads with)
  bool split_special_tokens = false;
};

// A text with its end.
std::vector<int32_t> text_ids(const std::string& text, const Tokenizer& tokenizer, const PretrainOptions& options);

// All of it is trained but the pad. Ids of which none is that share their memory with the labels.
Example trained_example(TokenIds ids, const std::optional<int32_t>& pad);

struct TextBlocks {
  std::vector<Example> examples;
  std::vector<SampleCount> counts;
  int64_t truncated = 0;  // last pieces that fill no block
  int64_t longest = 0;    // the most tokens that were laid end to end
};
// The ids of texts end to end, in blocks of cutoff_len; laid in the store where there is one, while the texts are let go of.
TextBlocks text_blocks(std::span<const Example* const> texts, const PretrainOptions& options, ExampleStore* store);

}  // namespace loraine
