// The nearest matrix with singular values near 1, by Newton and Schulz's iteration as Muon (Jordan et al. 2024) runs it.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

int64_t orthogonalise_scratch(int64_t rows, int64_t cols);  // floats
// x [rows, cols] F32, contiguous, is overwritten. Values are rounded to bf16 after every operation; sums are in f32.
void orthogonalise(Context& ctx, const Tensor& x, float* scratch, int iterations);

// buffer = momentum · buffer + scale · gradient; out = scale · gradient + momentum · buffer. All F32 of one size.
void nesterov(Context& ctx, const Tensor& out, const Tensor& buffer, const Tensor& gradient, float scale, float momentum);

}  // namespace loraine
