// Checks of the products in 8-bit integers and the choice of device.
#include "loraine/kernels/products/int8_products.h"

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {

void quantise_rows_cpu(const Tensor& q, float* scales, const Tensor& x, const float* column_factors);
void int8_matmul_nt_cpu(const Tensor& y, const Int8Rows& x, std::span<const Tensor> parts);
void int8_matmul_few_rows_cpu(const Tensor& y, const Int8Rows& x, const ExactTerms& exact, std::span<const Tensor> parts);
void int8_matmul_nn_cpu(const Tensor& y, const Int8Rows& x, std::span<const Tensor> parts, float beta);

namespace {
void check_int8(const char* op, const char* name, const Tensor& q, Dtype dtype, int64_t rows, int64_t cols) {
  check_shape(op, name, q, rows, cols);
  if (q.dtype != dtype)
    throw Error(ErrorKind::internal, fmt::format("{}: {} is {}, expected {}", op, name, name_of(q.dtype), name_of(dtype)));
}
void check_product(const char* op, const Tensor& y, const Int8Rows& x, size_t parts, int64_t N, int64_t K) {
  check_op(parts > 0 && parts <= kMostParts, op, "there are no parts, or too many");
  check_op(K <= kMostInt8Terms, op, "the sum has more than 131072 terms, which 32 bits may not hold");
  check_int8(op, "x", x.q, Dtype::I8, y.rows(), K);
  check_activation(op, "y", y, x.q.rows(), N);
}
// Rows of a stack of parts, which all must have that many columns.
int64_t check_parts(const char* op, std::span<const Tensor> parts, int64_t columns) {
  int64_t rows = 0;
  for (const Tensor& w : parts) {
    check_int8(op, "a part", w, Dtype::INT8, w.rows(), columns);
    rows += w.rows();
  }
  return rows;
}
OpWork product_work(int64_t M, int64_t N, int64_t K) {
  return {2.0 * static_cast<double>(M) * static_cast<double>(N) * static_cast<double>(K), M, N, K};
}
}  // namespace

void quantise_rows(Context& ctx, const Tensor& q, float* scales, const Tensor& x, const float* column_factors) {
  check_int8("quantise_rows", "q", q, Dtype::I8, x.rows(), x.cols());
  dispatch(ctx, "quantise_rows", [&] { quantise_rows_cpu(q, scales, x, column_factors); });
}

void int8_matmul_nt(Context& ctx, const Tensor& y, const Int8Rows& x, std::span<const Tensor> parts) {
  const char* op = "int8_matmul_nt";
  const int64_t M = x.q.rows(), N = check_parts(op, parts, x.q.cols()), K = x.q.cols();
  check_product(op, y, x, parts.size(), N, K);
  if (M == 0 || N == 0) return;
  dispatch(
      ctx, op, [&] { int8_matmul_nt_cpu(y, x, parts); }, product_work(M, N, K));
}

void int8_matmul_few_rows(Context& ctx, const Tensor& y, const Int8Rows& x, const ExactTerms& exact, std::span<const Tensor> parts) {
  const char* op = "int8_matmul_nt";
  const int64_t M = x.q.rows(), N = check_parts(op, parts, x.q.cols()), K = x.q.cols();
  check_product(op, y, x, parts.size(), N, K);
  check_op(M <= kFewRows, op, "there are more than kFewRows rows");
  check_op(exact.first.size() == static_cast<size_t>(M) + 1 && exact.first.back() == exact.columns.size() &&
               exact.columns.size() == exact.values.size(),
           op, "the exact terms are not those of these rows");
  if (M == 0 || N == 0) return;
  dispatch(
      ctx, op, [&] { int8_matmul_few_rows_cpu(y, x, exact, parts); }, product_work(M, N, K));
}

void int8_matmul_nn(Context& ctx, const Tensor& y, const Int8Rows& x, std::span<const Tensor> parts, float beta) {
  const char* op = "int8_matmul_nn";
  const int64_t M = x.q.rows(), N = y.cols(), K = check_parts(op, parts, N);
  check_product(op, y, x, parts.size(), N, K);
  check_op(beta == 0 || beta == 1, op, "beta is neither 0 nor 1");
  if (M == 0 || N == 0) return;
  dispatch(
      ctx, op, [&] { int8_matmul_nn_cpu(y, x, parts, beta); }, product_work(M, N, K));
}

}  // namespace loraine
