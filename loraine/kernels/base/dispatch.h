// Chooses the device's code for an op, and the shape checks ops share. The only place that knows which devices this build has.
#pragma once
#include <fmt/format.h>

#include <chrono>

#include "loraine/core/context.h"
#include "loraine/core/error.h"

namespace loraine {

template <class Cpu>
void dispatch(const Context& ctx, const char* op, Cpu&& cpu, const OpWork& work = {}) {
  if (ctx.device == Device::cpu) {
    if (!ctx.profile) return cpu();
    const auto begin = std::chrono::steady_clock::now();
    cpu();
    ctx.profile->add(op, work, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    return;
  }
  throw Error(ErrorKind::unsupported, fmt::format("{}: this build has no CUDA code for it", op), "Run on the CPU (device: cpu).");
}

inline void check_op(bool ok, const char* op, const char* what) {
  if (!ok) throw Error(ErrorKind::internal, fmt::format("{}: {}", op, what));
}

inline void check_shape(const char* op, const char* name, const Tensor& t, int64_t rows, int64_t cols) {
  if (t.rows() == rows && t.cols() == cols) return;
  throw Error(ErrorKind::internal, fmt::format("{}: {} has shape {}, expected [{}, {}]", op, name, t.shape_text(), rows, cols));
}

inline void check_f32(const char* op, const char* name, const Tensor& t, int64_t rows, int64_t cols) {
  check_shape(op, name, t, rows, cols);
  if (t.dtype != Dtype::F32) throw Error(ErrorKind::internal, fmt::format("{}: {} is {}, expected F32", op, name, name_of(t.dtype)));
}

// F32 or BF16, as activations come
inline void check_activation(const char* op, const char* name, const Tensor& t, int64_t rows, int64_t cols) {
  check_shape(op, name, t, rows, cols);
  if (t.dtype == Dtype::F32 || t.dtype == Dtype::BF16) return;
  throw Error(ErrorKind::internal, fmt::format("{}: {} is {}, expected F32 or BF16", op, name, name_of(t.dtype)));
}

}  // namespace loraine
