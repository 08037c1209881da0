// Batch by batch through the decoder, the losses gathered.
#include "loraine/train/evaluation/evaluate.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "loraine/data/examples/batcher.h"
#include "loraine/train/token_loss.h"

namespace loraine {
std::vector<SequenceLoss> by_example(std::span<const Example* const> examples, std::span<const SequenceLoss> sequences) {
  std::vector<SequenceLoss> sums;
  size_t next = 0;
  for (const Example* example : examples) {
    if (example_rows(*example) == 0) continue;
    SequenceLoss& sum = sums.emplace_back();
    const size_t own = example->sees_all ? 1 : std::max<size_t>(example->starts.size(), 1);
    for (size_t end = next + own; next < end; ++next) {
      sum.loss += sequences[next].loss;
      sum.labels += sequences[next].labels;
      sum.right += sequences[next].right;
    }
  }
  return sums;
}

EvalSums evaluate_examples(Context& ctx, const Model& model, std::span<const Example> examples, int64_t batch_size, Pass& pass,
                           const std::function<void(int64_t)>& on_batch, const TokenLoss& loss,
                           const std::function<Tensor(const Batch&)>& reference, const std::function<LossSums(const Batch&)>& elsewhere) {
  EvalSums sums;
  const int64_t n = static_cast<int64_t>(examples.size());
  const bool was_training = std::exchange(pass.training, false);
  std::optional<RouterBalance> balance;
  if (model.config.router_aux_loss_coef != 0)
    balance.emplace(RouterBalance{BalanceSums(model.config.num_experts), model.config.router_aux_loss_coef});
  RouterBalance* const before = std::exchange(pass.balance, balance ? &*balance : nullptr);
  for (int64_t first = 0; first < n; first += batch_size) {
    std::vector<const Example*> picked;
    for (int64_t i = first; i < std::min(first + batch_size, n); ++i) picked.push_back(&examples[static_cast<size_t>(i)]);
    Batch batch = make_batch(picked);
    if (!pass.adapters.empty()) batch.adapter_rows = {{0, batch.rows(), 0}};
    LossOptions options{pass.adapters.empty() ? nullptr : pass.adapters[0], false, loss};
    if (loss.divergence != 0) options.reference = reference(batch);
    const auto here = [&] {
      decoder_forward(ctx, model, batch, pass);
      const Tensor hidden = pass.activations->hidden.row_range(0, batch.rows());
      return loss_and_head_gradient(ctx, model, batch, hidden, Tensor(), 0, options, *pass.scratch);
    };
    const LossSums one = elsewhere ? elsewhere(batch) : here();
    int64_t labels = batch_means(loss) ? one.labels : 0;
    if (!batch_means(loss))
      for (const Example* example : picked) labels += count_labels(*example);
    sums.batch_losses.push_back(labels ? one.loss / static_cast<double>(labels) : 0.0);
    for (const Example* example : picked) example->let_go();
    if (balance) sums.batch_losses.back() += balance->factor * balance_loss(balance->sums);
    sums.loss += sums.batch_losses.back();
    const std::vector<SequenceLoss> own = by_example(picked, one.by_sequence);
    sums.examples.insert(sums.examples.end(), own.begin(), own.end());
    if (on_batch) on_batch(std::min(first + batch_size, n));
  }
  pass.training = was_training;
  pass.balance = before;
  sums.loss /= static_cast<double>(sums.batch_losses.size());
  for (const SequenceLoss& one : sums.examples)
    if (one.labels) sums.accuracy += static_cast<double>(one.right) / static_cast<double>(one.labels);
  sums.accuracy /= static_cast<double>(std::max<size_t>(sums.examples.size(), 1));
  return sums;
}

int64_t rows_of_largest_batch(std::span<const Example> examples, int64_t batch_size) {
  int64_t most = 0, rows = 0, i = 0;
  for (const Example& example : examples) {
    if (i++ % batch_size == 0) rows = 0;
    most = std::max(most, rows += example_rows(example));
  }
  return most;
}

}  // namespace loraine
