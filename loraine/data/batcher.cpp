// Lays examples end to end; the only place where labels are shifted. Called through batcher.h.
#include "loraine/data/batcher.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {

Batch make_batch(std::span<const Example* const> examples) {
  Batch batch;
  size_t rows = 0;
  for (const Example* e : examples) {
    if (e->labels.size() != e->input_ids.size())
      throw Error(ErrorKind::internal, fmt::format("example: {} tokens but {} labels", e->input_ids.size(), e->labels.size()));
    rows += e->input_ids.size();
  }
  batch.tokens.reserve(rows);
  batch.positions.reserve(rows);
  batch.labels.reserve(rows);
  for (const Example* e : examples) {
    const int64_t start = batch.rows(), length = static_cast<int64_t>(e->input_ids.size());
    if (length == 0) continue;
    batch.tokens.insert(batch.tokens.end(), e->input_ids.begin(), e->input_ids.end());
    for (int64_t i = 0; i < length; ++i) batch.positions.push_back(static_cast<int32_t>(i));
    batch.labels.insert(batch.labels.end(), e->labels.begin() + 1, e->labels.end());
    batch.labels.push_back(kIgnoreLabel);
    batch.sequences.push_back({start, length, start, length});
  }
  return batch;
}

int64_t count_labels(const Example& example) {
  return static_cast<int64_t>(example.labels.size()) - std::count(example.labels.begin(), example.labels.end(), kIgnoreLabel);
}

}  // namespace loraine
