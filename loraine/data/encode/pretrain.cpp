// Texts to token ids, and blocks.
#include "loraine/data/encode/pretrain.h"

#include <algorithm>

#include "loraine/core/batch.h"
#include "loraine/data/examples/packing.h"

namespace loraine {

std::vector<int32_t> text_ids(const std::string& text, const Tokenizer& tokenizer, const PretrainOptions& options) {
  return tokenizer.encode(text + options.end, false, options.split_special_tokens);
}

Example trained_example(TokenIds ids, const std::optional<int32_t>& pad) {
  Example example;
  example.labels = ids;
  if (pad && std::find(ids.begin(), ids.end(), *pad) != ids.end()) {
    std::vector<int32_t> labels(ids.begin(), ids.end());
    std::replace(labels.begin(), labels.end(), *pad, kIgnoreLabel);
    example.labels = std::move(labels);
  }
  example.input_ids = std::move(ids);
  return example;
}

TextBlocks text_blocks(std::span<const Example* const> texts, const PretrainOptions& options, ExampleStore* store) {
  TextBlocks made;
  const auto most = static_cast<size_t>(options.cutoff_len);
  const std::vector<int64_t> starts = batch_starts(static_cast<int64_t>(texts.size()), options.texts_at_a_time, options.workers);
  for (size_t batch = 0; batch + 1 < starts.size(); ++batch) {
    std::vector<int32_t> all;
    for (auto i = static_cast<size_t>(starts[batch]); i < static_cast<size_t>(starts[batch + 1]); ++i) {
      all.insert(all.end(), texts[i]->input_ids.begin(), texts[i]->input_ids.end());
      texts[i]->let_go();
    }
    made.longest = std::max(made.longest, static_cast<int64_t>(all.size()));
    made.truncated += all.size() % most != 0;
    const size_t first = made.examples.size(), length = all.size();
    const TokenIds laid(std::move(all));
    for (size_t at = 0; at + most <= length; at += most) {
      made.examples.push_back(trained_example(laid.part(at, most), options.pad));
      made.counts.push_back(count_of(made.examples.back()));
    }
    if (store) store->keep(std::span(made.examples).subspan(first));
  }
  return made;
}

}  // namespace loraine
