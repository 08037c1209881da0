// Lays examples end to end; the only place where labels are shifted. Called through batcher.h.
#include "loraine/data/examples/batcher.h"

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
    rows += static_cast<size_t>(example_rows(*e));
  }
  batch.tokens.reserve(rows);
  batch.positions.reserve(rows);
  batch.labels.reserve(rows);
  for (const Example* e : examples) {
    const int64_t start = batch.rows(), length = example_rows(*e);
    if (length == 0) continue;
    batch.tokens.insert(batch.tokens.end(), e->input_ids.begin(), e->input_ids.begin() + length);
    batch.labels.insert(batch.labels.end(), e->labels.begin() + 1, e->labels.begin() + length);
    batch.labels.push_back(kIgnoreLabel);
    for (size_t sample = 0; sample < std::max<size_t>(e->starts.size(), 1); ++sample) {
      const int64_t first = e->starts.empty() ? 0 : e->starts[sample];
      const int64_t end = sample + 1 < e->starts.size() ? e->starts[sample + 1] : length;
      if (first >= end || end > length)
        throw Error(ErrorKind::internal, fmt::format("example: a packed sample from {} to {} of {} tokens", first, end, length));
      for (int64_t i = first; i < end; ++i) batch.positions.push_back(static_cast<int32_t>(i - first));
      if (!e->sees_all) batch.sequences.push_back({start + first, end - first, start + first, end - first});
    }
    if (e->sees_all) batch.sequences.push_back({start, length, start, length});
  }
  return batch;
}

int64_t example_rows(const Example& example) { return static_cast<int64_t>(example.input_ids.size()) - example.padding; }

int64_t count_labels(const Example& example) {
  return static_cast<int64_t>(example.labels.size()) - std::count(example.labels.begin(), example.labels.end(), kIgnoreLabel);
}

}  // namespace loraine
