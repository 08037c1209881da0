// Checks of the matrix products and the choice of device.
#include "loraine/kernels/products/matmul.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void matmul_nt_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta, int64_t product_rows);
void matmul_nn_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta);
void matmul_nt_parts_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> parts, int64_t product_rows);
void matmul_nn_parts_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> parts, float beta);
void matmul_tn_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta);

namespace {
void check_weight(const char* op, const Tensor& w) {
  if (w.dtype == Dtype::F32 || w.dtype == Dtype::F16 || w.dtype == Dtype::BF16 || is_packed(w.dtype)) return;
  throw Error(ErrorKind::internal, fmt::format("{}: w is {}, expected F32, F16, BF16 or a packed type", op, name_of(w.dtype)));
}
// Rows of a stack of parts, which all must have that many columns.
int64_t check_parts(const char* op, std::span<const Tensor> parts, int64_t columns) {
  check_op(!parts.empty() && parts.size() <= kMostParts, op, "there are no parts, or too many");
  int64_t rows = 0;
  for (const Tensor& w : parts) {
    check_shape(op, "a part", w, w.rows(), columns);
    check_weight(op, w);
    rows += w.rows();
  }
  return rows;
}
OpWork product_work(int64_t M, int64_t N, int64_t K) {
  return {2.0 * static_cast<double>(M) * static_cast<double>(N) * static_cast<double>(K), M, N, K};
}
}  // namespace

void matmul_nt(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta) {
  int64_t M = y.rows(), N = y.cols(), K = x.cols();
  check_activation("matmul_nt", "y", y, M, N);
  check_activation("matmul_nt", "x", x, M, K);
  check_shape("matmul_nt", "w", w, N, K);
  check_weight("matmul_nt", w);
  if (M == 0 || N == 0) return;
  dispatch(
      ctx, "matmul_nt", [&] { matmul_nt_cpu(y, x, w, alpha, beta, ctx.product_rows); }, product_work(M, N, K));
}

void matmul_nt_parts(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> parts) {
  const char* op = "matmul_nt";
  const int64_t N = check_parts(op, parts, x.cols());
  check_activation(op, "y", y, x.rows(), N);
  check_activation(op, "x", x, x.rows(), x.cols());
  if (x.rows() == 0 || N == 0) return;
  dispatch(
      ctx, op, [&] { matmul_nt_parts_cpu(y, x, parts, ctx.product_rows); }, product_work(x.rows(), N, x.cols()));
}

void matmul_nn_parts(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> parts, float beta) {
  const char* op = "matmul_nn";
  const int64_t K = check_parts(op, parts, y.cols());
  check_activation(op, "y", y, x.rows(), y.cols());
  check_activation(op, "x", x, x.rows(), K);
  if (x.rows() == 0 || y.cols() == 0) return;
  dispatch(
      ctx, op, [&] { matmul_nn_parts_cpu(y, x, parts, beta); }, product_work(x.rows(), y.cols(), K));
}

void matmul_nn(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta) {
  int64_t M = y.rows(), N = y.cols(), K = x.cols();
  check_activation("matmul_nn", "y", y, M, N);
  check_activation("matmul_nn", "x", x, M, K);
  check_shape("matmul_nn", "w", w, K, N);
  check_weight("matmul_nn", w);
  if (M == 0 || N == 0) return;
  dispatch(
      ctx, "matmul_nn", [&] { matmul_nn_cpu(y, x, w, alpha, beta); }, product_work(M, N, K));
}

void matmul_tn(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta) {
  int64_t M = y.rows(), N = y.cols(), K = x.rows();
  check_activation("matmul_tn", "y", y, M, N);
  check_activation("matmul_tn", "x", x, K, M);
  check_shape("matmul_tn", "w", w, K, N);
  check_weight("matmul_tn", w);
  if (M == 0 || N == 0) return;
  dispatch(
      ctx, "matmul_tn", [&] { matmul_tn_cpu(y, x, w, alpha, beta); }, product_work(M, N, K));
}

}  // namespace loraine
