// What the norms share: the check of a weight that may be absent, and the row of factors that an offset makes of it.
#pragma once
#include "loraine/kernels/base/dispatch.h"

namespace loraine {

inline void check_norm_vector(const char* op, const char* name, const Tensor& v, int64_t cols) {
  if (!v.data || (v.dtype == Dtype::F32 && v.numel() == cols && v.contiguous())) return;
  throw Error(ErrorKind::internal, fmt::format("{}: {} is {} {}, expected F32 [{}], as many elements as x has columns", op, name,
                                               name_of(v.dtype), v.shape_text(), cols));
}

// offset + weight, all 1 without a weight: the weight itself where it is the same, else memory of this thread until its next call.
inline const float* norm_weight(const Tensor& weight, float offset, int64_t cols) {
  if (weight.data && offset == 0) return weight.f32();
  thread_local Buffer room;
  const size_t bytes = static_cast<size_t>(cols) * sizeof(float);
  if (room.bytes() < bytes) room = Buffer(bytes);
  float* out = static_cast<float*>(room.data());
  for (int64_t c = 0; c < cols; ++c) out[c] = weight.data ? offset + weight.f32()[c] : 1.0f;
  return out;
}

}  // namespace loraine
