// Checks of the small memory-bound ops and the choice of device.
#include "loraine/kernels/rows/elementwise.h"

#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void add_cpu(const Tensor& y, const Tensor& a, const Tensor& b);
void add_rounded_cpu(const Tensor& sum, const Tensor& rounded, const Tensor& x);
void add_bias_cpu(const Tensor& y, const float* bias);
void embedding_cpu(const Tensor& y, const Tensor& table, std::span<const int32_t> tokens);
void convert_rows_cpu(const Tensor& y, const Tensor& x);
void gather_rows_cpu(const Tensor& y, const Tensor& x, std::span<const int64_t> rows);
void scatter_rows_cpu(const Tensor& y, const Tensor& x, std::span<const int64_t> rows);
void dropout_cpu(const Tensor& y, const Tensor& x, float p, uint64_t seed, uint64_t step, uint64_t site);

namespace {
void check_rows(const char* op, std::span<const int64_t> rows, int64_t limit) {
  for (int64_t r : rows) {
    if (r < 0 || r >= limit) throw Error(ErrorKind::internal, fmt::format("{}: row {} is outside [0, {})", op, r, limit));
  }
}
}  // namespace

void add(Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b) {
  check_activation("add", "y", y, y.rows(), y.cols());
  check_activation("add", "a", a, y.rows(), y.cols());
  check_activation("add", "b", b, y.rows(), y.cols());
  dispatch(ctx, "add", [&] { add_cpu(y, a, b); });
}

void add_rounded(Context& ctx, const Tensor& sum, const Tensor& rounded, const Tensor& x) {
  check_f32("add_rounded", "sum", sum, sum.rows(), sum.cols());
  check_activation("add_rounded", "rounded", rounded, sum.rows(), sum.cols());
  check_activation("add_rounded", "x", x, sum.rows(), sum.cols());
  dispatch(ctx, "add_rounded", [&] { add_rounded_cpu(sum, rounded, x); });
}

void add_bias(Context& ctx, const Tensor& y, const float* bias) {
  check_activation("add_bias", "y", y, y.rows(), y.cols());
  dispatch(ctx, "add_bias", [&] { add_bias_cpu(y, bias); });
}

void embedding(Context& ctx, const Tensor& y, const Tensor& table, std::span<const int32_t> tokens) {
  check_activation("embedding", "y", y, static_cast<int64_t>(tokens.size()), table.cols());
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= table.rows()) {
      throw Error(ErrorKind::bad_data,
                  fmt::format("embedding: token id {} at row {} is outside the vocabulary of {}", tokens[i], i, table.rows()),
                  "Check that the tokenizer belongs to this model.");
    }
  }
  dispatch(ctx, "embedding", [&] { embedding_cpu(y, table, tokens); });
}

void convert_rows(Context& ctx, const Tensor& y, const Tensor& x) {
  check_activation("convert_rows", "x", x, x.rows(), x.cols());
  check_activation("convert_rows", "y", y, x.rows(), x.cols());
  dispatch(ctx, "convert_rows", [&] { convert_rows_cpu(y, x); });
}

void gather_rows(Context& ctx, const Tensor& y, const Tensor& x, std::span<const int64_t> rows) {
  check_activation("gather_rows", "x", x, x.rows(), x.cols());
  check_shape("gather_rows", "y", y, static_cast<int64_t>(rows.size()), x.cols());
  check_op(x.dtype == y.dtype, "gather_rows", "x and y must be of one type");
  check_rows("gather_rows", rows, x.rows());
  dispatch(ctx, "gather_rows", [&] { gather_rows_cpu(y, x, rows); });
}

void scatter_rows(Context& ctx, const Tensor& y, const Tensor& x, std::span<const int64_t> rows) {
  check_f32("scatter_rows", "y", y, y.rows(), y.cols());
  check_f32("scatter_rows", "x", x, static_cast<int64_t>(rows.size()), y.cols());
  check_rows("scatter_rows", rows, y.rows());
  dispatch(ctx, "scatter_rows", [&] { scatter_rows_cpu(y, x, rows); });
}

void dropout(Context& ctx, const Tensor& y, const Tensor& x, float p, uint64_t site) {
  check_activation("dropout", "y", y, y.rows(), y.cols());
  check_activation("dropout", "x", x, y.rows(), y.cols());
  check_op(p >= 0 && p < 1, "dropout", "p must lie in [0, 1)");
  dispatch(ctx, "dropout", [&] { dropout_cpu(y, x, p, ctx.seed, ctx.step, site); });
}

}  // namespace loraine
