// Which experts a token goes to, and with which weights. The gradient flows through the weights into the logits; the choice has none.
#pragma once
#include <cstdint>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

// The values that weights are made of.
enum class RouterScores {
  softmax,         // over all experts
  sigmoid,         // of each logit
  chosen_softmax,  // over the logits of the chosen experts
  // phimoe's "sparse mixer" as it is in evaluation: of the experts not chosen yet the one of the largest logit m; its weight is its share
  // in a softmax over those of them with (m − s) / max(|s|, m) <= 2 · jitter
  sparse_mixer,
};
enum class GroupValue { best, sum_of_two_best };  // of the scores (with bias) in a group
enum class NormaliserFloor { added, least };      // sum + floor, or max(sum, floor)

struct RouterShape {
  RouterScores scores = RouterScores::softmax;
  int64_t experts = 0, per_token = 1;
  // The experts lie in this many groups of one size, of which only the kept_groups of the greatest value are chosen from. Softmax and
  // sigmoid only.
  int64_t groups = 1, kept_groups = 1;
  GroupValue group_value = GroupValue::sum_of_two_best;
  bool normalise = false;  // weights are divided by their sum: softmax and sigmoid only
  NormaliserFloor floor_is = NormaliserFloor::added;
  float normaliser_floor = 0;
  float scale = 1;   // times the weights, after that
  float jitter = 0;  // of the sparse mixer
};

// Vectors [experts] of a layer's router, or nullptr. `correction` is added to the scores where experts (and groups) are chosen, and to
// nothing else; softmax and sigmoid only. `expert_scale` multiplies the weight of each expert that is chosen.
struct RouterVectors {
  const float *correction = nullptr, *expert_scale = nullptr;
};

// chosen I32 [T, K] and weights F32 [T, K] from logits F32 [T, E], in descending order of what is chosen by; of equals the lower index
// first. A row's bits depend on its logits alone.
void route(Context& ctx, const Tensor& chosen, const Tensor& weights, const Tensor& logits, const RouterShape& shape,
           const RouterVectors& vectors = {});
// d_logits F32 [T, E] (overwritten) from d_weights F32 [T, K].
void route_backward(Context& ctx, const Tensor& d_logits, const Tensor& d_weights, const Tensor& chosen, const Tensor& logits,
                    const RouterShape& shape, const RouterVectors& vectors = {});

// d_expert_scale F32 [E] += the gradient of RouterVectors::expert_scale: d_weights · what the weights are without it, summed over the
// tokens in their order.
void expert_scale_gradient(Context& ctx, const Tensor& d_expert_scale, const Tensor& d_weights, const Tensor& chosen, const Tensor& logits,
                           const RouterShape& shape, const RouterVectors& vectors);

}  // namespace loraine
