// Checks of the gradients of dense tensors and the choice of device.
#include "loraine/kernels/training/dense_gradients.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void norm_weight_gradient_cpu(const Tensor& d_weight, const Tensor& d_y, const Tensor& x, const Tensor& rstd);
void layer_norm_weight_gradient_cpu(const Tensor& d_weight, const Tensor& d_y, const Tensor& x, const Tensor& mean, const Tensor& rstd);
void bias_gradient_cpu(const Tensor& d_bias, const Tensor& d_y);
void embedding_gradient_cpu(const Tensor& d_table, const Tensor& d_y, std::span<const int32_t> tokens);
void column_lookup_cpu(const Tensor& y, const Tensor& table, std::span<const int32_t> tokens);
void column_lookup_backward_cpu(const Tensor& d_table, const Tensor& d_y, std::span<const int32_t> tokens);

namespace {
void check_vector(const char* op, const Tensor& v, int64_t size) {
  check_op(v.dtype == Dtype::F32 && v.numel() == size && v.contiguous(), op, "the gradient must be F32 with one element per column");
}
void check_tokens(const char* op, std::span<const int32_t> tokens, int64_t vocab) {
  for (int32_t token : tokens)
    if (token < 0 || token >= vocab)
      throw Error(ErrorKind::bad_data, fmt::format("{}: token id {} is outside the vocabulary of {}", op, token, vocab));
}
}  // namespace

void norm_weight_gradient(Context& ctx, const Tensor& d_weight, const Tensor& d_y, const Tensor& x, const Tensor& rstd) {
  check_vector("norm_weight_gradient", d_weight, x.cols());
  check_activation("norm_weight_gradient", "d_y", d_y, x.rows(), x.cols());
  check_activation("norm_weight_gradient", "x", x, x.rows(), x.cols());
  check_f32("norm_weight_gradient", "rstd", rstd, x.rows(), 1);
  dispatch(ctx, "norm_weight_gradient", [&] { norm_weight_gradient_cpu(d_weight, d_y, x, rstd); });
}

void layer_norm_weight_gradient(Context& ctx, const Tensor& d_weight, const Tensor& d_y, const Tensor& x, const Tensor& mean,
                                const Tensor& rstd) {
  check_vector("layer_norm_weight_gradient", d_weight, x.cols());
  check_activation("layer_norm_weight_gradient", "d_y", d_y, x.rows(), x.cols());
  check_activation("layer_norm_weight_gradient", "x", x, x.rows(), x.cols());
  check_f32("layer_norm_weight_gradient", "mean", mean, x.rows(), 1);
  check_f32("layer_norm_weight_gradient", "rstd", rstd, x.rows(), 1);
  dispatch(ctx, "layer_norm_weight_gradient", [&] { layer_norm_weight_gradient_cpu(d_weight, d_y, x, mean, rstd); });
}

void bias_gradient(Context& ctx, const Tensor& d_bias, const Tensor& d_y) {
  check_vector("bias_gradient", d_bias, d_y.cols());
  check_activation("bias_gradient", "d_y", d_y, d_y.rows(), d_y.cols());
  dispatch(ctx, "bias_gradient", [&] { bias_gradient_cpu(d_bias, d_y); });
}

void embedding_gradient(Context& ctx, const Tensor& d_table, const Tensor& d_y, std::span<const int32_t> tokens) {
  check_f32("embedding_gradient", "d_table", d_table, d_table.rows(), d_table.cols());
  check_f32("embedding_gradient", "d_y", d_y, static_cast<int64_t>(tokens.size()), d_table.cols());
  check_tokens("embedding_gradient", tokens, d_table.rows());
  dispatch(ctx, "embedding_gradient", [&] { embedding_gradient_cpu(d_table, d_y, tokens); });
}

void column_lookup(Context& ctx, const Tensor& y, const Tensor& table, std::span<const int32_t> tokens) {
  check_f32("column_lookup", "y", y, static_cast<int64_t>(tokens.size()), table.rows());
  check_f32("column_lookup", "table", table, table.rows(), table.cols());
  check_tokens("column_lookup", tokens, table.cols());
  dispatch(ctx, "column_lookup", [&] { column_lookup_cpu(y, table, tokens); });
}

void column_lookup_backward(Context& ctx, const Tensor& d_table, const Tensor& d_y, std::span<const int32_t> tokens) {
  check_f32("column_lookup_backward", "d_y", d_y, static_cast<int64_t>(tokens.size()), d_table.rows());
  check_f32("column_lookup_backward", "d_table", d_table, d_table.rows(), d_table.cols());
  check_tokens("column_lookup_backward", tokens, d_table.cols());
  dispatch(ctx, "column_lookup_backward", [&] { column_lookup_backward_cpu(d_table, d_y, tokens); });
}

}  // namespace loraine
