// Checks of the grouped products and the choice of device.
#include "loraine/kernels/experts/grouped_product.h"

#include "loraine/kernels/experts/indices.h"

namespace loraine {

void grouped_nt_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> experts, const ExpertOrder& order, float alpha, float beta);
void grouped_nn_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> experts, const ExpertOrder& order, float alpha, float beta);
void grouped_tn_cpu(std::span<const Tensor> sums, const Tensor& x, const Tensor& z, const ExpertOrder& order, float alpha);
void add_expert_bias_cpu(const Tensor& y, const Tensor& biases, const ExpertOrder& order);
void expert_bias_gradient_cpu(const Tensor& d_biases, const Tensor& d_y, const ExpertOrder& order);

namespace {
void check_experts(const char* op, std::span<const Tensor> experts, int64_t rows, int64_t cols, const ExpertOrder& order) {
  check_op(static_cast<int64_t>(experts.size()) == order.experts(), op, "there must be one matrix for each expert");
  for (const Tensor& w : experts) {
    check_shape(op, "an expert's matrix", w, rows, cols);
    if (w.dtype == Dtype::F32 || w.dtype == Dtype::F16 || w.dtype == Dtype::BF16 || is_packed(w.dtype)) continue;
    throw Error(ErrorKind::internal,
                fmt::format("{}: an expert's matrix is {}, expected F32, F16, BF16 or a packed type", op, name_of(w.dtype)));
  }
}
OpWork product_work(int64_t M, int64_t N, int64_t K) {
  return {2.0 * static_cast<double>(M) * static_cast<double>(N) * static_cast<double>(K), M, N, K};
}
}  // namespace

Tensor expert_matrix(const Tensor& all, int64_t e) {
  check_op(all.rank == 3 && all.contiguous() && e >= 0 && e < all.rows(), "expert_matrix", "the tensor is not [experts, rows, columns]");
  Tensor one = all.row_range(e, 1);
  one.rank = 2;
  one.shape[0] = all.shape[1], one.shape[1] = all.shape[2], one.shape[2] = 1;
  one.row_stride = all.shape[2];
  return one;
}

void grouped_nt(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> experts, const ExpertOrder& order, float alpha,
                float beta) {
  const char* op = "grouped_nt";
  const int64_t M = order.rows(), N = y.cols(), K = x.cols();
  check_activation(op, "y", y, M, N);
  check_activation(op, "x", x, M, K);
  check_experts(op, experts, N, K, order);
  dispatch(
      ctx, op, [&] { grouped_nt_cpu(y, x, experts, order, alpha, beta); }, product_work(M, N, K));
}

void grouped_nn(Context& ctx, const Tensor& y, const Tensor& x, std::span<const Tensor> experts, const ExpertOrder& order, float alpha,
                float beta) {
  const char* op = "grouped_nn";
  const int64_t M = order.rows(), N = y.cols(), K = x.cols();
  check_activation(op, "y", y, M, N);
  check_activation(op, "x", x, M, K);
  check_experts(op, experts, K, N, order);
  dispatch(
      ctx, op, [&] { grouped_nn_cpu(y, x, experts, order, alpha, beta); }, product_work(M, N, K));
}

void grouped_tn(Context& ctx, std::span<const Tensor> sums, const Tensor& x, const Tensor& z, const ExpertOrder& order, float alpha) {
  const char* op = "grouped_tn";
  const int64_t K = order.rows(), M = x.cols(), N = z.cols();
  check_activation(op, "x", x, K, M);
  check_activation(op, "z", z, K, N);
  check_op(static_cast<int64_t>(sums.size()) == order.experts(), op, "there must be one sum for each expert");
  for (const Tensor& sum : sums) check_f32(op, "a sum", sum, M, N);
  dispatch(
      ctx, op, [&] { grouped_tn_cpu(sums, x, z, order, alpha); }, product_work(M, N, K));
}

void add_expert_bias(Context& ctx, const Tensor& y, const Tensor& biases, const ExpertOrder& order) {
  const char* op = "add_expert_bias";
  check_activation(op, "y", y, order.rows(), y.cols());
  check_shape(op, "biases", biases, order.experts(), y.cols());
  dispatch(ctx, op, [&] { add_expert_bias_cpu(y, biases, order); });
}

void expert_bias_gradient(Context& ctx, const Tensor& d_biases, const Tensor& d_y, const ExpertOrder& order) {
  const char* op = "expert_bias_gradient";
  check_activation(op, "d_y", d_y, order.rows(), d_y.cols());
  check_f32(op, "d_biases", d_biases, order.experts(), d_y.cols());
  dispatch(ctx, op, [&] { expert_bias_gradient_cpu(d_biases, d_y, order); });
}

}  // namespace loraine
