// A product over few columns, y = p w + beta · y with w [K, n]: what an adapter's low rank adds to a wide matrix. It runs at the speed of
// reading and writing y, which libraries' kernels, made for long sums, do not reach. Called by matmul for bf16 activations.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

inline constexpr int64_t kMostRankColumns = 32;  // K up to which this is the faster way

// y [m, n] F32 or BF16 (arithmetic in f32, one rounding); p [m, K] F32 contiguous; w [K, n] F32; rows of y and w may be strided. On the
// calling thread. The order of sums depends on K alone.
void rank_update(const Tensor& y, const Tensor& p, const Tensor& w, float beta);

}  // namespace loraine
