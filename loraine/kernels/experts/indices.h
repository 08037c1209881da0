// Whole numbers that choose experts and rows: I32 tensors, contiguous.
#pragma once
#include "loraine/kernels/base/dispatch.h"

namespace loraine {

inline int32_t* indices(const Tensor& t) { return static_cast<int32_t*>(t.data); }

inline void check_indices(const char* op, const char* name, const Tensor& t, int64_t rows, int64_t cols) {
  check_shape(op, name, t, rows, cols);
  if (t.dtype == Dtype::I32 && t.contiguous()) return;
  throw Error(ErrorKind::internal, fmt::format("{}: {} is {}, expected I32 without gaps between rows", op, name, name_of(t.dtype)));
}

}  // namespace loraine
