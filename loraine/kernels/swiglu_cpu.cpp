// SwiGLU on the CPU, row by row.
#include "loraine/core/tensor.h"
#include "loraine/kernels/exp_rows.h"
#include "loraine/kernels/parallel.h"

namespace loraine {

void swiglu_cpu(const Tensor& h, const Tensor& gate_up) {
  int64_t F = h.cols();
  float* out = h.f32();
  const float* in = gate_up.f32();
  parallel_for(
      h.rows(), [&](int64_t t) { swiglu_row(out + t * h.row_stride, in + t * gate_up.row_stride, in + t * gate_up.row_stride + F, F); },
      row_chunk(F));
}

void swiglu_backward_cpu(const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up) {
  int64_t F = d_h.cols();
  float* out = d_gate_up.f32();
  const float *in = gate_up.f32(), *dh = d_h.f32();
  parallel_for(
      d_h.rows(),
      [&](int64_t t) {
        float* d = out + t * d_gate_up.row_stride;
        const float* g = in + t * gate_up.row_stride;
        swiglu_backward_row(d, d + F, dh + t * d_h.row_stride, g, g + F, F);
      },
      row_chunk(F));
}

}  // namespace loraine
