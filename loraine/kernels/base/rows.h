// Rows of activations as f32, for the CPU kernels that go row by row: in place when the tensor is F32; a BF16 row is widened on reading and
// rounded once on writing.
#pragma once
#include <algorithm>

#include "loraine/core/tensor.h"
#include "loraine/kernels/products/row_dots.h"

namespace loraine {

// At least `floats` floats of this thread, until its next call.
inline float* row_room(int64_t floats) {
  thread_local Buffer room;
  size_t bytes = static_cast<size_t>(floats) * sizeof(float);
  if (room.bytes() < bytes) room = Buffer(bytes);
  return static_cast<float*>(room.data());
}

// Row t of x [T, C]: where it lies, or widened into `room` (C floats).
inline const float* read_row(const Tensor& x, int64_t t, float* room) {
  if (x.dtype == Dtype::F32) return static_cast<const float*>(x.data) + t * x.row_stride;
  widen_row(room, x.row_range(t, 1));
  return room;
}

// Where row t of y [T, C] is to be written; finish_row puts it in its place.
inline float* begin_row(const Tensor& y, int64_t t, float* room) {
  return y.dtype == Dtype::F32 ? static_cast<float*>(y.data) + t * y.row_stride : room;
}
inline void finish_row(const Tensor& y, int64_t t, const float* row) {
  if (y.dtype != Dtype::F32) narrow_row(static_cast<bf16*>(y.data) + t * y.row_stride, row, y.cols());
}
// Row t of y from one that lies elsewhere.
inline void write_row(const Tensor& y, int64_t t, const float* row) {
  if (y.dtype == Dtype::F32) std::copy(row, row + y.cols(), static_cast<float*>(y.data) + t * y.row_stride);
  else finish_row(y, t, row);
}

}  // namespace loraine
