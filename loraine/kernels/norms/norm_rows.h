// What the kernels of both norms share: a block goes over one row, eight elements a thread at a time, as often as needed (the second time
// it comes from the cache). Included by *_cuda.cu alone.
#pragma once
#include "loraine/kernels/cuda/device.h"

namespace loraine::cuda {

// Elements [c, c + 8) of offset + weight; 1 without a weight.
template <bool kWhole>
__device__ __forceinline__ void load_factors(float (&out)[8], const float* weight, float offset, int64_t c, int64_t C) {
  if (!weight) {
    UNROLL
    for (int i = 0; i < 8; ++i) out[i] = 1.0f;
    return;
  }
  load_eight<kWhole>(out, weight, c, C);
  UNROLL
  for (int i = 0; i < 8; ++i) out[i] += offset;
}

// f(first column) for this thread's vectors of a row.
template <class F>
__device__ __forceinline__ void for_columns(int64_t C, F&& f) {
  for (int64_t c = static_cast<int64_t>(threadIdx.x) * 8; c < C; c += static_cast<int64_t>(blockDim.x) * 8) f(c);
}

inline const float* floats_of(const Tensor& t) { return static_cast<const float*>(t.data); }

}  // namespace loraine::cuda
