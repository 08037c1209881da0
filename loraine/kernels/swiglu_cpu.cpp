// SwiGLU on the CPU, row by row.
#include "loraine/core/tensor.h"
#include "loraine/kernels/parallel.h"
#include "loraine/kernels/simd.h"

namespace loraine {
namespace {

LORAINE_CLONES void forward_row(float* h, const float* gate, const float* up, int64_t F) {
#pragma omp simd
  for (int64_t i = 0; i < F; ++i) h[i] = gate[i] / (1.0f + exp_f32(-gate[i])) * up[i];
}

// With s = sigmoid(gate): d_gate = d_h · up · s · (1 + gate · (1 − s)), d_up = d_h · gate · s.
LORAINE_CLONES void backward_row(float* d_gate, float* d_up, const float* d_h, const float* gate, const float* up, int64_t F) {
#pragma omp simd
  for (int64_t i = 0; i < F; ++i) {
    float g = gate[i], u = up[i], d = d_h[i];
    float s = 1.0f / (1.0f + exp_f32(-g));
    d_gate[i] = d * u * s * (1.0f + g * (1.0f - s));
    d_up[i] = d * g * s;
  }
}

}  // namespace

void swiglu_cpu(const Tensor& h, const Tensor& gate_up) {
  int64_t F = h.cols();
  float* out = h.f32();
  const float* in = gate_up.f32();
  parallel_for(
      h.rows(), [&](int64_t t) { forward_row(out + t * h.row_stride, in + t * gate_up.row_stride, in + t * gate_up.row_stride + F, F); },
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
        backward_row(d, d + F, dh + t * d_h.row_stride, g, g + F, F);
      },
      row_chunk(F));
}

}  // namespace loraine
