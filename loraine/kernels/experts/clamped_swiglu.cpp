// Checks, and the rows on the CPU: gate and up are brought into rows of their own first, whichever way they lie.
#include "loraine/kernels/experts/clamped_swiglu.h"

#include <algorithm>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

LORAINE_CLONES void part_columns(float* gate, float* up, const float* in, int64_t F) {
#pragma omp simd
  for (int64_t f = 0; f < F; ++f) gate[f] = in[2 * f], up[f] = in[2 * f + 1];
}
LORAINE_CLONES void join_columns(float* out, const float* gate, const float* up, int64_t F) {
#pragma omp simd
  for (int64_t f = 0; f < F; ++f) out[2 * f] = gate[f], out[2 * f + 1] = up[f];
}

LORAINE_CLONES void clamp_from_above(float* y, const float* x, float limit, int64_t F) {
#pragma omp simd
  for (int64_t f = 0; f < F; ++f) y[f] = x[f] > limit ? limit : x[f];
}

// e = e^(−steepness · gate), gate clamped already
LORAINE_CLONES void forward_row(float* h, const float* gate, const float* up, const float* e, float limit, int64_t F) {
#pragma omp simd
  for (int64_t f = 0; f < F; ++f) {
    const float below = up[f] > limit ? limit : up[f], u = below < -limit ? -limit : below;
    h[f] = (u + 1) * gate[f] / (1 + e[f]);
  }
}

// With s = sigmoid(a · gate): d_gate = d_h · (up + 1) · s · (1 + a · gate · (1 − s)), d_up = d_h · gate · s. In place of gate and up.
LORAINE_CLONES void backward_row(float* gate, float* up, const float* d_h, const float* e, float limit, float a, int64_t F) {
#pragma omp simd
  for (int64_t f = 0; f < F; ++f) {
    const float below = up[f] > limit ? limit : up[f], u = below < -limit ? -limit : below, g = gate[f] > limit ? limit : gate[f];
    const float s = 1 / (1 + e[f]), d = d_h[f] * s;
    gate[f] = gate[f] > limit ? 0 : d * (u + 1) * (1 + a * g * (1 - s));
    up[f] = up[f] > limit || up[f] < -limit ? 0 : d * g;
  }
}

// Rows of one thread's room: what was read, gate, up, e and a result.
struct Rows {
  float *gate, *up, *e, *out;
};

// Gate and up of row t of gate_up, and e^(−steepness · gate) of the clamped gate.
Rows read_gate_up(const Tensor& gate_up, int64_t t, const ClampedSwiglu& how) {
  const int64_t F = gate_up.cols() / 2;
  float* room = row_room(7 * F);
  const Rows rows{room + 2 * F, room + 3 * F, room + 4 * F, room + 5 * F};
  const float* in = read_row(gate_up, t, room);
  if (how.interleaved) {
    part_columns(rows.gate, rows.up, in, F);
  } else {
    std::copy_n(in, F, rows.gate);
    std::copy_n(in + F, F, rows.up);
  }
  clamp_from_above(rows.e, rows.gate, how.limit, F);
  exp_row(rows.e, F, -how.steepness, 0);
  return rows;
}

}  // namespace

void clamped_swiglu(Context& ctx, const Tensor& h, const Tensor& gate_up, const ClampedSwiglu& how) {
  const char* op = "clamped_swiglu";
  const int64_t F = h.cols();
  check_activation(op, "h", h, h.rows(), F);
  check_activation(op, "gate_up", gate_up, h.rows(), 2 * F);
  check_op(h.dtype == gate_up.dtype, op, "h and gate_up must be of one type");
  dispatch(ctx, op, [&] {
    parallel_for(
        h.rows(),
        [&](int64_t t) {
          const Rows rows = read_gate_up(gate_up, t, how);
          float* out = begin_row(h, t, rows.out);
          clamp_from_above(rows.gate, rows.gate, how.limit, F);
          forward_row(out, rows.gate, rows.up, rows.e, how.limit, F);
          finish_row(h, t, out);
        },
        row_chunk(2 * F));
  });
}

void clamped_swiglu_backward(Context& ctx, const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up, const ClampedSwiglu& how) {
  const char* op = "clamped_swiglu_backward";
  const int64_t F = d_h.cols();
  check_activation(op, "d_h", d_h, d_h.rows(), F);
  check_activation(op, "gate_up", gate_up, d_h.rows(), 2 * F);
  check_activation(op, "d_gate_up", d_gate_up, d_h.rows(), 2 * F);
  check_op(d_h.dtype == gate_up.dtype && d_h.dtype == d_gate_up.dtype, op, "all must be of one type");
  dispatch(ctx, op, [&] {
    parallel_for(
        d_h.rows(),
        [&](int64_t t) {
          const Rows rows = read_gate_up(gate_up, t, how);
          backward_row(rows.gate, rows.up, read_row(d_h, t, rows.out), rows.e, how.limit, how.steepness, F);
          float* out = begin_row(d_gate_up, t, rows.out);
          if (how.interleaved) {
            join_columns(out, rows.gate, rows.up, F);
          } else {
            std::copy_n(rows.gate, F, out);
            std::copy_n(rows.up, F, out + F);
          }
          finish_row(d_gate_up, t, out);
        },
        row_chunk(2 * F));
  });
}

}  // namespace loraine
