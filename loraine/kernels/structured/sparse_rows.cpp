// Checks of the sparse products and the choice of device.
#include "loraine/kernels/structured/sparse_rows.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void multiply_sparse_cpu(const Tensor& y, const Tensor& x, const SparseRows& s);
void multiply_sparse_backward_cpu(const Tensor& d_x, std::span<float> d_values, const Tensor& d_y, const Tensor& x, const SparseRows& s);

namespace {
void check_sparse(const char* op, const Tensor& y, const Tensor& x, const SparseRows& s) {
  check_op(!s.starts.empty() && s.columns.size() == s.values.size() && static_cast<size_t>(s.starts.back()) == s.values.size(), op,
           "rows, columns and values do not belong together");
  check_activation(op, "x", x, y.rows(), s.in);
  check_activation(op, "y", y, x.rows(), s.out());
}
}  // namespace

void multiply_sparse(Context& ctx, const Tensor& y, const Tensor& x, const SparseRows& s) {
  check_sparse("multiply_sparse", y, x, s);
  dispatch(ctx, "multiply_sparse", [&] { multiply_sparse_cpu(y, x, s); });
}

void multiply_sparse_backward(Context& ctx, const Tensor& d_x, std::span<float> d_values, const Tensor& d_y, const Tensor& x,
                              const SparseRows& s) {
  const char* op = "multiply_sparse_backward";
  check_sparse(op, d_y, x, s);
  check_op(d_values.size() == s.values.size(), op, "d_values has another length than the values");
  if (d_x.data) check_activation(op, "d_x", d_x, x.rows(), x.cols());
  dispatch(ctx, op, [&] { multiply_sparse_backward_cpu(d_x, d_values, d_y, x, s); });
}

}  // namespace loraine
