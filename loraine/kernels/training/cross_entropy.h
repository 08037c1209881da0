// Softmax cross entropy over a chunk of logits, in place.
#pragma once
#include <cstdint>
#include <span>

#include "loraine/core/context.h"

namespace loraine {

// losses[i] = −log p(labels[i]), with smoothing ε (1 − ε) times that + ε · the mean of −log p over the vocabulary; correct[i] = argmax
// equals the label (may be empty). Labels are checked against V. With grad_scale != 0 logits [n, V] F32 are overwritten by their gradient
// (softmax − (1 − ε) onehot − ε / V) · grad_scale, in the type of d_logits: a view of the same memory, F32 or BF16, its rows beginning
// where those of logits do (gradient_view makes it). With grad_scale 0 the logits stay.
void cross_entropy(Context& ctx, const Tensor& logits, const Tensor& d_logits, std::span<const int32_t> labels, std::span<double> losses,
                   std::span<uint8_t> correct, float grad_scale, float smoothing = 0);
Tensor gradient_view(const Tensor& logits, Dtype dtype);

}  // namespace loraine
