// Batch by batch through the decoder, the losses gathered.
#include "loraine/train/evaluate.h"

#include <algorithm>
#include <utility>

#include "loraine/data/batcher.h"

namespace loraine {

EvalSums evaluate_examples(Context& ctx, const Model& model, std::span<const Example> examples, int64_t batch_size, Pass& pass,
                           const std::function<void(int64_t)>& on_batch, float smoothing) {
  EvalSums sums;
  const int64_t n = static_cast<int64_t>(examples.size());
  const bool was_training = std::exchange(pass.training, false);
  int64_t sequences = 0;
  for (int64_t first = 0; first < n; first += batch_size) {
    std::vector<const Example*> picked;
    for (int64_t i = first; i < std::min(first + batch_size, n); ++i) picked.push_back(&examples[static_cast<size_t>(i)]);
    Batch batch = make_batch(picked);
    if (!pass.adapters.empty()) batch.adapter_rows = {{0, batch.rows(), 0}};
    decoder_forward(ctx, model, batch, pass);
    const Tensor hidden = pass.activations->hidden.row_range(0, batch.rows());
    const LossOptions options{pass.adapters.empty() ? nullptr : pass.adapters[0], false, smoothing};
    const LossSums one = loss_and_head_gradient(ctx, model, batch, hidden, Tensor(), 0, options, *pass.scratch);
    int64_t labels = smoothing > 0 ? one.labels : 0;
    if (smoothing <= 0)
      for (const Example* example : picked) labels += count_labels(*example);
    sums.batch_losses.push_back(labels ? one.loss / static_cast<double>(labels) : 0.0);
    sums.loss += sums.batch_losses.back();
    sums.accuracy += one.accuracy;
    sequences += one.sequences;
    sums.examples.insert(sums.examples.end(), one.by_sequence.begin(), one.by_sequence.end());
    if (on_batch) on_batch(std::min(first + batch_size, n));
  }
  pass.training = was_training;
  sums.loss /= static_cast<double>(sums.batch_losses.size());
  sums.accuracy /= static_cast<double>(sequences);
  return sums;
}

int64_t rows_of_largest_batch(std::span<const Example> examples, int64_t batch_size) {
  int64_t most = 0, rows = 0, i = 0;
  for (const Example& example : examples) {
    if (i++ % batch_size == 0) rows = 0;
    most = std::max(most, rows += static_cast<int64_t>(example.input_ids.size()));
  }
  return most;
}

}  // namespace loraine
