// What a query row does with the keys and values of its head: rows of a head are short, so that a kernel for long ones would spend its time
// on beginning and ending. Vectorised with Highway for the instruction set found at run time. Called by attention_rows.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// `ahead`: rows of the same kind that will be read soon, as many or fewer; they are asked for in between, since a processor that waits for
// many lines at once computes nothing.

// scores[h · scores_stride + r] = q[h · D …] · keys[r] for `heads` h; keys [n, D] are F32 or BF16 and may be strided.
void head_scores(float* scores, int64_t scores_stride, const Tensor& keys, const float* q, int64_t heads, const Tensor& ahead);
// sums[h · D + d] += Σ weights[h · weights_stride + r] · values[r][d] for `heads` h, in ascending order of r; values [n, D] as above.
void add_weighted_values(float* sums, const Tensor& values, const float* weights, int64_t weights_stride, int64_t heads,
                         const Tensor& ahead);

}  // namespace loraine
