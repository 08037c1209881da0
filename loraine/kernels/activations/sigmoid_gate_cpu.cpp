// Gates on the CPU, row by row.
#include "loraine/core/tensor.h"
#include "loraine/kernels/activations/activation_rows.h"
#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

LORAINE_CLONES void times_row(float* y, const float* x, float factor, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = x[c] * factor;
}

LORAINE_CLONES void product_row(float* y, const float* x, const float* gate, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = x[c] * gate[c];
}

LORAINE_CLONES float dot_row(const float* a, const float* b, int64_t C) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < C; ++c) sum += a[c] * b[c];
  return sum;
}

// sigmoid(gate[t]) of one gate per row
float factor_of(const Tensor& gate, int64_t t) {
  float room = 0, factor = 0;
  const float one = 1;
  sigmoid_gate_row(&factor, &one, read_row(gate, t, &room), 1);
  return factor;
}

// row(y, x, gate, C) for all rows of y as f32
template <class Row>
void gate_rows(const Tensor& y, const Tensor& x, const Tensor& gate, const Row& row) {
  const int64_t C = x.cols();
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(3 * C);
        float* out = begin_row(y, t, room);
        row(out, read_row(x, t, room + C), read_row(gate, t, room + 2 * C), C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

// row(d_x, d_gate, d_y, x, gate, C) for all rows as f32
template <class Row>
void gate_rows_backward(const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate, const Row& row) {
  const int64_t C = x.cols();
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(5 * C);
        float *dx = begin_row(d_x, t, room), *dg = begin_row(d_gate, t, room + C);
        row(dx, dg, read_row(d_y, t, room + 2 * C), read_row(x, t, room + 3 * C), read_row(gate, t, room + 4 * C), C);
        finish_row(d_x, t, dx);
        finish_row(d_gate, t, dg);
      },
      row_chunk(C));
}

}  // namespace

void sigmoid_gate_cpu(const Tensor& y, const Tensor& x, const Tensor& gate) {
  const int64_t C = x.cols();
  if (gate.cols() == C) return gate_rows(y, x, gate, sigmoid_gate_row);
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(2 * C);
        float* out = begin_row(y, t, room);
        times_row(out, read_row(x, t, room + C), factor_of(gate, t), C);
        finish_row(y, t, out);
      },
      row_chunk(C));
}

void sigmoid_gate_backward_cpu(const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate) {
  const int64_t C = x.cols();
  if (gate.cols() == C) return gate_rows_backward(d_x, d_gate, d_y, x, gate, sigmoid_gate_backward_row);
  parallel_for(
      x.rows(),
      [&](int64_t t) {
        float* room = row_room(3 * C);
        float* dx = begin_row(d_x, t, room);
        const float *dy = read_row(d_y, t, room + C), *in = read_row(x, t, room + 2 * C), s = factor_of(gate, t);
        const float slope = dot_row(dy, in, C) * s * (1 - s);
        times_row(dx, dy, s, C);
        finish_row(d_x, t, dx);
        write_row(d_gate, t, &slope);
      },
      row_chunk(C));
}

void silu_gate_cpu(const Tensor& y, const Tensor& x, const Tensor& gate) {
  gate_rows(y, x, gate, [](float* out, const float* in, const float* g, int64_t C) { swiglu_row(out, g, in, Dtype::F32, C); });
}

void silu_gate_backward_cpu(const Tensor& d_x, const Tensor& d_gate, const Tensor& d_y, const Tensor& x, const Tensor& gate) {
  gate_rows_backward(d_x, d_gate, d_y, x, gate, [](float* dx, float* dg, const float* dy, const float* in, const float* g, int64_t C) {
    swiglu_backward_row(dg, dx, dy, g, in, Dtype::F32, C);
  });
}

void multiply_rows_cpu(const Tensor& y, const Tensor& x, const Tensor& gate) { gate_rows(y, x, gate, product_row); }

}  // namespace loraine
