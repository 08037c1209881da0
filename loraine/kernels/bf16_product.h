// The bf16 product of one tile with AVX-512 BF16 instructions, called by bf16_tile (library_product). Called by nothing else.
#pragma once
#include "loraine/core/tensor.h"

namespace loraine {

// Whether the machine has the instructions, oneDNN is not held to less (DNNL_MAX_CPU_ISA), and has nothing faster (AMX).
bool has_bf16_kernel();

// y [m, n] F32 or BF16 = alpha · op(x) op(w), plus y with `add`; x and w BF16, transposed or not, rows strided. Sums in f32, one rounding
// of y; denormal inputs count as zero. Runs on the calling thread. Needs has_bf16_kernel().
void bf16_product(const Tensor& y, const Tensor& x, const Tensor& w, bool x_t, bool w_t, float alpha, bool add);

}  // namespace loraine
