// Activations on the CPU, row by row.
#include "loraine/core/tensor.h"
#include "loraine/kernels/activations/activation_rows.h"
#include "loraine/kernels/base/parallel.h"

namespace loraine {

void activate_cpu(const Tensor& h, const Tensor& x, const ActivationShape& shape) {
  const int64_t F = h.cols();
  parallel_for(
      h.rows(), [&](int64_t t) { activate_row(h.row_range(t, 1).data, x.row_range(t, 1).data, h.dtype, F, shape); }, row_chunk(F));
}

void activate_backward_cpu(const Tensor& d_x, const Tensor& d_h, const Tensor& x, const ActivationShape& shape) {
  const int64_t F = d_h.cols();
  parallel_for(
      d_h.rows(),
      [&](int64_t t) {
        activate_backward_row(d_x.row_range(t, 1).data, d_h.row_range(t, 1).data, x.row_range(t, 1).data, d_h.dtype, F, shape);
      },
      row_chunk(F));
}

void xielu_slopes_cpu(const Tensor& sums, const Tensor& d_h, const Tensor& x) {
  const int64_t F = d_h.cols();
  parallel_for(
      d_h.rows(),
      [&](int64_t t) { xielu_slopes_row(sums.row_range(t, 1).f32(), d_h.row_range(t, 1).data, x.row_range(t, 1).data, d_h.dtype, F); },
      row_chunk(F));
}

void gated_activate_cpu(const Tensor& h, const Tensor& gate_up, const ActivationShape& shape) {
  const int64_t F = h.cols();
  parallel_for(
      h.rows(),
      [&](int64_t t) {
        const Tensor in = gate_up.row_range(t, 1);
        gated_activate_row(h.row_range(t, 1).data, in.data, in.col_range(F, F).data, h.dtype, F, shape);
      },
      row_chunk(F));
}

void gated_activate_backward_cpu(const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up, const ActivationShape& shape) {
  const int64_t F = d_h.cols();
  parallel_for(
      d_h.rows(),
      [&](int64_t t) {
        const Tensor in = gate_up.row_range(t, 1), d = d_gate_up.row_range(t, 1);
        gated_activate_backward_row(d.data, d.col_range(F, F).data, d_h.row_range(t, 1).data, in.data, in.col_range(F, F).data, d_h.dtype,
                                    F, shape);
      },
      row_chunk(F));
}

}  // namespace loraine
