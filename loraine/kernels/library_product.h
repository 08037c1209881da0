// One tile of a product through oneDNN's matmul primitive, which has kernels for bf16 operands (AVX-512 BF16, AMX). Called by matmul.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// y [m, n] (+)= x [m, k] op(w), on the calling thread alone; y F32, w of `type`, op(w) = wᵀ of w [n, k] when `transposed`, else w [k, n].
// x is F32 and is rounded to bf16 when `type` is BF16. False when this machine's oneDNN has no kernel for it: nothing was computed.
bool library_tile(Dtype type, const Tensor& y, const Tensor& x, const Tensor& w, bool transposed, bool add);

}  // namespace loraine
