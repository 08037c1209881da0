// Softmax cross entropy over a chunk of logits, in place.
#pragma once
#include <cstdint>
#include <span>

#include "loraine/core/context.h"

namespace loraine {

// What the loss of a token is beside plain −log p of its label.
enum class TokenWeight : uint8_t {
  one,
  probability,  // DFT (arXiv 2508.05629): times p of the label
  entropy       // EAFT, as LLaMA-Factory: times (H / 3)^entropy_power, H the entropy of the softmax over the 20 largest logits
};
struct TokenLoss {
  float smoothing = 0;  // label smoothing ε: (1 − ε) · −log p(label) + ε · mean over the vocabulary of −log p; goes with weight `one` only
  TokenWeight weight = TokenWeight::one;  // no gradient flows through it
  float entropy_power = 1;
  float divergence = 0;  // ASFT: plus so much of KL(reference ‖ softmax of logits)
  bool plain() const { return smoothing == 0 && weight == TokenWeight::one && divergence == 0; }
};

// losses[i] = the loss at row i for labels[i]; correct[i] = argmax equals the label (may be empty). Labels are checked against V. reference
// [n, V] F32: logits, with divergence only; they are overwritten. With grad_scale != 0 logits [n, V] F32 are overwritten by the gradient of
// grad_scale · loss, in the type of d_logits: a view of the same memory, F32 or BF16, its rows beginning where those of logits do
// (gradient_view makes it). With grad_scale 0 the logits stay.
void cross_entropy(Context& ctx, const Tensor& logits, const Tensor& d_logits, std::span<const int32_t> labels, std::span<double> losses,
                   std::span<uint8_t> correct, float grad_scale, const TokenLoss& loss = {}, const Tensor& reference = {});
Tensor gradient_view(const Tensor& logits, Dtype dtype);

}  // namespace loraine
