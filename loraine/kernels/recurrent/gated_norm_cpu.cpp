// The gated RMSNorm on the CPU, row by row; the backward computes what it needs of the forward once more.
#include <cmath>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/recurrent/gated_norm.h"

namespace loraine {
namespace {

// act = act(z), which holds e^−z before; d_act, where there is one, its derivative.
LORAINE_CLONES void activate(float* act, float* d_act, const float* z, int64_t n, bool silu) {
  if (silu) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const float s = 1.0f / (1.0f + act[i]);
      act[i] = z[i] * s;
      if (d_act) d_act[i] = s * (1.0f + z[i] * (1.0f - s));
    }
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      const float s = 1.0f / (1.0f + act[i]);
      act[i] = s;
      if (d_act) d_act[i] = s * (1.0f - s);
    }
  }
}

void activation_row(float* act, float* d_act, const float* z, int64_t n, GateActivation activation) {
  exp_row(act, Dtype::F32, z, n, -1, 0);
  activate(act, d_act, z, n, activation == GateActivation::silu);
}

LORAINE_CLONES void multiply_row(float* y, const float* a, const float* b, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] * b[i];
}

LORAINE_CLONES float sum_of_squares(const float* x, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

float rstd_of(const float* x, const GatedNormShape& s) {
  return 1.0f / std::sqrt(sum_of_squares(x, s.width) / static_cast<float>(s.width) + s.eps);
}

LORAINE_CLONES void norm_then_gate(float* y, const float* x, const float* weight, const float* act, float rstd, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * rstd * weight[i] * act[i];
}

LORAINE_CLONES void scale_by(float* y, const float* x, const float* weight, float rstd, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * rstd * weight[i];
}

// With u what was normalised and g the gradient of u · rstd: that of u is g · rstd − u · mean(g · u) · rstd³.
LORAINE_CLONES void backward_norm_first(float* d_x, float* d_z, const float* d_y, const float* x, const float* weight, const float* act,
                                        const float* d_act, float rstd, int64_t n) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i) dot += d_y[i] * weight[i] * act[i] * x[i];
  const float back = dot * rstd * rstd * rstd / static_cast<float>(n);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float g = d_y[i] * weight[i] * rstd;
    d_z[i] = g * x[i] * d_act[i];
    d_x[i] = g * act[i] - x[i] * back;
  }
}

LORAINE_CLONES void backward_gate_first(float* d_x, float* d_z, const float* d_y, const float* x, const float* gated, const float* weight,
                                        const float* act, const float* d_act, float rstd, int64_t n) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i) dot += d_y[i] * weight[i] * gated[i];
  const float back = dot * rstd * rstd * rstd / static_cast<float>(n);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float d = d_y[i] * weight[i] * rstd - gated[i] * back;
    d_z[i] = d * x[i] * d_act[i];
    d_x[i] = d * act[i];
  }
}

LORAINE_CLONES void backward_gate(float* d_x, float* d_z, const float* d_y, const float* x, const float* act, const float* d_act,
                                  int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const float d = d_y[i];
    d_z[i] = d * x[i] * d_act[i];
    d_x[i] = d * act[i];
  }
}

// Where the weights of the group that begins at column c lie.
const float* weights_at(const Tensor& weight, int64_t c, int64_t columns) { return weight.f32() + (weight.numel() == columns ? c : 0); }

}  // namespace

void gated_norm_cpu(const Tensor& y, const Tensor& x, const Tensor& gate, const Tensor& weight, const GatedNormShape& s) {
  const int64_t C = x.cols();
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float *room = row_room(4 * C), *act = room + 3 * C;
        const float *in = read_row(x, t, room), *z = read_row(gate, t, room + C);
        float* out = begin_row(y, t, room + 2 * C);
        activation_row(act, nullptr, z, C, s.activation);
        if (s.width == 0 || s.gate_first) multiply_row(out, in, act, C);
        for (int64_t c = 0; c < C && s.width > 0; c += s.width) {
          const float* w = weights_at(weight, c, C);
          if (s.gate_first) scale_by(out + c, out + c, w, rstd_of(out + c, s), s.width);
          else norm_then_gate(out + c, in + c, w, act + c, rstd_of(in + c, s), s.width);
        }
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void gated_norm_backward_cpu(const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate,
                             const Tensor& weight, const GatedNormShape& s) {
  const int64_t C = x.cols();
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float *room = row_room(8 * C), *act = room + 5 * C, *d_act = room + 6 * C, *gated = room + 7 * C;
        const float *in = read_row(x, t, room), *z = read_row(gate, t, room + C), *dy = read_row(d_y, t, room + 2 * C);
        float *dx = begin_row(d_x, t, room + 3 * C), *dz = begin_row(d_gate, t, room + 4 * C);
        activation_row(act, d_act, z, C, s.activation);
        if (s.width == 0) backward_gate(dx, dz, dy, in, act, d_act, C);
        else if (s.gate_first) multiply_row(gated, in, act, C);
        for (int64_t c = 0; c < C && s.width > 0; c += s.width) {
          const float* w = weights_at(weight, c, C);
          if (s.gate_first)
            backward_gate_first(dx + c, dz + c, dy + c, in + c, gated + c, w, act + c, d_act + c, rstd_of(gated + c, s), s.width);
          else backward_norm_first(dx + c, dz + c, dy + c, in + c, w, act + c, d_act + c, rstd_of(in + c, s), s.width);
        }
        finish_row(d_x, t, dx);
        finish_row(d_gate, t, dz);
      },
      row_chunk(C));
}

}  // namespace loraine
