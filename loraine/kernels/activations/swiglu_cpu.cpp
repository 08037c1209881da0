// SwiGLU on the CPU, row by row.
#include "loraine/core/tensor.h"
#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/parallel.h"

namespace loraine {

void swiglu_cpu(const Tensor& h, const Tensor& gate_up) {
  int64_t F = h.cols();
  parallel_for(
      h.rows(),
      [&](int64_t t) {
        const Tensor in = gate_up.row_range(t, 1);
        swiglu_row(h.row_range(t, 1).data, in.data, in.col_range(F, F).data, h.dtype, F);
      },
      row_chunk(F));
}

void swiglu_backward_cpu(const Tensor& d_gate_up, const Tensor& d_h, const Tensor& gate_up) {
  int64_t F = d_h.cols();
  parallel_for(
      d_h.rows(),
      [&](int64_t t) {
        const Tensor in = gate_up.row_range(t, 1), d = d_gate_up.row_range(t, 1);
        swiglu_backward_row(d.data, d.col_range(F, F).data, d_h.row_range(t, 1).data, in.data, in.col_range(F, F).data, d_h.dtype, F);
      },
      row_chunk(F));
}

}  // namespace loraine
