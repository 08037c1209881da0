// LLaMA-Factory's divisor: the labels of all micro-batches of an update, or of each (batch_means).
#include "loraine/train/objectives/token_objective.h"

#include <algorithm>

#include "loraine/data/examples/batcher.h"
#include "loraine/train/evaluation/evaluate.h"
#include "loraine/train/gpu/gpu_losses.h"

namespace loraine {
namespace {

double labels_of(std::span<const Item> items) {
  int64_t labels = 0;
  for (const Item& item : items) labels += count_labels(*item.example);
  return static_cast<double>(labels);
}

// Labels that a row predicts.
double predicted_labels(const Batch& batch) {
  return static_cast<double>(std::ranges::count_if(batch.labels, [](int32_t label) { return label != kIgnoreLabel; }));
}

}  // namespace

void TokenObjective::begin_update(std::span<const Item> items, int64_t /*micro_batches*/) { labels_ = std::max(labels_of(items), 1.0); }

double TokenObjective::loss(const ObjectivePass& pass) {
  double divisor = labels_;
  if (batch_means(token_)) divisor = std::max(predicted_labels(pass.batch), 1.0);
  else if (!pass.training()) divisor = std::max(labels_of(pass.items), 1.0);
  LossOptions options{pass.set, pass.training(), token_};
  if (token_.divergence != 0) options.reference = pass.side->hidden(pass.ctx, pass.batch);
  const float scale = pass.training() ? static_cast<float>(1 / divisor) : 0.0f;
  if (pass.gpu && pass.training()) {
    pass.gpu->losses_later(token_, scale, divisor);
    return 0;  // what it is comes with the update
  }
  const LossSums sums =
      pass.gpu ? losses_on_gpu(*pass.gpu, pass.batch, token_, scale)
               : loss_and_head_gradient(pass.ctx, pass.model, pass.batch, pass.hidden, pass.d_hidden, scale, options, pass.scratch);
  if (accuracy_ && !pass.training())
    for (const SequenceLoss& one : by_example(samples_of(*this, pass.items), sums.by_sequence))
      pass.figures.add("accuracy", one.labels ? static_cast<double>(one.right) / static_cast<double>(one.labels) : 0.0);
  return sums.loss / divisor;
}

}  // namespace loraine
