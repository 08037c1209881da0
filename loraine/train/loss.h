// Loss over trained tokens only, in chunks: full logits of a batch exist nowhere. Called by the step loop and by evaluation.
#pragma once
#include <vector>

#include "loraine/model/decoder.h"

namespace loraine {

int64_t loss_chunk(const Model& model);  // rows of logits at a time

struct SequenceLoss {
  double loss = 0;  // sum of −log p over its labelled rows; of an evaluation without smoothing, whatever the options say
  int64_t labels = 0, right = 0;
};

struct LossSums {
  double loss = 0;      // sum of the loss over labelled rows
  int64_t labels = 0;   // labelled rows (shifted)
  double accuracy = 0;  // sum over sequences of the share of labels predicted right
  int64_t sequences = 0;
  std::vector<SequenceLoss> by_sequence;
};

// What the head runs with: the set that all rows use (nullptr: the base alone), and what the loss is.
struct LossOptions {
  const AdapterSet* set = nullptr;  // its head, where trained, gets gradients
  bool training = false;            // dropout on
  float smoothing = 0;              // label smoothing ε: (1 − ε) · −log p(label) + ε · mean over the vocabulary of −log p
};

size_t loss_scratch_bytes(const Model& model, int64_t rows, const AdapterSet* set);
// hidden [T, C]. With grad_scale != 0 d_hidden [T, C] gets the gradient of grad_scale · loss; otherwise it is not touched.
LossSums loss_and_head_gradient(Context& ctx, const Model& model, const Batch& batch, const Tensor& hidden, const Tensor& d_hidden,
                                float grad_scale, const LossOptions& options, Arena& scratch);

}  // namespace loraine
