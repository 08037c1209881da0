// What only training needs, on the GPU: the loss and its gradient, the norm of all gradients, AdamW. Tensors and arrays lie in device
// memory.
#pragma once
#include <cstdint>

#include "loraine/core/gpu.h"
#include "loraine/kernels/training/adamw_scalars.h"
#include "loraine/kernels/training/cross_entropy.h"

namespace loraine {

// The cross entropy of kernels/training/cross_entropy.h over any number of pieces of the vocabulary, so that no row's logits need to be
// there at once: first every piece by add_logits_cuda, then losses_cuda, then (the logits made once more, unless they were kept) every
// piece by logit_gradient_cuda. TokenLoss: smoothing and weight `probability`; entropy and divergence, which need whole rows, are refused.

struct LossState {      // of a row, over the pieces so far
  float most, sum;      // the largest logit, Σ e^(logit − most)
  float at_label, all;  // the label's logit, the sum of all
  int32_t best;         // the first column of the largest
};
// logits [n, W] F32 or BF16: columns [first, first + W) of the vocabulary; first 0 begins the states. labels [n] within the vocabulary.
void add_logits_cuda(GpuStream& stream, LossState* states, const Tensor& logits, const int32_t* labels, int64_t first);
// losses [n] in double and correct [n] (may be nullptr) as cross_entropy gives them; V: the whole vocabulary.
void losses_cuda(GpuStream& stream, double* losses, uint8_t* correct, const LossState* states, const int32_t* labels, int64_t n, int64_t V,
                 const TokenLoss& loss);
// d_logits [n, W] F32 or BF16 = the gradient of grad_scale · loss; it may be logits itself, or lie elsewhere.
void logit_gradient_cuda(GpuStream& stream, const Tensor& d_logits, const Tensor& logits, const LossState* states, const int32_t* labels,
                         int64_t first, int64_t V, float grad_scale, const TokenLoss& loss);

struct GradientItem {
  const float* gradient;
  int64_t n;
};
struct GradientNorm {
  double norm;  // of all gradients; not finite where one of them is not
  float scale;  // min(1, max_norm / (norm + 10⁻⁶)); 1 without a max_norm
};
// items [count] of at most `most` elements; partial [gradient_norm_room(count, most)] is room. Sums in double and in a fixed order.
void gradient_norm_cuda(GpuStream& stream, GradientNorm* out, const GradientItem* items, int64_t count, int64_t most, double max_norm,
                        double* partial);
int64_t gradient_norm_room(int64_t count, int64_t most);

struct AdamWItem {
  float *value, *m, *v;
  const float* gradient;
  void* copy;  // nullptr, or copy_scale · value in BF16 (else F32): rows of copy_cols elements, copy_stride from one to the next
  int64_t n, copy_cols, copy_stride;
  double weight_decay;  // decimal_of
  int32_t rate = 0;     // which of the scalars
  float copy_scale = 1;
  bool copy_narrow = true;
};
// The update of adamw.h of all items at once, gradients times norm->scale; none where the norm is not finite. What changes from step to
// step lies in device memory, so that a graph of the step can be replayed. items [count] of at most `most` elements, `all` together;
// scalars: one for each rate that the items have.
void adamw_cuda(GpuStream& stream, const AdamWItem* items, int64_t count, int64_t most, int64_t all, const AdamWScalars* scalars,
                const GradientNorm* norm);

}  // namespace loraine
