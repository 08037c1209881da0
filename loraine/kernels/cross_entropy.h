// Softmax cross entropy over a chunk of logits, in place.
#pragma once
#include <cstdint>
#include <span>

#include "loraine/core/context.h"

namespace loraine {

// logits [n, V] F32 become their gradient: (softmax − onehot) · grad_scale when grad_scale != 0, else they stay. losses[i] = −log
// p(labels[i]); correct[i] = argmax equals the label (may be empty). Labels are checked against V.
void cross_entropy(Context& ctx, const Tensor& logits, std::span<const int32_t> labels, std::span<double> losses,
                   std::span<uint8_t> correct, float grad_scale);

}  // namespace loraine
