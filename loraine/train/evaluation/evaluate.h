// The loss of a set of examples as LLaMA-Factory's evaluation takes it. Called by the step loop and by loraine eval.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "loraine/data/examples/example.h"
#include "loraine/train/loss.h"

namespace loraine {

struct EvalSums {
  double loss = 0;      // plain mean over batches of each batch's own mean
  double accuracy = 0;  // mean over examples of the share of labels predicted right
  std::vector<double> batch_losses;
  std::vector<SequenceLoss> examples;  // in the order of the set
};

// Examples are taken in their order, batch_size at a time; pass.adapters runs over all rows. pass.activations and pass.scratch must hold
// the largest batch (rows_of_largest_batch) and loss_scratch_bytes. on_batch gets the number of examples done. A batch's mean counts the
// labels before the shift, as in training; where batch_means(loss) after it. reference: its pass over a batch, with loss.divergence only.
// elsewhere: computes a batch in the place of decoder and head, on a GPU.
EvalSums evaluate_examples(Context& ctx, const Model& model, std::span<const Example> examples, int64_t batch_size, Pass& pass,
                           const std::function<void(int64_t)>& on_batch = {}, const TokenLoss& loss = {},
                           const std::function<Tensor(const Batch&)>& reference = {},
                           const std::function<LossSums(const Batch&)>& elsewhere = {});

// One figure per example out of those of a batch's sequences: a packed example has a sequence per sample, and an empty one has none.
std::vector<SequenceLoss> by_example(std::span<const Example* const> examples, std::span<const SequenceLoss> sequences);

int64_t rows_of_largest_batch(std::span<const Example> examples, int64_t batch_size);

}  // namespace loraine
