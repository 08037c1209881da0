// Loss over trained tokens only, in chunks: full logits of a batch exist nowhere. Called by the step loop and by evaluation.
#pragma once
#include <span>
#include <vector>

#include "loraine/kernels/training/cross_entropy.h"
#include "loraine/model/decoder.h"

namespace loraine {

int64_t loss_chunk(const Model& model);  // rows of logits at a time

struct SequenceLoss {
  double loss = 0;  // sum of −log p over its labelled rows: in an evaluation plain −log p, whatever the options say
  int64_t labels = 0, right = 0;
};

struct LossSums {
  double loss = 0;     // sum of the loss over labelled rows
  int64_t labels = 0;  // labelled rows (shifted)
  std::vector<SequenceLoss> by_sequence;
  std::vector<double> tokens;       // −log p of each labelled row, in their order
  std::vector<double> logit_means;  // with options.logit_means: of each labelled row, over the vocabulary
  std::vector<double> entropies;    // with options.entropies: of each labelled row's distribution, in nats
};

// What the head runs with: the set that all rows use (nullptr: the base alone), and what the loss is.
struct LossOptions {
  const AdapterSet* set = nullptr;  // its head, where trained, gets gradients
  bool training = false;            // dropout on
  TokenLoss token = {};
  Tensor reference = {};                    // with token.divergence: hidden states [T, C] of the base alone
  std::span<const float> row_weights = {};  // of labelled rows, by their order: what the gradient of each is multiplied with; empty: 1
  bool logit_means = false;
  double temperature = 1;  // that logits are divided by, behind everything that the model does to them
  bool entropies = false;
  int64_t trained_rows = INT64_MAX;  // only the first so many rows of the batch get a gradient
};

// Of losses by labelled row, which are at `rows`, ascending; plain: −log p of each, where the loss is another one, else empty.
LossSums sum_losses(const Batch& batch, std::span<const int64_t> rows, std::vector<double> losses, std::vector<double> plain,
                    std::span<const uint8_t> correct);

// `divergence`: whether the loss has one.
size_t loss_scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set, bool divergence = false);
// hidden [T, C]. With grad_scale != 0 d_hidden [T, C] gets the gradient of grad_scale · loss; otherwise it is not touched.
LossSums loss_and_head_gradient(Context& ctx, const Model& model, const Batch& batch, const Tensor& hidden, const Tensor& d_hidden,
                                float grad_scale, const LossOptions& options, Arena& scratch);

}  // namespace loraine
