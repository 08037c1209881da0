// Lays examples end to end; the only place where labels are shifted. Called through batcher.h.
#include "loraine/data/examples/batcher.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {

namespace {

// A sample: ids [first, end) of its example, of which the first `shared` are those of the sample number `parent` (-1: of none).
struct LaidSample {
  const Example* example;
  int64_t first, end;
  int64_t shared = 0, parent = -1;
  int64_t length() const { return end - first; }
  const int32_t* ids() const { return example->input_ids.data() + first; }
};

// Rows before the first one that predicts a labelled token, but never all.
int64_t rows_without_label(const LaidSample& s, int64_t example_end) {
  int64_t row = 0;
  while (row + 1 < s.length() && s.first + row + 1 < example_end &&
         s.example->labels[static_cast<size_t>(s.first + row + 1)] == kIgnoreLabel)
    ++row;
  return row;
}

void share_with_earlier(std::span<const LaidSample> earlier, LaidSample& s, int64_t example_end, int64_t share_up_to) {
  const int64_t most = rows_without_label(s, example_end);
  int64_t best = kLeastShared - 1;
  for (size_t i = 0; i < earlier.size(); ++i) {
    const LaidSample& other = earlier[i];
    if (other.example->sees_all || other.length() > share_up_to) continue;
    const int64_t reach = std::min(most, other.length());
    const int64_t same = std::mismatch(s.ids(), s.ids() + reach, other.ids()).first - s.ids();
    if (same <= best) continue;
    best = same;
    s.shared = same;
    s.parent = static_cast<int64_t>(i);
  }
}

std::vector<LaidSample> lay_samples(std::span<const Example* const> examples, int64_t share_up_to, int64_t cutoff) {
  std::vector<LaidSample> laid;
  for (const Example* e : examples) {
    if (e->labels.size() != e->input_ids.size())
      throw Error(ErrorKind::internal, fmt::format("example: {} tokens but {} labels", e->input_ids.size(), e->labels.size()));
    const int64_t length = std::min(example_rows(*e), cutoff);
    if (length == 0) continue;
    const size_t samples = e->sees_all ? 1 : std::max<size_t>(e->starts.size(), 1);
    for (size_t sample = 0; sample < samples; ++sample) {
      LaidSample s{e, e->starts.empty() ? 0 : e->starts[sample], sample + 1 < samples ? e->starts[sample + 1] : length};
      if (s.first < length) s.end = std::min(s.end, length);
      else if (cutoff < INT64_MAX) break;
      if (s.first >= s.end || s.end > length)
        throw Error(ErrorKind::internal, fmt::format("example: a packed sample from {} to {} of {} tokens", s.first, s.end, length));
      if (!e->sees_all && s.length() <= share_up_to) share_with_earlier(laid, s, length, share_up_to);
      laid.push_back(s);
    }
  }
  return laid;
}

// Positions restart with each sample, also where one sequence holds several.
void add_positions(std::vector<int32_t>& positions, const LaidSample& s) {
  size_t next = 1;
  int64_t start = s.first;
  for (int64_t i = s.first + s.shared; i < s.end; ++i) {
    if (s.example->sees_all && next < s.example->starts.size() && i == s.example->starts[next]) start = s.example->starts[next++];
    positions.push_back(static_cast<int32_t>(i - start));
  }
}

}  // namespace

Batch make_batch(std::span<const Example* const> examples, int64_t share_up_to) {
  const std::vector<LaidSample> laid = lay_samples(examples, share_up_to, INT64_MAX);
  Batch batch;
  size_t rows = 0;
  for (const LaidSample& s : laid) rows += static_cast<size_t>(s.length() - s.shared);
  batch.tokens.reserve(rows);
  batch.positions.reserve(rows);
  batch.labels.reserve(rows);
  for (const LaidSample& s : laid) {
    const int64_t start = batch.rows(), own = s.length() - s.shared, of_example = example_rows(*s.example);
    batch.tokens.insert(batch.tokens.end(), s.ids() + s.shared, s.ids() + s.length());
    const int32_t* labels = s.example->labels.data();
    batch.labels.insert(batch.labels.end(), labels + s.first + s.shared + 1, labels + std::min(s.end + 1, of_example));
    if (s.end == of_example) batch.labels.push_back(kIgnoreLabel);
    add_positions(batch.positions, s);
    Sequence& sequence = batch.sequences.emplace_back(Sequence{start, own, start, s.length()});
    sequence.parent = s.parent;
  }
  return batch;
}

int64_t batch_rows(std::span<const Example* const> examples, int64_t share_up_to, int64_t cutoff) {
  int64_t rows = 0;
  if (share_up_to == 0) {
    for (const Example* e : examples) rows += std::min(example_rows(*e), cutoff);
    return rows;
  }
  for (const LaidSample& s : lay_samples(examples, share_up_to, cutoff)) rows += s.length() - s.shared;
  return rows;
}

Batch first_rows(const Batch& batch, int64_t rows) {
  const auto n = static_cast<ptrdiff_t>(rows);
  Batch first;
  first.tokens.assign(batch.tokens.begin(), batch.tokens.begin() + n);
  first.positions.assign(batch.positions.begin(), batch.positions.begin() + n);
  if (!batch.labels.empty()) first.labels.assign(batch.labels.begin(), batch.labels.begin() + n);
  for (const Sequence& s : batch.sequences)
    if (s.start < rows) first.sequences.push_back(s);
  first.adapter_rows = {{0, rows, 0}};
  return first;
}

int64_t example_rows(const Example& example) { return static_cast<int64_t>(example.input_ids.size()) - example.padding; }

int64_t count_labels(const Example& example) {
  return static_cast<int64_t>(example.labels.size()) - std::count(example.labels.begin(), example.labels.end(), kIgnoreLabel);
}

}  // namespace loraine
