// Pretraining rows (stage pt): plain text with an end token; by default all texts end to end, cut into blocks of cutoff_len tokens. Called
// by dataset.cpp.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "loraine/data/example.h"
#include "loraine/data/templates.h"

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

struct Pretrained {
  std::vector<Example> examples;
  int64_t truncated = 0;         // texts that are cut (without packing), or last pieces that fill no block (with it)
  int64_t longest = 0;           // with packing: the most tokens that were laid end to end
  std::vector<int64_t> lengths;  // without packing: tokens of each text before it was cut
};
Pretrained pretrain_examples(std::span<const std::string* const> texts, const Tokenizer& tokenizer, const PretrainOptions& options);

}  // namespace loraine
