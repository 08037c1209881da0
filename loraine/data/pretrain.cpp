// Texts to token ids in parallel, then blocks.
#include "loraine/data/pretrain.h"

#include <algorithm>

#include "loraine/core/batch.h"
#include "loraine/data/packing.h"

namespace loraine {
namespace {

Example trained_example(std::span<const int32_t> ids, const std::optional<int32_t>& pad) {
  Example example{{ids.begin(), ids.end()}, {ids.begin(), ids.end()}};
  if (pad) std::replace(example.labels.begin(), example.labels.end(), *pad, kIgnoreLabel);
  return example;
}

}  // namespace

Pretrained pretrain_examples(std::span<const std::string* const> texts, const Tokenizer& tokenizer, const PretrainOptions& options) {
  const int64_t n = static_cast<int64_t>(texts.size());
  std::vector<std::vector<int32_t>> ids(texts.size());
#pragma omp parallel for schedule(dynamic, 8)
  for (int64_t i = 0; i < n; ++i)
    ids[static_cast<size_t>(i)] = tokenizer.encode(*texts[static_cast<size_t>(i)] + options.end, false, options.split_special_tokens);
  Pretrained made;
  const size_t most = static_cast<size_t>(options.cutoff_len);
  if (!options.packing) {
    for (const auto& text : ids) {
      made.truncated += text.size() > most;
      made.lengths.push_back(static_cast<int64_t>(text.size()));
      made.examples.push_back(trained_example(std::span(text).first(std::min(text.size(), most)), options.pad));
    }
    return made;
  }
  const std::vector<int64_t> starts = batch_starts(n, options.texts_at_a_time, options.workers);
  for (size_t batch = 0; batch + 1 < starts.size(); ++batch) {
    std::vector<int32_t> all;
    for (auto i = static_cast<size_t>(starts[batch]); i < static_cast<size_t>(starts[batch + 1]); ++i)
      all.insert(all.end(), ids[i].begin(), ids[i].end());
    made.longest = std::max(made.longest, static_cast<int64_t>(all.size()));
    for (size_t at = 0; at + most <= all.size(); at += most)
      made.examples.push_back(trained_example(std::span(all).subspan(at, most), options.pad));
    made.truncated += all.size() % most != 0;
  }
  return made;
}

}  // namespace loraine
